"""Live views of training for notebooks: a controller that knows no widgets, and widgets that only look and ask.

Four wings. :mod:`~sce_lab.widgets.kit` holds what all pages stand on; :mod:`~sce_lab.widgets.playground`,
:mod:`~sce_lab.widgets.lessons` and :mod:`~sce_lab.widgets.own_data` stand on it, and none on another.
"""

from sce_lab.widgets.kit.guess import Guess
from sce_lab.widgets.kit.hand_in import HandInCard
from sce_lab.widgets.kit.live import LiveRun
from sce_lab.widgets.kit.progress import Snapshot
from sce_lab.widgets.kit.results import write_results
from sce_lab.widgets.kit.stage import machine_card
from sce_lab.widgets.kit.sweep import SweepBoard
from sce_lab.widgets.lessons.devices import DeviceSlider
from sce_lab.widgets.lessons.head_wall import HeadWall
from sce_lab.widgets.lessons.language_record import LanguageRecord
from sce_lab.widgets.lessons.language_run import LanguageRun
from sce_lab.widgets.lessons.loss_blocks import LossBlocks, World
from sce_lab.widgets.lessons.memory_wall import MemoryWall
from sce_lab.widgets.lessons.race import Race
from sce_lab.widgets.lessons.reproduction import Reproduction
from sce_lab.widgets.lessons.step_timeline import StepTimeline
from sce_lab.widgets.own_data.bring import BringFile
from sce_lab.widgets.own_data.look import Look, TakeHome
from sce_lab.widgets.own_data.plan import Plan
from sce_lab.widgets.own_data.training import Training
from sce_lab.widgets.playground.playground import Playground

__all__ = [
    "BringFile",
    "DeviceSlider",
    "Guess",
    "HandInCard",
    "HeadWall",
    "LanguageRecord",
    "LanguageRun",
    "LiveRun",
    "Look",
    "LossBlocks",
    "MemoryWall",
    "Plan",
    "Playground",
    "Race",
    "Reproduction",
    "Snapshot",
    "StepTimeline",
    "SweepBoard",
    "TakeHome",
    "Training",
    "World",
    "machine_card",
    "write_results",
]
