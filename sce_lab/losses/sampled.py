"""Sampled softmax: the sum over the catalog is estimated from a few negatives."""

from math import log, log1p
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .common import RowLookup, accumulation_dtype, check_positive, check_reduction, flatten_inputs, reduce_losses

SAMPLINGS = ("uniform", "log_uniform", "popularity", "in_batch")


class Negatives(NamedTuple):
    """Drawn negatives, ``(n,)`` shared by all positions or ``(N, n)``; the three tensors have one shape."""

    items: Tensor
    log_expected: Tensor  # log of how often the item is expected among the draws that are not its own target
    usable: Tensor | None = None  # False: not a negative at all (in-batch draws of a position without a target)


def sampled_softmax(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    n_negatives: int = 256,
    sampling: str = "uniform",
    item_counts: Tensor | None = None,
    exponent: float = 0.75,
    shared_negatives: bool = True,
    logq_correction: bool = True,
    negatives: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
    sparse_grad: bool = False,
) -> Tensor:
    r"""Softmax cross-entropy of the target against sampled negatives.

    .. math:: \ell_n = -x_n \cdot w_t + \log \Big( e^{x_n \cdot w_t}
              + \sum_{j=1}^{k} [i_j \ne t] \, e^{x_n \cdot w_{i_j} - \log k Q(i_j)} \Big), \qquad i_j \sim Q

    What the correction means, exactly. The ``k`` negatives are independent draws, with replacement, from Q over the
    *whole* catalog, target included. A draw that hits the target is dropped, and ``k`` is not reduced for it. Item i
    is then expected ``k Q(i)`` times, so dividing its ``exp`` by ``k Q(i)`` makes the inner sum an unbiased estimate
    of the sum over all items but the target. The target itself is always there and is not corrected. The
    logarithm of an unbiased estimate lies a little low, by O(1 / k): as k grows the loss converges to cross-entropy.
    Without the correction the loss is a softmax over the drawn items as they come.

    The proposals Q:

    - ``"uniform"``: every item alike, ``Q = 1 / C``;
    - ``"log_uniform"``: Zipf over the popularity rank r = 0..C-1, ``Q = log((r + 2) / (r + 1)) / log(C + 1)``;
    - ``"popularity"``: ``Q`` proportional to ``max(count, 1) ** exponent``. An item that could never be drawn would be
      missing from the estimate, hence no count below one;
    - ``"in_batch"``: the targets of ``min(n_negatives, N)`` other positions, drawn without replacement. They follow
      the popularity of the training data, so with ``item_counts`` Q is that popularity, over all batches. Without
      ``item_counts`` Q is the frequency within the batch, and the estimate is of the sum over the batch's items only.
      At one position its own draw can never count, so ``k`` is the number drawn times ``(N - 1) / N``.

    Memory: ``N * (n_negatives + 1)`` logits a few times over. ``shared_negatives=False`` also gathers
    ``N * n_negatives * D`` numbers of item embeddings.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        n_negatives: draws, k; for each position anew when they are not shared.
        sampling: the proposal Q, see above.
        item_counts: ``(C,)`` training count of each item.
        exponent: flattens the popularity (``"popularity"`` only): 0 is uniform, 1 the popularity itself.
        shared_negatives: one set of negatives for the whole batch, or one for each position.
        logq_correction: subtract ``log k Q(i)`` from the logits of negatives.
        negatives: use these items, ``(k,)`` or ``(..., k)`` after the shape of ``target``, as if drawn from Q.
        ignore_index: target value of positions that have no target.
        reduction: ``"none"`` (shape of ``target``, 0 where ignored), ``"mean"`` over the targets, or ``"sum"``.
        generator: source of the randomness, torch's global one by default.
        sparse_grad: give ``linear_weight`` a row-sparse gradient: a row for each target and each draw.

    Returns:
        The loss: float32 for half-precision inputs and under autocast, the input's dtype otherwise. A batch
        without any target gives 0, which back-propagates zeros.

    Raises:
        ValueError: a setting, named with its value, that is out of range or misses what it needs.

    Source: Bengio and Senecal, "Adaptive importance sampling to accelerate training of a neural probabilistic
    language model", 2008 (importance sampling of the partition function); Yi et al., "Sampling-bias-corrected
    neural modeling for large corpus item recommendations", RecSys 2019 (in-batch).
    """
    proposal = Proposal(sampling, len(linear_weight), item_counts, exponent)
    return _sampled_softmax(
        input,
        linear_weight,
        target,
        proposal,
        n_negatives,
        shared_negatives,
        logq_correction,
        negatives,
        ignore_index,
        reduction,
        generator,
        sparse_grad,
    )


