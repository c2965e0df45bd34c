"""Predicted is measured, over a grid of configurations; and predicted the quick way is predicted by fake tensors."""

import dataclasses
import itertools
import json
from contextlib import contextmanager

import pytest
import torch
from steps import assert_predicted, measure
from torch._subclasses.fake_tensor import FakeTensorMode

from sce_lab.memory import LiveBytes, measured_step, predict, predict_memory
from sce_lab.memory import shapes as shapes_module
from sce_lab.training import TrainingConfig, make_model

SMALL_SCE = {"n_buckets": 6, "bucket_size_x": 5, "bucket_size_y": 9}
VARIANTS = [
    ("ce", {}),
    ("cce", {}),
    ("cce", {"loss_settings": {"workspace_bytes": 2**15}}),
    ("sampled", {}),
    ("sampled", {"sparse_gradients": True}),
    ("sampled", {"loss_settings": {"n_negatives": 7, "sampling": "in_batch"}}),
    ("sampled", {"loss_settings": {"n_negatives": 3, "shared_negatives": False, "sampling": "popularity"}}),
    ("sce", {}),
    ("sce", {"sparse_gradients": True}),
    ("sce", {"loss_settings": SMALL_SCE | {"mix_x": True}}),
    ("sce", {"loss_settings": {"workspace_bytes": 2**16}}),  # many chunks and tiles
    ("ce", {"dtype": "bfloat16"}),
    ("sce", {"dtype": "bfloat16", "sparse_gradients": True}),
    ("ce", {"dropout": 0.0}),
    ("sce", {"n_blocks": 1, "n_heads": 2}),
    ("sce", {"low_pass": 0.5}),
]
GRID = list(itertools.product(VARIANTS, [60, 3000], [(4, 5, 16), (24, 12, 32)]))


def configuration(variant, shape):
    loss, settings = variant
    batch_size, max_length, hidden_size = shape
    shared = {"batch_size": batch_size, "max_length": max_length, "hidden_size": hidden_size}
    return TrainingConfig(loss=loss, **shared, **settings)


def test_the_grid_is_as_large_as_promised():
    assert len(GRID) >= 50


@pytest.mark.filterwarnings("ignore:bucket_size_:RuntimeWarning")
@pytest.mark.parametrize(("variant", "catalog_size", "shape"), GRID)
def test_the_prediction_is_the_measurement(variant, catalog_size, shape):
    config = configuration(variant, shape)
    assert_predicted(config, catalog_size, measure(config, catalog_size), within=2 if catalog_size == 60 else 1.5)


@contextmanager
def fake_tensors(device, *, dropout):
    with FakeTensorMode():
        yield torch.device("cpu"), LiveBytes()


