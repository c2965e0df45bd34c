"""The tournament: the same trials and seconds for every loss, settings below a cap, one look at the test."""

import dataclasses
import json

import pytest

from sce_lab.losses import LOSSES
from sce_lab.memory import predict_memory, typical_length
from sce_lab.metrics import rank_items
from sce_lab.reproduce import calibration, read_baselines, read_records
from sce_lab.reproduce.calibration import calibrate, calibration_path, estimate, pace_of, read_calibration
from sce_lab.reproduce.matches import CONTENDERS, MATCHES, Contender, Match
from sce_lab.reproduce.studies import counts_markdown, tournament_markdown
from sce_lab.reproduce.tournament import compete, entries_of, plan_of
from sce_lab.reproduce.writing import Evidence
from sce_lab.runs import record
from sce_lab.training import StepDone, Trainer, TrainingConfig

SMALL = {
    "cce": Contender(),
    "sampled": Contender({}, "n_negatives", 4, (2, 4, 8)),
    "bce": Contender({}, "n_negatives", 8, (1, 2, 4, 8)),
}
TINY = Match(
    "cycle",
    {"source": "synthetic", "catalog_size": 200},
    TrainingConfig(hidden_size=8, batch_size=16, max_length=8, steps_per_epoch=3),
    {"learning_rate": (1e-3, 1e-2)},
    seconds=6.0,
    cap=2**20,
    seeds=2,
    contenders=SMALL,
)


@pytest.fixture
def folders(tmp_path):
    return {"runs": tmp_path / "runs", "results": tmp_path / "results"}


def play(split, folders, name="sampled-time", match=TINY, seconds=1.0, stop_after=None, steps=None):
    """All records of one entry, an epoch (3 steps) of which takes these seconds; ``steps`` notes (rate, seed, step)."""
    steps = [] if steps is None else steps
    plan = plan_of(match, entries_of(match, split)[name], seconds / 3, 3)

    def train_run(config, folder):
        stop = lambda: stop_after is not None and len(steps) >= stop_after  # noqa: E731
        for event in record(Trainer(config, split, stop=stop, when_to_test="never"), folder):
            if isinstance(event, StepDone):
                steps.append((config.learning_rate, config.seed, event.step))

    return list(compete(match, plan, split, train_run, repeat="sce-lab tournament cycle", **folders))


def test_every_match_names_losses_and_settings_that_exist():
    for match in MATCHES.values():
        losses = {name.partition("-")[0] for name in match.contenders}
        few = {"sce", "cce", "ce_minus"}  # where each training takes minutes
        assert losses >= (few if match.name == "amazon_beauty_wide" else few | {"sampled", "bce", "rece"})
        for name, contender in match.contenders.items():
            for size in {contender.usual, *contender.ladder}:
                loss = name.partition("-")[0]
                dataclasses.replace(match.config, loss=loss, loss_settings=contender.of_size(size))  # else it complains
            assert list(contender.ladder) == sorted(contender.ladder)
    assert {name.partition("-")[0] for name in CONTENDERS} <= set(LOSSES)


def test_matches_have_titles_that_tell_them_apart():
    titles = {name: match.title for name, match in MATCHES.items()}
    assert titles["amazon_beauty_wide"] == titles["amazon_beauty"] + ", wide"
    assert titles["synthetic_1e5"] == "Synthetic, 100,000 items"
    assert len(set(titles.values())) == len(titles)


def test_for_memory_a_loss_has_the_largest_settings_below_the_cap(cycle_split):
    def held(loss, **settings):
        config = dataclasses.replace(TINY.config, loss=loss, loss_settings=settings)
        return predict_memory(config, 12, length=typical_length(config, cycle_split)).loss_workspace

    cap = held("bce", n_negatives=4)
    assert held("bce", n_negatives=2) < cap < held("bce", n_negatives=8)
    entries = entries_of(dataclasses.replace(TINY, cap=cap), cycle_split)
    assert entries["bce-memory"].settings == {"n_negatives": 4}
    assert entries["bce-time"].settings == {"n_negatives": 8}
    assert entries["bce-memory"].workspace == cap < entries["bce-time"].workspace
    assert "bce-both" not in entries


