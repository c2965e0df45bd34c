import dataclasses
import json
import threading
import time
import warnings

import numpy as np
import pytest
import traitlets
from events import fake_events

from sce_lab.figures import LOOKS, label
from sce_lab.losses import CrossEntropyLoss
from sce_lab.memory import RanOutOfMemoryError, predict
from sce_lab.runs import Run
from sce_lab.training import train
from sce_lab.widgets import Playground
from sce_lab.widgets.kit import latest
from sce_lab.widgets.playground import forecast
from sce_lab.widgets.playground.assessment import assess, open_data
from sce_lab.widgets.playground.repeat import command, python_call
from sce_lab.widgets.playground.session import Session
from sce_lab.widgets.playground.settings import Source

SCE = list(LOOKS).index("sce")
TINY = {"catalog_size": 200, "epochs": 2, "batch_size": 64, "n_buckets": 16, "bucket_size_x": 32, "bucket_size_y": 32}


@pytest.fixture
def page():
    made = Playground(**TINY)
    yield made
    made.reset()


@pytest.fixture
def no_training(monkeypatch):
    """A page whose runs last until they are stopped, without a model."""
    monkeypatch.setattr(Session, "_events", lambda self, record, stop: fake_events(1000, 20, 0.005)(stop))


def predicted(page, loss, part="peak"):
    return page.results()["predicted_memory"][loss][part]


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def bars(page):
    """Where the bars on screen end, by loss."""
    parts = page.view.memory.widget.data[:3]
    return {loss: sum(float(bar.x[i]) for bar in parts) for i, loss in enumerate(LOOKS)}


@pytest.mark.parametrize(
    ("control", "value", "more", "unchanged"),
    [
        ("catalog_size", 2000, set(LOOKS), set()),
        ("batch_size", 128, set(LOOKS), set()),
        ("n_negatives", 1024, {"sampled"}, {"ce", "cce", "sce"}),
        ("n_buckets", 256, {"sce"}, {"ce", "cce", "sampled"}),
        ("bucket_size_x", 512, {"sce"}, {"ce", "cce", "sampled"}),
        ("bucket_size_y", 192, {"sce"}, {"ce", "cce", "sampled"}),
        ("epochs", 5, set(), set(LOOKS)),
        ("seed", 3, set(), set(LOOKS)),
    ],
)
def test_moving_a_control_changes_the_prediction_it_should_and_the_bars(page, control, value, more, unchanged):
    before = {loss: predicted(page, loss) for loss in LOOKS}
    page.controls[control].value = value
    for loss in more:
        assert predicted(page, loss) > before[loss]
    for loss in unchanged:
        assert predicted(page, loss) == before[loss]
    assert bars(page) == pytest.approx({loss: predicted(page, loss) for loss in LOOKS})


def test_the_previous_prediction_stays_as_an_outline_for_the_whole_gesture(page):
    first = predicted(page, "sce", "loss_workspace")
    for value in (64, 128, 256):
        page.controls["n_buckets"].value = value
    page.results()

    def dots(name):
        return [trace for trace in page.view.memory.widget.data if trace.name == name][-1].x[SCE]

    assert dots("before") == pytest.approx(first)
    assert dots("the loss") == pytest.approx(predicted(page, "sce", "loss_workspace"))
    (outlines,) = [t for t in page.view.memory.widget.data if t.name == "before" and t.mode == "lines"]
    with_buckets = {float(len(LOOKS) - 1 - list(LOOKS).index(loss)) for loss in ("rece", "sce")}  # the last is lowest
    assert set(np.round(outlines.y[np.isfinite(outlines.x)])) == with_buckets
    second = predicted(page, "sce", "loss_workspace")
    page.controls["bucket_size_x"].value = 256  # another control: another gesture
    page.results()
    assert dots("before") == pytest.approx(second)


