"""Exercises that are checked: what a reader wrote is compared with what is right, and with the usual mistakes."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """Whether an exercise is solved, and a sentence or two about it."""

    solved: bool
    feedback: str

    def __str__(self) -> str:
        return ("Solved. " if self.solved else "Not yet. ") + self.feedback

    def _repr_html_(self) -> str:
        color, word = ("#009e73", "Solved.") if self.solved else ("#d55e00", "Not yet.")
        style = f"border-left: 4px solid {color}; padding: 6px 12px; margin: 4px 0; font-size: 14px; line-height: 20px"
        return f'<div style="{style}"><b>{word}</b> {html.escape(self.feedback)}</div>'


def fill_in(line: int) -> Any:
    """Stands where a line of an exercise is missing.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(f"line {line} is still to be filled in")


def compare(
    answer: Callable[[], Any], right: Tensor, mistakes: Mapping[str, Tensor], unknown: str, *, gradient: str = ""
) -> Verdict:
    """Call ``answer`` and say what its value is: ``right``, one of the ``mistakes`` (by what to say), or ``unknown``.

    Args:
        answer: what the reader wrote, with its arguments.
        right: the right value, a scalar.
        mistakes: the value of each usual mistake, by the sentence about it; the first that fits is told.
        unknown: said of any other number.
        gradient: said if the right value cannot be back-propagated; empty: it need not be.
    """
    try:
        value = answer()
    except NotImplementedError as error:
        return Verdict(False, f"{str(error).capitalize()}.")
    except Exception as error:
        return Verdict(False, f"It stopped with {type(error).__name__}: {error}. {unknown}")
    if not isinstance(value, Tensor | float | int) or isinstance(value, bool):
        return Verdict(False, f"It must return the loss, one number, and returned {type(value).__name__}.")
    value, right = torch.as_tensor(value, dtype=right.dtype), right.detach()
    if value.numel() != 1:
        return Verdict(
            False, f"It must return the mean, one number, and returned a tensor of shape {tuple(value.shape)}."
        )
    if _close(value, right):
        if gradient and not value.requires_grad:
            return Verdict(False, gradient)
        return Verdict(True, f"It is {float(right):.4f}, as the library's.")
    for sentence, wrong in mistakes.items():
        if _close(value, wrong):
            return Verdict(False, sentence)
    return Verdict(False, f"It gives {float(value.detach()):.4f}, and {float(right):.4f} is right. {unknown}")


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.detach().reshape(()), other.detach().reshape(()), rtol=1e-4, atol=1e-6, equal_nan=True)


def check_sce(function: Callable[..., Tensor]) -> Verdict:
    """Check ``function(X, W, target, B, b_x, b_y)``: SCE with the bucket centres ``B``, mean over covered positions."""
    generator = torch.Generator().manual_seed(7)
    x, w, centers = (torch.randn(n, 6, generator=generator) for n in (40, 90, 7))
    # Many targets lie in their position's bucket, so that forgetting to mask them shows.
    target = (x @ w.T).topk(3, dim=1).indices[torch.arange(40), torch.arange(40) % 3]
    x.requires_grad_()

    def variant(**mistake: str) -> Tensor:
        return _sce(x, w, target, centers, 9, 15, **mistake)

    mistakes = {
        "Each bucket takes the positions with the smallest scores; it wants the largest.": variant(rows="smallest"),
        "A target that is also among the bucket's items counts twice: set its logit in the bucket to -inf.": variant(
            mask="none"
        ),
        "The target's logit is set to 0 in the bucket, and exp(0) = 1 still counts. What counts as nothing is "
        "-inf.": variant(mask="zero"),
        "A position keeps its smallest loss; it must keep the largest.": variant(keep="amin"),
        "The losses of a position in several buckets are added up; it must keep the largest.": variant(keep="sum"),
        "The losses of a position in several buckets are averaged; it must keep the largest.": variant(keep="mean"),
        "Positions in no bucket count with a loss of 0 in the mean: it is over covered positions only.": variant(
            over="all"
        ),
        "Positions in no bucket still have a loss of -inf when the mean is taken: leave them out.": torch.tensor(
            -torch.inf
        ),
        "There is a not-a-number in it. Softmax of nothing but -inf, or -inf times 0?": torch.tensor(torch.nan),
    }
    unknown = (
        "Print the shapes: rows (n_b, b_x), items (n_b, b_y), logits (n_b, b_x, b_y), slot (n_b, b_x), losses (N,)."
    )
    return compare(
        lambda: function(x, w, target, centers, 9, 15),
        variant(),
        mistakes,
        unknown,
        gradient="The value is right, but no gradient flows back from it: is something detached, or under no_grad?",
    )


