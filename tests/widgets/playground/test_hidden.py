"""Controls that a teacher leaves out, by name or by a state; and the state in a page's address."""

import json

import pytest
import traitlets

from sce_lab.widgets import Playground


def shown(page):
    """Names of the controls that are seen."""
    cards = {name for name, card in page.view.deck._cards.items() if card.layout.display != "none"}
    from sce_lab.widgets.playground.controls import CARDS

    names = {control for card in cards for control in CARDS[card][1]}
    return {name for name in names if page.view.deck.boxes[name].layout.display != "none"}


def test_cards_and_controls_are_hidden_and_still_count():
    page = Playground(hide="model, training, sampling", seed=3)
    assert shown(page) == {
        "dataset", "catalog_size", "losses", "n_negatives", "n_buckets", "bucket_size_x", "bucket_size_y",
        "paper_rule", "mix_x",
    }  # fmt: skip
    assert page.settings.seed == 3
    page.controls["seed"].value = 4
    assert json.loads(page.state)["seed"] == 4


def test_the_state_holds_what_is_hidden_and_brings_it_to_another_page():
    page = Playground({"hide": ["model", "seed"], "losses": ["ce"]})
    assert json.loads(page.state)["hide"] == ["model", "seed"]
    assert page.view.share.field.value == page.state
    other = Playground(page.state)
    assert (shown(other), other.settings) == (shown(page), page.settings)
    assert "hidden_size" not in shown(other)
    other.apply({"hide": []})
    assert "hidden_size" in shown(other)
    assert "hide" not in json.loads(other.state)
    other.apply({"seed": 2})  # says nothing of it
    assert "hidden_size" in shown(other)


def test_moving_a_control_does_not_bring_back_what_is_hidden():
    page = Playground(hide=["catalog_size"], seed=1)
    page.controls["dataset"].value = "file"
    page.controls["dataset"].value = "synthetic"
    assert "catalog_size" not in shown(page)
    page.view.share.choose("tiny")
    assert "catalog_size" not in shown(page)
    assert page.view.share.preset.value in ("", "tiny")


def test_what_cannot_be_hidden_is_said_and_nothing_moves():
    with pytest.raises(ValueError, match=r"hide takes cards .*data.*sce.* and controls .*seed.*, got 'buckets'"):
        Playground(hide="buckets")
    page = Playground(seed=1)
    with pytest.raises(ValueError, match="hide takes a list of names, got 3"):
        page.apply({"hide": 3})
    with pytest.raises(traitlets.TraitError):
        page.apply({"hide": ["model"], "batch_size": -1})
    assert "hidden_size" in shown(page)
    assert page.hidden == ()


def test_a_state_in_the_address_is_applied_once_the_page_tells_of_it():
    page = Playground(seed=1)
    page.view.share.address.line = '{"seed": 7, "hide": ["model"]}'  # as the page does
    assert (page.settings.seed, "hidden_size" in shown(page)) == (7, False)
    assert "came with the address" in page.view.share._said.value
    page.undo()
    assert page.settings.seed == 1
    other = Playground(seed=1)
    other.view.share.address.line = '{"sede": 7}'
    assert other.settings.seed == 1
    assert "there is no setting &#x27;sede&#x27;" in other.view.share._said.value.replace("There", "there")
