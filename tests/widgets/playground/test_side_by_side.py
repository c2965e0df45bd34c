"""Several losses at once, settings that change while they train, single steps, the lock on the paper's rule."""

import math
import time

import pytest
from events import fake_events

from sce_lab.figures import LOOKS, TAUGHT, short_label
from sce_lab.widgets import Playground
from sce_lab.widgets.playground import forecast
from sce_lab.widgets.playground.assessment import assess, needed, needed_together
from sce_lab.widgets.playground.session import Session
from sce_lab.widgets.playground.settings import Settings

TINY = {"catalog_size": 200, "epochs": 2, "batch_size": 64, "n_buckets": 16, "bucket_size_x": 32, "bucket_size_y": 32}


@pytest.fixture
def page():
    made = Playground(**TINY)
    yield made
    made.reset()


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_losses_side_by_side_are_a_run_each(page):
    page.controls["losses"].value = "sce, cce, ce, sampled"
    slots = {loss: loss in TAUGHT for loss in LOOKS}
    assert page.start()
    page.wait(120)
    runs = page.results()["runs"]
    assert [run["loss"] for run in runs] == list(TAUGHT)
    assert {run["steps"] for run in runs} == {94}
    assert {run["state"] for run in runs} == {"finished"}
    assert f"{', '.join(map(short_label, TAUGHT))}</b> done" in page.view.transport.status.value
    n = len(LOOKS)
    drawn = page.view.charts.training.widget.data[: 3 * n]
    assert [len(trace.x) for trace in drawn] == [points * here for points in (94, 2, 2) for here in slots.values()]
    sce = runs[-1]
    assert 0.1 < sce["coverage"] < 16 * 32 / 1088  # more positions than its buckets have room for it cannot cover
    assert 0 < sce["captured_mass"] <= 1
    assert runs[0]["coverage"] is None
    assert runs[0]["loss_last"] == pytest.approx(runs[1]["loss_last"], rel=1e-3)  # held or not, it learns the same
    covered = page.view.charts.insight.widget.data[0]
    assert len(covered.y) == 9  # at every tenth of 94 steps, from the fifth on
    assert [len(t.y) for t in page.view.charts.insight.widget.data[2 : 2 + n]] == [2 * here for here in slots.values()]
    moments = dict(
        zip(LOOKS, page.view.charts.insight.widget.data[2 + n :])
    )  # from moment to moment of the last step that was measured
    for record in page.runs:
        trace = moments[record.loss]
        assert 0 < trace.x[0] < trace.x[-1] < 5
        assert max(trace.y) == record.moments.live.max()
        assert max(trace.y) <= record.snapshot.memory.peak
        assert list(record.moments.begins) == ["forward", "loss_forward", "loss_backward", "backward", "optimizer"]


def test_a_setting_changed_while_it_trains_is_taken_over_and_marked(page):
    page.controls["losses"].value = ("sampled", "sce")
    page.controls["epochs"].value = 200
    page.start()
    until(lambda: page.runs[-1].snapshot.step > 3)
    page.controls["n_buckets"].value = 24
    page.controls["n_negatives"].value = 32
    until(lambda: all(record.snapshot.changes for record in page.runs))
    expected = 2 + 2 * 3  # two ceilings, a line a panel and change
    until(lambda: len(page.view.charts.training.widget.layout.shapes) == expected)
    page.stop()
    page.wait(30)
    sampled, sce = page.results()["runs"]
    assert [{k: v for k, v in c.items() if k != "epochs"} for c in sampled["changes"]] == [{"n_negatives": 32}]
    assert sce["changes"][0]["n_buckets"] == 24
    assert sce["changes"][0]["epochs"] > 0
    assert sce["settings"]["n_buckets"] == 16  # what it began with
    assert any("→ 24" in (a.text or "") for a in page.view.charts.training.widget.layout.annotations)
    assert "24 buckets" in page.view.compare.table.rows[1]["cells"]["settings"]["html"]


