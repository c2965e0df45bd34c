"""A recipe trained while one watches: buttons, sentences, and the curve, without a browser."""

import time

import pytest

from sce_lab.reproduce import RECIPES
from sce_lab.widgets import Reproduction

QUICK = RECIPES["amazon_beauty"]["quick"]
TINY = {"n_buckets": 16, "bucket_size_x": 16, "bucket_size_y": 32, "hidden_size": 8, "n_blocks": 1, "max_length": 8}
SMALL = {"source": "synthetic", "catalog_size": 200, "settings": TINY | {"max_epochs": 2, "batch_size": 1024}}


@pytest.fixture
def record():
    curve = {"epoch": [1, 2, 3], "NDCG@10": [0.01, 0.02, 0.03]}
    return {"seeds": [{"curve": curve, "test": {"NDCG@10": 0.0555}}]}


@pytest.fixture
def page(record):
    made = Reproduction(QUICK, record=record, **SMALL)
    yield made
    made.run.stop()
    made.run.reset()


def curve(page, which):
    trace = page._figure.widget.data[which]
    return list(trace.x), list(trace.y)


def sentence(page):
    return page._status.seen.value


def test_nothing_runs_before_start_and_the_record_is_drawn(page):
    assert page.config.loss_settings["n_buckets"] == 16
    assert page.config.loss_settings["mix_x"] is False
    assert "Ready" in sentence(page)
    assert curve(page, 0) == ([1, 2, 3], [0.01, 0.02, 0.03])
    assert curve(page, 1) == ([], [])
    assert (page.buttons["start"].disabled, page.buttons["stop"].disabled) == (False, True)
    assert page.results()["test"] == {}


def test_start_trains_to_the_end_and_says_what_came_out(page):
    page.buttons["start"].click()
    assert not page.start()  # it is going on
    page.wait(120)
    results = page.results()
    assert (results["state"], results["epochs"]) == ("finished", 2)
    assert f"Test NDCG@10 {results['test']['NDCG@10']:.4f}" in sentence(page)
    assert "the paper 0.0544, recorded 0.0555" in sentence(page)
    x, y = curve(page, 1)
    assert x == [1, 2]
    assert y[-1] == pytest.approx(page.run.snapshot().metrics["NDCG@10"])
    assert page.buttons["start"].description == "Again"
    assert (page.buttons["start"].disabled, page.buttons["stop"].disabled) == (False, True)


def test_the_same_twice(page):
    for _ in range(2):
        assert page.start()
        page.wait(120)
        tested = page.results()["test"]
    assert tested == page.results()["test"]
    assert curve(page, 1)[0] == [1, 2]


def test_stop_ends_it_and_the_test_items_are_not_looked_at(record):
    page = Reproduction(QUICK, record=record, **SMALL | {"settings": TINY | {"max_epochs": 500, "patience": 500}})
    page.start()
    while page.run.snapshot().step < 2:
        time.sleep(0.01)
    page.buttons["stop"].click()
    page.wait(20)
    assert page.results()["state"] == "stopped"
    assert page.results()["test"] == {}
    assert "Stopped" in sentence(page)


def test_data_that_cannot_be_had_are_explained(monkeypatch, record):
    def missing(**source):
        raise FileNotFoundError("Put the file <Beauty.txt> into a folder")

    monkeypatch.setattr("sce_lab.widgets.lessons.reproduction.open_split", missing)
    page = Reproduction(QUICK, record=None)
    page.start()
    with pytest.raises(FileNotFoundError):
        page.wait(20)
    assert "It could not be trained." in sentence(page)
    assert "&lt;Beauty.txt&gt;" in sentence(page)
    assert not page.buttons["start"].disabled
