"""Splits: small data worked out by hand, and random data against plain Python."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sce_lab.data.splits import (
    SPLITS,
    Holdout,
    Sequences,
    drop_rare,
    leave_one_out,
    published_temporal_split,
    temporal_split,
)

OPEN = {"min_users_per_item": None, "min_items_per_user": 0}  # no filters


def frame(rows):
    return pd.DataFrame(rows, columns=["user", "item", "timestamp"])


def labelled(split, sequences):
    return [list(split.item_labels[sequence]) for sequence in sequences]


def pairs(split, holdout):
    """(history, target) of every held-out user, in the labels of the data."""
    return list(zip(labelled(split, holdout.histories), split.item_labels[holdout.targets]))


# ---------------------------------------------------------------------------------------------------------- Sequences


def test_sequences_pack_and_index():
    sequences = Sequences.from_lists([[3, 1], [], np.array([5, 5, 2])])
    assert sequences.items.dtype == sequences.offsets.dtype == np.int64
    assert len(sequences) == 3
    assert sequences.lengths.tolist() == [2, 0, 3]
    assert [list(sequence) for sequence in sequences] == [[3, 1], [], [5, 5, 2]]
    assert sequences[-1].tolist() == [5, 5, 2]
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"{index} of 3"):
            sequences[index]
    assert len(Sequences.from_lists([])) == 0


def test_sequences_take_by_index_mask_and_slice():
    sequences = Sequences.from_lists([[3, 1], [], [5, 5, 2], [7]])
    assert [list(s) for s in sequences.take([3, -2, 3])] == [[7], [5, 5, 2], [7]]
    assert [list(s) for s in sequences.take(np.array([True, False, True, False]))] == [[3, 1], [5, 5, 2]]
    assert [list(s) for s in sequences.take(slice(1, 3))] == [[], [5, 5, 2]]
    assert [list(s) for s in sequences.heads(np.array([1, 0, 2, 0]))] == [[3], [], [5, 5], []]


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 1, 3], []])
def test_offsets_that_do_not_fit_are_refused(offsets):
    with pytest.raises(ValueError, match="offsets must rise from 0 to the number of items, 3"):
        Sequences(np.arange(3), np.array(offsets, dtype=np.int64))


def test_holdout_take_and_check():
    holdout = Holdout(Sequences.from_lists([[1], [2, 3]]), np.array([4, 5]))
    taken = holdout.take([1])
    assert len(taken) == 1
    assert taken.histories[0].tolist() == [2, 3]
    assert taken.targets.tolist() == [5]
    with pytest.raises(ValueError, match="2 histories but 1 target"):
        Holdout(holdout.histories, np.array([4]))


# ------------------------------------------------------------------------------------------------------ leave one out


def test_leave_one_out_by_hand():
    b = [("b", "x", 30), ("b", "y", 10), ("b", "z", 20), ("b", "w", 40)]
    a = [("a", "p", 1), ("a", "q", 2), ("a", "q", 2)]
    data = frame([b[0], a[0], b[1], a[1], b[2], b[3], ("c", "x", 1), ("c", "p", 0), a[2]])
    split = leave_one_out(data, name="hand")
    assert labelled(split, split.train) == [["y", "z"], ["p"], ["p", "x"]]  # users as they first appear; c trains only
    assert pairs(split, split.validation) == [(["y", "z"], "x"), (["p"], "q")]
    assert pairs(split, split.test) == [(["y", "z", "x"], "w"), (["p", "q"], "q")]
    assert split.catalog_size == 6  # w occurs in the test only, and is an item all the same
    assert list(split.item_labels) == ["x", "p", "y", "q", "z", "w"]
    assert split.item_counts.tolist() == [1, 2, 1, 0, 1, 0]
    assert split.name == "hand"
    assert split.summary() == {
        "catalog": 6,
        "items in training": 4,
        "training sequences": 3,
        "training interactions": 5,
        "validation users": 2,
        "test users": 2,
        "test targets unseen in training": 1.0,
        "test targets that repeat": 0.5,
    }


def test_equal_timestamps_keep_the_order_of_the_rows():
    data = frame([("a", item, 7) for item in "qwertyuiop"] + [("a", "first", 6)])
    split = leave_one_out(data.sample(frac=1, random_state=0).sort_index())
    assert pairs(split, split.test) == [(["first", *"qwertyuio"], "p")]


def test_given_catalog_keeps_the_rows():
    data = frame([(0, 4, 0), (0, 2, 1), (0, 7, 2)])
    split = leave_one_out(data, catalog_size=10)
    assert split.train[0].tolist() == [4]
    assert split.test.targets.tolist() == [7]
    assert split.catalog_size == 10
    assert split.item_labels.tolist() == list(range(10))
    assert len(split.item_counts) == 10


@pytest.mark.parametrize(
    ("items", "found"),
    [([1, 2, 10], "int64 from 1 to 10"), ([-1, 2, 3], "from -1"), (["a", "b", "c"], "(str|object) such as 'a'")],
)
def test_items_outside_a_given_catalog_are_refused(items, found):
    with pytest.raises(ValueError, match=rf"catalog_size=10 items must be whole numbers 0\.\.9, got .*{found}"):
        leave_one_out(frame([(0, item, t) for t, item in enumerate(items)]), catalog_size=10)


def test_leave_one_out_needs_three_interactions_of_somebody():
    with pytest.raises(ValueError, match=r"at least 3 interactions.*longest of 2 users has 2"):
        leave_one_out(frame([(0, 0, 0), (0, 1, 1), (1, 1, 0)]))


# ----------------------------------------------------------------------------------------------------- temporal split


def test_temporal_split_by_hand():
    # 20 interactions at t = 0..19; the 80 % quantile of these is 15.2, so t = 16..19 come after the division.
    users = "aaaabbbbccccdddd" + "bcce"
    data = frame([(user, f"{user}{t}", t) for t, user in enumerate(users)])
    split = temporal_split(data, quantile=0.8, **OPEN)
    assert labelled(split, split.train) == [["a0", "a1", "a2", "a3"], ["d12", "d13", "d14", "d15"]]
    before_c = ["c8", "c9", "c10", "c11"]
    assert pairs(split, split.test) == [(["b4", "b5", "b6", "b7"], "b16"), ([*before_c, "c17"], "c18")]
    assert pairs(split, split.validation) == [(before_c, "c17")]  # b has one interaction after the division: test only
    assert split.catalog_size == 20  # the item of e, who has no history and is left out, is an item all the same


def test_what_lies_on_the_division_is_before_it():
    data = frame([("a", 0, 0), ("a", 1, 1), ("b", 0, 2), ("b", 1, 3), ("b", 2, 4), ("c", 0, 2), ("c", 2, 2)])
    split = temporal_split(data, quantile=0.5, **OPEN)  # the median is 2
    assert [list(s) for s in split.train] == [[0, 1], [0, 2]]
    assert pairs(split, split.validation) == [([0], 1)]
    assert pairs(split, split.test) == [([0, 1], 2)]


def test_filters_count_distinct_and_run_once_items_first():
    rows, t = [], 0
    for user in range(8):  # 8 users with the items 0, 1, 2, each several times
        for item in (0, 1, 2, 0, 1, 2):
            rows.append((user, item, t := t + 1))
    rows += [("repeats", item, t := t + 1) for item in (0, 1, 0, 1)]  # two different items: a user to drop
    rows += [(0, "often", t := t + 1) for _ in range(9)]  # one user: an item to drop
    rows += [("thin", item, t := t + 1) for item in (0, 1, "own")]  # without "own" two items: dropped, items go first
    rows += [(user, "edge", t := t + 1) for user in (1, "short")]  # "short" is dropped, "edge" stays: once, no rounds
    rows += [(6, 0, t := t + 1), (7, 0, t := t + 1), (7, 1, t := t + 1)]
    split = temporal_split(frame(rows), quantile=0.95, min_users_per_item=2, min_items_per_user=3)
    assert list(split.item_labels) == [0, 1, 2, "edge"]
    assert labelled(split, split.train) == [[0, 1, 2, 0, 1, 2] + ["edge"] * (user == 1) for user in range(6)]
    assert pairs(split, split.test) == [([0, 1, 2, 0, 1, 2], 0), ([0, 1, 2, 0, 1, 2, 0], 1)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantile": 1.0}, "between 0 and 1, got 1.0"),
        ({}, "nothing is left of 12 interactions.*fewer than 5 users.*fewer than 20 items"),
        ({"min_users_per_item": 100, "min_items_per_user": None}, "fewer than 100 users"),
        ({**OPEN, "quantile": 0.01}, "leaves no users to train on: of 3 users, 3 are active after it"),
        ({**OPEN, "quantile": 0.95}, "leaves no users to validate on: of 3 users, 1 is active after it"),
    ],
)
def test_empty_outcomes_of_a_temporal_split_are_explained(settings, message):
    data = frame([(user, item, 4 * user + item) for user in range(3) for item in range(4)])
    with pytest.raises(ValueError, match=message):
        temporal_split(data, **settings)


def test_all_at_the_same_time_cannot_be_divided():
    with pytest.raises(ValueError, match=r"leaves no users to validate on.*0 are active after it"):
        temporal_split(frame([(user, item, 5) for user in range(3) for item in range(4)]), **OPEN)


def test_published_split_by_hand():
    past = [("a", item, t) for t, item in enumerate("pqrs")] + [("b", item, 4 + t) for t, item in enumerate("qp")]
    future = [("b", "r", 10), ("b", "x", 11), ("b", "s", 12), ("b", "p", 13), ("c", "p", 14), ("c", "q", 15)]
    split = published_temporal_split(frame(past + future), quantile=0.5, **OPEN)  # nearest to the middle: t = 10
    assert labelled(split, split.train) == [["p", "q", "r", "s"]]
    assert list(split.item_labels) == ["p", "q", "r", "s"]  # x occurs with a test user only
    assert pairs(split, split.validation) == [(["r"], "s")]  # from the division on; c has two interactions: left out
    assert pairs(split, split.test) == [(["r", "s"], "p")]


def test_what_lies_on_the_published_division_is_after_it():
    rows = [("a", item, t) for t, item in enumerate("pqr")] + [("b", item, 3) for item in "rqp"]
    split = published_temporal_split(frame(rows), quantile=0.6, **OPEN)
    assert pairs(split, split.test) == [(["r", "q"], "p")]


def test_filters_are_the_papers_unless_others_are_asked_for():
    rows = [(user, item, 0) for user in range(5) for item in range(20)] + [(9, item, 0) for item in range(19)]
    rows += [(user, "rare", 0) for user in range(4)]
    kept = drop_rare(frame(rows))
    assert (kept["user"].nunique(), kept["item"].nunique(), len(kept)) == (5, 20, 100)


# ------------------------------------------------------------------------------------------------ against plain Python

events = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=60).map(
    frame
)


def sequences_of(rows):
    """{user: [(time, item), ...]} in time order, ties as they stand."""
    users = {}
    for user, item, time in rows:
        users.setdefault(user, []).append((time, item))
    return {user: sorted(history, key=lambda entry: entry[0]) for user, history in users.items()}


def items_of(history):
    return [item for _, item in history]


@given(events)
@settings(max_examples=100, deadline=None)
def test_leave_one_out_against_plain_python(data):
    users = sequences_of(data.itertuples(index=False))
    long = [items_of(history) for history in users.values() if len(history) >= 3]
    assume(long)
    split = leave_one_out(data)
    assert labelled(split, split.train) == [
        items_of(history)[:-2] if len(history) >= 3 else items_of(history) for history in users.values()
    ]
    assert pairs(split, split.validation) == [(items[:-2], items[-2]) for items in long]
    assert pairs(split, split.test) == [(items[:-1], items[-1]) for items in long]
    assert set(split.item_labels) == set(data["item"])


@given(events, st.sampled_from([0.3, 0.5, 0.8]), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_temporal_split_against_plain_python(data, quantile, min_users, min_items):
    rows = list(data.itertuples(index=False))
    rows = [row for row in rows if len({other.user for other in rows if other.item == row.item}) >= min_users]
    rows = [row for row in rows if len({other.item for other in rows if other.user == row.user}) >= min_items]
    assume(rows)
    division = np.quantile([row.timestamp for row in rows], quantile)
    train, validation, test = [], [], []
    for history in sequences_of(rows).values():
        after = [item for time, item in history if time > division]
        items = items_of(history)
        if not after:
            train.append(items)
        if after and len(items) > 1:
            test.append((items[:-1], items[-1]))
        if len(after) > 1 and len(items) > 2:
            validation.append((items[:-2], items[-2]))
    filters = {"min_users_per_item": min_users, "min_items_per_user": min_items}
    if not (train and validation and test):
        with pytest.raises(ValueError, match="leaves no users to"):
            temporal_split(data, quantile=quantile, **filters)
        return
    split = temporal_split(data, quantile=quantile, **filters)
    assert labelled(split, split.train) == train
    assert pairs(split, split.validation) == validation
    assert pairs(split, split.test) == test
    assert set(split.item_labels) == {row.item for row in rows}


@given(events, st.sampled_from([0.3, 0.5, 0.8]), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_published_temporal_split_against_plain_python(data, quantile, min_users, min_items):
    rows = list(data.itertuples(index=False))
    rows = [row for row in rows if len({other.user for other in rows if other.item == row.item}) >= min_users]
    rows = [row for row in rows if len({other.item for other in rows if other.user == row.user}) >= min_items]
    assume(rows)
    division = np.quantile([row.timestamp for row in rows], quantile, method="nearest")
    users = sequences_of(rows)
    train = [items_of(history) for history in users.values() if history[-1][0] < division]
    catalog = {item for items in train for item in items}
    held_out = {user: history for user, history in users.items() if history[-1][0] >= division}
    later = {u: [item for t, item in h if t >= division and item in catalog] for u, h in held_out.items()}
    first_row = {
        u: next(r for r in rows if r.user == u and r.timestamp >= division and r.item in catalog)
        for u in later
        if later[u]
    }
    order = sorted(first_row, key=lambda u: rows.index(first_row[u]))
    test = [later[user] for user in order if len(later[user]) >= 3]
    filters = {"min_users_per_item": min_users, "min_items_per_user": min_items}
    if not (train and test):
        with pytest.raises(ValueError, match="leaves no users to"):
            published_temporal_split(data, quantile=quantile, **filters)
        return
    split = published_temporal_split(data, quantile=quantile, **filters)
    assert labelled(split, split.train) == train
    assert pairs(split, split.validation) == [(items[:-2], items[-2]) for items in test]
    assert pairs(split, split.test) == [(items[:-1], items[-1]) for items in test]
    assert set(split.item_labels) == catalog


@pytest.mark.parametrize("rule", SPLITS.values())
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frame([]), "no rows"),
        (frame([(0, 0, 0)]).drop(columns="timestamp"), "timestamp is not among user, item"),
        (frame([(0, 0, "2024-01-01")]), "timestamps must be numbers"),
        (frame([(0, 0, 1.0), (0, None, 2.0)]), "'item' has 1 missing value, the first in row 2"),
        (frame([(0, 0, np.nan)]), "'timestamp' has 1 missing"),
    ],
)
def test_unusable_interactions_are_explained(rule, data, message):
    with pytest.raises(ValueError, match=message):
        rule(data)