def test_training_learns_is_shown_and_compared(page):
    for loss in LOOKS:
        page.controls["losses"].value = loss
        assert page.start()
        page.wait(60)
    results = page.results()
    json.dumps(results, allow_nan=False)
    assert [run["loss"] for run in results["runs"]] == list(LOOKS)
    for run in results["runs"]:
        assert (run["state"], run["epochs"], run["steps"]) == ("finished", 2.0, 94)
        assert run["loss_last"] < run["loss_first"] - 0.1
        assert 0 < run["test"]["HR@10"] < run["ceiling"]["HR@10"] + 0.05
        assert run["measured_memory"]["peak"] == pytest.approx(run["predicted_memory"]["peak"], rel=0.5)
        assert set(run["milliseconds"]) == {"forward", "loss_forward", "loss_backward", "backward", "optimizer"}
        cells = page.view.compare.table.rows[run["number"] - 1]["cells"]
        assert cells["HR@10"] == {"html": f"{run['test']['HR@10']:.3f}", "value": run["test"]["HR@10"]}
    assert len(page.view.compare.table.rows) == len(LOOKS)
    drawn = page.view.charts.training.widget.data
    n = len(LOOKS)
    assert [len(trace.x) for trace in drawn[: 3 * n]] == [94] * n + [2] * 2 * n  # loss, HR@10, NDCG@10
    ms = {loss: sum(run["milliseconds"].values()) for loss, run in zip(LOOKS, results["runs"])}
    for i, loss in enumerate(LOOKS):
        assert sum(float(bar.y[i]) for bar in drawn if bar.type == "bar") == pytest.approx(ms[loss])
    measured = {trace.name: trace for trace in page.view.memory.widget.data}["measured peak"]
    assert list(measured.x) == [run["measured_memory"]["peak"] for run in results["runs"]]
    assert f"{label(list(LOOKS)[-1])}</b> done: 2.0 epochs" in page.view.transport.status.value


def test_a_measured_peak_is_shown_only_beside_the_settings_it_belongs_to(page):
    page.start()
    page.wait(60)

    def measured():
        return {trace.name: trace for trace in page.view.memory.widget.data}["measured peak"].x[SCE]

    assert measured() > 0
    page.controls["n_buckets"].value = 64
    page.results()
    assert not measured() > 0
    page.controls["n_buckets"].value = TINY["n_buckets"]
    page.results()
    assert measured() > 0


def test_the_same_seed_gives_the_same_run_with_and_without_the_page_and_moving_sliders(page):
    config = dataclasses.replace(page.settings.config("sce"))
    split, _ = open_data(Source("synthetic", 200))
    losses = [event.loss for event in train(config, split) if hasattr(event, "n_positions")]
    page.start()
    for value in (500, 1000, 2000, 5000, 10_000):  # predictions run beside the training and must not touch it
        page.controls["catalog_size"].value = value
        time.sleep(0.05)
    page.wait(60)
    shown = page.view.charts.training.widget.data[SCE].y
    assert list(shown) == pytest.approx(losses)


def test_too_large_switches_start_off_and_says_why(page, monkeypatch):
    monkeypatch.setattr(forecast, "free_memory", lambda *device: 2**30)
    page.controls["catalog_size"].value = 10_000_000
    assert not page.start()
    assert page.view.transport.buttons["start"].disabled
    assert "items needs" in page.view.transport.status.value
    assert "1 GiB are free" in page.view.deck.notes["loss"].value
    assert page.results()["runs"] == []
    page.controls["catalog_size"].value = 500
    page.results()
    assert not page.view.transport.buttons["start"].disabled
    assert "Ready" in page.view.transport.status.value


def test_memory_that_has_become_scarce_is_noticed_at_start(page, monkeypatch):
    monkeypatch.setattr(forecast, "free_memory", lambda *device: 2**20)
    assert page.results()["problem"] == ""
    assert not page.start()
    assert "needs" in page.results()["problem"]


