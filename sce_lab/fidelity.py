"""The referee: how faithful a loss is to full cross-entropy, on a model as it is, and what that costs.

A loss that looks at a part of the logits has another gradient than cross-entropy. How far it is off, in which way
(always alike, or by chance), which items it saw and what it took in memory and time is measured here, for any
loss of the registry, without knowing how it works.

Which logits a loss looks at is read from its gradient. Position n gets a dimension of its own, in which it is ``eps``
and everything else, items too, is zero: no logit changes. The gradient of item i in that dimension is then ``eps``
times the gradient of the loss in the single logit ``x_n . w_i``. This is done for some positions at a time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from sce_lab.data.batches import Batch
from sce_lab.losses import LOSSES, BinaryCrossEntropyLoss, LossModule, cross_entropy, make_loss
from sce_lab.memory.live import LiveBytes, largest_workspace

#: The extra dimensions' size, as a part of the outputs' mean length: random directions hardly notice them.
EXTRA = 1e-3
#: Positions that have a dimension of their own at a time.
AT_A_TIME = 64
#: Wrong items of a position that count as its hardest.
HARDEST = 10


def gradient_fidelity(
    losses: Mapping[str, LossModule], model: nn.Module, batch: Batch, *, draws: int = 8, seed: int = 0
) -> pd.DataFrame:
    r"""Compare the gradients of losses with those of full cross-entropy at one batch of one model.

    With the gradient g of a loss, drawn anew each time, and cross-entropy's g*, in the outputs and in the item table:

    ===============  =================================================================================================
    cosine           of the angle between g and g*
    error            ``|g - g*| / |g*|``, 0 for cross-entropy itself
    direction        the same at the best length of g, ``sqrt(1 - cosine^2)``: what no learning rate mends
    length           ``|g| / |g*|``
    bias             ``|E g - g*| / |g*|``: what no number of draws averages away
    spread           ``sqrt(E |g - E g|^2) / |g*|``: what is chance
    captured mass    share of the full softmax's mass at the items looked at, targets too, over all positions
    hardest seen     share of the ten wrong items with the largest logits that are looked at
    coverage         share of positions that look at any wrong item
    ===============  =================================================================================================

    ``error`` squared is, on average, ``bias`` squared plus ``spread`` squared. The mean of the draws is itself off by
    chance, a part of the spread; that is taken away from what is called bias.

    The model is as in evaluation, without dropout. Computing what the losses avoid computing, this takes ``N * C``
    numbers several times: it is for catalogs of some ten thousand items and batches of some hundred positions.

    Args:
        losses: by the name they shall have in the table. Their ``generator`` is set anew for each draw.
        model: the encoder, with its ``item_embedding``.
        batch: N positions with targets.
        draws: how often each loss is drawn, at least two.
        seed: of the first draw.

    Returns:
        A row a loss and ``of`` ("outputs" or "items"): loss, kind (its name in ``LOSSES``), of, the measures above,
        each with its ``low`` and ``high`` (95 %, by Student's t over draws; bias and spread have none), ``workspace``
        (bytes) and ``seconds`` (median of a forward and backward pass).

    Raises:
        ValueError: fewer than two draws, or positions without a target.
    """
    if draws < 2:
        raise ValueError(f"draws must be at least 2, to tell chance from bias, got {draws}")
    target = batch.targets
    if not len(target) or (target < 0).any():
        raise ValueError(
            f"the referee takes positions with a target, and at least one: of {len(target)} have none "
            f"{int((target < 0).sum())}"
        )
    outputs, items = _as_evaluated(model, batch)
    exact = _gradients(cross_entropy, outputs, items, target)
    mass = (outputs @ items.T).softmax(dim=1)  # (N, C)
    hardest = mass.scatter(1, target[:, None], -1.0).topk(min(HARDEST, len(items) - 1), dim=1).indices
    rows = []
    for name, loss in losses.items():
        found, seen, seconds, workspace = [], [], [], 0
        for draw in range(draws):
            loss.generator = torch.Generator(outputs.device).manual_seed(seed + draw)
            start = time.perf_counter()
            found.append(_gradients(loss, outputs, items, target))
            seconds.append(time.perf_counter() - start)
            seen.append(_seen(_cells(loss, outputs, items, target, seed + draw), target, mass, hardest))
            if not draw:
                loss.generator.manual_seed(seed)
                workspace = _workspace(loss, outputs, items, target)
        looks = pd.DataFrame(seen)
        cost = {"workspace": workspace, "seconds": statistics.median(seconds)}
        for place, of in enumerate(("outputs", "items")):
            drawn = torch.stack([pair[place].double() for pair in found])  # (draws, ...)
            rows.append(
                {"loss": name, "kind": _kind(loss), "of": of} | _compared(drawn, exact[place].double(), looks) | cost
            )
    return pd.DataFrame(rows)


def ways(names: Iterable[str] = tuple(LOSSES)) -> dict[str, LossModule]:
    """The losses of these names with small, usual and large budgets, by a label that says which.

    What a budget is depends on the loss: the number of negatives (fewer, where each position has its own), or of items
    in a bucket.
    """
    found: dict[str, LossModule] = {}
    for name in names:
        if name not in LOSSES:
            make_loss(name)  # complains of an unknown one
            raise ValueError(f"{name!r} is a preset: its settings are fixed, give gradient_fidelity the loss itself")
        kind = LOSSES[name]
        shared = kind.defaults.get("shared_negatives", True)
        budgets = {"bucket_size_y": (16, 64, 256, 1024)}  # SCE knows negatives, too
        budgets["n_negatives"] = (16, 64, 256, 1024, 4096) if shared is True else (1, 16, 64, 256)
        setting = next((s for s in budgets if s in kind.defaults), None)
        for size in budgets[setting] if setting else (None,):
            label = kind.label if size is None else f"{kind.label}, {size:,}"
            found[label] = make_loss(name, **({} if size is None else {setting: size}))
    return found


def _kind(loss: LossModule) -> str:
    return next((name for name, kind in LOSSES.items() if type(loss) is kind), "")


@torch.no_grad()
def _as_evaluated(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Outputs ``(N, D)`` and items ``(C, D)`` without dropout, of a model that goes on as it was."""
    training = model.training
    outputs = model.eval()(batch.inputs).float()
    model.train(training)
    return outputs, model.item_embedding.detach().float()


def _gradients(loss: Any, outputs: Tensor, items: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Of the mean loss in the outputs ``(N, D)`` and in the items ``(C, D)``."""
    x, w = outputs.clone().requires_grad_(), items.clone().requires_grad_()
    loss(x, w, target, reduction="mean").backward()
    return x.grad, w.grad.to_dense()


def _cells(loss: LossModule, outputs: Tensor, items: Tensor, target: Tensor, draw: int) -> Tensor:
    """Where the gradient of the loss in a logit ``(N, C)`` is not zero.

    In float64, where a model that is sure leaves something of its smallest probabilities.
    """
    n, width = outputs.shape
    outputs, items = outputs.double(), items.double()
    length = outputs.norm(dim=1).mean()
    size = EXTRA * length.where(length > 0, 1.0)
    wide = torch.cat([items, items.new_zeros(len(items), AT_A_TIME)], dim=1)
    looked = torch.empty(n, len(items), dtype=torch.bool, device=items.device)
    for start in range(0, n, AT_A_TIME):
        some = torch.arange(start, min(start + AT_A_TIME, n), device=items.device)
        own = outputs.new_zeros(n, AT_A_TIME)
        own[some, some - start] = size
        loss.generator.manual_seed(draw)  # each time the same draw
        of_items = _gradients(loss, torch.cat([outputs, own], dim=1), wide, target)[1]
        looked[some] = of_items[:, width : width + len(some)].T != 0
    return looked


def _seen(looked: Tensor, target: Tensor, mass: Tensor, hardest: Tensor) -> dict[str, float]:
    """What the cells that are looked at ``(N, C)`` are worth."""
    wrong = looked.scatter(1, target[:, None], False)
    # Who looks at any looks at the target, too, also where its gradient is rounded to 0: where the model is sure.
    looked = looked.scatter(1, target[:, None], wrong.any(dim=1, keepdim=True))
    return {
        "captured mass": float((mass * looked).sum(dim=1).mean()),
        "hardest seen": float(looked.gather(1, hardest).float().mean()),
        "coverage": float(wrong.any(dim=1).float().mean()),
    }


def _workspace(loss: LossModule, outputs: Tensor, items: Tensor, target: Tensor) -> int:
    """Most bytes that the loss holds beyond its inputs and their gradients."""
    x, w = outputs.clone().requires_grad_(), items.clone().requires_grad_()
    counter = LiveBytes()
    counter.know([x, w, target])
    with counter:
        loss(x, w, target, reduction="mean").backward()
    x.grad = w.grad = None
    return largest_workspace(counter.log)


def _compared(drawn: Tensor, exact: Tensor, looks: pd.DataFrame) -> dict[str, float]:
    """The measures of draws ``(draws, ...)`` of a gradient beside the exact one."""
    draws, g, true = len(drawn), drawn.flatten(1), exact.flatten()
    size = true.norm()
    lengths = g.norm(dim=1)
    cosine = (g / lengths.where(lengths > 0, 1.0).unsqueeze(1)) @ (true / size.where(size > 0, 1.0))
    each = pd.DataFrame(
        {
            "cosine": cosine,
            "direction": (1 - cosine.square()).clamp(min=0).sqrt(),
            "error": (g - true).norm(dim=1) / size,
            "length": lengths / size,
        }
    ).join(looks)
    mean = g.mean(dim=0)
    variance = (g - mean).square().sum() / (draws - 1)  # of one draw
    bias = ((mean - true).square().sum() - variance / draws).clamp(min=0).sqrt() / size
    row = {"bias": float(bias), "spread": float(variance.sqrt() / size)}
    reach = stats.t.ppf(0.975, draws - 1) * each.std(ddof=1) / draws**0.5
    for name, value in each.mean().items():
        row |= {name: value, f"{name} low": value - reach[name], f"{name} high": value + reach[name]}
    return row


@torch.no_grad()
def log_sum_bias(loss: LossModule, model: nn.Module, batch: Batch, draws: int = 8) -> list[float]:
    """By how much the logarithm of the loss's sum of ``e^logit`` differs from that over the catalog; a mean a draw.

    That is the loss minus cross-entropy, at the positions that the loss counts. 0: its softmax means what it says. A
    draw that counts none has no mean.

    Raises:
        ValueError: binary cross-entropy, which has no such sum.
    """
    if isinstance(loss, BinaryCrossEntropyLoss):
        raise ValueError(f"{loss.label} has no sum over items: the referee compares the sums of losses with a softmax")
    # With the target out of the denominator the value is no longer that of a sum; with it, it is, of the same one.
    more = {"positive_in_denominator": True} if "positive_in_denominator" in loss.defaults else {}
    outputs, items = _as_evaluated(model, batch)
    exact = cross_entropy(outputs, items, batch.targets, reduction="none")
    found = []
    for draw in range(draws):
        loss.generator = torch.Generator(outputs.device).manual_seed(draw)
        counted = _counted(loss, outputs, items, batch.targets)
        each = loss(outputs, items, batch.targets, reduction="none", **more)
        if counted.any():
            found.append(float((each - exact)[counted].mean()))
    return found


def _counted(loss: LossModule, outputs: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    """Which positions the loss counts in its next draw: those in a bucket, where nothing stands for the other ones.

    Their loss does not say it: it is 0 where the bucket has nothing to compete with the target, too.
    """
    for_rest = getattr(loss, "n_negatives", 0) or getattr(loss, "negatives", None) is not None
    looked = None if for_rest else loss.statistics(outputs, items, targets)
    return torch.ones_like(targets, dtype=torch.bool) if looked is None else looked.covered


def fidelity_while_training(
    trainer: Any, losses: Mapping[str, LossModule], batch: Batch, *, epochs: Iterable[int], draws: int = 8
) -> Iterator[pd.DataFrame]:
    """:func:`gradient_fidelity` before training (epoch 0) and after each of these epochs, with a column ``epoch``.

    Args:
        trainer: a :class:`sce_lab.training.Trainer`; it is trained to the last of ``epochs``, or its own end.
        losses, batch, draws: as in :func:`gradient_fidelity`.
        epochs: at which ends of epochs to look, 0 for the beginning.

    Raises:
        ValueError: training ended before one of them, or was not evaluated there.
    """
    from sce_lab.training import Evaluated

    wanted = set(epochs)
    if 0 in wanted:
        yield gradient_fidelity(losses, trainer.model, batch, draws=draws).assign(epoch=0)
        wanted.discard(0)
    if not wanted:
        return
    for event in trainer.events():
        if isinstance(event, Evaluated) and event.epoch in wanted:
            yield gradient_fidelity(losses, trainer.model, batch, draws=draws).assign(epoch=event.epoch)
            wanted.discard(event.epoch)
            if not wanted:
                return
    raise ValueError(f"training ended before epoch {min(wanted)}: look at earlier ones, or let it go on for longer")
