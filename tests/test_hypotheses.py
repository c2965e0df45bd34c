"""Ablations of SCE against the definitions, and verdicts that say no more than the seeds know."""

import numpy as np
import pandas as pd
import pytest
import torch

from sce_lab.explain import HYPOTHESES, Hypothesis, best_by, contrasts, trials_of, verdicts
from sce_lab.explain.ablation import VARIANTS, all_items, all_positions, mean_of_buckets, random_items, variant_step
from sce_lab.figures import LOOKS, contrasts_spec, figure, recorded_seeds_spec, seeds_spec
from sce_lab.losses import SCELoss, cross_entropy
from sce_lab.sweeps import Sweep, Trial
from sce_lab.training import TrainingConfig

SIZES = {"n_buckets": 5, "bucket_size_x": 9, "bucket_size_y": 12}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    x, w = torch.randn(40, 8, generator=generator), torch.randn(90, 8, generator=generator)
    return x, w, torch.randint(90, (40,), generator=generator)


def loss(**more):
    return SCELoss(**SIZES | more, generator=torch.Generator().manual_seed(3))


def buckets(x, w):
    centers = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
    return (centers @ x.T).topk(9).indices, (centers @ w.T).topk(12).indices, centers


def of_bucket(x, w, target, rows, items):
    """Losses of some positions over some items and their targets."""
    everything = torch.zeros(len(w), dtype=torch.bool).index_fill(0, items, True)
    logits = x[rows] @ w.T
    counted = everything[None].expand_as(logits).scatter(1, target[rows, None], True)
    return logits.masked_fill(~counted, -torch.inf).logsumexp(1) - logits.gather(1, target[rows, None])[:, 0]


def test_no_position_left_out(batch):
    x, w, target = batch
    _, items, _ = buckets(x, w)
    every = torch.stack([of_bucket(x, w, target, torch.arange(40), taken) for taken in items])
    assert float(all_positions(loss(), *batch)) == pytest.approx(float(every.amax(0).mean()), rel=1e-5)


def test_no_item_left_out(batch):
    x, w, target = batch
    covered = buckets(x, w)[0].unique()
    exact = cross_entropy(x[covered], w, target[covered])
    assert float(all_items(loss(), *batch)) == pytest.approx(float(exact), rel=1e-5)


def test_mean_of_buckets(batch):
    x, w, target = batch
    found = {}
    for rows, items in zip(*buckets(x, w)[:2]):
        for n, value in zip(rows.tolist(), of_bucket(x, w, target, rows, items).tolist()):
            found.setdefault(n, []).append(value)
    assert any(len(values) > 1 for values in found.values())
    assert float(mean_of_buckets(loss(), *batch)) == pytest.approx(
        np.mean([np.mean(v) for v in found.values()]), rel=1e-5
    )
    assert float(mean_of_buckets(loss(), *batch)) < float(loss()(*batch))