def _sampled_softmax(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    proposal: "Proposal",
    n_negatives: int,
    shared_negatives: bool,
    logq_correction: bool,
    negatives: Tensor | None,
    ignore_index: int,
    reduction: str,
    generator: torch.Generator | None,
    sparse_grad: bool,
) -> Tensor:
    """The loss itself, with the proposal prepared (the module prepares it once for all steps)."""
    check_reduction(reduction)
    outputs, labels, valid = flatten_inputs(input, linear_weight, target, ignore_index)
    n_positions = len(outputs)

    if negatives is not None:
        drawn = proposal.given(negatives, target.shape)
    elif proposal.sampling == "in_batch":
        if not shared_negatives:
            raise ValueError('shared_negatives=False does not go with sampling="in_batch": it has one batch only')
        drawn = proposal.draw_targets(labels, valid, check_positive("n_negatives", n_negatives), generator)
    else:
        k = check_positive("n_negatives", n_negatives)
        drawn = proposal.draw((k,) if shared_negatives else (n_positions, k), input.device, generator)

    # One lookup for both: two would each leave a dense (C, D) gradient to be added up.
    index = torch.cat([labels, drawn.items.flatten()])
    rows = RowLookup.apply(linear_weight, index) if sparse_grad else F.embedding(index, linear_weight)
    targets, negative_items = rows.split([n_positions, drawn.items.numel()])  # (N, D)
    negative_items = negative_items.view(*drawn.items.shape, rows.shape[1])  # (k, D) or (N, k, D)
    dtype = accumulation_dtype(torch.promote_types(outputs.dtype, rows.dtype))
    target_logits = torch.linalg.vecdot(outputs.to(dtype), targets.to(dtype))  # (N,)
    if drawn.items.dim() == 1:
        logits = F.linear(outputs, negative_items)  # (N, k)
    else:
        logits = torch.matmul(negative_items, outputs.unsqueeze(2)).squeeze(2)  # (N, k)

    logits = logits.to(dtype)
    if logq_correction:
        logits = logits - drawn.log_expected.to(dtype)
    not_negative = drawn.items == labels.unsqueeze(1)  # accidental hits, (N, k)
    if drawn.usable is not None:
        not_negative = not_negative | ~drawn.usable
    logits = logits.masked_fill(not_negative, -torch.inf)

    losses = torch.cat([target_logits.unsqueeze(1), logits], dim=1).logsumexp(dim=1) - target_logits  # (N,)
    return reduce_losses(losses, valid, target.shape, reduction)