@pytest.mark.filterwarnings("ignore:bucket_size_:RuntimeWarning")
@pytest.mark.parametrize("catalog_size", [60, 20_000])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_quick_way_is_the_way_of_fake_tensors(variant, catalog_size, monkeypatch):
    config = configuration(variant, (8, 10, 32))
    quick = [predict_memory(config, catalog_size), predict_memory(config, catalog_size, length=1)]
    monkeypatch.setattr(predict, "shapes_only", fake_tensors)
    predict._predict.cache_clear()
    predict._encoder.cache_clear()
    slow = [predict_memory(config, catalog_size), predict_memory(config, catalog_size, length=1)]
    predict._predict.cache_clear()
    predict._encoder.cache_clear()
    if config.sparse_gradients:  # FakeTensorMode's sparse tensors lose their rows when they are cloned
        quick, slow = ([use.loss_workspace // 2**12 for use in uses] for uses in (quick, slow))
    elif config.dtype == "bfloat16":  # on a CPU the statistics of a layer norm are kept in 16 bits, not 32
        quick, slow = ([n for use in uses for n in use.as_dict().values()] for uses in (quick, slow))
        slow = pytest.approx(slow, rel=0, abs=2 * 2 * 5 * 8 * 10)  # two numbers a position, of five norms
    assert quick == slow


@pytest.mark.filterwarnings("ignore:bucket_size_:RuntimeWarning")
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_share_an_encoder_and_the_whole_step_is_the_sum_of_its_parts(variant):
    config = configuration(variant, (8, 10, 32))
    for hidden_size, *sizes in ((16, 20_000, 9, 30), (256, 60, 5, 1)):  # the peak is in the loss, or in the encoder
        config, *whole = predict.arguments_of(dataclasses.replace(config, hidden_size=hidden_size), *sizes)
        assert predict._predict(json.dumps(dataclasses.asdict(config)), *whole) == predict._whole_step(config, *whole)


def test_catalogs_share_an_encoder_too():
    config = TrainingConfig(loss="ce", batch_size=3, max_length=7, hidden_size=24)
    predict._encoder.cache_clear()
    for size in (1, 50, 12_101, 10**9):
        config, *whole = predict.arguments_of(config, size, None, None)
        assert predict._step_in_parts(config, *whole) == predict._whole_step(config, *whole)
    assert predict._encoder.cache_info().misses == 1


def test_what_was_kept_does_not_leak_into_the_next_prediction():
    config = TrainingConfig(loss="ce", batch_size=4, max_length=6, hidden_size=16)
    first = predict_memory(config, 500)
    predict_memory(config, 70_000)
    predict_memory(dataclasses.replace(config, loss="sce", sparse_gradients=True), 500)
    predict_memory(dataclasses.replace(config, dtype="bfloat16"), 500)
    with pytest.raises(ValueError, match="n_buckets must be a positive whole number, got -1"):
        predict_memory(dataclasses.replace(config, loss="sce", loss_settings={"n_buckets": -1}), 500)
    shapes_module._RESULTS.clear()
    predict._predict.cache_clear()
    predict._encoder.cache_clear()
    assert predict_memory(config, 500) == first


def test_a_step_that_breaks_off_is_forgotten():
    config = TrainingConfig(loss="ce", batch_size=4, max_length=6, hidden_size=16)
    expected = predict_memory(config, 700)

    def break_off():
        with predict.shaped_step(config, 700, 4, 6) as (model, _, _, _, counter), counter:
            model.item_embedding.sum().backward()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with predict.shaped_step(config, 700, 4, 6) as (model, loss, optimizer, batch, counter):
        assert all(p.grad is None for p in model.parameters())
        assert measured_step(model, loss, optimizer, batch, counter=counter).memory == expected


def test_half_precision_halves_the_weights_and_sparse_gradients_lose_the_table():
    config = TrainingConfig(loss="sce", batch_size=8, max_length=5, hidden_size=32)
    c = 10**6
    full, half = predict_memory(config, c), predict_memory(dataclasses.replace(config, dtype="bfloat16"), c)
    assert half.parameters == full.parameters // 2
    sparse = predict_memory(dataclasses.replace(config, sparse_gradients=True), c)
    assert sparse.gradients < full.gradients / 50
    assert sparse.peak < full.peak - 0.9 * full.gradients


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("loss", ["ce", "cce", "sampled", "sce"])
def test_the_prediction_for_cuda_is_what_its_allocator_says(loss):
    config = dataclasses.replace(configuration((loss, {}), (256, 50, 64)), device="cuda")
    measured = measure(config, 50_000)
    assert predict_memory(config, 50_000).peak == pytest.approx(measured.peak, rel=0.05)


def test_a_model_that_is_kept_is_not_taken_for_another():
    """One after the other, so that what was predicted before is there to be mistaken for it."""
    for changed in ({}, {"encoder": "sasrec_gated"}, {"low_pass": 0.5}, {"n_blocks": 1}, {"encoder": "sasrec"}):
        config = TrainingConfig(hidden_size=16, **changed)
        parameters = sum(4 * p.numel() for p in make_model(config, 300).parameters())
        assert predict_memory(config, 300, n_sequences=4, length=5).parameters == parameters
