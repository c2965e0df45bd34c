"""The losses in float64 with explicit loops and hand-made gradients. Shares nothing with the library."""

import itertools

import numpy as np


def log_sum_exp(values):
    largest = max(values)
    return largest + np.log(sum(np.exp(value - largest) for value in values))


def score(x, w):
    """Inner product and its derivative: tests of capped logits put another in its place."""
    return x @ w, 1.0


def softmax_loss(x, weight, target, negatives, offsets=None, bias=None):
    """Loss of one position, its gradient in x, and its gradient in the rows of weight as {row: gradient}.

    ``negatives`` are rows of weight, possibly repeated; those equal to the target do not count.
    ``offsets`` are subtracted from their logits; ``bias``, one for each item, is added to all.
    """
    bias = np.zeros(len(weight)) if bias is None else bias
    kept = [j for j, item in enumerate(negatives) if item != target]
    own, slope = score(x, weight[target])
    logits, slopes = [own + bias[target]], [slope]
    for j in kept:
        value, slope = score(x, weight[negatives[j]])
        logits.append(value + bias[negatives[j]] - (0.0 if offsets is None else offsets[j]))
        slopes.append(slope)
    log_z = log_sum_exp(logits)
    grad_x, grad_rows = -slopes[0] * weight[target], {target: -slopes[0] * x}
    for item, logit, slope in zip([target, *[negatives[j] for j in kept]], logits, slopes):
        p = np.exp(logit - log_z) * slope
        grad_x += p * weight[item]
        grad_rows[item] = grad_rows.get(item, 0.0) + p * x
    return log_z - logits[0], grad_x, grad_rows


def largest(scores, k):
    """Indices of the k largest of a list."""
    return sorted(range(len(scores)), key=lambda i: -scores[i])[:k]


def buckets(outputs, weight, valid, centers, size_x, size_y):
    """Which positions and items each bucket takes, as lists of sets."""
    rows, items = [], []
    for center in centers:
        usable = [n for n in range(len(outputs)) if valid[n]]
        scores = [outputs[n] @ center for n in usable]
        rows.append({usable[i] for i in largest(scores, size_x)})
        items.append(set(largest([w @ center for w in weight], size_y)))
    return rows, items


class Result:
    """Per-position losses (0 where there is none), which positions count, and gradients of the sum and the mean."""

    def __init__(self, outputs, weight):
        self.losses = np.zeros(len(outputs))
        self.counted = np.zeros(len(outputs), dtype=bool)
        self.total = None  # what a mean divides by, if not the number of those that count
        self.grad_outputs, self.grad_weight = np.zeros_like(outputs), np.zeros_like(weight)

    def add(self, n, loss, grad_x, grad_rows):
        self.losses[n], self.counted[n] = loss, True
        self.grad_outputs[n] = grad_x
        for item, gradient in grad_rows.items():
            self.grad_weight[item] += gradient

    def reduced(self, reduction):
        """Loss and the gradients of its sum."""
        if reduction == "none":
            return self.losses, self.grad_outputs, self.grad_weight
        total = self.counted.sum() if self.total is None else self.total
        scale = 1.0 / (total or 1) if reduction == "mean" else 1.0
        return self.losses.sum() * scale, self.grad_outputs * scale, self.grad_weight * scale


def cross_entropy(outputs, weight, target, ignore_index=-100):
    result = Result(outputs, weight)
    for n, t in enumerate(target):
        if t != ignore_index:
            result.add(n, *softmax_loss(outputs[n], weight, t, range(len(weight))))
    return result


def sampled_softmax(outputs, weight, target, negatives, offsets, ignore_index=-100):
    """``negatives`` and ``offsets``: one list for each position."""
    result = Result(outputs, weight)
    for n, t in enumerate(target):
        if t != ignore_index:
            result.add(n, *softmax_loss(outputs[n], weight, t, negatives[n], offsets[n]))
    return result


def scalable_cross_entropy(outputs, weight, target, rows, items, ignore_index=-100):
    """``rows`` and ``items`` of each bucket, any iterables."""
    result = Result(outputs, weight)
    for n, t in enumerate(target):
        if t == ignore_index:
            continue
        slots = [softmax_loss(outputs[n], weight, t, sorted(items[b])) for b in range(len(rows)) if n in set(rows[b])]
        if slots:
            result.add(n, *max(slots, key=lambda slot: slot[0]))
    return result


def statistics(outputs, weight, target, rows, items, ignore_index=-100):
    valid = [n for n in range(len(target)) if target[n] != ignore_index]
    slots = [(b, n) for b in range(len(rows)) for n in rows[b] if n in valid]
    covered = sorted({n for _, n in slots})
    if not covered:
        return {"coverage": 0.0, "slots_per_position": 0.0, "target_in_bucket": 0.0, "captured_mass": 0.0}
    masses = []
    for n in covered:
        loss_of = {b: softmax_loss(outputs[n], weight, target[n], sorted(items[b]))[0] for b, m in slots if m == n}
        best = max(loss_of, key=loss_of.get)
        exps = np.exp(weight @ outputs[n])
        masses.append(sum(exps[i] for i in items[best]) / exps.sum())
    return {
        "coverage": len(covered) / len(valid),
        "slots_per_position": len(slots) / len(covered),
        "target_in_bucket": sum(target[n] in items[b] for b, n in slots) / len(slots),
        "captured_mass": float(np.mean(masses)),
    }


