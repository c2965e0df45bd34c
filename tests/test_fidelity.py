"""The referee: what it says of losses whose answers are known."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from sce_lab import make_loss
from sce_lab.data import open_split
from sce_lab.data.batches import training_batches
from sce_lab.explain import Buckets, found_by_rank
from sce_lab.fidelity import HARDEST, fidelity_while_training, gradient_fidelity, log_sum_bias, ways
from sce_lab.figures import fidelity_spec
from sce_lab.figures.fidelity import write_page
from sce_lab.files import repository
from sce_lab.losses import LOSSES
from sce_lab.reproduce.refereed import read_fidelity
from sce_lab.reproduce.studies import fidelity_markdown
from sce_lab.training import Trainer, TrainingConfig


@pytest.fixture(scope="module")
def trainer():
    split = open_split("synthetic", catalog_size=400)[0]
    return Trainer(TrainingConfig(loss="ce", hidden_size=16, max_epochs=2, batch_size=64, max_length=20), split)


@pytest.fixture(scope="module")
def batch(trainer):
    return next(training_batches(trainer.split.train, 12, 20, np.random.default_rng(0)))


@pytest.fixture(scope="module")
def inside(trainer, batch):
    with torch.no_grad():
        outputs = trainer.model.eval()(batch.inputs)
    return outputs, trainer.model.item_embedding.detach(), batch.targets


def judged(losses, trainer, batch, draws=4):
    table = gradient_fidelity(losses, trainer.model, batch, draws=draws)
    return {name: rows.set_index("of") for name, rows in table.groupby("loss")}


def test_cross_entropy_is_exact_and_sees_everything(trainer, batch):
    found = judged({name: make_loss(name) for name in ("ce", "cce")}, trainer, batch)
    for rows in found.values():
        for of in ("outputs", "items"):
            row = rows.loc[of]
            assert row["error"] < 1e-5
            assert row["bias"] < 1e-5
            assert row["spread"] < 1e-7  # no draw
            assert row["cosine"] == pytest.approx(1)
            assert row["captured mass"] == pytest.approx(1, abs=1e-5)
            assert row["hardest seen"] == row["coverage"] == 1
    assert found["ce"]["workspace"]["items"] > batch.n_positions * 400 * 4
    assert found["ce"]["kind"]["items"] == "ce"


def test_what_is_looked_at_is_what_was_drawn(trainer, batch, inside):
    """Of negatives that are given, it is known which items each position looks at: those, and its target."""
    outputs, items, target = inside
    negatives = torch.arange(0, 400, 8)
    row = judged({"given": make_loss("sampled", negatives=negatives)}, trainer, batch)["given"].loc["items"]
    mass = (outputs @ items.T).softmax(dim=1)
    looked = torch.zeros_like(mass, dtype=torch.bool)
    looked[:, negatives] = True
    looked[torch.arange(len(target)), target] = True
    assert row["captured mass"] == pytest.approx(float((mass * looked).sum(dim=1).mean()), rel=1e-5)
    hardest = mass.scatter(1, target[:, None], -1).topk(HARDEST, dim=1).indices
    assert row["hardest seen"] == pytest.approx(float(looked.gather(1, hardest).float().mean()))
    assert row["coverage"] == 1
    assert row["spread"] < 1e-7
    assert row["bias"] == pytest.approx(row["error"], rel=1e-4)


def test_the_gradients_are_those_of_the_loss(trainer, batch, inside):
    """One draw, computed by hand in float64."""
    outputs, items, target = (t.double() if t.is_floating_point() else t for t in inside)
    negatives = torch.arange(5, 400, 5)
    row = judged({"given": make_loss("sampled", negatives=negatives)}, trainer, batch)["given"]

    def gradients(sampled):
        x, w = outputs.clone().requires_grad_(), items.clone().requires_grad_()
        logits = x @ w.T
        own = logits.gather(1, target[:, None])
        if sampled:
            others = logits[:, negatives] - np.log(len(negatives) / 400)
            others = others.masked_fill(negatives == target[:, None], -torch.inf)
            logits = torch.cat([own, others], dim=1)
        (logits.logsumexp(dim=1) - own[:, 0]).mean().backward()
        return {"outputs": x.grad, "items": w.grad}

    ours, exact = gradients(True), gradients(False)
    for of in ("outputs", "items"):
        g, true = ours[of].flatten(), exact[of].flatten()
        cosine = float(torch.cosine_similarity(g, true, dim=0))
        assert row["error"][of] == pytest.approx(float((g - true).norm() / true.norm()), rel=1e-3)
        assert row["length"][of] == pytest.approx(float(g.norm() / true.norm()), rel=1e-3)
        assert row["cosine"][of] == pytest.approx(cosine, rel=1e-3)
        assert row["direction"][of] == pytest.approx((1 - cosine**2) ** 0.5, rel=1e-2)


def test_bias_and_spread_are_told_apart(trainer, batch):
    """Corrected draws are right on average, uncorrected ones are not; of 16 times as many the chance is a fourth."""
    popular = {"sampling": "popularity", "exponent": 1.0, "n_negatives": 256}
    popular["item_counts"] = torch.from_numpy(trainer.split.item_counts)
    losses = {
        "few": make_loss("sampled", n_negatives=16),
        "many": make_loss("sampled", n_negatives=256),
        "corrected": make_loss("sampled", **popular),
        "uncorrected": make_loss("sampled", **popular, logq_correction=False),
    }
    found = {name: rows.loc["items"] for name, rows in judged(losses, trainer, batch, draws=24).items()}
    assert found["few"]["spread"] / found["many"]["spread"] == pytest.approx(4, rel=0.25)
    assert found["many"]["bias"] < 0.2 * found["many"]["spread"]
    assert found["uncorrected"]["bias"] > 3 * found["corrected"]["bias"]
    for row in found.values():
        assert row["error"] ** 2 == pytest.approx(row["bias"] ** 2 + row["spread"] ** 2, rel=0.25)
        assert row["error low"] < row["error"] < row["error high"]


def test_what_sce_sees_agrees_with_a_search_by_hand(trainer, batch, inside):
    sizes = {"n_buckets": 20, "bucket_size_x": 20, "bucket_size_y": 40}
    row = judged({"sce": make_loss("sce", **sizes)}, trainer, batch, draws=16)["sce"].loc["items"]
    by_rank = found_by_rank(*inside, Buckets(**sizes), ranks=HARDEST, draws=40).query("loss == 'sce'")
    assert row["hardest seen"] == pytest.approx(by_rank["found"].mean(), abs=0.04)
    drawn = [Buckets(**sizes).found(*inside, seed).any(dim=1).float().mean() for seed in range(40)]
    assert row["coverage"] == pytest.approx(float(np.mean(drawn)), abs=0.04)


def test_one_draw_tells_nothing_about_chance(trainer, batch):
    with pytest.raises(ValueError, match="draws must be at least 2, to tell chance from bias, got 1"):
        gradient_fidelity(ways(["ce"]), trainer.model, batch, draws=1)


class Known(torch.nn.Module):
    """A model whose outputs are given."""

    def __init__(self, outputs, items):
        super().__init__()
        self.outputs, self.item_embedding = outputs, torch.nn.Parameter(items)

    def forward(self, inputs):
        return self.outputs


def known(scale=1.0, ignored=()):
    """A model with logits of this size, and a batch for it."""
    generator = torch.Generator().manual_seed(0)
    outputs, items = torch.randn(30, 8, generator=generator) * scale, torch.randn(20, 8, generator=generator)
    target = torch.randint(20, (30,), generator=generator)
    target[list(ignored)] = -100
    return Known(outputs, items), SimpleNamespace(inputs=None, targets=target)


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0, 15.0])
def test_cross_entropy_sees_everything_however_large_the_logits(scale):
    model, batch = known(scale)
    table = gradient_fidelity({"ce": make_loss("ce")}, model, batch, draws=2).set_index("of")
    assert table["captured mass"].tolist() == pytest.approx([1, 1])
    assert table["hardest seen"].tolist() == table["coverage"].tolist() == [1, 1]
    assert table["cosine"]["outputs"] == pytest.approx(1)
    assert table["cosine"]["items"] == pytest.approx(1 if scale else 0)  # outputs of 0 move no item


def test_the_referee_leaves_a_model_as_it_was():
    model, batch = known()
    gradient_fidelity({"ce": make_loss("ce")}, model.train(), batch, draws=2)
    log_sum_bias(make_loss("ce"), model, batch, draws=1)
    assert model.training
    gradient_fidelity({"ce": make_loss("ce")}, model.eval(), batch, draws=2)
    assert not model.training


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_means_are_compared_whatever_a_loss_is_set_to(reduction):
    table = gradient_fidelity({"ce": make_loss("ce", reduction=reduction)}, *known(), draws=2)
    assert (table["error"] < 1e-5).all()


def test_positions_without_a_target_are_named():
    with pytest.raises(ValueError, match="takes positions with a target, and at least one: of 30 have none 2"):
        gradient_fidelity({"ce": make_loss("ce")}, *known(ignored=(3, 4)), draws=2)


def test_a_log_sum_is_asked_of_those_that_have_one():
    model, batch = known()
    with pytest.raises(ValueError, match="BCE has no sum over items"):
        log_sum_bias(make_loss("bce"), model, batch, draws=1)
    every = torch.arange(20)
    for loss in (
        make_loss("sampled", negatives=every, positive_in_denominator=False),  # its value is another, its sum is not
        make_loss("sce", n_buckets=1, bucket_size_x=1, bucket_size_y=20, negatives=every),  # negatives for the rest
    ):
        assert log_sum_bias(loss, model, batch, draws=1) == pytest.approx([0], abs=1e-5)
    few = make_loss("sce", n_buckets=1, bucket_size_x=1, bucket_size_y=20, negatives=torch.tensor([0]))
    assert abs(log_sum_bias(few, model, batch, draws=1)[0]) > 0.1  # all positions count


def test_every_loss_has_its_ways():
    found = ways()
    assert {type(loss) for loss in found.values()} == set(LOSSES.values())
    assert {"Cross-entropy", "Sampled softmax, 1,024", "SCE, 256"} <= found.keys()
    assert (found["SCE, 16"].bucket_size_y, found["SCE, 16"].n_negatives) == (16, 0)
    assert found["Sampled softmax, 64"].n_negatives == 64
    with pytest.raises(ValueError, match="'gsasrec' is a preset"):
        ways(["gsasrec"])
    with pytest.raises(ValueError, match="there is no loss 'best'"):
        ways(["best"])


@pytest.fixture(scope="module")
def followed(trainer, batch):
    own = Trainer(trainer.config, trainer.split)  # the other one stays at its beginning, whatever runs first
    tables = list(fidelity_while_training(own, ways(["cce", "sce"]), batch, epochs=[0, 2], draws=2))
    assert own.epoch == 2
    return tables


def test_while_training_the_model_is_another_each_time(followed):
    assert [table["epoch"].unique().tolist() for table in followed] == [[0], [2]]
    first, second = (table.set_index(["loss", "of"])["error"] for table in followed)
    assert (first != second)[("SCE, 16", "items")]


def test_an_epoch_that_training_does_not_reach_is_named(trainer, batch):
    own = Trainer(trainer.config, trainer.split)
    with pytest.raises(ValueError, match="training ended before epoch 7"):
        list(fidelity_while_training(own, ways(["cce"]), batch, epochs=[7], draws=2))


def test_the_notebook_says_of_bytes_what_the_record_says():
    table = read_fidelity(repository() / "benchmarks/results/fidelity/amazon_beauty-cce.json")
    held = table.query("epoch == 15 and of == 'items'").set_index("kind")["workspace"] / 2**20
    exact, others = held["cce"], held.drop(["ce", "cce"])
    less = others[others < exact]
    said = (
        f"holds {exact:.1f} MiB on this catalog where its logits are never held: {len(less)} of the "
        f"{len(others)} others hold less, {less.min():.1f} to {less.max():.1f} MiB, "
        f"and {len(others) - len(less)} hold more."
    )
    notebook = json.loads((repository() / "notebooks/04_sce_step_by_step.ipynb").read_text())
    assert any(said in " ".join("".join(cell["source"]).split()) for cell in notebook["cells"])


def test_a_record_names_no_path_of_a_machine():
    for path in (repository() / "benchmarks/results").rglob("*.json"):
        assert "/tmp/" not in path.read_text(), path


def test_the_figure_shows_each_loss_once_a_panel(followed, tmp_path):
    spec = fidelity_spec(followed[0])
    assert [trace["name"] for trace in spec["data"]] == [
        trace["name"] for trace in spec["data"] if trace["showlegend"]
    ] * 2
    sce = next(trace for trace in spec["data"] if trace["name"] == "SCE")
    items = followed[0].query("kind == 'sce' and of == 'items'").sort_values("workspace")
    np.testing.assert_allclose(sce["y"], items["error"])
    np.testing.assert_allclose(sce["x"], items["workspace"])
    write_page(tmp_path / "page.html", "synthetic", followed)
    text = (tmp_path / "page.html").read_text()
    assert "after 2 epochs" in text
    assert "SCE, 256" in text


def test_what_is_said_of_the_referee_follows_from_its_numbers(followed):
    """Other numbers, other sentences; and nothing on how well a model ranks, of which the record knows nothing."""
    table = pd.concat(followed, ignore_index=True).assign(trained="cce", dataset="synthetic")
    drawn = table[table["kind"] == "sce"].assign(kind="sampled", loss="Sampled softmax")
    table = pd.concat([table[table["kind"] == "sce"], drawn])
    by_chance = fidelity_markdown([table.assign(bias=0.01, error=1.0)])
    by_side = fidelity_markdown([table.assign(bias=0.9, error=1.0)])
    assert "squared error 0% is the same in every draw, of that draw's 0%: it errs by chance." in by_chance
    assert "squared error 81% is the same" in by_side
    for text in (by_chance, by_side):
        assert text.splitlines()[-1].endswith((": it errs by chance.", "a noisy copy of cross-entropy."))
