"""What a split says of itself: a fingerprint of its data, and how far its test users can be trusted."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from sce_lab.data import Holdout, Sequences, Split, leave_one_out

ROWS = [(user, item, time) for user in "abc" for time, item in enumerate("pqrst"[: 3 + (user == "b")])]


def frame(rows):
    return pd.DataFrame(rows, columns=["user", "item", "timestamp"])


def split_of(rows):
    return leave_one_out(frame(rows))


def test_the_fingerprint_is_this_one_on_every_machine():
    assert split_of(ROWS).fingerprint == "2a363805e755df38434f55ad0ccc965c"
    assert leave_one_out(frame(ROWS), name="renamed").fingerprint == "2a363805e755df38434f55ad0ccc965c"
    numbered = [(user, 10 + ord(item), time) for user, item, time in ROWS]
    assert split_of(numbered).fingerprint == "dde3b4216163604a1629368fd6d28aa9"
    narrow = frame(numbered).astype({"item": "int16", "timestamp": "float32"})
    assert leave_one_out(narrow).fingerprint == "dde3b4216163604a1629368fd6d28aa9"  # however they are stored


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: sorted(rows, key=lambda row: row[2])[::-1],  # another order: items are numbered anew
        lambda rows: rows[::-1],
        lambda rows: rows[:-1],
        lambda rows: [*rows, ("d", "p", 0)],
        lambda rows: [(user, "P" if item == "p" else item, time) for user, item, time in rows],  # a label
        lambda rows: [(user, item, -time if user == "c" else time) for user, item, time in rows],
        lambda rows: [(user, item, 5 if (user, item) == ("c", "q") else time) for user, item, time in rows],
    ],
)
def test_other_data_have_another_fingerprint(change):
    assert split_of(change(ROWS)).fingerprint != split_of(ROWS).fingerprint


@pytest.mark.parametrize("labels", [["1", "2"], [1.5, 2.0], ["a\nb", "c"], ["a", "b\nc"], ["a", "b'\n'c"], [True, 2]])
def test_labels_are_told_apart(labels):
    """Also where a careless join of them would be the same text."""
    sequences = Sequences.from_lists([[0, 1]])
    holdout = Holdout(sequences, np.array([1]))
    prints = {
        Split(sequences, holdout, holdout, 2, np.array(other, dtype=object)).fingerprint
        for other in (labels, [1, 2], ["a", "b"])
    }
    assert len(prints) == 3


def test_where_a_sequence_ends_and_which_part_it_is_in_matter():
    one, two = Sequences.from_lists([[0, 1], [0]]), Sequences.from_lists([[0], [1, 0]])
    held = Holdout(one, np.array([0, 1]))
    split = Split(one, held, held, 2, np.arange(2))
    others = [
        dataclasses.replace(split, train=two),
        dataclasses.replace(split, validation=Holdout(two, held.targets)),
        dataclasses.replace(split, test=Holdout(one, np.array([1, 0]))),
        dataclasses.replace(split, validation=Holdout(one, np.array([1, 0]))),
        dataclasses.replace(split, item_labels=np.array([0, 2])),
    ]
    assert len({split.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_few_test_users_are_said():
    def of(n):
        holdout = Holdout(Sequences.from_lists([[0]] * n), np.zeros(n, dtype=np.int64))
        return Split(holdout.histories, holdout, holdout, 2, np.arange(2)).few_test_users

    assert of(100) == ""
    assert of(1).startswith("only 1 user is tested: each counts 1 in HR@k, and a share of 0.1 may be off by 0.6;")
    assert of(36).startswith(
        "only 36 users are tested: each counts 0.028 in HR@k, and a share of 0.1 may be off by 0.1"
    )
    assert of(0) == "no user is tested: there is nothing to score"
