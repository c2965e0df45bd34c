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


RIVALS = ("ce_minus", "ce_minus", "rece", "rece", "sce", "sce", "bce", "sampled", "cce")


def rival(seed):
    """A loss with settings that are not the first that come to mind, and a catalog."""
    rng = np.random.default_rng(seed)

    def between(low, high):
        return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))

    def one_of(*values):
        return values[rng.integers(len(values))]

    loss = RIVALS[seed % len(RIVALS)]
    negatives = {"n_negatives": between(1, 60), "shared_negatives": one_of(True, "sequence", "sequence")}
    if loss == "rece":
        settings = {"n_buckets": between(1, 60), "n_extra_chunks": between(1, 4) - 1, "n_rounds": one_of(1, 1, 2, 5)}
    elif loss == "sce":
        settings = {"n_buckets": between(1, 200), "bucket_size_x": between(1, 80), "bucket_size_y": between(1, 400)}
        settings |= {"combine": one_of("max", "union", "union"), "kmeans_steps": one_of(0, 2)}
        settings |= {"n_negatives": one_of(0, between(1, 300)), "items_near": one_of("center", "positions")}
        settings["negatives_for"] = one_of("uncovered", "all") if settings["combine"] == "union" else "uncovered"
    elif loss == "sampled":
        settings = {"n_negatives": between(2, 200), "sampling": "mixed", "positive_in_denominator": one_of(True, False)}
    else:
        settings = negatives if loss != "cce" else {"label_smoothing": 0.1}
    if loss != "bce" and rng.random() < 0.5:
        settings["workspace_bytes"] = between(2**14, 2**22)
    if loss != "bce" and "label_smoothing" not in settings:
        settings["softcap"] = one_of(None, 5.0)
    config = TrainingConfig(
        loss=loss,
        loss_settings=settings | {"logit_scale": one_of(1.0, 2.0)},
        batch_size=between(1, 24),
        max_length=between(1, 24),
        hidden_size=2 * between(1, 40),
        n_blocks=1,
        dtype=one_of("float32", "float32", "bfloat16"),
        sparse_gradients=bool(loss != "cce" and rng.random() < 0.3),
    )
    return config, between(1, 12_000)


@pytest.mark.filterwarnings("ignore:bucket_size_:RuntimeWarning")
@pytest.mark.parametrize("seed", range(QUICK))
def test_a_step_of_a_rival_takes_no_more_than_was_predicted(seed):
    config, catalog_size = rival(seed)
    assert_predicted(config, catalog_size, measure(config, catalog_size))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:bucket_size_:RuntimeWarning")
@pytest.mark.parametrize("seed", range(QUICK, QUICK + MANY))
def test_no_step_of_many_rivals_takes_more_than_was_predicted(seed):
    config, catalog_size = rival(seed)
    assert_predicted(config, catalog_size, measure(config, catalog_size))
