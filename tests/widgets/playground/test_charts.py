"""What is drawn of a run, and how often: what trembles from step to step once a second, news at once."""

from dataclasses import replace

import numpy as np
import pytest

from sce_lab.figures import LOOKS
from sce_lab.widgets import Playground
from sce_lab.widgets.kit.progress import FINISHED, RUNNING, Snapshot
from sce_lab.widgets.playground import charts, playground
from sce_lab.widgets.playground.charts import Charts
from sce_lab.widgets.playground.records import RunRecord
from sce_lab.widgets.playground.settings import Settings


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(charts, "time", made)
    monkeypatch.setattr(playground, "time", made)
    return made


def run_at(milliseconds, coverage, number=1, loss="sce", **settings):
    followed = {name: np.full(1, coverage) for name in Snapshot().followed}
    record = RunRecord(number, Settings(**settings), loss)
    record.snapshot = Snapshot(state=RUNNING, milliseconds={"forward": milliseconds}, followed=followed)
    return record


def drawn(view):
    times = next(trace for trace in view.training.widget.data if trace.name == "encoder forward")
    covered = view.insight.widget.data[0]
    return float(times.y[list(LOOKS).index("sce")]), [float(y) for y in covered.y]


def test_times_and_insights_are_drawn_once_a_second(clock):
    view = Charts()
    view.show([run_at(1.0, 0.1)], active=True, news=False)
    assert drawn(view) == (1.0, [0.1])
    clock.now += 0.9
    view.show([run_at(2.0, 0.2)], active=True, news=False)
    assert drawn(view) == (1.0, [0.1])
    clock.now += 0.2
    view.show([run_at(3.0, 0.3)], active=True, news=False)
    assert drawn(view) == (3.0, [0.3])


def test_when_nothing_is_trained_they_are_as_new_as_the_run(clock):
    view = Charts()
    view.show([run_at(1.0, 0.1)], active=True, news=False)
    view.show([run_at(2.0, 0.2)], active=False)
    assert drawn(view) == (2.0, [0.2])


def test_only_runs_on_the_data_of_the_newest_are_drawn(clock):
    view = Charts()
    view.show([run_at(1.0, 0.1, catalog_size=500), run_at(2.0, 0.2, 2, "ce", catalog_size=200)])
    times = next(trace for trace in view.training.widget.data if trace.name == "encoder forward")
    assert times.y[0] == 2.0
    assert not times.y[-1] > 0
    assert len(view.insight.widget.data[0].y) == 0


def test_the_sentence_on_a_run_changes_twice_a_second_but_news_is_told_at_once(clock, monkeypatch):
    page = Playground(catalog_size=200, losses=("sce",))
    page.session.group = page.session.runs = [run_at(1.0, 0.1)]
    said = []
    monkeypatch.setattr(page, "_show_status", lambda busy="": said.append(clock.now))
    monkeypatch.setattr(page.view, "show_table", lambda runs, assessment: None)
    shot = page.runs[0].snapshot

    def show(**changes):
        nonlocal shot
        shot = replace(shot, **changes)
        page.session._see(Snapshot(state=shot.state, lanes={"1": shot}))

    for step in range(10):
        show(step=step)
        clock.now += 0.2
    assert said == pytest.approx([100.0, 100.6, 101.2, 101.8])
    show(metrics={"HR@10": 0.5})
    assert len(said) == 5
    clock.now += 0.01
    show(state=FINISHED)
    assert len(said) == 6