def test_a_loss_with_the_same_settings_for_both_is_there_once_and_one_that_fits_nowhere_has_no_memory(cycle_split):
    assert sorted(entries_of(TINY, cycle_split)) == ["bce-both", "cce-both", "sampled-memory", "sampled-time"]
    assert entries_of(TINY, cycle_split)["sampled-memory"].settings == {"n_negatives": 8}
    none = entries_of(dataclasses.replace(TINY, cap=1), cycle_split)
    assert sorted(none) == ["bce-time", "cce-time", "sampled-time"]


def test_seconds_become_whole_epochs(cycle_split):
    entry = entries_of(TINY, cycle_split)["cce-both"]
    assert plan_of(TINY, entry, 0.25 / 3, 3).config.max_epochs == 24
    assert plan_of(TINY, entry, 0.25 / 3, 3).config.evaluate_every == 3  # ten evaluations at most
    with pytest.raises(
        ValueError, match="cce-both is left out, for a step of it takes 7 s, and every training has 6 s"
    ):
        plan_of(TINY, entry, 7.0, 3)


@pytest.mark.parametrize("seconds", [0.002, 0.01, 0.1, 1.1, 2.9, 31 / 8, 4.7, 7.0, 29.0, 31.0, 60.0])
def test_every_loss_uses_its_seconds(cycle_split, seconds):
    """An epoch of eight steps would leave half of a minute over if it took 31 s."""
    minute = dataclasses.replace(TINY, seconds=60.0)
    plan = plan_of(minute, entries_of(TINY, cycle_split)["cce-both"], seconds, 8)
    steps = plan.config.max_epochs * plan.config.steps_per_epoch
    assert plan.config.steps_per_epoch <= 8
    assert plan.took == {"seconds": pytest.approx(steps * seconds), "steps": steps}
    assert plan.took["seconds"] <= 60
    assert plan.took["seconds"] >= 0.95 * 60 or 60 - plan.took["seconds"] < seconds  # or not one step more fits
    if seconds <= 0.1:
        assert plan.config.steps_per_epoch == 8  # where it does no harm, epochs are those of the match


def test_a_record_keeps_its_rules_and_refuses_others(cycle_split, folders, monkeypatch):
    monkeypatch.setitem(MATCHES, "cycle", TINY)
    last = play(cycle_split, folders)[-1]
    assert last["took"] == {"seconds": pytest.approx(6.0), "steps": 18}
    longer = dataclasses.replace(TINY, seconds=9.0)
    monkeypatch.setitem(MATCHES, "cycle", longer)
    (kept,) = read_records(folders["results"])
    assert kept == last
    text = tournament_markdown([kept], folder=folders["results"])
    assert "2 trials and 2 seeds of 6 s each" in text
    assert "9 s" not in text
    with pytest.raises(ValueError, match=r"sampled-time.json was made with seconds=6.0, but .* now says 9.0: move"):
        play(cycle_split, folders, match=longer)
    more = Contender({}, "n_negatives", 5, (2, 4, 8))
    with pytest.raises(ValueError, match="loss_settings"):
        play(cycle_split, folders, match=dataclasses.replace(TINY, contenders={"sampled": more}))
    assert read_records(folders["results"]) == [last]
    other = play(cycle_split, {"runs": folders["runs"] / "2", "results": folders["results"] / "2"}, match=longer)[-1]
    both = tournament_markdown([kept, other], folder=folders["results"])
    assert both.index("seeds of 6 s each") < both.index("seeds of 9 s each")  # a table for each


