import json
import time

import pytest
from events import fake_events

from sce_lab.training import TrainingConfig
from sce_lab.widgets import Race


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def race_configs():
    return {loss: TrainingConfig(loss=loss, batch_size=64, max_epochs=1) for loss in ("ce", "sampled")}


def test_a_race_waits_for_its_button():
    race = Race(race_configs(), catalog_size=200)
    assert not race.active
    assert (race.buttons["start"].description, race.buttons["start"].disabled) == ("Start", False)
    assert "Ready" in race._status.seen.value


def test_a_race_trains_each_loss_in_turn():
    ended = []
    race = Race(race_configs(), catalog_size=200, seconds=0.1, ended=lambda: ended.append(list(race.snapshots)))
    assert race.start()
    assert not race.start()
    race.wait(60)
    results = race.results()
    json.dumps(results, allow_nan=False)
    assert list(results["losses"]) == ["ce", "sampled"]
    for loss in results["losses"].values():
        assert loss["state"] == "finished"
        assert loss["validation"]["HR@10"] > 0
    assert "HR@10 after 0.1 s each" in race._status.seen.value
    assert [len(trace.x) for trace in race._figure.widget.data[2:4]] == [1, 1]
    assert race.buttons["start"].description == "Again"
    until(lambda: ended == [["ce", "sampled"]])
    assert race.start()  # again
    race.wait(60)


def test_a_stopped_race_leaves_the_others_out():
    race = Race(race_configs(), catalog_size=200, seconds=60)
    race.start()
    until(lambda: race.snapshots.get("ce") and race.snapshots["ce"].step > 1)
    race.stop()
    race.wait(10)
    assert list(race.snapshots) == ["ce"]
    assert not race.active


def test_a_race_raises_what_failed(monkeypatch):
    race = Race({"ce": TrainingConfig(loss="ce")}, catalog_size=200)
    monkeypatch.setattr(race, "_events", lambda loss, stop: fake_events(fail_at=2)(stop))
    race.start()
    with pytest.raises(FloatingPointError):
        race.wait(10)
    assert "Cross-entropy failed" in race._status.seen.value
