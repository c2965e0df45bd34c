"""Training as a stream of events.

:func:`train` is a generator. Whoever iterates over it drives the training: a progress bar, a run folder, a live plot
and a test all observe the same events, and none of them is known here.
"""

from sce_lab.training.config import DTYPES, TrainingConfig, takes
from sce_lab.training.device import AUTO, Place, check_device, choose_device, place_of, places, training_on, where
from sce_lab.training.evaluation import evaluate, evaluate_together, rank_together
from sce_lab.training.events import Changed, Evaluated, Event, Finished, Started, StepDone
from sce_lab.training.state import TrainingState
from sce_lab.training.step import (
    Phase,
    StepFunction,
    StepResult,
    Stopwatch,
    looking_inside,
    loss_of_batch,
    make_model,
    make_optimizer,
    make_training_loss,
    training_step,
)
from sce_lab.training.trainer import CRITERION, Trainer, train

__all__ = [
    "AUTO",
    "CRITERION",
    "DTYPES",
    "Changed",
    "Evaluated",
    "Event",
    "Finished",
    "Phase",
    "Place",
    "Started",
    "StepDone",
    "StepFunction",
    "StepResult",
    "Stopwatch",
    "Trainer",
    "TrainingConfig",
    "TrainingState",
    "check_device",
    "choose_device",
    "evaluate",
    "evaluate_together",
    "looking_inside",
    "loss_of_batch",
    "make_model",
    "make_optimizer",
    "make_training_loss",
    "place_of",
    "places",
    "rank_together",
    "takes",
    "train",
    "training_on",
    "training_step",
    "where",
]
