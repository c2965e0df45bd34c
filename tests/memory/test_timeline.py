"""Every moment of a step, who is alive at its peak, and which line of code is to blame."""

import itertools

import numpy as np
import pytest
from steps import steady

from sce_lab.memory import measured_step, measured_timeline, predict_memory, predict_timeline
from sce_lab.memory.timeline import PHASES
from sce_lab.training import TrainingConfig

CONFIG = TrainingConfig(loss="ce", batch_size=8, max_length=10, hidden_size=16)
C = 3000


@pytest.fixture(scope="module")
def predicted():
    return predict_timeline(CONFIG, C)


def test_its_peak_is_the_predicted_peak(predicted):
    assert predicted.use == predict_memory(CONFIG, C)
    assert predicted.moments["live"].max() == predicted.use.peak
    assert predicted.alive()["bytes"].sum() == predicted.use.peak


def test_a_real_step_looks_the_same(predicted):
    trainer, batch = steady(CONFIG, C)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    real = measured_timeline(trainer.model, trainer.loss, trainer.optimizer, batch)
    assert real.moments["live"].max() == real.use.peak == pytest.approx(predicted.use.peak, rel=0.01)
    top = ["name", "bytes", "shape", "phase", "file", "line"]
    assert real.alive()[top].head(6).to_numpy().tolist() == predicted.alive()[top].head(6).to_numpy().tolist()
    assert any((p != old).any() for p, old in zip(trainer.model.parameters(), before))  # it was a training step


def test_the_largest_at_the_peak_are_the_scores_and_the_line_that_makes_them(predicted):
    top = predicted.alive().head(3)
    assert (top["bytes"] == 4 * 80 * C).all()
    assert set(top["file"]) == {"sce_lab/losses/ce.py"}
    assert top["code"].str.contains("F.cross_entropy").all()
    assert top["name"].tolist()[0] == "losses (log_softmax)"
    assert top["name"].tolist()[1].startswith("backward of losses")
    assert predicted.moments["phase"][predicted.peak] == "loss_backward"


def test_phases_come_in_order_and_what_a_step_makes_is_gone_after_it(predicted):
    phases = predicted.moments["phase"]
    assert [p for p, _ in itertools.groupby(phases)] == list(PHASES)
    assert predicted.moments["change"].sum() < 4096  # the loss's value and what refers to it
    tensors = predicted.tensors
    assert (tensors["died"] > tensors["born"]).all()
    resident = tensors[tensors["phase"] == "before"]
    assert resident["bytes"].sum() == predicted.use.parameters + predicted.use.optimizer_state
    assert {"item_embedding", "exp_avg of item_embedding"} <= set(resident["name"])


def test_gradients_are_named_by_what_they_are_of(predicted):
    (table,) = predicted.tensors.query("name == 'gradient of item_embedding'").to_dict("records")
    assert table["shape"] == (C, 16)
    named = predicted.tensors["name"].str.startswith("gradient of").sum()
    n_parameters = (predicted.tensors["operation"] == "parameter").sum()
    assert named == n_parameters


def test_the_parts_of_sce_are_found_in_its_engine():
    config = TrainingConfig(loss="sce", batch_size=16, max_length=20, sparse_gradients=True)
    made = predict_timeline(config, 50_000).tensors
    engine = {"torch_search.py", "torch_buckets.py", "table_gradient.py"}
    assert {f"sce_lab/losses/engine/{file}" for file in engine} < set(made["file"])
    of_the_table = made[made["file"] == "sce_lab/losses/engine/table_gradient.py"]
    assert of_the_table["name"].str.contains("new_zeros").any()


def test_live_is_the_running_sum_of_changes(predicted):
    live = predicted.moments["live"].to_numpy()
    assert np.array_equal(np.diff(live), predicted.moments["change"].to_numpy()[1:])


def test_recording_changes_no_number():
    values = []
    for run in (measured_step, measured_timeline):
        trainer, batch = steady(CONFIG, C)
        trainer._seed(1)
        run(trainer.model, trainer.loss, trainer.optimizer, batch)
        values.append(trainer.model.item_embedding.detach())
    assert (values[0] == values[1]).all()