def test_it_goes_from_trials_over_fresh_seeds_to_one_test(cycle_split, folders, monkeypatch):
    looked = []

    def ranked(outputs, table, holdout, **settings):
        looked.append(holdout is cycle_split.test)
        return rank_items(outputs, table, holdout, **settings)

    monkeypatch.setattr("sce_lab.training.evaluation.rank_items", ranked)
    steps = []
    records = play(cycle_split, folders, steps=steps)
    trials, seeds, last = records[:2], records[2:4], records[4]
    assert [len(found["trials"]) for found in trials] == [1, 2]
    assert [len(found["seeds"]) for found in seeds] == [1, 2]
    assert not any("test" in seed for found in seeds for seed in found["seeds"])
    assert "tested_at" in last
    assert looked[-2:] == [True, True]
    assert sum(looked) == 2 + bool(last["together"])  # each seed once, and their scores added up
    assert {seed for _, seed, _ in steps} == {0, 1, 1000}  # what is judged was not chosen for its luck
    per_training = 6 * 3
    assert len(steps) == len(set(steps)) == 4 * per_training
    assert last["config"]["learning_rate"] == trials[-1]["chosen"]["learning_rate"] == 1e-2
    assert last["recipe"] == "sampled-time"
    assert "2 trials (learning_rate in [0.001, 0.01]) of 6 s each on a quiet machine" in last["note"]
    assert "18 steps of this one, which take 6 s" in last["note"]
    kept = [path.parent.parent.name for path in folders["runs"].rglob("checkpoint.safetensors")]
    assert kept == ["sampled-time", "sampled-time"]  # trials' weights are gone
    again = play(cycle_split, folders, steps=(more := []))
    assert again == [last]
    assert more == []


def test_what_was_interrupted_ends_as_if_it_had_not_been(cycle_split, folders, tmp_path):
    whole = play(cycle_split, {name: tmp_path / "whole" / name for name in folders})[-1]
    for stop_after in (2, 17, 17, 17):  # in a trial, in another, in a seed, in another
        found = play(cycle_split, folders, stop_after=stop_after)
        assert not found or "tested_at" not in found[-1]
    last = play(cycle_split, folders)[-1]
    for name in ("config", "fingerprint", "interval", "together"):
        assert last[name] == whole[name]
    assert [seed["test"] for seed in last["seeds"]] == [seed["test"] for seed in whole["seeds"]]


def test_losses_of_one_set_have_the_same_first_weights_and_batches(cycle_split):
    seen = {}
    for name, entry in entries_of(TINY, cycle_split).items():
        trainer = Trainer(entry.config_of(TINY), cycle_split)
        seen[name] = (
            trainer.model.item_embedding.sum().item(),
            next(e.n_positions for e in trainer.events() if isinstance(e, StepDone)),
        )
    assert len(set(seen.values())) == 1


def calibrated(split, folders, match=TINY):
    return dict(calibrate(match, entries_of(match, split), split, repeat="r", results=folders["results"]))


def test_a_calibration_is_recorded_and_asked(cycle_split, folders, monkeypatch):
    monkeypatch.setattr(calibration, "LONG_ENOUGH", 0.005)
    monkeypatch.setattr(calibration, "_WARM_UP", 0.01)
    entries = entries_of(TINY, cycle_split)
    entry = entries["cce-both"]
    with pytest.raises(ValueError, match="call sce-lab tournament cycle --calibrate"):
        pace_of(TINY, entry, folders["results"])
    measured = calibrated(cycle_split, folders)
    assert list(measured) == list(entries)
    assert pace_of(TINY, entry, folders["results"]) == (measured["cce-both"], 3)
    known = read_calibration(folders["results"])["cycle"]
    assert known["environment"]["versions"]["torch"]
    assert known["entries"]["cce-both"]["steps"] >= 1
    assert calibrated(cycle_split, folders) == {}  # what is measured is not measured again
    other = dataclasses.replace(TINY, config=dataclasses.replace(TINY.config, batch_size=8))
    with pytest.raises(ValueError, match="it is not known how long a step"):
        pace_of(other, entry, folders["results"])
    rates = dataclasses.replace(TINY, config=dataclasses.replace(TINY.config, learning_rate=0.5))
    assert pace_of(rates, entry, folders["results"])[0] > 0  # a step takes no longer
    shorter = dataclasses.replace(TINY, config=dataclasses.replace(TINY.config, item_dropout=0.5))
    with pytest.raises(ValueError, match="it is not known how long a step"):
        pace_of(shorter, entry, folders["results"])
    path = calibration_path(folders["results"])
    everything = json.loads(path.read_text())
    del everything["cycle"]["entries"]["cce-both"]
    path.write_text(json.dumps(everything))
    assert list(calibrated(cycle_split, folders)) == list(entries)  # one alone would have its seconds of another hour


