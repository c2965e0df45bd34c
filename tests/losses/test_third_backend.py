"""Another backend is one class and one line: every loss of the engine takes it by its name."""

import pytest
import torch
from problems import make_problem

from sce_lab.losses import cross_entropy, sampled_softmax, scalable_cross_entropy
from sce_lab.losses.engine.backend import BACKENDS
from sce_lab.losses.engine.torch_backend import TorchBackend

CENTERS = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LOSSES = {
    "cce": lambda *arguments, **how: cross_entropy(*arguments, hold_logits=False, reduction="none", **how),
    "sampled": lambda *arguments, **how: sampled_softmax(
        *arguments, negatives=torch.arange(9), reduction="none", **how
    ),
    "sce": lambda *arguments, **how: scalable_cross_entropy(
        *arguments, n_buckets=4, bucket_size_x=8, bucket_size_y=10, centers=CENTERS, reduction="none", **how
    ),
}


class Written(TorchBackend):
    """Scores and logits written down, position by position; the rest is left to PyTorch's."""

    name = "written"

    def topk(self, queries, table, k, allowed, workspace_bytes):
        scores = queries @ table.T
        return (scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)).topk(k).indices

    def log_negatives(self, problem, plan, distinct=False):
        outputs, table, labels, _, (rows, items, bias) = problem[:5]
        everywhere = torch.arange(len(outputs)).unsqueeze(0) if rows is None else rows
        chosen = torch.arange(len(table)).unsqueeze(0) if items is None else items
        logits = torch.einsum("bxd,byd->bxy", outputs[everywhere], table[chosen])
        logits = logits if bias is None else logits + bias.unsqueeze(1)
        logits = logits.masked_fill(labels[everywhere].unsqueeze(2) == chosen.unsqueeze(1), -torch.inf)
        return logits.logsumexp(2).squeeze(0) if rows is None else logits.logsumexp(2)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_third_backend_serves_by_its_name(loss, monkeypatch):
    monkeypatch.setitem(BACKENDS, "written", Written())
    problem = make_problem()
    found = [problem.backward(LOSSES[loss](*problem.arguments, backend=name)) for name in ("torch", "written")]
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs)
    monkeypatch.setattr(Written, "log_negatives", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        LOSSES[loss](*problem.arguments, backend="written")
