"""What a trained model is for: recommending, here or wherever it is taken.

:class:`Recommender` answers; :func:`export` writes it into a folder that needs nothing of this lab.
"""

from sce_lab.recommending.exporting import export
from sce_lab.recommending.program import encoder_program
from sce_lab.recommending.recommender import Recommender

__all__ = ["Recommender", "encoder_program", "export"]
