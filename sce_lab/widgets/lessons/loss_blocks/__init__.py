"""Which part of the matrix of positions and items does a loss look at?"""

from .widget import LossBlocks
from .world import World

__all__ = ["LossBlocks", "World"]
