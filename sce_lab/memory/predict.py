"""What a training step would take, without allocating a byte of it.

The same :func:`sce_lab.training.training_step` runs as when it is measured, on tensors that have shapes and lifetimes
but no data. There is no formula beside the code that could drift from it. Where it can be, the loss is run alone and
added to the rest: losses that are compared share the part of the encoder.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sce_lab.data.batches import Batch, Packed
from sce_lab.data.rows import Rows
from sce_lab.memory.live import LiveBytes, largest_workspace
from sce_lab.memory.measure import measured_step, resident_tensors
from sce_lab.memory.shapes import shapes_only
from sce_lab.memory.use import MemoryUse
from sce_lab.training import TrainingConfig, loss_of_batch, make_model, make_optimizer, make_training_loss


class ShapedStep(NamedTuple):
    """The arguments of a training step, made of tensors without content, and what counts their bytes."""

    model: nn.Module
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    batch: Batch
    counter: LiveBytes


def predict_memory(
    config: TrainingConfig,
    catalog_size: int,
    *,
    n_sequences: int | None = None,
    length: int | None = None,
) -> MemoryUse:
    """The :class:`MemoryUse` of a step of ``config`` over ``catalog_size`` items, without allocating any of it.

    For cross-entropy and sampled softmax it is what a step takes. Where the work depends on the data, it is the most
    there can be: with SCE that is how many blocks of scores are searched and how many positions each bucket wins; with
    sparse gradients or half precision, how many distinct items have a gradient. On CUDA with Triton nothing depends on
    the data: a step takes just that, but for what the allocator leaves unused of a large block, less than 1 MiB.

    Args:
        config: what would be trained. For a CUDA device on a machine without one the prediction is that for a CPU.
        catalog_size: items C, of any size.
        n_sequences: sequences in the batch; default ``config.batch_size``.
        length: positions of each sequence; default ``config.max_length``. The loss sees
            ``N = n_sequences * length`` positions.

    Raises:
        ValueError: ``catalog_size``, ``n_sequences`` or ``length`` is below 1, or the loss refuses its settings.
    """
    config, *sizes = arguments_of(config, catalog_size, n_sequences, length)
    return _predict(json.dumps(dataclasses.asdict(config)), *sizes)


def arguments_of(
    config: TrainingConfig, catalog_size: int, n_sequences: int | None, length: int | None
) -> tuple[TrainingConfig, int, int, int]:
    """The arguments of :func:`predict_memory`, checked and filled in; what decides no shape is made equal."""
    n_sequences = config.batch_size if n_sequences is None else n_sequences
    length = config.max_length if length is None else length
    for name, value in (("catalog_size", catalog_size), ("n_sequences", n_sequences), ("length", length)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    on_cuda = torch.device(config.device).type == "cuda" and torch.cuda.is_available()
    config = dataclasses.replace(
        config,
        device=config.device if on_cuda else "cpu",
        max_length=max(length, config.max_length),
        **{name: getattr(TrainingConfig, name) for name in _NO_SHAPE},
    )
    return config, int(catalog_size), int(n_sequences), int(length)


_NO_SHAPE = ("seed", "learning_rate", "betas", "max_epochs", "patience", "evaluate_every", "steps_per_epoch")


@functools.lru_cache(maxsize=4096)
def _predict(settings: str, catalog_size: int, n_sequences: int, length: int) -> MemoryUse:
    config = TrainingConfig(**json.loads(settings))
    sizes = catalog_size, n_sequences, length
    # A row-sparse gradient of the table has as many rows as the loss gives it, and the rest of the step depends on it.
    whole = config.sparse_gradients or config.device != "cpu"
    return _whole_step(config, *sizes) if whole else _step_in_parts(config, *sizes)


def _whole_step(config: TrainingConfig, *sizes: int) -> MemoryUse:
    with shaped_step(config, *sizes) as (model, loss, optimizer, batch, counter):
        return measured_step(model, loss, optimizer, batch, counter=counter).memory


def _step_in_parts(config: TrainingConfig, catalog_size: int, *shape: int) -> MemoryUse:
    """As :func:`_whole_step`, but the encoder's part is remembered: losses and catalogs share it."""
    encoder = _encoder(json.dumps(dataclasses.asdict(dataclasses.replace(config, loss="ce", loss_settings={}))), *shape)
    with shaped_step(config, catalog_size, *shape) as (model, loss, optimizer, batch, counter):
        like = {"dtype": encoder.head_dtype, "device": model.item_embedding.device}
        head = torch.empty(encoder.head_shape, **like, requires_grad=True)
        counter.know([*resident_tensors(model, loss, optimizer), head])
        with counter:
            value = loss_of_batch(loss, head, model.item_embedding, batch)
            value.backward()
            left, workspace = counter.live, largest_workspace(counter.log)
        model.item_embedding.grad = None
    parameters, gradients, state, activations = map(int, encoder.kept @ (catalog_size, 1))
    forward_peak = int((encoder.forward @ (catalog_size, 1)).max())
    end = encoder.end @ (catalog_size, 1)
    peak = max(forward_peak, activations + max(counter.peak, left + int((end - end[0]).max())))
    return MemoryUse(parameters, gradients, state, activations, workspace, peak + parameters + state)


class _Encoder(NamedTuple):
    """A step but for the loss. Its bytes are rows of two: those for each item of the catalog, and those beside it."""

    kept: np.ndarray  # parameters, gradients, state of the optimizer, activations
    forward: np.ndarray  # alive from moment to moment of the forward pass, beyond parameters and optimizer state
    end: np.ndarray  # the same from the encoder's backward to the end
    head_shape: tuple[int, ...]  # what the loss is given
    head_dtype: torch.dtype


