"""Which part of the matrix of positions and items does a loss look at?"""

from sce_lab.widgets.lessons.loss_blocks.widget import LossBlocks
from sce_lab.widgets.lessons.loss_blocks.world import World

__all__ = ["LossBlocks", "World"]
