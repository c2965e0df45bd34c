"""What the page on the engine shows is what the definitions say."""

import pytest
import torch

from sce_lab.explain import beating, running_sums, two_timelines
from sce_lab.losses import SCELoss, scalable_cross_entropy_reference
from sce_lab.training import TrainingConfig

SIZES = {"n_buckets": 24, "bucket_size_x": 24, "bucket_size_y": 64}


def test_scores_that_beat_the_best_so_far_become_rare():
    generator = torch.Generator().manual_seed(0)
    queries, table = torch.randn(80, 8, generator=generator), torch.randn(4_000, 8, generator=generator)
    rows = beating(queries, table, k=20, size=200)
    assert rows["chunk"].tolist() == list(range(2, 21))
    assert rows["expected"].tolist() == [20 / n for n in rows["seen"]]
    scores = queries @ table.T
    threshold = scores[:, :400].topk(20).values[:, -1:]
    third = float((scores[:, 400:600] > threshold).float().mean())
    assert rows["share"][1] == pytest.approx(third)
    assert rows["share"].sum() == pytest.approx(rows["expected"].sum(), rel=0.15)
    assert rows["share"].iloc[-5:].mean() < 0.1 * rows["share"][0]


def test_running_sums_end_at_the_log_sum_exp():
    logits = 4 * torch.randn(300, generator=torch.Generator().manual_seed(1)) + 500
    rows = running_sums(logits, 30)
    for tile, log_sum in enumerate(rows["log_sum"], start=1):
        assert log_sum == pytest.approx(float(logits[: 30 * tile].logsumexp(0)), abs=1e-3)
    assert (rows["m"].diff().dropna() >= 0).all()
    assert rows["rescaled"].tolist() == [False, *(rows["m"].diff().dropna() > 0)]


def test_the_two_timelines_are_of_the_same_loss_and_one_is_leaner():
    config = TrainingConfig(loss="sce", batch_size=40, max_length=10, hidden_size=16, n_blocks=1)
    lines = two_timelines(8_000, config, workspace_bytes=2**18, **SIZES)
    readable, lean = (lines[name].use for name in ("readable", "lean"))
    assert readable.parameters == lean.parameters
    assert readable.loss_workspace > 4 * lean.loss_workspace
    files = {name: set(line.alive()["file"]) for name, line in lines.items()}
    assert any(file.endswith("sce_reference.py") for file in files["readable"])
    assert not any(file.endswith("sce_reference.py") for file in files["lean"])
    x, w = torch.randn(60, 8), torch.randn(300, 8)
    target, centers = torch.randint(300, (60,)), torch.randn(24, 8)
    lean_loss = SCELoss(**SIZES, centers=centers)(x, w, target)
    assert float(lean_loss) == pytest.approx(
        float(scalable_cross_entropy_reference(x, w, target, **SIZES, centers=centers)), rel=1e-5
    )
