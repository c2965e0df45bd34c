"""The exercises of the pages on scaling and on the engine: right answers are solved, and wrong ones are told which."""

import pytest
import torch

from sce_lab.explain import check_operations, check_streaming, fill_in, sce_operations
from sce_lab.memory import count_work
from sce_lab.training import TrainingConfig


def operations(N, C, D, n_b, b_x, b_y):
    return 2 * n_b * (N + C) * D + 2 * n_b * b_x * b_y * D


def test_operations_written_right_are_solved():
    assert check_operations(operations).solved
    assert check_operations(lambda *sizes: float(operations(*sizes))).solved


def test_what_is_asked_for_is_what_the_code_does():
    """The library's own count of a forward pass, which adds the logits of the targets and no more."""
    sizes = {"n_buckets": 40, "bucket_size_x": 50, "bucket_size_y": 128}
    config = TrainingConfig(loss="sce", loss_settings=sizes, batch_size=32, max_length=20)
    for items in (10_000, 1_000_000):
        counted = count_work(config, items).operations.query("phase == 'loss_forward'")["flops"].sum()
        assert counted == pytest.approx(sce_operations(640, items, 64, *sizes.values()), rel=0.02)


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (lambda N, C, D, n, x, y: 2 * n * C * D + 2 * n * x * y * D, "its positions, too"),
        (lambda N, C, D, n, x, y: 2 * n * N * D + 2 * n * x * y * D, "its items, too"),
        (lambda N, C, D, n, x, y: 2 * n * N * C * D + 2 * n * x * y * D, "every position with every item"),
        (lambda N, C, D, n, x, y: n * (N + C) * D + n * x * y * D, "two operations each"),
        (lambda N, C, D, n, x, y: 2 * n * (N + C) + 2 * n * x * y, "The D is missing"),
        (lambda N, C, D, n, x, y: 2 * n * (N + C) * D + 2 * x * y * D, "There are n_b buckets"),
        (lambda N, C, D, n, x, y: 2 * n * (N + C) * D + 2 * n * (x + y) * D, "not their sum"),
        (lambda *_: fill_in(1), "Line 1 is still to be filled in."),
        (lambda *_: 17, "It gives 17"),
    ],
)
def test_operations_with_a_mistake_are_told_which(mistake, says):
    verdict = check_operations(mistake)
    assert not verdict.solved
    assert says in verdict.feedback


def streaming(m, s, tile, *, shift="new", old="rescaled"):
    new = torch.maximum(m, tile.amax(dim=1))
    by = {"new": new[:, None], "tile": tile.amax(dim=1, keepdim=True)}[shift]
    kept = {"rescaled": s * (m - new).exp(), "plain": s, "lost": 0 * s, "turned": s * (new - m).exp()}[old]
    return new, kept + (tile - by).exp().sum(dim=1)


def test_streaming_written_right_is_solved():
    assert check_streaming(streaming).solved

    def by_logaddexp(m, s, tile):  # another way to the same two numbers
        new = torch.maximum(m, tile.amax(dim=1))
        total = torch.logaddexp(m + s.log(), tile.logsumexp(dim=1))
        return new, (total - new).exp()

    assert check_streaming(by_logaddexp).solved


@pytest.mark.parametrize(
    ("update", "says"),
    [
        (lambda m, s, t: streaming(m, s, t, old="plain"), "added as it stands"),
        (lambda m, s, t: streaming(m, s, t, old="lost"), "old sum is lost"),
        (lambda m, s, t: streaming(m, s, t, old="turned"), "the other way round"),
        (lambda m, s, t: streaming(m, s, t, shift="tile"), "shifted by its own largest"),
        (lambda m, s, t: (0 * s, s + t.exp().sum(dim=1)), "overflows"),
        (lambda *_: fill_in(2), "Line 2 is still to be filled in."),
        (lambda m, s, t: m, "It stopped with"),
    ],
)
def test_streaming_with_a_mistake_is_told_which(update, says):
    verdict = check_streaming(update)
    assert not verdict.solved
    assert says in verdict.feedback
