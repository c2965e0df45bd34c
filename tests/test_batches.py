"""Packed batches hold every position once, in order, and no padding."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sce_lab.data.batches import history_batches, mean_length, n_batches, training_batches, without_some_items
from sce_lab.data.rows import side_by_side
from sce_lab.data.splits import Sequences

lists_of_items = st.lists(st.lists(st.integers(0, 30), max_size=12), min_size=1, max_size=20).filter(
    lambda sequences: any(len(s) >= 2 for s in sequences)
)


def unpack(packed, values):
    """The packed ``values`` as one list a sequence."""
    sizes = [length for n, length in packed.runs for _ in range(n)]
    return [part.tolist() for part in values.split(sizes)]


@given(lists_of_items, st.integers(1, 7), st.integers(1, 9), st.integers(0, 5))
def test_an_epoch_has_every_sequence_once_with_the_item_that_follows(sequences, batch_size, max_length, seed):
    seen = []
    batches = list(
        training_batches(Sequences.from_lists(sequences), batch_size, max_length, np.random.default_rng(seed))
    )
    for batch in batches:
        lengths = [length for _, length in batch.inputs.runs]
        assert lengths == sorted(set(lengths))
        assert sum(n * length for n, length in batch.inputs.runs) == batch.n_positions
        assert sum(n for n, _ in batch.inputs.runs) <= batch_size
        inputs, targets = unpack(batch.inputs, batch.inputs.items), unpack(batch.inputs, batch.targets)
        for a, b, positions in zip(inputs, targets, unpack(batch.inputs, batch.inputs.positions)):
            seen.append([*a, b[-1]])
            assert a[1:] == b[:-1]
            assert positions == list(range(max_length - len(a), max_length))
    expected = [s[-max_length - 1 :] for s in sequences if len(s) >= 2]
    assert sorted(seen) == sorted(expected)
    assert len(batches) == n_batches(Sequences.from_lists(sequences), batch_size)


@given(st.lists(st.integers(1, 150), min_size=1, max_size=60).map(sorted))
def test_in_rows_every_position_sees_its_own_sequence_up_to_itself_and_nothing_else(lengths):
    rows = side_by_side(np.array(lengths))
    sizes = [n * width for n, width in rows.shapes]
    assert len(set(rows.slots.tolist())) == sum(lengths)
    owner, nth = np.full(sum(sizes), -1), np.full(sum(sizes), -1)
    slots = rows.slots.numpy()
    owner[slots] = np.repeat(np.arange(len(lengths)), lengths)
    nth[slots] = np.concatenate([np.arange(length) for length in lengths])
    for (n, width), seen, o, i in zip(
        rows.shapes, rows.seen, *(np.split(x, np.cumsum(sizes)[:-1]) for x in (owner, nth)), strict=True
    ):
        o, i, seen = o.reshape(n, width), i.reshape(n, width), seen.numpy()
        there = o >= 0
        expected = (o[:, :, None] == o[:, None, :]) & (i[:, :, None] >= i[:, None, :])
        assert np.array_equal(seen[there], expected[there])
        assert seen.any(2).all()  # nowhere a softmax of nothing
        assert width <= max(32, *lengths)
        assert width <= 32 or 2 * (i.max() + 1) > width  # long rows are for long sequences


def test_the_order_is_drawn_from_the_generator_alone():
    sequences = Sequences.from_lists([[i, i + 1] for i in range(50)])

    def order(seed):
        return [b.targets.tolist() for b in training_batches(sequences, 8, 5, np.random.default_rng(seed))]

    assert order(1) == order(1)
    assert order(1) != order(2)


@given(lists_of_items, st.floats(0, 0.99), st.integers(0, 5))
def test_with_items_left_out_a_sequence_keeps_its_order_and_something_to_predict(sequences, probability, seed):
    left = list(without_some_items(Sequences.from_lists(sequences), probability, np.random.default_rng(seed)))
    assert len(left) == len(sequences)
    for whole, part in zip(sequences, left):
        rest = iter(whole)
        assert all(item in rest for item in part)  # in the order they had
        assert len(part) >= min(len(whole), 2)


def test_items_are_left_out_with_the_given_probability_and_others_each_time():
    sequences, rng = Sequences.from_lists([range(50)] * 200), np.random.default_rng(0)
    first, second = (without_some_items(sequences, 0.2, rng) for _ in range(2))
    n = len(sequences.items)
    assert abs(len(first.items) / n - 0.8) <= 4 * (0.2 * 0.8 / n) ** 0.5
    assert first.items.tolist() != second.items.tolist()


def test_a_batch_is_drawn_from_what_is_left_of_the_sequences():
    sequences = Sequences.from_lists([range(20), range(20, 40)])
    (batch,) = training_batches(sequences, 2, 50, np.random.default_rng(0), item_dropout=0.5)
    assert 2 <= batch.n_positions < 38
    for inputs, targets in zip(unpack(batch.inputs, batch.inputs.items), unpack(batch.inputs, batch.targets)):
        assert inputs[1:] == targets[:-1]
        assert [*inputs, targets[-1]] == sorted({*inputs, targets[-1]})


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=12), min_size=1, max_size=20),
    st.integers(1, 40),
)
def test_every_history_once_cut_to_its_recent_end(sequences, n_positions):
    max_length = 5
    found = {}
    for packed, users in history_batches(Sequences.from_lists(sequences), max_length, n_positions):
        rows = unpack(packed, packed.items)
        assert packed.items[packed.last].tolist() == [row[-1] for row in rows]
        assert packed.lengths.tolist() == [len(row) for row in rows]
        assert not set(found) & set(users.tolist())
        found |= dict(zip(users.tolist(), rows))
    assert found == {i: s[-max_length:] for i, s in enumerate(sequences)}


def test_the_mean_length_is_what_batches_bring():
    sequences = Sequences.from_lists([[0] * n for n in (1, 2, 5, 30)])
    (batch,) = training_batches(sequences, 4, 10, np.random.default_rng(0))
    assert mean_length(sequences, 10) == batch.n_positions / 3 == 5
    assert mean_length(Sequences.from_lists([[1]]), 10) == 0


def test_to_moves_both_halves():
    batch = next(training_batches(Sequences.from_lists([[1, 2, 3]]), 1, 5, np.random.default_rng(0)))
    assert batch.to("meta").targets.device == batch.to("meta").inputs.items.device == torch.device("meta")


@pytest.mark.parametrize("lengths", [[1], [1, 1]])
def test_sequences_with_nothing_to_predict_make_no_batch(lengths):
    sequences = Sequences.from_lists([[0] * n for n in lengths])
    assert list(training_batches(sequences, 4, 5, np.random.default_rng(0))) == []
    assert n_batches(sequences, 4) == 0
