"""What a person moves while another thread sets controls is neither lost nor taken for an echo."""

import json
import threading
import time

import pytest

from sce_lab.widgets import Playground

TINY = {"catalog_size": 200, "epochs": 2, "batch_size": 64, "n_buckets": 16, "bucket_size_x": 32, "bucket_size_y": 32}


@pytest.fixture
def page():
    made = Playground(**TINY)
    yield made
    made.reset()


class Meanwhile:
    """Does ``act`` in another thread the first time that ``widget`` changes, which goes on once that is under way."""

    def __init__(self, widget, act, under_way):
        self._act, self._under_way, self._thread = act, under_way, None
        widget.observe(self._changed, "value")

    def _changed(self, change):
        if self._thread is None:
            self._thread = threading.Thread(target=self._act)
            self._thread.start()
            end = time.monotonic() + 10
            while not self._under_way() and time.monotonic() < end:
                time.sleep(0.005)

    def join(self):
        assert self._thread is not None, "nothing changed"
        self._thread.join(10)
        assert not self._thread.is_alive(), "a deadlock"


def check(page, **expected):
    """Controls, prediction and State say the same."""
    results = page.results()
    fresh = Playground(page.settings.line())
    assert {name: results["settings"][name] for name in expected} == expected
    assert results["predicted_memory"] == fresh.results()["predicted_memory"]
    line = json.loads(page.view.share.field.value)
    assert {name: line[name] for name in expected} == expected


def test_a_slider_moved_while_the_papers_rule_places_the_others(page):
    catalog = page.controls["catalog_size"]

    def move():
        catalog.value = 2000

    meanwhile = Meanwhile(page.controls["bucket_size_x"], move, lambda: catalog.value == 2000)
    page.controls["paper_rule"].value = True
    page.results()
    meanwhile.join()
    check(page, catalog_size=2000, paper_rule=True)
    page.undo()
    assert (page.settings.catalog_size, page.settings.paper_rule) == (200, True)


def test_a_slider_moved_while_a_state_is_applied(page):
    width = page.controls["hidden_size"]

    def move():
        width.value = 128

    # Controls are set one after the other, the width before the seed.
    meanwhile = Meanwhile(page.controls["seed"], move, lambda: width.value == 128)
    page.apply({"seed": 3, "hidden_size": 16})
    meanwhile.join()
    check(page, seed=3, hidden_size=128)
    page.undo()
    assert (page.settings.seed, page.settings.hidden_size) == (3, 16)
    page.undo()
    assert (page.settings.seed, page.settings.hidden_size) == (0, 64)


def test_a_state_pasted_while_another_one_is_shown(page):
    pasted = json.dumps({"batch_size": 128})

    def paste():
        page.view.share.field.value = pasted

    meanwhile = Meanwhile(page.view.share.field, paste, lambda: page.settings.batch_size == 128)
    page.controls["seed"].value = 1
    meanwhile.join()
    check(page, batch_size=128, seed=1)


def test_a_loss_chosen_while_others_are_set(page):
    losses = page.controls["losses"]

    def press():
        losses.toggles["sampled"].value = True

    meanwhile = Meanwhile(losses.toggles["ce"], press, lambda: losses.toggles["sampled"].value)
    losses.value = ("ce", "sce")
    meanwhile.join()
    check(page, losses=["ce", "sampled", "sce"])
    assert [name for name, toggle in losses.toggles.items() if toggle.value] == ["ce", "sampled", "sce"]
