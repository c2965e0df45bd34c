"""The race: validation alone stops it, the clock counts training and validation, and the table is what was recorded."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sce_lab import Trainer, TrainingConfig
from sce_lab.reproduce import speedrun
from sce_lab.reproduce.races import RACES, Entry, Race, find_race
from sce_lab.reproduce.speedrun import AHEAD, in_a_line, look_ahead, run
from sce_lab.reproduce.writing import Evidence, with_results
from sce_lab.training import Evaluated, evaluate

CONFIG = TrainingConfig(
    loss="cce", hidden_size=16, batch_size=16, max_length=8, max_epochs=40, dropout=0.0, learning_rate=0.003
)
ENTRY = Entry("small", "nothing", CONFIG, {"HR@10": 0.9, "NDCG@10": 0.75})
RACE = Race("amazon_beauty", {"HR@10": 0.4, "NDCG@10": 0.4}, (ENTRY,))


def by_hand(config, split):
    """What each epoch reaches on validation, and the test with the best weights so far."""
    trainer, found = Trainer(config, split, when_to_test="never"), []
    for event in trainer.events():
        if isinstance(event, Evaluated):
            found.append((event.metrics, evaluate(trainer.best_model(), split.test)))
    return found


def test_it_stops_where_validation_reaches_both_thresholds(cycle_split):
    epochs = by_hand(dataclasses.replace(CONFIG, seed=3, patience=40), cycle_split)
    good = [all(metrics[name] >= least for name, least in ENTRY.thresholds.items()) for metrics, _ in epochs]
    stop = good.index(True)
    assert 0 < stop < len(good) - 1, "the case must be neither trivial nor hopeless"
    came_out = run(ENTRY, cycle_split, seed=3)
    assert came_out["reached"]
    assert came_out["epochs"] == stop + 1
    assert came_out["test"] == {name: epochs[stop][1][name] for name in ("HR@10", "NDCG@10")}
    assert came_out["validation"]["NDCG@10"] >= 0.75
    assert 0 < came_out["loss_workspace"] <= came_out["peak"]
    only_hr = dataclasses.replace(ENTRY, thresholds={"HR@10": 0.9, "NDCG@10": 2.0})
    never = run(only_hr, cycle_split, seed=3)
    assert (never["reached"], never["epochs"]) == (False, 40)


def test_the_clock_stands_still_while_the_test_is_judged(cycle_split, monkeypatch):
    clock = SimpleNamespace(now=0.0)

    def slow(*arguments, **more):
        clock.now += 1000.0
        return evaluate(*arguments, **more)

    def tick():
        clock.now += 1.0
        return clock.now

    monkeypatch.setattr(speedrun, "evaluate", slow)
    monkeypatch.setattr("sce_lab.training.trainer.time", SimpleNamespace(perf_counter=tick, thread_time=tick))
    one = run(dataclasses.replace(ENTRY, thresholds={}), cycle_split, seed=0)
    assert one["epochs"] == 1
    assert clock.now > 1000
    steps = -(-60 // 16)
    assert steps < one["seconds"] < 100


def test_thresholds_come_from_other_seeds(cycle_split):
    rows = list(
        look_ahead(dataclasses.replace(ENTRY, config=dataclasses.replace(CONFIG, max_epochs=3)), cycle_split, 1)
    )
    assert [row["epochs"] for row in rows] == [1, 2, 3]
    assert {row["seed"] for row in rows} == {AHEAD + 1}
    expected = by_hand(dataclasses.replace(CONFIG, seed=AHEAD + 1, max_epochs=3), cycle_split)
    assert [row["validation"]["HR@10"] for row in rows] == [metrics["HR@10"] for metrics, _ in expected]
    assert [row["test"]["HR@10"] for row in rows] == [test["HR@10"] for _, test in expected]


def seed_of(seed, seconds, hr=0.5, **more):
    scores = {"HR@10": hr, "NDCG@10": 0.45}
    return {
        "seed": seed, "reached": True, "seconds": seconds, "cpu_seconds": seconds, "epochs": 4, "validation": scores,
        "test": scores, "peak": 2**21, "loss_workspace": 2**20,
    } | more  # fmt: skip


def test_five_seeds_pass_on_average(tmp_path):
    five = [seed_of(i, 10.0 + i) for i in range(5)]
    assert speedrun.record_race(RACE, ENTRY, five, "again", tmp_path)["passed"]
    assert not speedrun.record_race(RACE, ENTRY, five[:4], "again", tmp_path / "4")["passed"]
    below = [seed_of(i, 10.0, hr=0.3 if i else 0.5) for i in range(5)]
    assert not speedrun.record_race(RACE, ENTRY, below, "again", tmp_path)["passed"]
    just = [seed_of(i, 10.0, hr=0.3 if i == 4 else 0.5) for i in range(5)]
    assert speedrun.record_race(RACE, ENTRY, just, "again", tmp_path)["passed"]
    [kept] = speedrun.read_races("amazon_beauty", tmp_path)
    assert kept["mean"]["HR@10"] == pytest.approx(0.46)
    assert "seed" not in kept["config"]


def test_an_entry_is_kept_once_for_each_number_of_threads(tmp_path, monkeypatch):
    where = {"threads": 1, "processor": "P", "gpus": []}
    other = dataclasses.replace(ENTRY, name="other", note="more of it")
    race = dataclasses.replace(RACE, entries=(ENTRY, other))
    monkeypatch.setattr(speedrun, "environment", lambda: dict(where))
    speedrun.record_race(race, other, [seed_of(0, 7.0)], "again", tmp_path)
    speedrun.record_race(race, ENTRY, [seed_of(0, 30.0), seed_of(1, 20.0)], "again", tmp_path)
    where["threads"] = 2
    speedrun.record_race(race, ENTRY, [seed_of(0, 12.0)], "again", tmp_path)
    speedrun.record_race(race, ENTRY, [seed_of(0, 11.0)], "again", tmp_path)
    runs = speedrun.read_races("amazon_beauty", tmp_path)
    assert [(r["entry"], r["environment"]["threads"], r["mean"]["seconds"]) for r in runs] == [
        ("small", 1, 25.0), ("small", 2, 11.0), ("other", 1, 7.0)
    ]  # fmt: skip
    text = with_results("<!-- races -->\n<!-- end of results -->", Evidence([], folder=tmp_path))
    assert "| P, 1 thread | small | nothing | 2 | 25.0 (20.0 to 30.0) | 4.0 | 0.5000 | 0.4500 | no | 2 MiB |" in text
    rows = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith("| P")]
    assert rows == [["| P, 1 thread", "small"], ["| P, 1 thread", "other"], ["| P, 2 threads", "small"]]
    assert "HR@10 0.0935 and NDCG@10 0.0544 on test" in text


def test_fewer_seeds_do_not_take_the_place_of_more(tmp_path, sce_lab, monkeypatch):
    speedrun.record_race(RACE, ENTRY, [seed_of(i, 10.0) for i in range(5)], "again", tmp_path)
    before = speedrun.race_path("amazon_beauty", tmp_path).read_bytes()
    with pytest.raises(ValueError, match="5 seeds of small are recorded on this machine, and 1 would take their place"):
        speedrun.record_race(RACE, ENTRY, [seed_of(0, 1.0)], "again", tmp_path)
    monkeypatch.setitem(RACES, "amazon_beauty", RACE)
    monkeypatch.setattr("sce_lab.cli.racing.open_data", lambda source: pytest.fail("it is asked before all else"))
    words = ("--record", "--seeds", "4", "--device", "cpu", "--results", str(tmp_path))
    status, _, err = sce_lab("speedrun", "amazon_beauty", *words)
    assert status == 2
    assert "and 4 would take their place" in err
    assert speedrun.race_path("amazon_beauty", tmp_path).read_bytes() == before


def test_a_race_on_the_cpu_of_a_machine_with_a_gpu_is_one_on_the_cpu(tmp_path, monkeypatch):
    where = {"threads": 2, "processor": "P", "gpus": ["G0", "G1"]}
    monkeypatch.setattr(speedrun, "environment", lambda: dict(where))
    speedrun.record_race(RACE, ENTRY, [seed_of(0, 12.0)], "again", tmp_path)
    speedrun.record_race(RACE, ENTRY, [seed_of(0, 3.0)], "again", tmp_path, "cuda:1")
    speedrun.record_race(RACE, ENTRY, [seed_of(0, 2.0)], "again", tmp_path, "cuda")
    runs = speedrun.read_races("amazon_beauty", tmp_path)
    assert {each["device"] for each in runs} == {"cpu", "cuda:1", "cuda"}
    table = speedrun.race_table(runs).set_index("machine")["seconds"]
    assert {name: text.split()[0] for name, text in table.items()} == {"P, 2 threads": "12.0", "G1": "3.0", "G0": "2.0"}


def test_what_came_out_is_one_line():
    said = in_a_line(seed_of(2, 31.26, hr=0.5), RACE.goal, "P, 2 threads")
    assert said == (
        "seed 2: 31.3 s, 4 epochs, HR@10 0.5000, NDCG@10 0.4500 on test (passed), peak 2 MiB, of which the loss 1 MiB, "
        "P, 2 threads"
    )
    failed = in_a_line(seed_of(2, 31.26, hr=0.3, reached=False), RACE.goal, "P")
    assert "(not passed, and validation never reached its thresholds)" in failed


def test_races_are_found_by_name():
    assert find_race("amazon_beauty").entry().name == RACES["amazon_beauty"].entries[-1].name
    assert find_race("amazon_beauty").entry("running mean").config.n_blocks == 2
    with pytest.raises(ValueError, match=r"there is no race on 'epinions'; there is one on amazon_beauty"):
        find_race("epinions")
    with pytest.raises(ValueError, match=r"the race on amazon_beauty has the entries running mean, .*got 'slow'"):
        find_race("amazon_beauty").entry("slow")


def test_the_command(sce_lab, tmp_path, monkeypatch, cycle_split):
    race = dataclasses.replace(RACE, entries=(dataclasses.replace(ENTRY, name="small one"),))
    monkeypatch.setitem(RACES, "amazon_beauty", race)
    monkeypatch.setattr("sce_lab.cli.racing.open_data", lambda source: cycle_split)
    where = ["--results", str(tmp_path), "--device", "cpu", "--threads", "1"]
    code, out, err = sce_lab("speedrun", "amazon_beauty", "--seeds", "2", "--record", *where)
    assert (code, err) == (0, "")
    assert "seed 0: " in out
    assert "s on average over 2 seeds." in out
    [kept] = json.loads((Path(tmp_path) / "speedrun" / "amazon_beauty.json").read_text())["runs"]
    assert kept["repeat"] == "sce-lab speedrun amazon_beauty --entry 'small one' --seeds 2 --threads 1"
    code, out, _ = sce_lab("speedrun", "amazon_beauty", "--ahead", *where)
    assert code == 0
    assert f"seed {AHEAD}, epoch 1: HR@10" in out
    assert sce_lab("speedrun", "epinions")[0] == 2


@pytest.mark.parametrize("dataset", RACES)
def test_written_tables_are_those_of_the_records(dataset):
    page = Path(__file__).resolve().parents[1] / "docs" / "speedrun.md"
    text = page.read_text(encoding="utf-8")
    assert with_results(text, Evidence.read()) == text


def test_nobody_races_with_counts():
    """They need no training: see ``docs/speedrun.md``."""
    assert {entry.config.followers for race in RACES.values() for entry in race.entries} == {0.0}
