"""No step takes more than was predicted, whatever its sizes and settings: many, drawn at random."""

import numpy as np
import pytest
from steps import assert_predicted, measure

from sce_lab.training import TrainingConfig

QUICK, MANY = 72, 400


def drawn(seed):
    """A configuration and a catalog, of any size that runs at once."""
    rng = np.random.default_rng(seed)

    def between(low, high):
        """As often small as large."""
        return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))

    def maybe(value, probability=0.5):
        return value if rng.random() < probability else None

    kind = ("sce", "sce", "sce", "cce", "sampled", "sampled own", "ce")[seed % 7]
    loss = kind.split()[0]
    settings = {}
    if loss == "sce":
        settings = {
            "n_buckets": between(1, 60),
            "bucket_size_x": between(1, 80),
            "bucket_size_y": between(1, 400),
            "mix_x": bool(rng.random() < 0.2),
        }
    elif loss == "sampled":
        settings = {"n_negatives": between(1, 300 if kind == "sampled" else 40)}
        settings["sampling"] = str(rng.choice(["uniform", "popularity", "log_uniform", "in_batch"]))
        if kind == "sampled own":
            settings["sampling"] = "uniform"
            settings["shared_negatives"] = False
    if loss != "ce" and (workspace := maybe(between(2**14, 2**22))):
        settings["workspace_bytes"] = workspace
    sparse = loss in ("sce", "sampled") and rng.random() < 0.4
    config = TrainingConfig(
        loss=loss,
        loss_settings=settings,
        batch_size=between(1, 24),
        max_length=between(1, 24),
        hidden_size=2 * between(1, 40),
        n_blocks=1,
        dtype="bfloat16" if rng.random() < 0.3 else "float32",
        sparse_gradients=bool(sparse),
    )
    return config, between(1, 12_000)


def check(seed):
    config, catalog_size = drawn(seed)
    assert_predicted(config, catalog_size, measure(config, catalog_size))


@pytest.mark.filterwarnings("ignore:bucket_size_:RuntimeWarning")
@pytest.mark.parametrize("seed", range(QUICK))
def test_a_step_takes_no_more_than_was_predicted(seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:bucket_size_:RuntimeWarning")
@pytest.mark.parametrize("seed", range(QUICK, QUICK + MANY))
def test_no_step_of_many_takes_more_than_was_predicted(seed):
    check(seed)