def test_what_cannot_change_waits_for_the_next_start(page, monkeypatch):
    monkeypatch.setattr(Session, "_events", lambda self, record, stop: fake_events(1000, 20, 0.005)(stop))
    page.start()
    page.controls["hidden_size"].value = 32
    page.controls["bucket_size_y"].value = 64
    later = {name for name, box in page.view.deck.boxes.items() if "sce-later" in box._dom_classes}
    assert later == {"hidden_size"}
    page.controls["hidden_size"].value = 64
    assert "sce-later" not in page.view.deck.boxes["hidden_size"]._dom_classes
    page.controls["hidden_size"].value = 32
    page.stop()
    page.wait(10)
    until(lambda: "sce-later" not in page.view.deck.boxes["hidden_size"]._dom_classes)


def test_the_step_button_does_one_step_and_holds(page):
    page.controls["losses"].value = ("ce", "sce")
    for expected in (1, 2, 3):
        page.view.transport.buttons["step"].click()
        until(lambda n=expected: page.session.live.state == "paused" and {r.snapshot.step for r in page.runs} == {n})
    until(lambda: "paused at step 3" in page.view.transport.status.value)
    assert len(page.runs) == 2
    page.view.transport.buttons["pause"].click()  # it says "Resume"
    until(lambda: page.runs[0].snapshot.step > 10)
    page.stop()
    page.wait(10)


def test_the_lock_follows_the_paper(page):
    def positions():
        n_sequences, length = page.assessment.facts.step(page.assessment.settings)
        return n_sequences * length

    page.controls["paper_rule"].value = True
    for batch in (64, 256):
        page.controls["batch_size"].value = batch
        page.results()
        expected = int(2 * math.sqrt(positions()))
        assert page.settings.n_buckets == page.settings.bucket_size_x == expected
        assert page.assessment.settings.config("sce").loss_settings["n_buckets"] == expected
    assert page.controls["n_buckets"].disabled
    assert page.controls["bucket_size_x"].disabled
    page.controls["paper_rule"].value = False
    page.results()
    assert page.settings.n_buckets == expected  # it stays where it was put
    assert not page.controls["n_buckets"].disabled


def test_no_loss_at_all_is_a_sentence(page):
    page.controls["losses"].toggles["sce"].value = False
    assert not page.start()
    assert page.results()["problem"] == "Choose at least one loss."
    page.controls["losses"].toggles["ce"].value = True
    assert page.settings.losses == ("ce",)


def test_a_loss_without_room_is_left_out_and_the_others_train(page, monkeypatch):
    page.apply({"losses": ["ce", "sce"], "catalog_size": 20_000, "epochs": 1})
    page.results()
    uses = page.assessment.memory.set_index("loss")
    between = int((needed(uses.loc["ce"]) + needed(uses.loc["sce"])) / 2)
    monkeypatch.setattr(forecast, "free_memory", lambda *device: between)
    page.controls["seed"].value = 1
    results = page.results()
    assert results["problem"] == ""
    assert results["left_out"].startswith("Cross-entropy needs ")
    assert page.assessment.notes["loss"].level == "problem"
    assert page.start()
    page.wait(120)
    assert [run["loss"] for run in page.results()["runs"]] == ["sce"]


def test_side_by_side_needs_room_for_every_model_and_one_step():
    settings = Settings(losses=("sampled", "sce"), catalog_size=100_000)
    answer = assess(settings, 2**45)
    rows = answer.memory.set_index("loss")
    together = needed_together(answer.memory, ("sampled", "sce"))
    assert together > max(needed(rows.loc[loss]) for loss in ("sampled", "sce"))
    assert together < sum(needed(rows.loc[loss]) for loss in ("sampled", "sce"))
    assert assess(settings, int(together)).problem == ""
    tight = assess(settings, int(together) - 1)
    assert "side by side need" in tight.problem
    assert "Choose fewer at a time" in tight.problem


def test_one_loss_that_fails_does_not_end_the_others(page, monkeypatch):
    whole = Session._events

    def events(self, record, stop):
        if record.loss == "ce":
            return fake_events(fail_at=3)(stop)
        return whole(self, record, stop)

    monkeypatch.setattr(Session, "_events", events)
    page.controls["losses"].value = ("ce", "sce")
    page.start()
    with pytest.raises(FloatingPointError):
        page.wait(60)
    ce, sce = page.results()["runs"]
    assert (ce["state"], sce["state"]) == ("failed", "finished")
    assert "<b>Cross-entropy</b> failed" in page.view.transport.status.value
