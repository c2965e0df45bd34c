"""Trainings without a model: the events of a run, made up."""

import time

from sce_lab.memory import MemoryUse
from sce_lab.training import Evaluated, Finished, Started, StepDone, TrainingConfig

SECONDS = {"forward": 0.001, "loss_forward": 0.002, "loss_backward": 0.003, "backward": 0.004, "optimizer": 0.005}
MEMORY = MemoryUse(parameters=10, gradients=10, optimizer_state=20, activations=5, loss_workspace=7, peak=50)


def fake_events(epochs=3, steps=10, seconds=0.0, fail_at=None):
    """A factory of events: ``steps`` a step of ``seconds`` an epoch, losses 100, 99, 98, ..."""

    def events(stop):
        yield Started(TrainingConfig(loss="ce", max_epochs=epochs), steps, 1000)
        done = 0
        for epoch in range(1, epochs + 1):
            for _ in range(steps):
                if stop():
                    yield Finished("stopped", done, epoch - 1, 0, {}, {}, 0.0)
                    return
                time.sleep(seconds)
                done += 1
                if done == fail_at:
                    raise FloatingPointError("the loss became nan at step 7")
                yield StepDone(done, epoch - 1, 101.0 - done, 5, SECONDS, MEMORY if done == 2 else None)
            yield Evaluated(done, epoch, {"HR@10": epoch / 10, "NDCG@10": epoch / 20}, True, 0.0)
        yield Finished("epochs", done, epochs, epochs, {}, {"HR@10": 0.5}, 0.0)

    return events
