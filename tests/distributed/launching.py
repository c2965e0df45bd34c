"""Functions that run on several ranks: processes on this machine, with gloo between them."""

import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def on_ranks(function, n, *args):
    """Run ``function(rank, n, *args)`` in ``n`` processes; an error in one of them is raised here."""
    port = free_port()
    mp.start_processes(_run, (n, port, function, args), n, start_method="spawn")


def free_port():
    """One that nobody listens to."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def _run(rank, n, port, function, args):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(n))
    dist.init_process_group("gloo", rank=rank, world_size=n)
    try:
        function(rank, n, *args)
        dist.barrier()
    finally:
        dist.destroy_process_group()