def test_a_bad_path_is_a_sentence_and_a_good_one_trains(page, tmp_path):
    page.controls["dataset"].value = "file"
    assert not page.start()
    page.controls["path"].value = str(tmp_path / "no.csv")
    assert not page.start()
    assert "no file" in page.results()["problem"]
    assert "no file" in page.view.deck.notes["data"].value
    good = tmp_path / "mine.csv"
    good.write_text("user,item,timestamp\n" + "".join(f"{u},{(u + i) % 30},{i}\n" for u in range(80) for i in range(9)))
    page.controls["path"].value = str(good)
    assert page.start()
    page.wait(60)
    (run,) = page.results()["runs"]
    assert (run["state"], run["catalog_size"], run["ceiling"]) == ("finished", 30, {})
    json.dumps(page.results(), allow_nan=False)


def odd_file(path):
    rows = "".join(f"{u},{(u + i) % 30},{(u * i) % 7},{i}\n" for u in range(80) for i in range(9))
    path.write_text("who,thing,user_id,n\n" + rows)
    return path


def test_columns_of_a_file_are_chosen_and_the_run_is_of_those(page, tmp_path):
    page.controls["dataset"].value = "file"
    boxes, controls = page.view.deck.boxes, page.controls
    assert boxes["user"].layout.display == "none"  # there is nothing to choose from yet
    controls["path"].value = str(odd_file(tmp_path / "odd.csv"))
    assert "Here: choose it in Who, What and When" in page.results()["problem"]
    assert boxes["user"].layout.display == boxes["timestamp"].layout.display == ""
    assert [label for label, _ in controls["item"].options] == ["choose ...", "who", "thing", "user_id", "n"]
    controls["item"].value = "thing"
    assert page.results()["problem"] == ""
    assert controls["user"].label == "user_id (found)"
    assert "'user_id' says who, 'thing' says what; no column says when" in page.assessment.notes["data"].text
    controls["user"].value, controls["timestamp"].value = "who", "n"
    assert page.results()["settings"]["user"] == "who"
    assert "80 users, 30 items. 'who' says who, 'thing' says what, 'n' says when" in page.assessment.notes["data"].text
    assert page.start()
    page.wait(60)
    (run,) = page.runs
    asked = Run(run.folder).settings["source"]
    assert (asked["user"], asked["item"], asked["timestamp"]) == ("who", "thing", "n")
    assert "user='who', item='thing', timestamp='n'" in python_call(run.settings, "sce")
    assert "--user who --item thing --time n" in command(run.settings, "sce")
    page.undo()
    assert (controls["timestamp"].value, controls["user"].value) == (None, "who")
    page.apply({"item": "no such"})
    assert "has no column 'no such'" in page.results()["problem"]
    assert controls["item"].label == "no such"


def test_columns_chosen_of_one_file_say_nothing_of_another(page, tmp_path):
    page.apply({"dataset": "file", "path": str(odd_file(tmp_path / "odd.csv")), "user": "who", "item": "thing"})
    assert page.results()["problem"] == ""
    good = "user,item,timestamp\n" + "".join(f"{u},{(u + i) % 30},{i}\n" for u in range(80) for i in range(9))
    (tmp_path / "good.csv").write_text(good)
    page.controls["path"].value = str(tmp_path / "good.csv")
    assert page.results()["problem"] == ""
    assert page.settings.user is None
    page.undo()
    page.results()
    assert (page.settings.user, page.settings.item) == ("who", "thing")
    page.apply({"path": str(tmp_path / "good.csv")})
    assert (page.settings.user, page.results()["problem"]) == (None, "")


def test_the_bars_of_other_data_do_not_stay_while_a_file_cannot_be_read(page):
    def drawn():
        page.results()
        traces = page.view.memory.widget.data
        return sum(float(x) for trace in traces[:3] for x in trace.x), [t for t in traces if t.name == "before"][-1].x

    assert drawn()[0] > 0
    page.apply({"dataset": "file", "path": "nowhere.csv"})
    length, before = drawn()
    assert length == 0
    assert not np.isfinite(np.array(before, dtype=float)).any()
    assert page.view.fits.value == ""
    page.undo()
    assert drawn()[0] > 0


