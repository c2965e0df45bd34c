"""Records of the experiment: one JSON file a text and vocabulary size, rewritten whole after every training.

::

    corpus        name, fingerprint, statistics (see :class:`.corpus.Corpus`), unigram perplexity on the test windows
    rules         what all entries have in common (:class:`.study.Study`): config, seconds, windows
    repeat        the commands that made it, one behind the other
    environment   where (:func:`sce_lab.runs.environment`)
    entries       by name (:data:`.study.ENTRIES`):
      words, loss, settings, finish          what it is
      workspace                              bytes that the loss is predicted to hold at most
      pace                                   seconds of a step of its loss, of the computing thread
      steps, finish_steps                    that each training has: as many as fit into the seconds
      seeds                                  by seed ("0", "1", ...):
        curve         a list: step, seconds (of the thread), loss (mean since the last point), finishing, and of some
                      windows of validation perplexity, nats, top1, top10, calibration_error, log_z, log_z_spread
        cpu_seconds   of the training, as they were
        log sum bias  what the loss takes for its log-sum, minus that over the vocabulary; None: it has none
        test          by correction ("none", "scale", "word bias"): scale, the measures of the curve, and
                      by_window, mean nats of each window: the same windows for all entries and seeds
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sce_lab.files import write_text
from sce_lab.language.corpus import Corpus
from sce_lab.language.evaluation import unigram_nats
from sce_lab.language.study import Entry, Progress, Study, measured_pace, steps_of, train_entry, workspace_of
from sce_lab.language.windows import evaluation_batches
from sce_lab.runs import environment
from sce_lab.training.config import completed

EXACT = "cce"
"""The entry whose pace is that of every finish, and at whose number of steps every other one is evaluated, too."""


def record_path(corpus_name: str, vocabulary_size: int, folder: Path, seconds: float | None = None) -> Path:
    """Where the record of a text and a vocabulary of this size (that was asked for) is; of other seconds than the
    usual ones it is another."""
    return folder / f"{corpus_name}-{vocabulary_size}{'' if seconds is None else f'-{seconds:g}s'}.json"


def read_language(path: Path) -> dict[str, Any]:
    """A record.

    Raises:
        FileNotFoundError: there is none; the message says which command makes one.
        ValueError: the file is something else.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no record {path}: sce-lab language --record makes one")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not {"corpus", "rules", "entries"} <= set(record):
            raise ValueError("it lacks corpus, rules or entries")
    except ValueError as error:
        raise ValueError(f"{path} is no record of the language experiment ({error}): move it away") from error
    return record


def read_all(folder: Path) -> list[dict[str, Any]]:
    """All records of a folder, the smallest vocabulary of each text and the shortest trainings first."""
    records = [read_language(path) for path in sorted(folder.glob("*.json"))]

    def place(record: dict[str, Any]) -> tuple[Any, ...]:
        corpus = record["corpus"]
        return corpus["name"], corpus["statistics"]["vocabulary"], record["rules"]["seconds"]

    return sorted(records, key=place)


def run_study(
    corpus: Corpus,
    study: Study,
    entries: Mapping[str, Entry],
    seeds: int,
    path: Path,
    *,
    repeat: str,
    watch: Callable[[str, int, int, Progress], None] = lambda name, seed, steps, progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Train what the record lacks, seed by seed, and yield entry, seed and what came out, after it is written.

    Args:
        corpus, study, entries: what.
        seeds: 0, 1, ... so many of each entry. What is there is kept, if there are more.
        path: of the record, made if it is not there.
        repeat: the command, for the record.
        watch: is told entry, seed, the number of steps, and every step.
        stop: is asked before each step; a training that was stopped leaves nothing.

    Raises:
        ValueError: the record in the way was made by other rules, of another text, or with other settings of an entry.
    """
    record = read_language(path) if path.exists() else _begun(corpus, study)
    _check(record, corpus, study, entries, path)
    before = [command for command in record.get("repeat", "").split("; ") if command]
    record |= {"repeat": "; ".join(dict.fromkeys([*before, repeat])), "environment": environment()}
    size = len(corpus.vocabulary)
    needed = {name: entry for name, entry in entries.items() if name not in record["entries"]}
    if needed:
        pace = measured_pace(corpus, study, needed)
        exact = record["entries"].get(EXACT, {}).get("pace") or pace.get(EXACT)
        if exact is None:
            exact = measured_pace(corpus, study, {EXACT: Entry("", "cce")})[EXACT]
        for name, entry in needed.items():
            steps, finish = steps_of(entry, study, pace[name], exact)
            about = {"words": entry.words, "loss": entry.loss, "settings": dict(entry.settings), "finish": entry.finish}
            about |= {"workspace": workspace_of(entry, study, size), "pace": pace[name]}
            record["entries"][name] = about | {"steps": steps, "finish_steps": finish, "seeds": {}}
        write_language(path, record)
    equal = [record["entries"][EXACT]["steps"]] if EXACT in record["entries"] else []
    for seed in range(seeds):
        for name, entry in entries.items():
            mine = record["entries"][name]
            if str(seed) in mine["seeds"]:
                continue
            steps = mine["steps"], mine["finish_steps"]
            told = _watching(watch, name, seed, steps[0])
            found = train_entry(corpus, study, entry, seed, steps, equal, watch=told, stop=stop)
            if found is None:
                return
            mine["seeds"][str(seed)] = found
            write_language(path, record)
            yield name, seed, found


def write_language(path: Path, record: dict[str, Any]) -> None:
    """Write it, whole or not at all; lists of numbers take one line each."""
    text = json.dumps(record, indent=1)
    text = re.sub(r"\[[-\d.eE,\s]+\]", lambda found: re.sub(r"\s+", " ", found[0]), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text + "\n")


def _begun(corpus: Corpus, study: Study) -> dict[str, Any]:
    test = evaluation_batches(corpus.test, study.for_test, study.config.max_length)
    perplexity = float(np.exp(unigram_nats(corpus.counts, test)))
    about = {"name": corpus.name, "fingerprint": corpus.fingerprint, "statistics": corpus.statistics}
    return {"corpus": about | {"unigram perplexity": perplexity}, "rules": study.rules, "entries": {}}


def _check(record: dict[str, Any], corpus: Corpus, study: Study, entries: Mapping[str, Entry], path: Path) -> None:
    if record["corpus"]["fingerprint"] != corpus.fingerprint:
        raise ValueError(
            f"{path} is of another text, or of another Python's library: move it away, or name another folder with "
            "--results"
        )
    ours, theirs = study.rules, record["rules"] | {"config": completed(record["rules"]["config"])}
    pairs = [(name, theirs.get(name), ours[name]) for name in ours]
    for name, entry in entries.items():
        known = record["entries"].get(name)
        if known:
            told = {"loss": entry.loss, "settings": dict(entry.settings), "finish": entry.finish}
            pairs += [(f"{key} of {name}", known[key], json.loads(json.dumps(value))) for key, value in told.items()]
    for name, recorded, asked in pairs:
        if recorded != asked:
            raise ValueError(
                f"{path} was made with {name}={recorded!r}, and now {asked!r} is asked for: move it away, or name "
                "another folder with --results"
            )


def _watching(watch: Callable[[str, int, int, Progress], None], *about: Any) -> Callable[[Progress], None]:
    return lambda progress: watch(*about, progress)
