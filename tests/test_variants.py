"""SCE's options: what is measured of each, and that the record says it."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sce_lab.data import open_split
from sce_lab.data.batches import training_batches
from sce_lab.losses import make_loss
from sce_lab.metrics import calibration_error
from sce_lab.reproduce import variants
from sce_lab.reproduce.studies import variants_markdown
from sce_lab.reproduce.writing import Evidence
from sce_lab.runs import record
from sce_lab.training import StepDone, Trainer, TrainingConfig

SMALL = dataclasses.replace(variants.CONFIG, max_epochs=1, evaluate_every=1, hidden_size=8, max_length=8, n_blocks=1)
FEW = {name: variants.OPTIONS[name] for name in ("sce", "sce-union", "sce-union-all")}


@pytest.fixture(scope="module")
def split():
    return open_split("synthetic", catalog_size=200)[0]


def measured(split, folder, monkeypatch, seeds, steps):
    monkeypatch.setattr(variants, "OPTIONS", FEW)
    monkeypatch.setattr(variants, "DRAWS", 4)
    monkeypatch.setattr(variants, "POSITIONS", 150)

    def train_run(config, run):
        for event in record(Trainer(config, split, when_to_test="never"), run):
            if isinstance(event, StepDone):
                steps.append((config.loss, tuple(config.loss_settings), config.seed, event.step))

    kept = {"runs": folder / "runs", "path": folder / "kept" / "variants.json"}
    return list(variants.measure_variants("synthetic", split, train_run, seeds=seeds, repeat="r", config=SMALL, **kept))


def test_each_option_is_trained_alike_and_asked_about_one_model(split, tmp_path, monkeypatch):
    steps = []
    measured(split, tmp_path, monkeypatch, 1, steps)
    first = len(steps)
    text = variants_markdown([json.loads((tmp_path / "kept" / "variants.json").read_text())])
    assert "inf" not in text
    told = measured(split, tmp_path, monkeypatch, 2, steps)
    assert len(steps) == len(set(steps)) == 2 * first  # the first seeds are not trained again
    found = json.loads((tmp_path / "kept" / "variants.json").read_text())
    assert found["rows"] == json.loads(json.dumps(told))
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["cce", *FEW]
    assert all(len(row["by seed"]) == 2 for row in rows.values())
    assert rows["cce"]["error"] < 1e-5
    assert rows["cce"]["log sum bias"] == pytest.approx(0, abs=1e-5)
    assert rows["sce"]["log sum bias"] < rows["sce-union"]["log sum bias"] < 1e-6  # more of the sum, at most all
    assert abs(rows["sce-union-all"]["log sum bias"]) < 0.1
    assert rows["sce-union"]["error"] < rows["sce"]["error"]
    assert rows["sce"]["settings"] == variants.SIZES
    text = variants_markdown([found, found | {"dataset": "elsewhere"}])
    assert text.index("**synthetic, 1 epochs, 2 seeds**") < text.index("**elsewhere, 1 epochs, 2 seeds**")
    line = next(line for line in text.splitlines() if line.startswith("| union, and"))
    assert f"{rows['sce-union-all']['validation NDCG@10']:.4f}" in line
    apart = np.mean(np.subtract(rows["sce-union-all"]["by seed"], rows["sce"]["by seed"]))
    assert f"{apart:+.4f}" in line
    assert "than the paper's SCE" in text
    assert "union, and 256 shared negatives" in text.split("The softmax's sum")[1]


def test_nothing_is_said_of_nothing():
    assert "sce-lab variants" in variants_markdown([])


def test_the_bias_of_a_sum_is_the_loss_minus_cross_entropy_where_it_counts(split):
    """With all items in one bucket of all positions it is none; with positions left out, they do not count."""
    trainer = Trainer(SMALL, split)
    batch = next(training_batches(split.train, 20, 8, np.random.default_rng(0)))
    n = batch.n_positions
    whole = make_loss("sce", n_buckets=1, bucket_size_x=n, bucket_size_y=200)
    assert variants.log_sum_bias(whole, trainer.model, batch, 2) == pytest.approx([0, 0], abs=1e-5)
    some = make_loss("sce", n_buckets=1, bucket_size_x=5, bucket_size_y=200)
    assert variants.log_sum_bias(some, trainer.model, batch, 2) == pytest.approx([0, 0], abs=1e-5)
    with torch.no_grad():
        trainer.model.item_embedding.zero_()  # all logits are 0: the sums are numbers of items
    half = make_loss("ce_minus", negatives=torch.arange(99), n_negatives=99)
    (bias,) = variants.log_sum_bias(half, trainer.model, batch, 1)
    known = [99 + (t >= 99) for t in batch.targets.tolist()]
    assert bias == pytest.approx(np.mean(np.log(known)) - np.log(200), abs=1e-4)


def test_positions_in_a_bucket_count_though_their_loss_is_nothing(split):
    """A bucket of one item, which is somebody's target: the loss is 0, and cross-entropy, log 200, is not."""
    trainer = Trainer(SMALL, split)
    batch = next(training_batches(split.train, 20, 8, np.random.default_rng(0)))
    with torch.no_grad():
        trainer.model.item_embedding.zero_()
    n = batch.n_positions
    one = make_loss("sce", n_buckets=1, bucket_size_x=n, bucket_size_y=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        outputs = trainer.model.eval()(batch.inputs)
        one.generator = generator
        zeros = one(outputs, trainer.model.item_embedding, batch.targets, reduction="none") == 0
    assert zeros.any()
    (bias,) = variants.log_sum_bias(one, trainer.model, batch, 1)
    own = float(zeros.float().mean())  # whose bucket has only the target: a sum of 1, elsewhere of 2
    assert bias == pytest.approx((1 - own) * np.log(2) - np.log(200), abs=1e-4)


def test_a_loss_that_counts_nothing_has_no_bias(split, monkeypatch):
    trainer = Trainer(SMALL, split)
    batch = next(training_batches(split.train, 20, 8, np.random.default_rng(0)))
    monkeypatch.setattr("sce_lab.fidelity._counted", lambda *_: torch.zeros(batch.n_positions, dtype=torch.bool))
    found = variants.statistics_of(variants.log_sum_bias(make_loss("sce"), trainer.model, batch, 2), "log sum bias")
    assert json.dumps(found, allow_nan=False) == '{"log sum bias": null, "log sum bias sd": null}'


def test_a_record_stays_until_the_last_row_is_there(split, tmp_path, monkeypatch):
    monkeypatch.setattr(variants, "OPTIONS", FEW)
    path = tmp_path / "kept.json"
    old = json.dumps({"rows": [{"by seed": [0.1, 0.2]}]})
    path.write_text(old)

    def stops(config, run):
        if config.loss == "cce":
            list(record(Trainer(config, split, when_to_test="never"), run))

    more = {"repeat": "r", "config": SMALL, "runs": tmp_path / "runs", "path": path}
    with pytest.raises(ValueError, match=r"kept\.json has 2 seeds, and 1 would take their place"):
        list(variants.measure_variants("synthetic", split, stops, seeds=1, **more))
    told = list(variants.measure_variants("synthetic", split, stops, seeds=2, **more))
    assert [row["name"] for row in told] == ["cce"]
    assert path.read_text() == old


def test_a_model_is_asked_on_the_cpu_whatever_it_was_trained_on(split, tmp_path, monkeypatch):
    """No GPU is needed to see that the model is moved; that a GPU's weights come over is torch's affair."""
    monkeypatch.setattr(variants, "best_model", lambda *_: SimpleNamespace(cpu=lambda: "moved"))
    recipe = variants.recipes("synthetic", SMALL)["sce"]
    assert variants._trained_model(recipe, 0, split, tmp_path) == "moved"


def test_every_data_set_is_shown(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "variants").mkdir(exist_ok=True)
        (tmp_path / "variants" / f"{name}.json").write_text(json.dumps({"dataset": name}))
    assert [found["dataset"] for found in Evidence.read(tmp_path).variants] == ["a", "b"]


def test_a_calibration_error():
    assert calibration_error([0.25] * 4, [True, False, False, False], n_bins=1) == 0
    assert calibration_error([0.9] * 4, [True, False, False, False], n_bins=1) == pytest.approx(0.65)
    two = calibration_error([0.1, 0.1, 0.8, 0.8], [True, False, True, True], n_bins=2)
    assert two == pytest.approx((2 * 0.4 + 2 * 0.2) / 4)
    assert calibration_error([0.1, 0.1, 0.8, 0.8], [True, False, True, True], n_bins=1) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="of one length"):
        calibration_error([0.1], [True, False])


def test_every_option_is_known_to_the_loss():
    for name, recipe in variants.recipes("amazon_beauty").items():
        assert isinstance(recipe.config, TrainingConfig)
        assert recipe.config.loss == name.partition("-")[0]