def test_a_prediction_that_fails_leaves_no_other_one_on_screen(page, monkeypatch):
    def broken(settings, free):
        raise ZeroDivisionError("no positions")

    monkeypatch.setattr(forecast, "assess", broken)
    page.controls["batch_size"].value = 96
    with pytest.raises(ZeroDivisionError):
        page.results()
    assert page.assessment.problem == "The prediction failed: no positions"
    assert page.view.transport.buttons["start"].disabled
    assert set(bars(page).values()) == {0.0}


def test_controls_that_do_not_apply_step_back_without_moving_the_others(page):
    displayed = {name: box.layout.display for name, box in page.view.deck.boxes.items()}
    assert displayed["path"] == "none"
    page.controls["dataset"].value = "file"
    assert page.view.deck.boxes["path"].layout.display != "none"
    assert page.view.deck.boxes["catalog_size"].layout.display == "none"
    page.controls["losses"].value = "ce"
    aside = {name for name, box in page.view.deck.boxes.items() if "sce-aside" in box._dom_classes}
    assert aside == {
        "n_negatives", "sampling", "n_buckets", "bucket_size_x", "bucket_size_y", "mix_x", "paper_rule",
    }  # fmt: skip


def test_the_neighbours_of_a_slider_are_predicted_before_it_is_moved_there(page):
    page.controls["n_buckets"].value = 48
    page.results()
    until(lambda: not [t for t in threading.enumerate() if t.name == latest.NAME])
    before = predict._predict.cache_info()
    for value in (64, 32, 96, 24):
        assess(dataclasses.replace(page.settings, n_buckets=value), 2**33)
    assert predict._predict.cache_info().misses == before.misses
    assess(dataclasses.replace(page.settings, n_buckets=50), 2**33)
    assert predict._predict.cache_info().misses > before.misses


def test_buttons_say_what_can_be_done(page, no_training):
    def enabled():
        return {name for name, button in page.view.transport.buttons.items() if not button.disabled}

    assert enabled() == {"start", "step"}
    page.view.transport.buttons["start"].click()
    assert enabled() == {"pause", "step", "stop", "reset"}
    page.view.transport.buttons["start"].click()  # a second click that was already under way
    assert len(page.runs) == 1
    page.view.transport.buttons["pause"].click()
    assert page.view.transport.buttons["pause"].description == "Resume"
    until(lambda: "paused" in page.view.transport.status.value)
    page.view.transport.buttons["pause"].click()
    assert page.view.transport.buttons["pause"].description == "Pause"
    page.view.transport.buttons["stop"].click()
    page.wait(5)
    assert enabled() == {"start", "step", "reset"}
    assert page.results()["runs"][0]["state"] == "stopped"
    page.view.transport.buttons["reset"].click()
    assert enabled() == {"start", "step", "undo"}
    assert page.results()["runs"] == []
    assert all(len(trace.x) == 0 for trace in page.view.charts.training.widget.data[:9])


def test_a_screen_reader_is_told_what_changes_but_not_every_step(page, no_training):
    told = []
    page.view.transport.speech.observe(lambda change: told.append(change.new), "sentence")
    page.start()
    until(lambda: page.runs[0].snapshot.step > 300)  # many sentences about it are shown meanwhile
    page.pause()
    page.stop()
    page.wait(5)
    page.apply({"dataset": "file", "path": "a & b.csv"})
    page.results()
    assert [sentence for sentence in told if "training: epoch" in sentence or "Preparing" in sentence] == told[:1]
    assert any("SCE paused at step" in sentence for sentence in told)
    assert any("SCE stopped: " in sentence for sentence in told)
    assert told[-1].startswith("There is no file 'a & b.csv'")
    assert not any("<" in sentence for sentence in told)


