"""The same losses when the item table is a DTensor, sharded by rows over the ranks of a mesh.

Each file knows those before it: ``ranks`` (how tensors are exchanged), ``shard`` (which rows are here), ``everyone``
(the positions of all ranks) and ``softmax``. A loss on all ranks is the loss of their batches put together:
every rank has its value, the gradient of its own outputs, and that of its own rows.
"""

from .everyone import Everyone, check_same, checksum, meet
from .ranks import Ranks
from .shard import Shard, bounds, is_sharded, rows_of, shard_of
from .softmax import sharded_losses

__all__ = [
    "Everyone",
    "Ranks",
    "Shard",
    "bounds",
    "check_same",
    "checksum",
    "is_sharded",
    "meet",
    "rows_of",
    "shard_of",
    "sharded_losses",
]