def test_a_step_is_measured_without_the_evaluations_between_epochs(cycle_split, folders, monkeypatch):
    monkeypatch.setattr(calibration, "LONG_ENOUGH", 0.05)  # some epochs of three steps
    monkeypatch.setattr(calibration, "_WARM_UP", 0.01)

    def evaluated(trainer):
        raise AssertionError(f"evaluated after step {trainer.step}")

    monkeypatch.setattr(Trainer, "_evaluated", evaluated)
    calibrated(cycle_split, folders)
    steps = [entry["steps"] for entry in read_calibration(folders["results"])["cycle"]["entries"].values()]
    assert max(steps) > TINY.config.steps_per_epoch


def test_the_estimate_counts_every_training_and_evaluation(cycle_split, folders):
    entry = entries_of(TINY, cycle_split)["cce-both"]
    known = {"config": calibration._asked(TINY.config), "evaluation": 0.5}
    known["entries"] = {"cce-both": {"settings": {}, "seconds": 0.125, "steps": 9, "steps_per_epoch": 3}}
    path = calibration_path(folders["results"])
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"cycle": known}))
    assert estimate(TINY, entry, folders["results"]) == pytest.approx((2 + 2) * (16 * 0.375 + 8 * 0.5))


def test_only_what_is_tested_is_shown(cycle_split, folders, monkeypatch):
    monkeypatch.setitem(MATCHES, "cycle", TINY)
    assert "Nothing of this has been recorded yet" in tournament_markdown([])
    unfinished = play(cycle_split, folders, stop_after=60)[-1]
    assert "Nothing of this has been recorded yet" in tournament_markdown([unfinished])
    sampled, exact = play(cycle_split, folders)[-1], play(cycle_split, folders, "cce-both")[-1]
    records = read_records(folders["results"])
    assert sorted(found["recipe"] for found in records) == ["cce-both", "sampled-time"]
    text = tournament_markdown(records, folder=folders["results"])
    assert "2 trials and 2 seeds of 6 s each, of a quiet core; where memory counts, a loss may hold 1 MiB." in text
    for found, label in ((sampled, "SASRec, Sampled softmax (time)"), (exact, "logits never held (both)")):
        (line,) = [line for line in text.splitlines() if line.startswith("|") and label in line]
        assert f"{found['mean']['NDCG@10']:.4f}" in line
        assert f"{found['mean']['validation NDCG@10']:.4f}" in line
    assert "in NDCG@10:" in text  # how they compare on the same users


def test_the_command_measures_plans_and_plays(sce_lab, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "LONG_ENOUGH", 0.005)
    monkeypatch.setattr(calibration, "_WARM_UP", 0.01)
    monkeypatch.setenv("SCE_LAB_RUNS", str(tmp_path / "runs"))
    match = dataclasses.replace(TINY, name="tiny", contenders={"cce": SMALL["cce"]}, seconds=1e9)
    for module in ("matches", "studies"):
        monkeypatch.setattr(f"sce_lab.reproduce.{module}.MATCHES", {"tiny": match})
    kept = ("--results", str(tmp_path / "results"))
    status, out, err = sce_lab("tournament", "tiny", "--plan", *kept)
    assert status == 0
    assert err.count("sce-lab tournament tiny --calibrate") == 1
    status, out, err = sce_lab("tournament", "tiny", *kept)  # before anything is judged or trained
    assert status == 2
    assert err.count("sce-lab tournament tiny --calibrate") == 1
    assert not read_baselines(tmp_path / "results" / "tournament")
    assert "cce-both" in sce_lab("tournament", "tiny", "--calibrate", *kept)[1]
    path = calibration_path(tmp_path / "results" / "tournament")
    known = json.loads(path.read_text())
    known["tiny"]["entries"]["cce-both"]["seconds"] = 1e9 / (2 * 3)  # so that two epochs fit
    path.write_text(json.dumps(known))
    out = sce_lab("tournament", "--plan", *kept)[1]
    assert "2 trials and 2 seeds" in out
    assert "hours on one core" in out
    status, out, _ = sce_lab("tournament", "tiny", "--loss", "cce", *kept)
    assert status == 0
    assert "cce-both, 2 of 2 seeds" in out
    assert "on test" in out
    (found,) = read_records(tmp_path / "results" / "tournament")
    assert Evidence.read(tmp_path / "results").tournament == [found]  # one meaning of --results
    assert found["repeat"] == "sce-lab tournament tiny --loss cce"
    (untrained,) = read_baselines(tmp_path / "results" / "tournament")
    assert {row["baseline"] for row in untrained["rows"]} >= {"popularity", "transitions"}
    for seed, seconds in zip(found["seeds"], (30.0, 50.0), strict=True):
        seed["cpu_seconds"] = seconds
    text = tournament_markdown([found], [untrained], tmp_path / "results" / "tournament")
    header, _, *rows = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert [row[header.index("CPU s, all")].strip() for row in rows if "both" in row[0]] == ["40"]
    (best,) = [line for line in text.splitlines() if line.startswith("| The best that can be expected")]
    assert f"{untrained['ceiling']['NDCG@10']:.4f}" in best
    assert untrained["ceiling"]["NDCG@10"] > max(row["test"]["NDCG@10"] for row in untrained["rows"])
    assert "above *the best" not in text  # it is no rival
    assert [seed["step"] for seed in found["seeds"]] == [6, 6]
    for arguments, sentence in (
        (["nowhere"], "there is no tournament on 'nowhere'"),
        (["tiny", "--loss", "ce"], "got 'ce'"),
    ):
        status, _, err = sce_lab("tournament", *arguments, *kept)
        assert status == 2
        assert sentence in err