def binary_cross_entropy(outputs, weight, target, negatives, beta, ignore_index=-100):
    """``negatives``: one list for each position; ``beta`` is the exponent of the positive's probability."""
    result = Result(outputs, weight)
    for n, t in enumerate(target):
        if t == ignore_index:
            continue
        x, loss, grad_x, grad_rows = outputs[n], 0.0, 0.0, {}
        for item, is_target in [(t, True), *((i, False) for i in negatives[n] if i != t)]:
            score = x @ weight[item]
            signed = -score if is_target else score
            factor = beta if is_target else 1.0
            loss += factor * np.logaddexp(0.0, signed)
            slope = factor / (1 + np.exp(-signed)) * (-1.0 if is_target else 1.0)
            grad_x = grad_x + slope * weight[item]
            grad_rows[item] = grad_rows.get(item, 0.0) + slope * x
        result.add(n, loss, grad_x, grad_rows)
    return result


def smoothed_cross_entropy(outputs, weight, target, class_weights, smoothing, ignore_index=-100):
    """As ``torch.nn.functional.cross_entropy`` defines it; the mean is over the class weights of the targets."""
    result, n_items = Result(outputs, weight), len(weight)
    result.total = sum(class_weights[t] for t in target if t != ignore_index)
    for n, t in enumerate(target):
        if t == ignore_index:
            continue
        logits, slopes = zip(*(score(outputs[n], w) for w in weight))
        log_z = log_sum_exp(logits)
        ask = [smoothing * u / n_items for u in class_weights]  # how much of each item's log-probability
        ask[t] += (1 - smoothing) * class_weights[t]
        loss = sum(a * (log_z - s) for a, s in zip(ask, logits))
        in_logits = [(np.exp(s - log_z) * sum(ask) - a) * slope for a, s, slope in zip(ask, logits, slopes)]
        grad_x = sum(g * w for g, w in zip(in_logits, weight))
        result.add(n, loss, grad_x, {i: g * outputs[n] for i, g in enumerate(in_logits)})
    return result


def unsure_sampled_softmax(outputs, weight, target, negatives, offsets, ignore_index=-100):
    """The target is not in the denominator; a factor 1 - p of the target, without a gradient, is before the loss."""
    result = Result(outputs, weight)
    for n, t in enumerate(target):
        if t == ignore_index:
            continue
        x, kept = outputs[n], [j for j, item in enumerate(negatives[n]) if item != t]
        if not kept:
            result.add(n, 0.0, np.zeros_like(x), {})
            continue
        scores, slopes = zip(*(score(x, weight[negatives[n][j]]) for j in kept))
        logits, (own, slope) = [s - offsets[n][j] for s, j in zip(scores, kept)], score(x, weight[t])
        log_others = log_sum_exp(logits)
        unsure = 1 - 1 / (1 + np.exp(log_others - own))
        grad_x, grad_rows = -unsure * slope * weight[t], {t: -unsure * slope * x}
        for j, logit, slope in zip(kept, logits, slopes):
            q, item = unsure * np.exp(logit - log_others) * slope, negatives[n][j]
            grad_x = grad_x + q * weight[item]
            grad_rows[item] = grad_rows.get(item, 0.0) + q * x
        result.add(n, unsure * (log_others - own), grad_x, grad_rows)
    return result


def union_of_buckets(outputs, weight, target, rows, items, drawn=(), for_all=False, ignore_index=-100):
    """Softmax over the distinct items of a position's buckets, and over ``drawn`` ones that stand for all others."""
    result, offset = Result(outputs, weight), np.log(max(len(drawn), 1) / len(weight))
    for n, t in enumerate(target):
        if t == ignore_index:
            continue
        mine = [b for b in range(len(rows)) if n in set(rows[b])]
        near = sorted({i for b in mine for i in items[b]})
        others = [i for i in drawn if i not in near] if for_all or not mine else []
        if mine or len(drawn):
            offsets = [0.0] * len(near) + [offset] * len(others)
            result.add(n, *softmax_loss(outputs[n], weight, t, near + others, offsets))
    return result


def moved_centers(outputs, valid, centers, steps):
    """Spherical k-means from these centres."""
    centers = [c / np.sqrt(c @ c) for c in centers]
    for _ in range(steps):
        members = [[] for _ in centers]
        for n, x in enumerate(outputs):
            if valid[n]:
                members[int(np.argmax([x @ c for c in centers]))].append(x / np.sqrt(x @ x))
        for b, mine in enumerate(members):
            if mine and np.any(sum(mine) != 0):
                centers[b] = sum(mine) / np.sqrt(sum(mine) @ sum(mine))
    return centers


def chunks(n_chunks, order):
    """Consecutive parts of a list, as equal as can be."""
    bounds = [(2 * c * len(order) + n_chunks) // (2 * n_chunks) for c in range(n_chunks + 1)]
    return [order[begin:end] for begin, end in itertools.pairwise(bounds)]


def reduced_cross_entropy(outputs, weight, target, centers, n_extra, ignore_index=-100):
    """``centers``: of each round the directions."""
    near = [set() for _ in target]
    for directions in centers:
        best = [
            sorted(range(len(vectors)), key=lambda n, v=vectors: (int(np.argmax([v[n] @ c for c in directions])), n))
            for vectors in (outputs, weight)
        ]
        positions = chunks(len(directions), [n for n in best[0] if target[n] != ignore_index])
        items = chunks(len(directions), best[1])
        for c, mine in enumerate(positions):
            for n in mine:
                near[n] |= {i for part in items[max(c - n_extra, 0) : c + n_extra + 1] for i in part}
    result = Result(outputs, weight)
    for n, t in enumerate(target):
        if t != ignore_index:
            result.add(n, *softmax_loss(outputs[n], weight, t, sorted(near[n])))
    return result
