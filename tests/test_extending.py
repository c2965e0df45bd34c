"""The guide is run as it is printed, and what it adds turns up everywhere."""

import re
from pathlib import Path

import pytest
import torch

import sce_lab as lab
from sce_lab.cli.options import configuration
from sce_lab.figures import LOOKS
from sce_lab.losses import LOSSES, make_loss
from sce_lab.widgets import MemoryWall, Playground

GUIDE = Path(__file__).parent.parent / "docs" / "extending.md"


@pytest.fixture
def guide():
    """What the guide's code defines."""
    before, defined = dict(LOSSES), {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        exec(block, defined)
    yield defined
    LOSSES.clear()
    LOSSES.update(before)


def test_the_loss_is_what_it_says(guide):
    torch.manual_seed(0)
    x, w, target = torch.randn(20, 8), torch.randn(60, 8, requires_grad=True), torch.randint(60, (20,))
    kept = torch.arange(60) < 15
    logits = (x @ w.T).masked_fill(~(kept | (torch.arange(60) == target[:, None])), -torch.inf)
    value = make_loss("head", n_items=15)(x, w, target)
    torch.testing.assert_close(value, torch.nn.functional.cross_entropy(logits, target))
    value.backward()
    assert (w.grad[15:].any(dim=1).nonzero().flatten() + 15).tolist() == sorted(set(target[target >= 15].tolist()))
    with pytest.raises(ValueError, match="n_items must be a positive whole number, got 0"):
        make_loss("head", n_items=0)


def test_the_sampler_is_what_it_says(guide):
    drawn = guide["Recent"](50).draw((1000,), 300, torch.device("cpu"), None)
    assert set(drawn.tolist()) == set(range(250, 300))
    x, w, target = torch.randn(20, 8), torch.randn(300, 8), torch.randint(300, (20,))
    assert guide["loss"](x, w, target) > 0


def test_the_loss_trains_and_is_in_every_table(guide, sce_lab, tmp_path):
    status, out, _ = sce_lab("memory", "500", "--batch-size", "8", "--max-length", "5")
    assert status == 0
    assert out.count("Head softmax") == 3  # memory, operations, devices
    tiny = ("--catalog-size", "100", "--hidden-size", "8", "--max-length", "5", "--epochs", "1")
    status, out, err = sce_lab("compare", "--losses", "head,ce", *tiny, "--out", str(tmp_path))
    assert status == 0, err
    assert "Head softmax" in out
    assert "head" in sce_lab("train", "--loss", "nothing")[2]
    config = lab.TrainingConfig(loss="head", loss_settings={"n_items": 7})
    assert lab.predict_memory(config, 10**6).loss_workspace > 0
    assert configuration("head", OPTIONS).loss_settings == {}  # no command has an option of that name


OPTIONS = {"mix": False, "epochs": 1, "hidden_size": 8, "n_blocks": 1, "dropout": 0.1, "max_length": 5, "batch_size": 8}
OPTIONS |= {"encoder": "sasrec", "low_pass": 0.0, "averaging": 0.0, "followers": 0.0}
OPTIONS |= {"learning_rate": 0.1, "patience": 1, "seed": 0, "device": "cpu", "seen": "exclude", "n_negatives": 3}


def test_the_loss_has_a_place_in_the_wall(guide):
    wall = MemoryWall(measure=False, catalog_size=1000, batch_size=8, length=5, hidden_size=16)
    wall.settle()
    at = list(LOOKS).index("head")
    assert wall._parts.widget.data[0].x[at] == lab.predict_memory(wall.settings.config("head"), 1000).peak
    assert "Head softmax" in "".join(str(tick) for tick in wall._parts.widget.layout.yaxis.ticktext)
    wall.close()


def test_the_loss_can_be_chosen_in_the_playground(guide):
    page = Playground(catalog_size=200, epochs=1, batch_size=64, losses="head")
    toggle = page.view.deck._controls["losses"].toggles["head"]
    assert (toggle.description, toggle.tooltip) == ("Head softmax", "Scores the most popular items and no others.")
    page.start()
    page.wait()
    (run,) = page.results()["runs"]
    assert run["loss"] == "head"
    assert run["epochs"] == 1
    page.reset()