def test_a_plan_writes_nothing_and_so_is_made_of_an_installed_package(sce_lab, tmp_path, monkeypatch):
    monkeypatch.setattr("sce_lab.reproduce.records.SHIPPED", tmp_path)
    monkeypatch.setenv("SCE_LAB_RESULTS", str(tmp_path))
    monkeypatch.setattr("sce_lab.reproduce.matches.MATCHES", {"tiny": dataclasses.replace(TINY, name="tiny")})
    status, _, err = sce_lab("tournament", "tiny", "--plan")
    assert status == 0
    assert err.count("--calibrate") == 1  # one sentence, however many losses
    status, _, err = sce_lab("tournament", "tiny")
    assert status == 2
    assert "are not written to" in err


def test_what_counts_add_to_trained_models_is_shown_with_both_ends():
    row = {"recipe": "sce-time", "loss": "sce", "mean": [0.05, 0.06, 0.07, 0.04], "by seed": [[0.05, 0.06, 0.07, 0.04]]}
    worse = row | {"recipe": "bce-both", "loss": "bce", "mean": [0.05, 0.05, 0.045, 0.04]}
    record = {"title": "Cycle", "weights": [0.0, 0.5, 1.0, 2.0], "metric": "NDCG@10", "alone": {"followers": 0.03}}
    text = counts_markdown([record | {"rows": [row, worse]}])
    assert "**Cycle**: NDCG@10 on validation; counts alone 0.0300" in text
    assert "| loss | seeds | model alone | weight 0.5 | weight 1 | weight 2 |" in text
    assert "| SCE (time) | 1 | 0.0500 | 0.0600 | 0.0700 | 0.0400 |" in text
    assert "With a weight of 1, 1 of these 2 are better than without counts" in text
    assert "the difference is -0.0050 to +0.0200. 1 are better than either alone" in text
    assert "python benchmarks/counts.py MATCH" in counts_markdown([])


def test_a_record_from_before_a_setting_is_as_if_without_it(cycle_split, folders, monkeypatch):
    entry = play(cycle_split, folders)[-1]
    path = folders["results"] / "cycle-sampled-time.json"
    record = json.loads(path.read_text())
    assert record == json.loads(json.dumps(entry))
    assert record["rules"]["config"].pop("followers") == 0
    path.write_text(json.dumps(record))
    steps = []
    assert play(cycle_split, folders, steps=steps)[-1]["tested_at"] == entry["tested_at"]
    assert steps == []
    monkeypatch.setitem(MATCHES, "cycle", TINY)
    later = play(cycle_split, folders, "cce-both")[-1]
    text = tournament_markdown([record, later], folder=folders["results"])
    assert text.count("2 trials and 2 seeds") == 1, "one meeting, in which they are compared"
    assert "in NDCG@10:" in text
    counted = dataclasses.replace(TINY, config=dataclasses.replace(TINY.config, followers=1.0))
    with pytest.raises(ValueError, match="was made with config="):
        play(cycle_split, folders, match=counted)