class Proposal:
    """The distribution Q over items 0..C-1 that negatives are drawn from; prepared once, drawing is cheap."""

    def __init__(
        self, sampling: str, catalog_size: int, item_counts: Tensor | None = None, exponent: float = 0.75
    ) -> None:
        """Raise a ValueError for an unknown ``sampling``, and for ``item_counts`` that are missing or misfit."""
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, got {sampling!r}")
        if item_counts is None and sampling in ("log_uniform", "popularity"):
            raise ValueError(f"sampling={sampling!r} needs item_counts, the training count of each item")
        if item_counts is not None and tuple(item_counts.shape) != (catalog_size,):
            raise ValueError(
                f"item_counts must hold one count for each of the {catalog_size} items, shape ({catalog_size},), "
                f"got shape {tuple(item_counts.shape)}"
            )
        self.sampling = sampling
        self.catalog_size = catalog_size
        self.has_counts = item_counts is not None
        if sampling == "log_uniform":
            self.item_at_rank = torch.argsort(item_counts, descending=True, stable=True)  # (C,)
            self.rank_of_item = torch.argsort(self.item_at_rank)  # (C,)
        elif sampling == "popularity" or (sampling == "in_batch" and self.has_counts):
            weights = item_counts.double().clamp(min=1)
            weights = weights.pow(exponent) if sampling == "popularity" else weights
            self.cumulative = weights.cumsum(0) / weights.sum()  # (C,)
            self.log_q = (weights / weights.sum()).log()  # (C,)

    def log_probability(self, items: Tensor) -> Tensor:
        """``log Q(i)`` of each of the ``items``."""
        if self.sampling == "uniform":
            return torch.full(items.shape, -log(self.catalog_size), device=items.device, dtype=torch.float64)
        if self.sampling == "log_uniform":
            rank = self.rank_of_item.to(items.device)[items].double()
            return (torch.log1p(1 / (rank + 1)) / log1p(self.catalog_size)).log()
        return self.log_q.to(items.device)[items]

    def draw(self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Negatives:
        """Independent draws from Q."""
        where = device if generator is None else generator.device
        if self.sampling == "uniform":
            items = torch.randint(self.catalog_size, shape, generator=generator, device=where).to(device)
        else:  # invert the distribution function at uniform random numbers
            u = torch.rand(shape, generator=generator, device=where, dtype=torch.float64).to(device)
            if self.sampling == "log_uniform":  # P(rank < r) = log(r + 1) / log(C + 1)
                rank = torch.exp(u * log1p(self.catalog_size)).long() - 1
                items = self.item_at_rank.to(device)[rank.clamp(max=self.catalog_size - 1)]
            else:
                items = torch.searchsorted(self.cumulative.to(device), u, right=True)
                items = items.clamp(max=self.catalog_size - 1)
        return Negatives(items, log(shape[-1]) + self.log_probability(items))

    def draw_targets(
        self, labels: Tensor, valid: Tensor, n_negatives: int, generator: torch.Generator | None
    ) -> Negatives:
        """Targets ``(n,)`` of up to ``n_negatives`` different positions of the batch."""
        device = labels.device if generator is None else generator.device
        n_valid = valid.sum()
        keys = torch.rand(labels.shape, generator=generator, device=device).to(labels.device)
        keys = keys.masked_fill(~valid, -1.0)  # last, so taken only when nothing else is left
        positions = keys.topk(min(n_negatives, len(labels))).indices
        items, usable = labels[positions], valid[positions]
        n_drawn = usable.sum().double()
        if self.has_counts:
            others = n_drawn * (n_valid - 1) / n_valid.clamp(min=1)  # the draw of one's own target never counts
            log_expected = others.clamp(min=1e-9).log() + self.log_probability(items)
        else:
            batch = labels.masked_fill(~valid, -1).sort().values
            count = torch.searchsorted(batch, items, right=True) - torch.searchsorted(batch, items)
            log_expected = (n_drawn * count / n_valid.clamp(min=1)).clamp(min=1e-9).log()
        return Negatives(items, log_expected, usable)

    def given(self, negatives: Tensor, target_shape: torch.Size) -> Negatives:
        """Negatives that somebody else drew from Q."""
        if self.sampling == "in_batch":
            raise ValueError('negatives do not go with sampling="in_batch", which takes them from the batch')
        if negatives.dim() != 1:
            if negatives.shape[:-1] != target_shape:
                raise ValueError(
                    f"negatives must be (k,) or {(*target_shape, 'k')}, got shape {tuple(negatives.shape)}"
                )
            negatives = negatives.reshape(-1, negatives.shape[-1])
        return Negatives(negatives, log(negatives.shape[-1]) + self.log_probability(negatives))


class SampledSoftmaxLoss(nn.Module):
    """Module around :func:`sampled_softmax`; its settings are plain attributes that may change between steps.

    ``item_counts`` is a buffer that moves with the module and stays out of its ``state_dict``.
    """

    label: ClassVar[str] = "Sampled softmax"

    def __init__(
        self,
        *,
        n_negatives: int = 256,
        sampling: str = "uniform",
        item_counts: Tensor | None = None,
        exponent: float = 0.75,
        shared_negatives: bool = True,
        logq_correction: bool = True,
        ignore_index: int = -100,
        reduction: str = "mean",
        generator: torch.Generator | None = None,
        sparse_grad: bool = False,
    ) -> None:
        """See :func:`sampled_softmax` for the settings and the errors."""
        super().__init__()
        check_positive("n_negatives", n_negatives)
        check_reduction(reduction)
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, got {sampling!r}")
        self.n_negatives = n_negatives
        self.sampling = sampling
        self.exponent = exponent
        self.shared_negatives = shared_negatives
        self.logq_correction = logq_correction
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.generator = generator
        self.sparse_grad = sparse_grad
        self.register_buffer("item_counts", item_counts, persistent=False)
        self._prepared: tuple[tuple, Tensor | None, Proposal] | None = None

    def proposal(self, catalog_size: int) -> Proposal:
        """The proposal of the present settings, prepared again only when they changed."""
        counts = self.item_counts
        key = (
            self.sampling,
            self.exponent,
            catalog_size,
            id(counts),
            None if counts is None else counts._version,
        )
        if self._prepared is None or self._prepared[0] != key:  # counts are kept so that their id stays theirs
            self._prepared = key, counts, Proposal(self.sampling, catalog_size, counts, self.exponent)
        return self._prepared[2]

    def forward(self, input: Tensor, linear_weight: Tensor, target: Tensor) -> Tensor:
        """Loss of ``input (..., D)`` against ``target (...)`` over the catalog ``linear_weight (C, D)``."""
        return _sampled_softmax(
            input,
            linear_weight,
            target,
            self.proposal(len(linear_weight)),
            self.n_negatives,
            self.shared_negatives,
            self.logq_correction,
            negatives=None,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            generator=self.generator,
            sparse_grad=self.sparse_grad,
        )

    def extra_repr(self) -> str:
        """The settings, for ``print(loss)``."""
        return f"n_negatives={self.n_negatives}, sampling={self.sampling!r}, shared={self.shared_negatives}"
