"""Live views of training for notebooks: a controller that knows no widgets, and widgets that only look and ask."""

from sce_lab.widgets.guess import Guess
from sce_lab.widgets.live import LiveRun
from sce_lab.widgets.memory_wall import MemoryWall
from sce_lab.widgets.playground import Playground
from sce_lab.widgets.progress import Snapshot
from sce_lab.widgets.race import Race
from sce_lab.widgets.reproduction import Reproduction
from sce_lab.widgets.results import write_results
from sce_lab.widgets.stage import machine_card
from sce_lab.widgets.step_timeline import StepTimeline

__all__ = [
    "Guess",
    "LiveRun",
    "MemoryWall",
    "Playground",
    "Race",
    "Reproduction",
    "Snapshot",
    "StepTimeline",
    "machine_card",
    "write_results",
]
