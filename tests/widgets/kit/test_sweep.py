"""A sweep run from a page: buttons, bar, figures, and a guess that comes first."""

import pytest

from sce_lab.figures import heat_spec, settings_spec
from sce_lab.sweeps import Sweep, bucket_grid, grid
from sce_lab.training import TrainingConfig
from sce_lab.widgets import Guess, SweepBoard

WORLD = {"source": "synthetic", "catalog_size": 120}
TINY = TrainingConfig(loss="sce", hidden_size=8, n_blocks=1, max_length=8, batch_size=512, max_epochs=2)


def heat(sweep):
    return heat_spec(sweep.table(), "n_buckets", "bucket_size_y")


def line(sweep):
    return settings_spec(sweep.table(), {"batch_size": 512}, ["sce"])


@pytest.fixture
def sweep():
    return Sweep(bucket_grid(TINY, 256, [4, 8], [8], WORLD))


@pytest.fixture
def board(sweep):
    made = SweepBoard(sweep, [heat])
    yield made
    made.live.stop()
    made.live.reset()


def cells(board):
    return [
        note["text"] for note in board._canvases[0].widget.current["layout"]["annotations"] if "<b>0." in note["text"]
    ]


def test_it_trains_all_and_says_so(board):
    assert "2 trainings, in the background" in board._status.seen.value
    assert cells(board) == []
    board.buttons["start"].click()
    assert not board.start()  # it is at it
    board.wait(120)
    assert board.progress == 1
    assert "width: 100.0%" in board._bar.value
    assert "All 2 trainings done" in board._status.seen.value
    assert len(cells(board)) == 2
    assert board.buttons["start"].disabled
    assert not board.start()  # nothing is left
    results = board.results()
    assert (results["state"], results["left"]) == ("finished", 0)
    assert all(row["NDCG@10"] > 0 for row in results["rows"])


def test_a_page_that_is_opened_later_has_what_was_trained(board):
    board.start()
    board.wait(120)
    again = SweepBoard(Sweep(board.sweep.trials), [heat])
    assert cells(again) == cells(board)
    more = SweepBoard(Sweep([*board.sweep.trials, *grid(TINY, WORLD, batch_size=[256])]), [line])
    assert more.progress == pytest.approx(2 / 3)
    assert more.buttons["start"].description == "Go on"
    assert "2 of them are there already" in more._status.seen.value


def test_the_guess_comes_first_and_its_answer_when_all_is_done(sweep):
    def answer():
        return None if sweep.left else "b"

    guess = Guess("Which?", [("this", "a"), ("that", "b")], answer, pending="Press Start.")
    board = SweepBoard(sweep, [heat], guess=guess)
    assert not board.start()
    assert board.buttons["start"].disabled
    assert "Commit to your guess" in board._status.seen.value
    guess.commit("a")
    assert guess.answer is None
    assert guess.card.told == "Press Start."
    assert guess.card.verdicts == []
    assert not board.buttons["start"].disabled
    board.start()
    board.wait(120)
    assert guess.answer == "b"
    assert guess.card.verdicts == ["You said: this. Not so.", "Right."]
    # What is on the disk is not shown to somebody who has not guessed yet.
    other = Guess("Which?", [("this", "a"), ("that", "b")], answer)
    later = SweepBoard(sweep, [heat], guess=other)
    assert cells(later) == []
    assert "width: 0.0%" in later._bar.value
    other.commit("b")
    assert len(cells(later)) == 2
    assert other.answer == "b"
    board.live.reset()


def test_it_stops_and_goes_on(sweep):
    board = SweepBoard(sweep, [heat])
    stopping = []

    def events(stop):
        for turn in SweepBoard._events(board, stop):
            yield turn
            if not stopping:
                stopping.append(board.live.stop())

    board._events, usual = events, board._events
    board.start()
    board.wait(60)
    assert board.results()["state"] == "stopped"
    assert board.sweep.left
    board._events = usual
    assert board.start()
    board.wait(120)
    assert not board.sweep.left
    board.live.reset()


def test_what_cannot_be_trained_is_said(tmp_path):
    board = SweepBoard(Sweep(grid(TINY, {"source": str(tmp_path / "nowhere.csv")})), [line])
    board.start()
    with pytest.raises((OSError, ValueError)):
        board.wait(30)
    assert "It could not be trained." in board._status.seen.value
    assert not board.buttons["start"].disabled