def test_random_items_are_not_the_hard_ones(batch):
    means = {name: np.mean([float(f(loss(), *batch)) for _ in range(5)]) for name, f in (("random", random_items), ("hard", lambda module, *inputs: module(*inputs)))}  # fmt: skip  # noqa: E501
    assert means["random"] < means["hard"]
    whole = random_items(loss(bucket_size_x=40, bucket_size_y=90), *batch)
    assert float(whole) == pytest.approx(float(cross_entropy(*batch)), rel=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_trains_the_model(tmp_path, name):
    config = TrainingConfig(loss_settings=SIZES, hidden_size=8, n_blocks=1, max_length=8, batch_size=256, max_epochs=1)
    source = {"source": "synthetic", "catalog_size": 120}
    sweep = Sweep([Trial(config, source), Trial(config, source, name, variant_step(VARIANTS[name]))], tmp_path)
    list(sweep.events())
    table = sweep.table()
    assert (table["NDCG@10"] > 0).all()
    histories = [sweep.run(trial).history["loss"].dropna() for trial in sweep.trials]
    assert not np.allclose(*histories)


def test_every_contrast_can_be_made_and_compares_like_with_like():
    trials = trials_of(TrainingConfig(batch_size=64), {"source": "synthetic"}, range(2), SIZES)
    labels = {trial.label for trial in trials}
    assert len(trials) == 2 * len(labels) == len({trial.name for trial in trials})
    for hypothesis in HYPOTHESES:
        assert hypothesis.contrast.keys() <= labels
        assert sum(hypothesis.contrast.values()) == 0
    by = {trial.label: trial.config for trial in trials if trial.config.seed == 1}
    quarter = by["SCE, a quarter of the batch"]
    assert quarter.batch_size == by["cross-entropy, a quarter of the batch"].batch_size == 16
    assert quarter.loss_settings["bucket_size_y"] == SIZES["bucket_size_y"]


def curves(difference, noise=0.001, seeds=5):
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        level = rng.standard_normal()  # a good seed is good for both: pairs know nothing of it
        for label, more in (("a", difference), ("b", 0.0)):
            for epoch in (1, 2):
                value = level + more * epoch + noise * rng.standard_normal()
                rows.append({"label": label, "seed": seed, "epoch": epoch, "NDCG@10": value})
    return pd.DataFrame(rows)


AB = [Hypothesis("a is better", {"a": 1, "b": -1})]


@pytest.mark.parametrize(("difference", "verdict"), [(0.1, "helps"), (-0.1, "hurts"), (0.0, "not told apart")])
def test_verdicts(difference, verdict):
    found = contrasts(curves(difference), 1, hypotheses=AB)
    assert found["seed"].tolist() == [0, 1, 2, 3, 4]
    (row,) = verdicts(found).to_dict("records")
    assert row["verdict"] == verdict
    assert row["low"] < row["mean"] < row["high"]
    assert row["mean"] == pytest.approx(difference, abs=0.003)
    late = verdicts(contrasts(curves(difference), 2, hypotheses=AB))["mean"][0]
    assert late == pytest.approx(max(2 * difference, difference), abs=0.003)  # the best so far counts


def test_an_interval_is_student_s():
    values = pd.DataFrame({"hypothesis": "h", "seed": range(4), "difference": [1.0, 2.0, 3.0, 4.0]})
    (row,) = verdicts(values).to_dict("records")
    assert (row["low"], row["high"]) == pytest.approx((2.5 - 3.182 * 1.291 / 2, 2.5 + 3.182 * 1.291 / 2), abs=1e-3)


def test_one_seed_tells_nothing_apart_and_what_is_missing_is_left_out():
    one = verdicts(contrasts(curves(5.0, seeds=1), 2, hypotheses=AB))
    assert one["verdict"].tolist() == ["not told apart"]
    assert np.isinf(one["high"][0])
    table = curves(0.1)
    begun = table[~((table["label"] == "b") & (table["seed"] == 3) & (table["epoch"] == 2))]
    assert contrasts(begun, 2, hypotheses=AB)["seed"].tolist() == [0, 1, 2, 4]
    assert contrasts(table[table["label"] == "a"], 2, hypotheses=AB).empty
    assert best_by(table, 2).groupby("label").size().to_dict() == {"a": 5, "b": 5}


def test_every_seed_is_drawn():
    points = pd.DataFrame({"label": ["x", "x", "y"], "NDCG@10": [0.1, 0.3, 0.2]})
    spec = seeds_spec(points, ["x", "y", "z"], {"x": "ce", "y": "sce", "z": "sce"}, "NDCG@10", "title")
    band, mean, dots, *_ = figure(spec).data
    assert (list(band.x), list(mean.x), list(dots.x)) == ([0.1, 0.3], [0.2], [0.1, 0.3])
    assert dots.marker.color == LOOKS["ce"].color
    assert spec["layout"]["yaxis"]["ticktext"] == ["x", "y", "z"]
    assert len(spec["data"]) == 9  # z has its place already


def test_contrasts_are_drawn_with_their_verdicts():
    found = contrasts(curves(0.1), 1, hypotheses=AB)
    told = verdicts(found)
    spec = contrasts_spec({"early": (found, told), "late": (found.iloc[:0], told.iloc[:0])}, ["a is better", "other"])
    bar, dots, *_ = figure(spec).data
    assert list(bar.x) == [told["low"][0], told["high"][0]]
    assert sorted(dots.x) == sorted(found["difference"])
    assert bar.line.color == LOOKS["sce"].color
    assert any("<b>helps</b> +0.1" in note["text"] for note in spec["layout"]["annotations"])
    low, high = spec["layout"]["xaxis"]["range"]
    assert low < 0 < told["high"][0] < high


def test_recorded_seeds():
    records = [
        {"config": {"loss": "ce"}, "seeds": [{"test": {"NDCG@10": 0.05}}]},
        {"config": {"loss": "sce"}, "seeds": [{"test": {"NDCG@10": 0.06}}, {"test": {"NDCG@10": 0.08}}]},
        {"config": {"loss": "sce"}, "seeds": [{"validation": {}}]},  # its test was not looked at
    ]
    made = figure(recorded_seeds_spec(records, ["one", "two", "three"]))
    assert list(made.layout.yaxis.ticktext) == ["two", "one"]
    assert list(made.data[2].x) == [0.06, 0.08]
