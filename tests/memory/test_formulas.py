"""The formulas that are taught against the code that is run."""

import itertools

import pytest

from sce_lab.memory import predict_memory, workspace_formula
from sce_lab.training import TrainingConfig

GRID = list(itertools.product([1000, 12_000, 10**6, 10**8], [(16, 20), (128, 50)], [32, 64]))


@pytest.mark.parametrize(("catalog_size", "shape", "hidden_size"), GRID)
@pytest.mark.parametrize(("loss", "tolerance"), [("ce", 0.01), ("sampled", 0.02), ("sce", 0.25)])
def test_the_formula_is_near_the_prediction(loss, tolerance, catalog_size, shape, hidden_size):
    config = TrainingConfig(loss=loss, hidden_size=hidden_size, batch_size=shape[0], max_length=shape[1])
    formula = workspace_formula(config, catalog_size, shape[0] * shape[1])
    assert formula.bytes == pytest.approx(predict_memory(config, catalog_size).loss_workspace, rel=tolerance)
    assert formula.text.count("+") >= len(formula.terms) - 1


def test_own_negatives_for_each_position_are_in_it():
    shared = {"batch_size": 16, "max_length": 20}
    config = TrainingConfig(loss="sampled", loss_settings={"shared_negatives": False, "n_negatives": 32}, **shared)
    predicted = predict_memory(config, 5000).loss_workspace
    assert workspace_formula(config, 5000, 320).bytes == pytest.approx(predicted, rel=0.5)


def test_a_loss_that_is_not_taught_is_unknown():
    config = type("Config", (), {"loss": "hinge"})
    with pytest.raises(KeyError):
        workspace_formula(config, 10, 10)