def _sce(
    x: Tensor,
    w: Tensor,
    target: Tensor,
    centers: Tensor,
    b_x: int,
    b_y: int,
    rows: str = "largest",
    mask: str = "inf",
    keep: str = "amax",
    over: str = "covered",
) -> Tensor:
    """SCE, or with one mistake."""
    taken = (centers @ x.T).topk(b_x, dim=1, largest=rows == "largest").indices  # (n_b, b_x)
    items = (centers @ w.T).topk(b_y, dim=1).indices  # (n_b, b_y)
    logits = x[taken] @ w[items].mT  # (n_b, b_x, b_y)
    own = (x * w[target]).sum(dim=1)[taken]  # (n_b, b_x)
    if mask != "none":
        is_target = target[taken].unsqueeze(2) == items.unsqueeze(1)
        logits = logits.masked_fill(is_target, {"inf": -torch.inf, "zero": 0.0}[mask])
    slots = torch.cat([own.unsqueeze(2), logits], dim=2).logsumexp(dim=2) - own  # (n_b, b_x)
    start = -torch.inf if keep == "amax" else torch.inf if keep == "amin" else 0.0
    losses = torch.full((len(x),), start).scatter_reduce(
        0, taken.flatten(), slots.flatten(), keep, include_self=keep in ("amax", "amin")
    )  # (N,)
    covered = torch.zeros(len(x), dtype=torch.bool).index_fill(0, taken.flatten(), True)
    return losses[covered].sum() / (covered.sum() if over == "covered" else len(x))


def check_sampled(function: Callable[..., Tensor]) -> Verdict:
    """Check ``function(target_logit, logits, q)``: the corrected loss of one position.

    ``logits (k,)`` are those of the negatives, drawn with probabilities ``q (k,)``; none of them is the target.
    """
    generator = torch.Generator().manual_seed(3)
    target_logit, logits = torch.tensor(1.3), 2 * torch.randn(8, generator=generator)
    q = torch.rand(8, generator=generator) / 20
    k = len(q)

    def loss(offsets: Tensor | float, own: Tensor = target_logit, with_target: bool = True) -> Tensor:
        terms = logits - offsets
        return (torch.cat([own[None], terms]) if with_target else terms).logsumexp(dim=0) - own

    mistakes = {
        "Nothing is corrected: this is the softmax over the drawn items as they come.": loss(0.0),
        "The correction has the wrong sign: an item that is drawn often must count less.": loss(-(k * q).log()),
        "It is corrected by q alone. With k draws an item is expected k q times.": loss(q.log()),
        "It is corrected by k alone. Items are not equally likely: each has its own q.": loss(
            torch.full((k,), float(k)).log()
        ),
        "k q is subtracted from the logit. To divide exp(logit) by it, subtract its logarithm.": loss(k * q),
        "The target is missing from the sum: it is always there, and is not corrected.": loss(
            (k * q).log(), with_target=False
        ),
    }
    unknown = (
        "The sum is exp(target_logit) + sum of exp(logits - log(k q)); the loss is its logarithm less target_logit."
    )
    return compare(lambda: function(target_logit, logits, q), loss((k * q).log()), mistakes, unknown)
