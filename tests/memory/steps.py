"""Real steps to measure."""

import numpy as np
import pytest

from sce_lab.data.batches import training_batches
from sce_lab.data.splits import Sequences
from sce_lab.memory import measured_step, predict_memory
from sce_lab.training import Trainer

SCALARS = 1024  # bytes


def steady(config, catalog_size):
    """A trainer after its first step, and a batch of equally long sequences."""
    rng = np.random.default_rng(0)
    n, length = config.batch_size, config.max_length
    sequences = Sequences.from_lists(list(rng.integers(0, catalog_size, (n, length + 1))))
    split = type("Split", (), {"catalog_size": catalog_size, "item_counts": np.ones(catalog_size, dtype=np.int64)})
    trainer = Trainer(config, split)
    batch = next(training_batches(sequences, n, length, rng)).to(config.device, config.max_length)
    trainer._train_on(batch)
    return trainer, batch.to(config.device)


def measure(config, catalog_size):
    """The memory of a real step."""
    trainer, batch = steady(config, catalog_size)
    return measured_step(trainer.model, trainer.loss, trainer.optimizer, batch).memory


def data_decide(config):
    """Whether the work of a step depends on its data: then what is predicted is the most there can be."""
    by_sequence = config.loss_settings.get("shared_negatives") == "sequence"
    return config.loss in ("sce", "rece") or by_sequence or config.sparse_gradients or config.dtype != "float32"


def assert_predicted(config, catalog_size, measured, within=None):
    """The prediction is what was measured, or a bound of it where the data decide, ``within`` a factor of it."""
    predicted = predict_memory(config, catalog_size)
    for part, nbytes in measured.as_dict().items():
        expected = getattr(predicted, part)
        # a few hundred bytes: scalars that only a real step makes (a random seed, a step count)
        assert nbytes <= expected + SCALARS, (part, config, catalog_size)
        if not data_decide(config):
            assert nbytes == pytest.approx(expected, rel=0.01, abs=SCALARS), (part, config, catalog_size)
        elif within is not None:
            assert expected <= within * nbytes + 4 * SCALARS, (part, config, catalog_size)
