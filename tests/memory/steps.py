"""Real steps to measure."""

import numpy as np
from sce_lab.losses.common import noting_decisions

from sce_lab.data.batches import training_batches
from sce_lab.data.splits import Sequences
from sce_lab.memory import measured_step
from sce_lab.training import Trainer


def steady(config, catalog_size):
    """A trainer after its first step, and a batch of equally long sequences."""
    rng = np.random.default_rng(0)
    n, length = config.batch_size, config.max_length
    sequences = Sequences.from_lists(list(rng.integers(0, catalog_size, (n, length + 1))))
    split = type("Split", (), {"catalog_size": catalog_size, "item_counts": np.ones(catalog_size, dtype=np.int64)})
    trainer = Trainer(config, split)
    batch = next(training_batches(sequences, n, length, rng))
    trainer._train_on(batch)
    return trainer, batch


def measure(config, catalog_size):
    """The memory of a real step, and what the data decided in it."""
    trainer, batch = steady(config, catalog_size)
    with noting_decisions() as decisions:
        use = measured_step(trainer.model, trainer.loss, trainer.optimizer, batch).memory
    return use, decisions
