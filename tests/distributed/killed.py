"""``sce-lab``, of which rank 1 kills itself in the middle of a step of the second epoch, at the first attempt."""

import os
import signal
import sys

from sce_lab import distributed
from sce_lab.cli import main
from sce_lab.distributed import trainer


def mortal(mesh, catalog_size):
    step, count = distributed.sharded_step(mesh, catalog_size), 0

    def stepped(model, loss, optimizer, batch, phase):
        nonlocal count
        count += 1
        if count == 5 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            loss.register_forward_pre_hook(_kill)
        return step(model, loss, optimizer, batch, phase)

    return stepped


def _kill(*_):
    print("rank 1 is killed", file=sys.__stderr__, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    trainer.sharded_step = mortal
    main()
