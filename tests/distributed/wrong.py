"""A rank of a launch in which something is wrong."""

import os
import sys
import time

import torch
import torch.distributed as dist

from sce_lab.distributed import check_alike, launched

case, rank = sys.argv[1], int(os.environ["RANK"])
with launched(timeout=3 if case == "hang" else 60) as mesh:
    if rank == 1 and case == "hang":
        time.sleep(8)
        os._exit(0)
    check_alike(mesh, seed=str(rank if case == "seed" else 0))
    dist.all_reduce(torch.zeros(1))
