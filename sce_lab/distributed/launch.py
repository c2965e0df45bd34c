"""Joining the processes that ``torchrun`` started, and leaving them with one sentence if something is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from sce_lab.losses.sharded import Ranks

TIMEOUT = 600.0
"""Seconds that a rank waits for the others, unless told otherwise."""


def _to_stderr(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


@contextmanager
def launched(
    device: str = "cpu",
    *,
    n_devices: int | None = None,
    timeout: float = TIMEOUT,
    complain: Callable[[str], None] = _to_stderr,
) -> Iterator[DeviceMesh]:
    """Inside, this process is one rank of those that ``torchrun`` started; gives the mesh of all of them.

    An error that a person can mend is said once, by the rank that meets it first, and every rank exits with status 2.
    So is it if another rank ends, or does not answer in time.

    Args:
        device: of this rank, "cpu" (with gloo between the ranks) or "cuda" (with NCCL), each rank on its own GPU.
        n_devices: how many ranks there should be, if it is known.
        timeout: seconds to wait for the others.
        complain: how to say a sentence.

    Raises:
        ValueError: ``torchrun`` did not start this process.
        SystemExit: something was wrong, and has been said.
    """
    if "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "a sharded table needs several processes, and this one is alone: start it with torchrun, "
            "as in torchrun --standalone --nproc-per-node 2 -m sce_lab.cli train --shard-items"
        )
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    wait = timedelta(seconds=timeout)
    store, rank, n = next(dist.rendezvous("env://", timeout=wait))
    # torchrun keeps the store when it begins all ranks again: what the lost ones left there is not to be found
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", store=store, rank=rank, world_size=n, timeout=wait)
    try:
        yield make_mesh(n_devices, kind)
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        sentence = _sentence(error, timeout)
        if sentence is None:
            raise
        if _is_first(store):
            complain(sentence)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)  # not by an exception: threads of a group that lost a member may never end
    dist.destroy_process_group()


def _is_first(store: dist.Store) -> bool:
    """Whether nobody has said anything. If the one who keeps the store has left, it has."""
    try:
        return store.add("sce_lab complained", 1) == 1
    except RuntimeError:
        return False


def make_mesh(n_devices: int | None = None, device: str = "cpu") -> DeviceMesh:
    """A mesh of one dimension over all ranks.

    Raises:
        ValueError: there are not ``n_devices`` ranks.
    """
    n = dist.get_world_size()
    if n_devices is not None and n_devices != n:
        raise ValueError(
            f"a mesh of {n_devices} devices does not match the launch of {n} processes: "
            f"start as many (torchrun --nproc-per-node {n_devices}), or ask for {n}"
        )
    return init_device_mesh(device, (n,))


def ranks_of(mesh: DeviceMesh) -> Ranks:
    """The ranks of a mesh of one dimension."""
    return Ranks(mesh.get_group(), mesh.get_local_rank(), mesh.size())


def check_alike(mesh: DeviceMesh, **said: str) -> None:
    """Refuse ranks that were given different things, such as their data or their seeds.

    Raises:
        ValueError: on every rank; the message names the first difference and the ranks.
    """
    every: list[Mapping[str, str] | None] = [None] * mesh.size()
    dist.all_gather_object(every, said, group=mesh.get_group())
    for name, value in every[0].items():
        for rank, other in enumerate(every):
            if other[name] != value:
                raise ValueError(
                    f"all ranks must have the same {name.replace('_', ' ')}, but rank {rank} has {other[name]} and "
                    f"rank 0 has {value}: start every rank with the same command and the same files"
                )


_LOST = ("Connection closed", "Connection reset", "Broken pipe", "connection was closed", "remote process exited")


def _sentence(error: Exception, timeout: float) -> str | None:
    """What to say of an error; None if it is a fault of the program."""
    text = str(error)
    if not isinstance(error, RuntimeError):
        return text
    if any(word in text for word in _LOST):
        return "another rank ended, so this one cannot go on; torchrun --max-restarts 3 would begin all of them again"
    if "imed out" in text or "timeout" in text.lower():
        return (
            f"another rank did not answer within {timeout:g} s: it hangs, or needs longer for a step; look at that "
            "rank, or give more time with --timeout"
        )
    return None