def test_points_arrive_while_it_trains_and_sliders_answer_meanwhile(page, no_training):
    page.start()
    until(lambda: len(page.view.charts.training.widget.data[SCE].x) > 5)
    before = predicted(page, "sce")
    page.controls["batch_size"].value = 256
    assert predicted(page, "sce") > before
    until(lambda: "next start" in page.view.transport.status.value)
    assert "sce-later" in page.view.deck.boxes["batch_size"]._dom_classes
    assert page.results()["runs"][0]["settings"]["batch_size"] == TINY["batch_size"]
    page.stop()
    page.wait(5)


def test_callbacks_may_come_from_any_thread(page, no_training):
    def move(name, values):
        for value in values:
            page.controls[name].value = value

    threads = [
        threading.Thread(target=move, args=("n_buckets", [16, 32, 64, 128] * 5)),
        threading.Thread(target=move, args=("bucket_size_y", [16, 32, 64, 128] * 5)),
        threading.Thread(target=lambda: [page.start() or page.stop() for _ in range(10)]),
        threading.Thread(target=lambda: [page.pause() or page.resume() for _ in range(10)]),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a deadlock"
    page.stop()
    page.wait(10)
    fresh = Playground(**dataclasses.asdict(page.settings))
    assert predicted(page, "sce") == predicted(fresh, "sce")
    assert bars(page) == pytest.approx(bars(fresh))


def test_a_worker_error_is_shown_and_raised(page, monkeypatch):
    def broken(self, record, stop):
        raise FloatingPointError("the loss became nan at step 3: try a smaller learning_rate")

    monkeypatch.setattr(Session, "_events", broken)
    page.start()
    with pytest.raises(FloatingPointError, match="nan at step 3"):
        page.wait(5)
    assert "failed: the loss became nan at step 3" in page.view.transport.status.value
    run = page.results()["runs"][0]
    assert (run["state"], run["error"][:20]) == ("failed", "the loss became nan ")
    monkeypatch.undo()
    assert page.start()  # and it goes on
    page.wait(60)


def test_a_new_page_stops_what_the_old_one_trains(page, no_training):
    page.start()
    Playground(**TINY)
    page.wait(5)
    assert page.results()["runs"][0]["state"] == "stopped"


def test_first_values_are_settings_and_nothing_else():
    with pytest.raises(TypeError, match="n_bucket"):
        Playground(n_bucket=3)
    with pytest.raises(traitlets.TraitError, match="Batch size takes whole numbers"):
        Playground(batch_size=0)
    assert Playground(**TINY, losses="ce").settings.losses == ("ce",)


def test_nothing_warns_into_the_cells():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        page = Playground(**TINY | {"bucket_size_x": 8192, "bucket_size_y": 4096, "epochs": 1})
        page.start()
        page.wait(60)
    assert [str(w.message) for w in seen if "bucket" in str(w.message)] == []
    assert "a bucket takes all of them" in page.view.deck.notes["sce"].value


def test_a_loss_that_runs_out_of_memory_says_what_it_needs_and_the_others_go_on(page, monkeypatch):
    forward = CrossEntropyLoss.forward

    def full(self, input, *others):
        if not input.is_meta:  # predictions go on
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1000 bytes")
        return forward(self, input, *others)

    monkeypatch.setattr(CrossEntropyLoss, "forward", full)
    page.apply({"losses": ["ce", "sce"]})
    page.start()
    with pytest.raises(RanOutOfMemoryError, match=r"ce over 200 items needs about .* batch_size=32 needs less"):
        page.wait(60)
    assert [(run["loss"], run["state"]) for run in page.results()["runs"]] == [("ce", "failed"), ("sce", "finished")]
    assert "Cross-entropy</b> failed: memory ran out" in page.view.transport.status.value
    monkeypatch.undo()
    assert page.start()
    page.wait(60)
    assert {run["state"] for run in page.results()["runs"][2:]} == {"finished"}