#: So many items that the bytes of a tensor which grow with them stand out from those that do not.
_ENDLESS = 2**44


def _by_item(nbytes: Sequence[int]) -> np.ndarray:
    """Bytes of a step over :data:`_ENDLESS` items as in :class:`_Encoder`."""
    each, rest = np.divmod(np.array(nbytes, dtype=np.int64) + _ENDLESS // 2, _ENDLESS)
    return np.stack([each, rest - _ENDLESS // 2], axis=1)


@functools.lru_cache(maxsize=512)
def _encoder(settings: str, n_sequences: int, length: int) -> _Encoder:
    began, ended = {}, {}
    config = TrainingConfig(**json.loads(settings))
    with shaped_step(config, _ENDLESS, n_sequences, length) as (model, _, optimizer, batch, counter):

        @contextmanager
        def noted(name: str) -> Iterator[None]:
            began[name] = len(counter.log)
            yield
            ended[name] = len(counter.log)

        nothing = _OnlyGradients()
        use = measured_step(model, nothing, optimizer, batch, noted, counter=counter).memory
    alive = np.cumsum(_by_item([0, *(nbytes for _, nbytes in counter.log)]), axis=0)
    kept = _by_item([use.parameters, use.gradients, use.optimizer_state])
    return _Encoder(
        np.vstack([kept, alive[began["loss_forward"]]]),
        alive[began["forward"] : ended["forward"] + 1],
        alive[began["backward"] : ended["optimizer"] + 1],
        *nothing.given,
    )


class _OnlyGradients(nn.Module):
    """In place of a loss: takes nothing, and leaves the gradients that every loss leaves."""

    def forward(self, head: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        self.given = tuple(head.shape), head.dtype
        return _LeaveGradients.apply(head, table)


class _LeaveGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, head: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(head, table)
        return head.new_empty(())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors)


#: One prediction at a time: they are all Python, and two threads at once would only make each other late.
one_at_a_time = threading.RLock()


@contextmanager
def shaped_step(
    config: TrainingConfig,
    catalog_size: int,
    n_sequences: int,
    length: int,
    counter: LiveBytes | None = None,
) -> Iterator[ShapedStep]:
    """The arguments of a step of ``config`` on tensors without content, as after a first step.

    Args:
        config, catalog_size, n_sequences, length: see :func:`predict_memory`.
        counter: counts the bytes in place of the usual one.
    """
    with one_at_a_time, shapes_only(config.device, dropout=config.dropout > 0) as (device, usual):
        config = dataclasses.replace(config, device=str(device))
        # The usual counter is on while the arguments are made, too: without it, that takes longer.
        with torch.device(device), type(usual)():
            model, optimizer = _model(config, catalog_size)
            loss = make_training_loss(config, torch.empty(catalog_size, dtype=torch.int64))
            items = torch.empty(n_sequences * length, dtype=torch.int64)
            on_gpu = device.type not in ("cpu", "meta")
            shapes = ((n_sequences, config.max_length),)
            rows = Rows(torch.empty_like(items), shapes, fused=True) if on_gpu else None
            inputs = Packed(items, torch.empty_like(items), ((n_sequences, length),), rows)
            batch = Batch(inputs, torch.empty_like(items))
        try:
            yield ShapedStep(model, loss, optimizer, batch, counter or usual)
        except BaseException:
            _kept.clear()  # a step that broke off leaves gradients behind
            raise


#: Models on meta tensors, to be used again: all that differs from one catalog to the next is the item table.
_kept: dict[tuple[Any, ...], tuple[nn.Module, torch.optim.Optimizer]] = {}
#: What of a configuration a model is the same with. All else tells models apart, a setting that is new, too.
_SHAPES_NOTHING = frozenset(
    (
        "loss",
        "loss_settings",
        "batch_size",
        "learning_rate",
        "averaging",
        "item_dropout",
        "seen",
        "max_epochs",
        "patience",
    )
) | {"evaluate_every", "steps_per_epoch", "seed", "device"}


def _model(config: TrainingConfig, catalog_size: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Model and optimizer of ``config`` as they are after a first step."""
    key = tuple(value for name, value in vars(config).items() if name not in _SHAPES_NOTHING)
    if config.device == "meta" and key in _kept:
        model, optimizer = _kept[key]
        old = model.item_embedding
        model.item_embedding = table = nn.Parameter(old.detach().new_empty(catalog_size, config.hidden_size))
        parameters = optimizer.param_groups[0]["params"]
        parameters[:] = [table if p is old else p for p in parameters]
        del optimizer.state[old]
        optimizer.state[table] = _first_state(table)
        return model, optimizer
    model = make_model(config, catalog_size)
    optimizer = make_optimizer(config, model)
    for p in model.parameters():
        optimizer.state[p] = _first_state(p)
    if len(_kept) >= 16:
        _kept.clear()
    if config.device == "meta":
        _kept[key] = model, optimizer
    return model, optimizer


def _first_state(p: Tensor) -> dict[str, Tensor]:
    """The state that Adam would have after its first step."""
    return {
        "step": torch.empty((), dtype=torch.float32),
        "exp_avg": torch.empty_like(p, requires_grad=False),
        "exp_avg_sq": torch.empty_like(p, requires_grad=False),
    }
