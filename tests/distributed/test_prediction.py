"""What a rank takes, predicted without a rank."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from sce_lab.distributed import predict
from sce_lab.distributed.machines import MACHINES, least_seconds, which_machine
from sce_lab.distributed.predict import predict_rank
from sce_lab.distributed.traffic import loss_traffic, step_traffic
from sce_lab.memory import predict_memory
from sce_lab.memory.predict import one_at_a_time
from sce_lab.training import TrainingConfig

CONFIG = TrainingConfig(batch_size=64, max_length=16, hidden_size=16, n_blocks=1)


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        ("cce", {}),
        ("sampled", {}),
        ("sampled", {"n_negatives": 5, "shared_negatives": False}),
        ("sce", {}),
        ("sce", {"n_negatives": 7}),
        ("sce", {"n_negatives": 7, "negatives_for": "all", "combine": "union", "bucket_size_x": 30}),
        ("sce", {"mix_x": True, "kmeans_steps": 2, "items_near": "positions"}),
    ],
)
def test_bytes_sent_are_those_of_the_formula(loss, settings):
    config = dataclasses.replace(CONFIG, loss=loss, loss_settings=settings)
    for n, catalog_size in ((4, 100_003), (64, 10**9)):
        sent = predict_rank(config, catalog_size, n).sent
        assert sent == pytest.approx(step_traffic(config, catalog_size, 64 * 16 // n, n).bytes, rel=1e-6)


def test_all_chunks_of_a_large_batch_are_sent():
    config = TrainingConfig(loss="cce", batch_size=4096, max_length=50, hidden_size=256, n_blocks=1)  # 4 chunks
    sent = predict_rank(config, 1000, 2).sent
    assert sent == pytest.approx(step_traffic(config, 1000, 4096 * 50 // 2, 2).bytes, rel=1e-3)


def test_predictions_at_the_same_time_wait_for_each_other():
    with ThreadPoolExecutor(1) as pool:
        with one_at_a_time, predict._no_ranks(2):
            asked = pool.submit(predict_rank, CONFIG, 1001, 2)
            wait([asked], timeout=0.5)
            assert not asked.done()  # neither refused nor between the other's processes
        assert asked.result().sent > 0


def test_a_formula_shows_what_grows_with_ranks_and_that_items_do_not():
    sce = dataclasses.replace(CONFIG, loss="sce", loss_settings={"n_buckets": 32, "bucket_size_y": 256})
    few, many = (loss_traffic(sce, 10**9, 2**14 // n, n) for n in (2, 1024))
    assert max(many.terms, key=lambda term: term[2])[0] == "12 n_b (b_x + b_y) (R-1)"
    assert max(few.terms, key=lambda term: term[2])[0] == "8 n D (R-1)"
    assert loss_traffic(sce, 10**6, 1024, 16).bytes == loss_traffic(sce, 10**9, 1024, 16).bytes
    with pytest.raises(ValueError, match="there is no sharded 'bce'; known are ce, cce, sampled, ce_minus, sce"):
        loss_traffic(dataclasses.replace(CONFIG, loss="bce"), 100, 10, 2)


@pytest.mark.parametrize(("loss", "n"), [("cce", 2), ("cce", 1024), ("sce", 64)])
def test_table_gradient_and_state_are_a_share_of_those_on_one_device(loss, n):
    config = dataclasses.replace(CONFIG, loss=loss)
    alone = predict_memory(config, 10**7)
    use = predict_rank(config, 10**7, n).memory
    for part in ("parameters", "gradients", "optimizer_state"):
        assert getattr(use, part) == pytest.approx(getattr(alone, part) / n, rel=0.05)
    assert use.loss_workspace < 64 * 2**20  # nothing as large as the table


def test_on_one_device_it_is_the_prediction_for_one_device():
    use, alone = predict_rank(CONFIG, 10**6, 1).memory, predict_memory(CONFIG, 10**6)
    assert (use.parameters, use.optimizer_state) == (alone.parameters, alone.optimizer_state)
    assert use.peak == pytest.approx(alone.peak, rel=0.05)


def test_bad_numbers_of_devices_are_refused():
    with pytest.raises(ValueError, match="n_devices must be a whole number of at least 1, got 0"):
        predict_rank(CONFIG, 1000, 0)
    with pytest.raises(ValueError, match="this loss needs the whole item table"):
        predict_rank(dataclasses.replace(CONFIG, loss="bce"), 1000, 2)


def test_a_larger_machine_has_room_and_a_link_takes_time():
    config = dataclasses.replace(CONFIG, loss="cce", hidden_size=64)
    chosen = [machine for machine in MACHINES if machine.n in (1, 8)]
    table = which_machine([config], 10**8, chosen).set_index("machine")
    assert table.loc["one A100, 80 GB", "fits"] == "no"
    assert table.loc["eight H100, NVLink", "fits"] == "yes"
    assert table.loc["one H200", "sending"] == ""
    assert table.loc["eight RTX 4090 in one server", "sending"].startswith("≥ ")


@pytest.mark.parametrize(("loss", "usual"), [("sce", {"bucket_size_y": 256}), ("sampled", {"n_negatives": 256})])
def test_items_by_default_are_spread_like_those_that_are_asked_for(loss, usual):
    machine = dataclasses.replace(MACHINES[-1], link=0.0)  # computing only
    config = TrainingConfig(loss=loss, batch_size=64)
    asked = dataclasses.replace(config, loss_settings=usual)
    assert least_seconds(config, 10**6, machine) == least_seconds(asked, 10**6, machine)


def test_the_table_of_the_documentation_is_what_the_command_says():
    """All its machines and losses, and the numbers of the last machine."""
    page = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "≥" in line]
    names = {"cce": "cross-entropy", "sampled": "sampled softmax", "sce": "SCE"}
    assert [row[:2] for row in rows] == [[machine.title, name] for machine in MACHINES for name in names.values()]
    configs = [TrainingConfig(loss=loss, batch_size=1024) for loss in names]
    found = which_machine(configs, 10**8, MACHINES[-1:]).drop(columns=["machine", "loss"])
    assert [row[2:] for row in rows[-3:]] == found.to_numpy().tolist()
    least = {row[0]: row[5].removeprefix("≥ ") for row in rows if row[1] == "cross-entropy" and row[4] == "yes"}
    first, last = least["64 H100, 400 Gb/s InfiniBand each"], least["one H200"]
    assert f"from {first} (64 H100) to {last} (one H200)" in page.replace("\n", " ")


def test_the_command_says_what_each_device_takes(sce_lab):
    status, out, _ = sce_lab("memory", "1e8", "--devices", "64", "--batch-size", "64")
    assert status == 0
    assert "100,000,000 items, one step, on each of 64 devices" in out
    rows = [line for line in out.splitlines() if "iB" in line]
    assert [row.split("  ")[0] for row in rows] == [
        "Cross-entropy, logits never held", "CE-", "Sampled softmax", "SCE",
    ]  # fmt: skip
    sent = predict_rank(TrainingConfig(loss="cce", batch_size=64), 10**8, 64).sent
    assert f"{sent / 2**20:.3g} MiB" in rows[0]
