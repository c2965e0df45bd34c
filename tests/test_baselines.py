"""Baselines against what they are by definition, on data small enough to do by hand."""

import numpy as np
import pytest

from sce_lab.data.splits import Holdout, Sequences, Split
from sce_lab.metrics import BASELINES, MISS


@pytest.fixture
def split():
    train = [[0, 1, 2], [0, 1, 3], [0, 3, 1], [2, 3, 3], [], [3]]  # 0: 3, 1: 3, 2: 2, 3: 5, 4: never
    held_out = Holdout(Sequences.from_lists([[2, 2, 0], [1, 4, 2, 1], []]), np.array([1, 4, 3]))
    return Split(Sequences.from_lists(train), held_out, held_out, 5, np.arange(5), "hand")


def ranked(split, name, seen, k_max=5):
    ranking = BASELINES[name].rank(split, split.test, seen=seen, k_max=k_max)
    return ranking.top_items.tolist(), ranking.ranks.tolist()


def test_popularity_is_the_count_in_training(split):
    top, ranks = ranked(split, "popularity", "keep")
    assert [row[0] for row in top] == [3, 3, 3]
    assert [row[3:] for row in top] == [[2, 4]] * 3
    assert ranks == [3, 5, 1]  # 0 is as popular as 1: ties go against the target
    assert ranked(split, "popularity", "exclude")[0][0] == [3, 1, 4, -1, -1]


def test_transitions_count_what_follows_directly_and_then_popularity(split):
    top, ranks = ranked(split, "transitions", "keep")
    assert top[0][:2] == [1, 3]  # after 0: twice 1, once 3
    assert top[1][:2] == [3, 2]  # after 1: once 3, once 2, and 3 is the more popular
    assert top[2][0] == 3  # nothing before: popularity
    assert ranks == [1, 5, 1]
    assert ranked(split, "transitions", "exclude")[1] == [1, MISS, 1]


def test_nothing_follows_across_two_sequences(split):
    """The 2 that ends the first sequence is not followed by the 0 that begins the second: only 3 follows a 2."""
    after = Holdout(Sequences.from_lists([[2]]), np.array([0]))
    top = BASELINES["transitions"].rank(split, after, seen="keep", k_max=5).top_items.tolist()[0]
    assert top[0] == 3
    assert set(top[1:3]) == {0, 1}  # by popularity only, equal
    assert top[3:] == [2, 4]


def test_seen_items_first_the_most_often_and_then_the_latest(split):
    top, ranks = ranked(split, "repeat", "keep")
    assert top[0] == [2, 0, 3, 1, 4]
    assert top[1] == [1, 2, 4, 3, 0]
    assert top[2][0] == 3
    assert ranks == [4, 3, 1]


def test_popularity_never_outweighs_how_often_an_item_was_seen():
    """A very popular item seen once, late, stands behind one that nobody else knows and that was seen twice."""
    held_out = Holdout(Sequences.from_lists([[1, 1, 0]]), np.array([1]))
    split = Split(Sequences.from_lists([[0] * 1000]), held_out, held_out, 3, np.arange(3))
    assert BASELINES["repeat"].rank(split, held_out, seen="keep", k_max=3).top_items.tolist() == [[1, 0, 2]]


def test_where_seen_items_are_left_out_the_repeat_baseline_is_popularity(split):
    assert ranked(split, "repeat", "exclude", 1) == ranked(split, "popularity", "exclude", 1)
    assert ranked(split, "repeat", "new", 1) == ranked(split, "popularity", "new", 1)
