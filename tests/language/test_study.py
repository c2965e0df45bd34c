"""The experiment: equal seconds, what is kept, and what is said of it."""

import dataclasses
import json
import math

import numpy as np
import pytest

from sce_lab.figures import figure, language_curves_spec, perplexity_memory_spec, top10_perplexity_spec
from sce_lab.files import repository
from sce_lab.language import CAP, ENTRIES, LANGUAGE_CONFIG, Study, read_all, read_corpus, read_language, run_study
from sce_lab.language import records as records_module
from sce_lab.language.report import findings, language_markdown, language_table
from sce_lab.language.study import steps_of, workspace_of
from sce_lab.reproduce.writing import Evidence, updated

TINY = dataclasses.replace(LANGUAGE_CONFIG, hidden_size=8, n_blocks=1, n_heads=1, max_length=8, batch_size=4)
STUDY = Study(TINY, seconds=0.01, points=2, on_the_way=4, for_scale=4, for_bias=8, for_test=6)
FEW = {name: ENTRIES[name] for name in ("cce", "sce", "sce-finish")}


@pytest.fixture
def corpus(texts):
    return read_corpus(50, texts)


@pytest.fixture(autouse=True)
def _known_pace(monkeypatch):
    pace = {"cce": 0.002, "sce": 0.001, "sce-finish": 0.001}
    monkeypatch.setattr(
        records_module, "measured_pace", lambda corpus, study, entries, **_: {name: pace[name] for name in entries}
    )


def run(corpus, path, seeds=1, entries=FEW, study=STUDY, **more):
    return [(name, seed) for name, seed, _ in run_study(corpus, study, entries, seeds, path, repeat="again", **more)]


def test_equal_seconds_become_steps():
    study = Study(seconds=10.0)
    assert steps_of(ENTRIES["cce"], study, 0.1, 0.1) == (100, 0)
    assert steps_of(ENTRIES["sce"], study, 0.02, 0.1) == (500, 0)
    assert steps_of(ENTRIES["sce-finish"], study, 0.02, 0.1) == (400 + 20, 20)
    assert steps_of(ENTRIES["sce-finish"], study, 50.0, 50.0) == (2, 1)


def test_only_losses_with_tables_of_their_own_hold_more_than_the_cap():
    held = {name: workspace_of(entry, Study.of_size(32_768), 32_768) for name, entry in ENTRIES.items()}
    assert [name for name, nbytes in held.items() if nbytes > CAP] == ["bce", "ce"]


def test_what_is_recorded_is_kept_and_more_seeds_are_added(corpus, tmp_path):
    path = tmp_path / "kept" / "texts-50.json"
    assert run(corpus, path) == [("cce", 0), ("sce", 0), ("sce-finish", 0)]
    first = read_language(path)
    entry = first["entries"]["sce-finish"]
    assert (entry["steps"], entry["finish_steps"]) == (8 + 1, 1)
    curve = entry["seeds"]["0"]["curve"]
    assert [point["step"] for point in curve] == [4, 5, 9]  # 5: where cross-entropy ends
    assert [point["finishing"] for point in curve] == [False, False, True]
    assert set(entry["seeds"]["0"]["test"]) == {"none", "scale", "word bias"}
    assert len(entry["seeds"]["0"]["test"]["none"]["by_window"]) == 6
    assert entry["seeds"]["0"]["log sum bias"] < 1e-6  # what is left out can only make the sum smaller
    assert abs(first["entries"]["cce"]["seeds"]["0"]["log sum bias"]) < 1e-5
    assert run(corpus, path, 2) == [("cce", 1), ("sce", 1), ("sce-finish", 1)]
    second = read_language(path)
    for name in FEW:
        assert second["entries"][name]["seeds"]["0"] == first["entries"][name]["seeds"]["0"]
    assert run(corpus, path, 2) == []
    assert read_all(path.parent) == [read_language(path)]


def test_a_training_that_is_stopped_leaves_nothing_and_is_made_later(corpus, tmp_path):
    path = tmp_path / "texts-50.json"
    told = []
    watch = lambda name, seed, steps, progress: told.append((name, steps, progress.step))  # noqa: E731
    assert run(corpus, path, watch=watch, stop=lambda: len(told) > 7) == [("cce", 0)]
    assert [step for name, _, step in told if name == "cce"] == [1, 2, 3, 4, 5]
    assert read_language(path)["entries"]["sce"]["seeds"] == {}
    assert len(language_table(read_language(path))) == 3
    assert run(corpus, path) == [("sce", 0), ("sce-finish", 0)]


def test_other_rules_texts_and_settings_are_refused(corpus, texts, tmp_path):
    path = tmp_path / "texts-50.json"
    run(corpus, path, entries={"sce": FEW["sce"]})
    kept = path.read_text()
    with pytest.raises(ValueError, match=r"made with seconds=0.01, and now 0.02 is asked for"):
        run(corpus, path, study=dataclasses.replace(STUDY, seconds=0.02))
    with pytest.raises(ValueError, match="of another text"):
        run(read_corpus(9, texts), path)
    with pytest.raises(ValueError, match="made with settings of sce="):
        run(corpus, path, entries={"sce": dataclasses.replace(FEW["sce"], settings={"mix_x": False})})
    assert path.read_text() == kept
    path.write_text("{}")
    with pytest.raises(ValueError, match="no record of the language experiment"):
        read_language(path)
    with pytest.raises(FileNotFoundError, match="sce-lab language --record makes one"):
        read_language(tmp_path / "none.json")


