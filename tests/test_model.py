"""SASRec on packed sequences: causal, no leak between sequences, no row that is not an item."""

import numpy as np
import pytest
import torch

from sce_lab.attention import sights
from sce_lab.data.batches import pack
from sce_lab.data.rows import Rows, side_by_side
from sce_lab.model import Dropout, SASRec, running_mean

LISTS = [[3, 1, 4], [1, 5], [9, 2, 6], [5]]


def packed_of(lists, max_length=6):
    lengths = np.array([len(s) for s in lists])
    items = np.concatenate([np.array(s) for s in lists])
    return pack(np.cumsum(lengths) - lengths, lengths, items, max_length)[0]


def alone(x):
    """What a block is told of one sequence."""
    rows = Rows(None, ((1, len(x)),))
    return rows, sights(rows, x, means=True)


@pytest.fixture(params=[0.0, 0.5], ids=["plain", "low_pass"])
def model(request):
    torch.manual_seed(0)
    return SASRec(10, 6, hidden_size=8, n_blocks=2, n_heads=2, low_pass=request.param).eval().double()


def test_a_sequence_is_encoded_the_same_alone_and_among_others(model):
    together = model(packed_of(LISTS))
    by_length = sorted(LISTS, key=len)
    alone = torch.cat([model(packed_of([s])) for s in by_length])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_side_by_side_in_rows_everybody_is_encoded_the_same(model, dropout):
    """Short and long, so that there are several tables; in training, too, where attention is not torch's own."""
    rng = np.random.default_rng(0)
    lists = [list(rng.integers(0, 10, n)) for n in (*range(1, 40), 64, 65, 70, 70)]
    model = SASRec(10, 70, 8, n_heads=2, low_pass=model.low_pass, dropout=dropout).double()
    model.drop.kept = lambda shape, like: torch.full(tuple(shape), 0.7, dtype=like.dtype)  # no coins, to compare
    packed, found = packed_of(lists, 70), []
    assert [width for _, width in packed.side_by_side().rows.shapes] == [32, 64, 70]
    weights = torch.randn(len(packed.items), 8, dtype=torch.float64)
    for inputs in (packed, packed.side_by_side()):
        model.zero_grad()
        outputs = model(inputs)
        outputs.backward(weights)
        found.append([outputs.detach(), *(p.grad.clone() for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one)


def test_a_position_sees_nothing_after_it(model):
    before = model(packed_of([[3, 1, 4, 1, 5]]))
    after = model(packed_of([[3, 1, 4, 2, 7]]))
    torch.testing.assert_close(before[:3], after[:3])
    assert not torch.allclose(before[3], after[3])


def test_order_and_recency_matter(model):
    assert not torch.allclose(model(packed_of([[3, 1, 4]]))[-1], model(packed_of([[1, 3, 4]]))[-1])


def test_attention_is_that_of_the_definition(model):
    """One block's attention written out with explicit softmax and mask."""
    block, n, length, d = model.blocks[0], 2, 4, 8
    q, k, v = torch.randn(3, n * length, d, dtype=torch.float64)
    rows = Rows(None, ((n, length),))
    got = block.attended(q, torch.cat([k, v], dim=1), rows, sights(rows, q, means=False))
    for s in range(n):
        rows = slice(s * length, (s + 1) * length)
        for head in (slice(0, 4), slice(4, 8)):
            scores = q[rows, head] @ k[rows, head].T / 2.0  # sqrt(4)
            scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
            torch.testing.assert_close(got[rows, head], scores.softmax(-1) @ v[rows, head])


def test_the_table_holds_the_items_and_nothing_else(model):
    assert model.item_embedding.shape == (10, 8)
    d, blocks, vectors = 8, 2, 12 if model.blocks[0].low_pass else 10
    assert sum(p.numel() for p in model.parameters()) == (10 + 6 + blocks * (6 * d + vectors) + 2) * d


def test_the_running_mean_is_that_of_each_sequence_up_to_each_position():
    x = torch.randn(8, 3, dtype=torch.float64)
    rows = side_by_side(np.array([1, 1, 3, 3]))
    means = running_mean(x, rows, sights(rows, x, means=True))
    sequences = [x[:1], x[1:2], x[2:5], x[5:]]
    expected = [s[: i + 1].mean(0) for s in sequences for i in range(len(s))]
    torch.testing.assert_close(means, torch.stack(expected))


def test_the_running_mean_has_the_weight_it_was_given():
    """The block's equation with attention and feed-forward layer silenced: what is left is the mixture."""
    torch.manual_seed(0)
    block = SASRec(10, 6, hidden_size=8, low_pass=0.25).double().eval().blocks[0]
    for layer in (block.output, block.outer):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    x = torch.randn(3, 8, dtype=torch.float64)
    mean = torch.stack([x[: i + 1].mean(0) for i in range(3)])
    norm = lambda t: (t - t.mean(-1, keepdim=True)) / t.std(-1, keepdim=True, correction=0)  # noqa: E731
    expected = norm(0.75 * norm(x) + 0.25 * norm(x + mean))
    torch.testing.assert_close(block(x, *alone(x)), expected)


def test_in_training_the_running_mean_is_dropped_out():
    torch.manual_seed(0)
    block = SASRec(10, 6, 8, dropout=0.5, low_pass=1.0).blocks[0].train()
    for layer in (block.inner, block.outer):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    x = torch.randn(3, 8)
    assert not torch.equal(block(x, *alone(x)), block(x, *alone(x)))


def test_dropout_is_for_training_only():
    torch.manual_seed(0)
    model = SASRec(10, 6, 8, dropout=0.5)
    packed = packed_of(LISTS)
    assert not torch.equal(model(packed), model(packed))
    model.eval()
    assert torch.equal(model(packed), model(packed))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="n_heads=3 and hidden_size=8"):
        SASRec(10, 6, 8, n_heads=3)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.6])
def test_dropout_zeroes_with_its_probability_and_keeps_the_mean(p):
    x = torch.full((999, 64), 2.0, dtype=torch.float64, requires_grad=True)
    dropout = Dropout(p)
    torch.manual_seed(0)
    y = dropout(x)
    y.sum().backward()
    kept = y != 0
    n = kept.numel()
    assert abs(kept.double().mean().item() - (1 - p)) <= 4 * (p * (1 - p) / n) ** 0.5
    assert y.unique().numel() == (2 if p else 1)
    assert y.max().item() == pytest.approx(2 / (1 - p), rel=1e-4)
    assert torch.equal(x.grad * 2, y)
    torch.manual_seed(0)
    assert torch.equal(dropout(x), y)
    assert torch.equal(dropout.eval()(x), x)


def test_dropout_decides_about_every_element_by_itself():
    kept = (Dropout(0.5)(torch.ones(4096, 64)) != 0).double()
    for shift in (1, 2, 3, 4, 64):  # elements that share their 64 bits, and others
        together = (kept.flatten()[:-shift] * kept.flatten()[shift:]).mean().item()
        assert together == pytest.approx(0.25, abs=0.005)
