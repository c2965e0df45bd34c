"""The published encoder: what its packed attention gives is what padding and torch's own attention give."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sce_lab.attention import sights
from sce_lab.data.rows import Rows
from sce_lab.encoders import ENCODERS, GatedSASRec, PublishedSASRec
from sce_lab.model import SASRec
from sce_lab.training import TrainingConfig, make_model
from tests.test_model import packed_of

LISTS = [[3, 1, 4], [1, 5], [9, 2, 6], [5], [1, 2, 3, 4, 5, 6]]


def published(max_length=6, dropout=0.3, n_heads=2):
    torch.manual_seed(0)
    return PublishedSASRec(10, max_length, 8, 2, n_heads, dropout)


def padded_forward(model, items):
    """The published forward pass: left padding, zero rows, torch's attention with a causal mask and no other."""
    length, width = len(model.position_embedding), model.item_embedding.shape[1]
    real = torch.zeros(length, 1, dtype=torch.float64)
    real[-len(items) :] = 1
    x = torch.zeros(length, width, dtype=torch.float64)
    x[-len(items) :] = model.item_embedding[items] * math.sqrt(width)
    x = (x + model.position_embedding) * real
    causal = torch.ones(length, length, dtype=torch.bool).triu(1)
    for block in model.blocks:
        attention = nn.MultiheadAttention(width, block.n_heads).double()
        attention.in_proj_weight.data = torch.cat([block.query.weight, block.key_value.weight])
        attention.in_proj_bias.data = torch.cat([block.query.bias, block.key_value.bias])
        attention.out_proj.weight.data, attention.out_proj.bias.data = block.output.weight, block.output.bias
        q = block.attention_norm(x)
        x = q + attention(q, x, x, attn_mask=causal)[0]
        x = block.feed_forward_norm(x)
        x = (x + block.outer(F.relu(block.inner(x)))) * real
    return model.norm(x)[-len(items) :]


@pytest.mark.parametrize("max_length", [6, 40])
@pytest.mark.parametrize("n_heads", [1, 2])
@torch.no_grad()
def test_attending_to_one_key_with_the_weight_of_all_is_attending_to_padding(max_length, n_heads):
    model = published(max_length, n_heads=n_heads).eval().double()
    for parameter in model.parameters():  # biases that have been trained: at first they are zero
        if parameter.dim() == 1:
            nn.init.normal_(parameter)
    expected = torch.cat([padded_forward(model, items) for items in sorted(LISTS, key=len)])
    torch.testing.assert_close(model(packed_of(LISTS, max_length)), expected)


def test_each_row_of_padding_keeps_its_own_coin():
    """In the mean over draws dropout changes nothing, and the more padding there is, the less it moves the sum."""
    for max_length in (3, 100):
        block = published(max_length, dropout=0.5, n_heads=1).blocks[0].train().double()
        nn.init.zeros_(block.key_value.weight)
        nn.init.ones_(block.key_value.bias)
        v = torch.zeros(1, 1, 1, 8, dtype=torch.float64)  # the only item says nothing: what is left is padding
        (sight,) = sights(Rows(None, ((1, 1),)), v, means=False)
        drawn = torch.stack([block.attend(v, v, v, sight)[0, 0, 0, 0] for _ in range(2000)])
        share = (max_length - 1) / max_length
        assert drawn.mean().item() == pytest.approx(share, abs=0.06)
        assert drawn.std().item() == pytest.approx(share * (max_length - 1) ** -0.5, rel=0.1)


def test_initial_weights_are_those_of_the_published_code():
    model = PublishedSASRec(5000, 200, 64, generator=torch.Generator().manual_seed(0))
    block = model.blocks[0]
    for weight, fan in (
        (model.item_embedding, 5064),
        (model.position_embedding, 264),
        (block.query.weight, 256),
        (block.key_value.weight, 256),
        (block.output.weight, 128),
        (block.inner.weight, 128),
    ):
        bound = math.sqrt(6 / fan)
        assert 0.99 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    for layer in (block.query, block.key_value, block.output):
        assert not layer.bias.any()
    assert 0 < block.inner.bias.abs().max() <= 1 / 8


@torch.no_grad()
def test_the_gated_layer_is_swiglu_and_all_else_is_sasrec():
    """With three linear layers of torch's, one position after the other; attention as it is in SASRec."""
    torch.manual_seed(0)
    model = GatedSASRec(10, 6, 8, 2, n_heads=2, low_pass=0.25).eval().double()
    packed = packed_of(LISTS)
    for block in model.blocks:
        gate, value, back = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 8)
        for layer, weight, bias in (
            (gate, block.inner.weight[:16], block.inner.bias[:16]),
            (value, block.inner.weight[16:], block.inner.bias[16:]),
            (back, block.outer.weight, block.outer.bias),
        ):
            layer.weight.data, layer.bias.data = weight, bias
        x = torch.randn(7, 8, dtype=torch.float64)
        one_by_one = [back(gate(row) * torch.sigmoid(gate(row)) * value(row)) for row in x]
        torch.testing.assert_close(block.outer(block.activated(x)), torch.stack(one_by_one))
        block.outer.weight.zero_(), block.outer.bias.zero_()
    plain = SASRec(10, 6, 8, 2, n_heads=2, low_pass=0.25).eval().double()
    shared = {
        name: value for name, value in model.state_dict().items() if ".inner." not in name and ".outer." not in name
    }
    plain.load_state_dict(plain.state_dict() | shared)
    for block in plain.blocks:
        block.outer.weight.zero_(), block.outer.bias.zero_()
    torch.testing.assert_close(model(packed), plain(packed))


def test_the_gated_encoder_takes_the_bytes_it_says():
    n_items, length, width, n_blocks = 50, 6, 8, 3
    model = GatedSASRec(n_items, length, width, n_blocks)
    parameters = (n_items + length + n_blocks * (10 * width + 13) + 2) * width
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_a_configuration_names_its_encoder():
    for name, kind in ENCODERS.items():
        assert type(make_model(TrainingConfig(encoder=name, hidden_size=8), 20)) is kind
    with pytest.raises(ValueError, match="encoder must be one of sasrec, sasrec_gated, sasrec_published, got 'gru'"):
        TrainingConfig(encoder="gru")