def made(nats, top10, seeds=3):
    """A record whose entries have these nats and this top-10."""
    rng = np.random.default_rng(0)
    easy = rng.normal(size=40)
    entries = {}
    for name, value in nats.items():
        by_seed = {}
        for seed in range(seeds):
            windows = easy + value + 0.01 * rng.normal(size=40)
            whole = {"perplexity": math.exp(windows.mean()), "nats": windows.mean(), "top1": 0.2, "top10": top10[name]}
            whole |= {"calibration_error": 0.1, "log_z": 3.0, "log_z_spread": 1.0, "scale": 1.0}
            test = {
                key: whole | {"by_window": list(windows), "perplexity": whole["perplexity"] + i}
                for i, key in enumerate(("none", "scale", "word bias"))
            }
            points = [whole | {"step": step, "seconds": step / 10, "loss": 2.0, "finishing": False} for step in (5, 10)]
            by_seed[str(seed)] = {"curve": points, "cpu_seconds": 1.0, "log sum bias": -0.5, "test": test}
        entry = ENTRIES[name]
        entries[name] = {"words": entry.words, "loss": entry.loss, "settings": {}, "finish": 0.0, "workspace": 2**21}
        entries[name] |= {"pace": 0.1, "steps": 10, "finish_steps": 0, "seeds": by_seed}
    statistics = {"vocabulary": 50, "licence": "Own.", "tokens": {"train": 1000}, "unknown": {"test": 0.01}}
    corpus = {"name": "made", "fingerprint": "f", "statistics": statistics, "unigram perplexity": 12.0}
    return {"corpus": corpus, "rules": STUDY.rules, "repeat": "again", "environment": {}, "entries": entries}


def test_what_is_said_follows_from_the_numbers():
    record = made({"cce": 4.0, "sce": 5.0, "ce_minus": 5.0}, {"cce": 0.5, "sce": 0.6, "ce_minus": 0.4})
    table = language_table(record)
    row = table[(table["entry"] == "sce") & (table["correction"] == "none")].iloc[0]
    assert row["behind"] == pytest.approx(1.0, abs=0.01)
    assert row["behind low"] < row["behind"] < row["behind high"] < row["behind low"] + 0.05
    assert row["perplexity sd"] > 0
    assert row["at equal steps"] == pytest.approx(row["perplexity"], rel=0.01)
    said = " ".join(findings(table))
    assert "SCE (60.0%, +1.00 [" in said
    assert "CE- (" not in said  # ranks worse
    assert "first look" not in said
    text = language_markdown([record])
    assert "**50 words: made**" in text
    assert f"| {row['perplexity']:.0f} ± {row['perplexity sd']:.0f} |" in text
    few = findings(language_table(made({"cce": 4.0}, {"cce": 0.5}, seeds=2)))
    assert few[0] == "Fewer than 3 seeds: a first look, and no claim."
    assert few[1].startswith("Lowest perplexity: as trained, Cross-entropy, logits never held (5")
    assert "sce-lab language --record" in language_markdown([])


def test_figures_show_every_entry_and_its_correction():
    record = made({"cce": 4.0, "sce": 5.0}, {"cce": 0.5, "sce": 0.6})
    memory, ranking, curves = (
        figure(make(record)) for make in (perplexity_memory_spec, top10_perplexity_spec, language_curves_spec)
    )
    table = language_table(record).set_index(["entry", "correction"])
    for trace, name in zip(memory.data, ("cce", "sce")):
        assert list(trace.y) == [table.loc[name, key]["perplexity"] for key in ("none", "word bias")]
        assert list(trace.x) == [2**21] * 2
    assert [trace.y[0] for trace in ranking.data] == [0.5, 0.6]
    assert len(curves.data) == 4
    assert list(curves.data[1].x) == [0.5, 1.0]


def test_the_page_says_what_was_recorded():
    path = repository() / "docs" / "language_model.md"
    assert updated(path, Evidence.read()) == path.read_text(encoding="utf-8")


def test_the_command_trains_records_and_goes_on(sce_lab, texts, tmp_path, monkeypatch):
    monkeypatch.setenv("SCE_LAB_RUNS", str(tmp_path / "runs"))
    shared = ("language", "--text", str(texts), "--vocabulary", "50,60", "--seconds", "0.01", "--loss", "cce,sce")
    shared += ("--hidden-size", "8")
    status, out, _ = sce_lab(*shared, "--plan")
    assert status == 0
    assert "SCE" in out
    assert "texts has no more words than that: 60 is left out." in out
    assert not (tmp_path / "runs").exists()
    status, out, _ = sce_lab(*shared)
    assert status == 0
    record = read_language(tmp_path / "runs" / "language" / "texts-50-0.01s.json")
    for name in ("cce", "sce"):
        found = record["entries"][name]["seeds"]["0"]["test"]["none"]
        assert f"{name}, seed 0: perplexity {found['perplexity']:.1f}" in out
    assert json.dumps(record["repeat"]).count(str(tmp_path)) == 0
    status, out, _ = sce_lab(*shared, "--record", "--results", str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "language_model" / "texts-50-0.01s.json").exists()
    status, out, _ = sce_lab(*shared)
    assert "seed 0" not in out
    assert status == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--loss", "magic"), "there is no way to train called 'magic'; there is cce, sce"),
        (("--vocabulary", "many"), "--vocabulary takes whole numbers from 4 on"),
        (("--text", "nowhere.txt"), "there is no text nowhere.txt"),
    ],
)
def test_the_command_says_what_is_wrong_in_a_sentence(sce_lab, words, sentence):
    status, _, err = sce_lab("language", *words)
    assert status == 2
    assert sentence in err
