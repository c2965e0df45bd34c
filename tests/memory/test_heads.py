"""What a loss takes on the head of a language model: predicted as it is measured, and what it consists of."""

import pytest
import torch

from sce_lab.losses import make_loss
from sce_lab.memory import HEADS, PUBLISHED_HEADS, Head, LiveBytes, predict_head

SMALL = Head("small", 3_000, 32, 5.0, "nobody's")


def measured(head, loss, n_tokens, dtype, frozen, **settings):
    hidden = torch.randn(n_tokens, head.hidden_size, dtype=dtype, requires_grad=True)
    table = torch.randn(head.vocabulary, head.hidden_size, dtype=dtype, requires_grad=not frozen)
    target = torch.randint(head.vocabulary, (n_tokens,))
    counter = LiveBytes()
    counter.know([hidden, table, target])
    with counter:
        make_loss(loss, softcap=head.softcap, **settings)(hidden, table, target).backward()
    return counter.peak


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("loss", ["ce", "cce"])
def test_the_exact_losses_take_what_is_predicted(loss, dtype, frozen):
    settings = {"workspace_bytes": 2**17} if loss == "cce" else {}
    predicted = predict_head(SMALL, loss, 120, dtype=dtype, frozen=frozen, **settings)
    size = getattr(torch, dtype).itemsize
    assert predicted.inputs == (120 + 3_000) * 32 * size
    assert predicted.gradients == (120 + (0 if frozen else 3_000)) * 32 * size
    assert predicted.peak == pytest.approx(
        measured(SMALL, loss, 120, getattr(torch, dtype), frozen, **settings), rel=0.01
    )
    assert predicted.total == predicted.inputs + predicted.peak


def test_a_frozen_table_needs_no_room_of_its_size():
    head = HEADS["gemma_2"]
    table = head.vocabulary * head.hidden_size * 2
    for loss in ("cce", "sampled", "sce"):
        assert predict_head(head, loss, 8_192).peak > table
        assert predict_head(head, loss, 8_192, frozen=True).peak < table / 8


def test_held_logits_grow_with_tokens_and_the_others_do_not():
    head = HEADS["llama_3"]
    few, many = ({loss: predict_head(head, loss, n).workspace for loss in ("ce", "cce", "sce")} for n in (2_048, 8_192))
    assert many["ce"] == pytest.approx(4 * few["ce"], rel=0.01)
    assert many["cce"] < many["ce"] / 50
    assert many["sce"] < many["ce"] / 5


@pytest.mark.parametrize("row", PUBLISHED_HEADS, ids=lambda row: f"{row.head}-{row.n_tokens}-{row.what}")
def test_what_others_measured_lies_beside_what_is_predicted(row):
    ours = predict_head(HEADS[row.head], "ce" if row.held else "cce", row.n_tokens)
    ours = ours.total if row.with_inputs else ours.peak
    assert row.nbytes / 2.2 < ours < 2.2 * row.nbytes  # other code: nothing here is fitted to them
    assert len(row.commit) == 40
    assert row.file
    held = predict_head(HEADS[row.head], "ce", row.n_tokens)
    assert row.held or row.nbytes < (held.total if row.with_inputs else held.peak)


def test_what_cannot_be_asked():
    with pytest.raises(ValueError, match="n_tokens must be at least 1, got 0"):
        predict_head(SMALL, "ce", 0)
    with pytest.raises(ValueError, match="dtype must be one of bfloat16, float32, got 'int8'"):
        predict_head(SMALL, "ce", 5, dtype="int8")
