"""The formulas that are taught against the code that is run."""

import itertools

import pytest

from sce_lab.memory import predict_memory, workspace_formula
from sce_lab.training import TrainingConfig

GRID = list(itertools.product([1000, 12_000, 10**6, 10**8], [(16, 20), (128, 50)], [32, 64]))


@pytest.mark.parametrize(("catalog_size", "shape", "hidden_size"), GRID)
@pytest.mark.parametrize(
    ("loss", "tolerance"),
    [("ce", 0.03), ("cce", 0.05), ("sampled", 0.05), ("ce_minus", 0.05), ("sce", 0.1), ("rece", 0.15)],
)
def test_the_formula_is_near_the_prediction(loss, tolerance, catalog_size, shape, hidden_size):
    config = TrainingConfig(loss=loss, hidden_size=hidden_size, batch_size=shape[0], max_length=shape[1])
    formula = workspace_formula(config, catalog_size, shape[0] * shape[1])
    assert formula.bytes == pytest.approx(predict_memory(config, catalog_size).loss_workspace, rel=tolerance)
    assert formula.text.count("+") >= len(formula.terms) - 1


@pytest.mark.parametrize("n_negatives", [32, 256])  # computing takes the most, or drawing
def test_own_negatives_for_each_position_are_in_it(n_negatives):
    settings = {"shared_negatives": False, "n_negatives": n_negatives}
    config = TrainingConfig(loss="sampled", loss_settings=settings, batch_size=16, max_length=20)
    predicted = predict_memory(config, 5000).loss_workspace
    assert workspace_formula(config, 5000, 320).bytes == pytest.approx(predicted, rel=0.1)


def test_without_held_logits_neither_the_catalog_nor_the_batch_has_a_say():
    sizes = [
        workspace_formula(TrainingConfig(loss="cce"), catalog_size, n_positions).bytes
        for catalog_size in (10**6, 10**9)
        for n_positions in (2_000, 20_000)
    ]
    assert max(sizes) < 2 * min(sizes) < 2**24


def test_a_loss_that_is_not_taught_is_unknown():
    config = type("Config", (), {"loss": "hinge"})
    with pytest.raises(KeyError):
        workspace_formula(config, 10, 10)
