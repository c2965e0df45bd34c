"""Challenges checked on made-up runs, guesses, the tour, presets."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from events import fake_events

from sce_lab.memory import MemoryUse
from sce_lab.reproduce.races import find_race
from sce_lab.training import Finished
from sce_lab.widgets import Playground
from sce_lab.widgets.kit.progress import Snapshot
from sce_lab.widgets.playground.assessment import Assessment, assess, needed
from sce_lab.widgets.playground.challenges import (
    CHALLENGES,
    collapse_and_repair,
    comparable,
    enough_negatives,
    find_the_wall,
    same_quality,
)
from sce_lab.widgets.playground.controls import make_controls
from sce_lab.widgets.playground.kept import SOLVED
from sce_lab.widgets.playground.presets import PRESETS
from sce_lab.widgets.playground.records import RunRecord
from sce_lab.widgets.playground.session import Session
from sce_lab.widgets.playground.settings import Settings
from sce_lab.widgets.playground.tour import HERE, TOUR, WORLD

TINY = {"catalog_size": 200, "epochs": 2, "batch_size": 64, "n_buckets": 16, "bucket_size_x": 32, "bucket_size_y": 32}
NOTHING = Assessment(Settings(), None, pd.DataFrame())


def run(number, loss, ndcg, memory=1000, coverage=0.9, changes=(), state="finished", **settings):
    """A run that ended as told."""
    use = MemoryUse(1, 1, 1, 1, memory, memory + 4)
    followed = {"epochs": [1.0, 2.0], "coverage": [1.0, coverage], "captured_mass": [0.1, 0.1]}
    followed = {name: np.array(values) for name, values in followed.items()}
    shot = Snapshot(
        state=state,
        step=10,
        positions=1000.0,
        memory=use,
        changes=changes,
        followed=followed if loss == "sce" else Snapshot().followed,
        finished=Finished("epochs", 10, 2, 2, {}, {"NDCG@10": ndcg, "HR@10": 2 * ndcg, "COV@10": 0.5}, 1.0),
    )
    return RunRecord(number, Settings(**settings), loss, snapshot=shot)


def test_runs_are_compared_only_if_nothing_but_the_loss_differs():
    one = run(1, "ce", 0.2)
    assert comparable(one, run(2, "sce", 0.2, n_buckets=3, mix_x=False))
    for other in ({"seed": 1}, {"epochs": 3}, {"catalog_size": 100}, {"batch_size": 8}, {"hidden_size": 8}):
        assert not comparable(one, run(2, "sce", 0.2, **other))


@pytest.mark.parametrize(
    ("ndcg", "memory", "solved", "says"),
    [
        (0.196, 50, True, "98.0% of run 1's NDCG@10 (0.196 against 0.200) with 1/20.0 of its loss memory"),
        (0.195, 50, False, "98 % is asked for: more buckets"),
        (0.3, 51, False, "1/20 is asked for: smaller buckets"),
    ],
)
def test_as_good_for_a_twentieth(ndcg, memory, solved, says):
    verdict = same_quality([run(1, "ce", 0.2, memory=1000), run(2, "sce", ndcg, memory=memory)], NOTHING)
    assert verdict.solved is solved
    assert says in verdict.feedback


def test_what_does_not_count():
    ce = run(1, "ce", 0.2)
    for sce in (
        run(2, "sce", 0.3, memory=1, epochs=3),
        run(2, "sce", 0.3, memory=1, state="stopped"),
        run(2, "sce", 0.3, memory=1, changes=((1.0, {"n_buckets": 3}),)),
    ):
        verdict = same_quality([ce, sce], NOTHING)
        assert not verdict.solved
        assert verdict.feedback.startswith("Train cross-entropy and SCE to the end")


def test_break_it_and_repair_it():
    room = {"n_buckets": 50, "bucket_size_x": 20}
    fine = run(1, "sce", 0.2, coverage=0.8, mix_x=False, n_buckets=50, bucket_size_x=80)
    assert "The coverage of run 1 was 80% at its lowest" in collapse_and_repair([fine], NOTHING).feedback
    cramped = run(2, "sce", 0.1, coverage=0.1, n_buckets=5, bucket_size_x=20)
    assert "Too few slots" in collapse_and_repair([cramped], NOTHING).feedback
    broken = run(3, "sce", 0.1, coverage=0.2, mix_x=False, **room)
    assert "Run 3 has collapsed" in collapse_and_repair([broken], NOTHING).feedback
    with_mix = run(6, "sce", 0.2, coverage=0.8, **room)  # what the preset does
    assert "a run without Mix" in collapse_and_repair([broken, with_mix], NOTHING).feedback
    worse = run(4, "sce", 0.11, coverage=0.9, mix_x=False, **room)  # covered, but not better
    verdict = collapse_and_repair([broken, worse], NOTHING)
    assert not verdict.solved
    assert "1.3 times both" in verdict.feedback
    other = run(5, "sce", 0.3, coverage=0.9, seed=1, mix_x=False, **room)
    assert not collapse_and_repair([broken, other], NOTHING).solved
    assert collapse_and_repair([broken, fine], NOTHING).solved


def test_how_many_negatives():
    sce = run(1, "sce", 0.2)
    few, many = run(2, "sampled", 0.1, n_negatives=16), run(3, "sampled", 0.195, n_negatives=512)
    assert "50% of SCE's NDCG@10" in enough_negatives([sce, few], NOTHING).feedback
    assert "Are so many needed?" in enough_negatives([sce, many], NOTHING).feedback
    verdict = enough_negatives([sce, few, many], NOTHING)
    assert verdict.solved
    assert "With 512 negatives" in verdict.feedback


def test_find_the_wall():
    settings = Settings(losses=("ce", "sce"), catalog_size=50_000)
    rows = assess(settings, 2**45).memory.set_index("loss")
    ce = needed(rows.loc["ce"])
    between = int((ce + needed(rows.loc["sce"])) / 2)
    assert find_the_wall([], assess(settings, int(ce / 1.1))).solved
    assert "far beyond the wall" in find_the_wall([], assess(settings, between)).feedback
    assert "go further" in find_the_wall([], assess(settings, 2**45)).feedback
    assert "a little less" in find_the_wall([], assess(settings, 2**20)).feedback
    assert "Choose both" in find_the_wall([], assess(dataclasses.replace(settings, losses="ce"), between)).feedback


def test_every_challenge_has_something_to_say_before_anything_was_done():
    for challenge in CHALLENGES:
        verdict = challenge.check([], NOTHING)
        assert not verdict.solved
    assert len({challenge.title for challenge in CHALLENGES}) == len(CHALLENGES)


@pytest.fixture
def page():
    made = Playground(**TINY)
    yield made
    made.reset()


def test_a_solved_challenge_stays_solved_on_the_page(page):
    runs = [run(1, "ce", 0.2, memory=1000), run(2, "sce", 0.2, memory=10)]
    page.view.challenges.check(runs, page.assessment)
    for again in (page, Playground()):  # and on the page of a later kernel
        assert again.results()["solved"] == ["As good, for a twentieth"]
        again.view.challenges.check([], page.assessment)
        card = again.view.challenges._cards["As good, for a twentieth"].value
        assert "Solved." in card
        assert "1/100.0 of its loss memory" in card  # what solved it, and not what the present settings lack
        assert "Train cross-entropy" not in card
        assert "Hint:" in again.view.challenges._cards["Find the wall"].value


@pytest.mark.parametrize("content", ["{", "[]", '{"Some other challenge": "x"}'])
def test_solved_challenges_that_cannot_be_read_are_none(runs_folder, content):
    runs_folder.mkdir()
    (runs_folder / SOLVED).write_text(content)
    assert Playground().results()["solved"] == []


def test_a_guess_is_answered_at_once_where_no_run_is_needed(page):
    guesses = page.view.guesses
    guesses.field.value = "3"
    guesses.button.click()
    guesses.settle()
    (made,) = guesses.as_list()
    rows = assess(Settings(**TINY | {"catalog_size": 1_000_000}), 2**45).memory.set_index("loss")["loss_workspace"]
    assert made["answer"] == pytest.approx(rows["ce"] / rows["sce"])
    assert made["off"] == pytest.approx(made["answer"] / 3)
    assert "too low" in guesses._said.value
    guesses.choice.value = "Where the wall is"
    guesses.field.value = "20,000"
    guesses.button.click()
    guesses.settle()
    assert guesses.as_list()[-1]["answer"] > 1000


def test_a_guess_about_a_run_is_answered_when_it_ends(page):
    guesses = page.view.guesses
    guesses.choice.value = "HR@10"
    assert "SCE" in guesses._ask.value
    guesses.field.value = "0.25"
    assert guesses.commit().answer is None
    assert "press Start" in guesses._said.value
    page.start()
    page.wait(60)
    (made,) = guesses.as_list()
    assert made["answer"] == page.runs[-1].metrics[0]["HR@10"]
    assert "It is 0." in guesses._said.value


@pytest.mark.parametrize("words", ["", "many", "-3", "0", "nan", "inf"])
def test_what_is_no_guess_is_answered_with_what_would_be_one(page, words):
    page.view.guesses.field.value = words
    assert page.view.guesses.commit() is None
    assert "a number above 0" in page.view.guesses._said.value
    assert page.view.guesses.made == []


def test_the_tour_points_and_goes_on_when_the_control_is_touched(page, monkeypatch):
    monkeypatch.setattr(Session, "_events", lambda self, record, stop: fake_events(1000, 20, 0.005)(stop))

    def ringed():
        boxes = {**page.view.deck.boxes, **page.view.transport.buttons, "tabs": page.view.tabs}
        return [name for name, box in boxes.items() if HERE in box._dom_classes]

    assert ringed() == []
    page.view.share.tour.click()
    assert ringed() == ["catalog_size"]
    page.controls["batch_size"].value = 32  # not the one
    assert ringed() == ["catalog_size"]
    page.controls["catalog_size"].value = 2_000_000
    assert ringed() == ["losses"]
    assert page.settings.catalog_size == WORLD.catalog_size  # a world that can be trained again
    page.controls["losses"].value = ("ce", "sce")
    assert ringed() == ["start"]
    page.results()
    page.view.transport.buttons["start"].click()
    assert [record.loss for record in page.runs] == ["ce", "sce"]  # nothing is left out, and there are two to compare
    assert ringed() == ["n_buckets"]
    page.controls["n_buckets"].value = 24
    assert ringed() == ["stop"]
    page.view.transport.buttons["stop"].click()
    page.wait(10)
    assert ringed() == ["tabs"]
    page.view.tabs.selected_index = 1
    assert ringed() == []
    assert page.view.tour.view.layout.display == "none"


def test_the_tour_can_be_skipped_through_and_closed(page):
    page.view.tour.begin()
    for number, step in enumerate(TOUR[:4]):
        assert page.view.tour.at == number
        assert step.target not in ("stop", "tabs")  # there is nothing to stop, and no two runs to pick
        page.view.tour.buttons["next"].click()
    assert page.view.tour.at is None


def test_the_tour_ends_in_a_world_with_two_losses_however_it_is_gone_through(page):
    page.view.tour.begin()
    page.controls["catalog_size"].value = 2_000_000
    page.view.tour.buttons["next"].click()
    assert page.view.tour.at == 2
    results = page.results()
    assert (results["problem"], results["left_out"]) == ("", "")
    assert page.settings.losses == ("ce", "sce")
    unfolded = {card for card, fold in page.view.deck.folds.items() if fold.unfolded}
    assert unfolded == {"data", "loss", "sce"}  # what the tour rings stands in one of these
    page.view.tour.begin()
    page.view.tour.buttons["close"].click()
    assert page.view.tour.at is None


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ("wall", "race", "paper")])
def test_presets_are_settings_that_can_be_trained(page, name):
    page.view.share.choose(name)
    results = page.results()
    assert results["problem"] == results["left_out"] == ""
    assert page.settings == PRESETS[name].settings(2**34)
    assert PRESETS[name].says in page.view.share._said.value.replace("&#x27;", "'")
    needs = [needed(row) for row in page.assessment.memory.to_dict("records")]
    assert max(needs) < 2**30  # Binder has two
    page.undo()
    assert page.settings == Settings(**TINY)


@pytest.mark.parametrize("free", [2**30, 2**34])
def test_at_the_wall_cross_entropy_has_no_room_and_sce_has(free):
    answer = assess(PRESETS["wall"].settings(free), free)
    assert answer.fitting == ("sce",)
    assert answer.left_out.startswith("Cross-entropy needs ")
    assert "a copy of the best weights" in answer.left_out  # why it is more than the bar shows
    assert not find_the_wall([], answer).solved  # a preset solves nothing


def test_no_preset_solves_a_challenge(page):
    page.view.share.choose("collapse")
    bad = run(1, "sce", 0.1, coverage=0.1, **{k: v for k, v in vars(page.settings).items() if k != "losses"})
    page.view.share.choose("repaired")
    good = run(2, "sce", 0.2, coverage=0.9, **{k: v for k, v in vars(page.settings).items() if k != "losses"})
    bad.snapshot = dataclasses.replace(bad.snapshot, positions=1088.0)
    assert not collapse_and_repair([bad, good], page.assessment).solved


def test_the_papers_preset_is_the_papers():
    settings = PRESETS["paper"].settings(2**34)
    assert settings.config("sce").loss_settings == {
        "n_buckets": 202, "bucket_size_x": 202, "bucket_size_y": 256, "mix_x": False,
    }  # fmt: skip
    assert (settings.dataset, settings.batch_size, settings.dropout) == ("amazon_beauty", 1024, 0.6)


def test_a_preset_trains_what_wins_the_race_and_the_controls_can_say_it():
    settings = PRESETS["race"].settings(2**34)
    entry = find_race("amazon_beauty").entry()
    free = {"max_epochs": 1, "patience": 1, "evaluate_every": 1, "device": "cpu"}
    assert dataclasses.replace(settings.config("sce"), **free) == dataclasses.replace(entry.config, **free)
    controls = make_controls(dataclasses.asdict(settings))
    assert {name: control.value for name, control in controls.items()} == dataclasses.asdict(settings)


def test_the_state_goes_around(page):
    page.controls["losses"].value = "ce, sampled"
    page.controls["dropout"].value = 0.45
    line = page.view.share.field.value
    assert line == page.state
    other = Playground(line)
    assert other.settings == page.settings
    other.view.share.field.value = Settings(**TINY).line()  # pasted
    assert other.settings == Settings(**TINY)
    assert "Undo takes them back" in other.view.share._said.value
    assert Playground({"seed": 4}, **TINY).settings == Settings(**TINY, seed=4)


def test_enter_commits_a_guess(page):
    page.view.guesses.field.value = "20"
    page.view.guesses.field._handle_custom_msg({"event": "submit"}, [])  # what the page sends for Enter
    assert [guess["guess"] for guess in page.view.guesses.as_list()] == [20.0]
    assert page.view.guesses.field.value == ""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "A state is one line in braces"),
        ("", "this line is empty. The controls are as they were."),
        ('{"n_buckets": 1.5}', "⚠ n_buckets takes a whole number"),
        ('{"n_bucket": 3}', "There is no setting"),
        ('{"batch_size": 0, "seed": 5}', "Batch size takes whole numbers from 4 to 2,048, got 0"),
        ('{"seed": 5, "dataset": "imagenet"}', "Data set takes"),
    ],
)
def test_a_state_that_cannot_be_is_explained_and_changes_nothing(page, line, says):
    before = page.settings
    page.view.share.field.value = line
    assert says in page.view.share._said.value.replace("&#x27;", "'")
    assert page.view.share.field.value == (line or before.line())
    assert page.settings == before
    assert np.isfinite(page.results()["predicted_memory"]["sce"]["peak"])
