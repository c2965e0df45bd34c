"""The command ``language``."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sce_lab
from sce_lab.cli.options import OutOption, ResultsOption
from sce_lab.cli.output import say, show
from sce_lab.cli.running import stop_on_interrupt

if TYPE_CHECKING:
    from sce_lab.language import Corpus, Entry, Progress, Study


def language(
    vocabulary: Annotated[
        str, typer.Option(help="Words of the vocabulary; several sizes separated by commas.")
    ] = "4096,16384,32768",
    text: Annotated[
        Path | None,
        typer.Option(help="A file or folder of text or Python source. Default: the source of Python's own library."),
    ] = None,
    loss: Annotated[
        str, typer.Option(help="Which ways to train, separated by commas, or `all`; see `--plan`.")
    ] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="Train each so many times, with the seeds 0, 1, ...")] = 1,
    seconds: Annotated[
        float | None, typer.Option(min=0.01, help="Of each training, on one thread. Default: by the vocabulary.")
    ] = None,
    hidden_size: Annotated[int | None, typer.Option(min=1, help="Width D of the model. Default: 64.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would be trained, and what it would hold.")
    ] = False,
    record: Annotated[bool, typer.Option("--record", help="Keep the record where `sce-lab results` finds it.")] = False,
    out: OutOption = None,
    results: ResultsOption = None,
) -> None:
    """Train the head of a small language model with every loss, and judge its probabilities.

    A language model needs probabilities, not only a ranking. All losses have the same batches, first weights and
    seconds, and perplexity is always by the whole vocabulary. Without `--record` the record is kept with the runs.
    Called again, also with more seeds, it goes on where it was, a training back at most.

    `sce-lab language --vocabulary 4096 --loss cce,sce,sce-finish`
    """
    import torch

    from sce_lab.language import ENTRIES, read_corpus, read_language, record_path
    from sce_lab.reproduce import own_results

    names = list(ENTRIES) if loss == "all" else [name.strip() for name in loss.split(",")]
    for name in names:
        if name not in ENTRIES:
            raise ValueError(f"there is no way to train called {name!r}; there is {', '.join(ENTRIES)}")
    entries = {name: ENTRIES[name] for name in ENTRIES if name in names}
    sizes = _sizes(vocabulary)
    folder = own_results(results, "language_model") if record else (out or sce_lab.runs.runs_root()) / "language"
    torch.set_num_threads(1)
    largest = 0
    with stop_on_interrupt() as stop:
        for size in sizes:
            corpus, study = read_corpus(size, text), _study(size, seconds, hidden_size)
            counted = corpus.statistics
            if counted["vocabulary"] == largest:
                say(f"{corpus.name} has no more words than that: {size:,} is left out.")
                continue
            largest = counted["vocabulary"]
            files, unknown = sum(counted["files"].values()), counted["unknown"]["test"]
            say(
                f"{corpus.name}: {counted['tokens']['train']:,} words of training, {files:,} files in all, a "
                f"vocabulary of {counted['vocabulary']:,}; {unknown:.1%} of the test is <unk>. {counted['licence']}"
            )
            if plan:
                _plan(corpus, study, entries, seeds)
                continue
            path = record_path(corpus.name, size, folder, seconds)
            repeat = _repeat(size, text, loss, seeds, seconds, hidden_size)
            _train(corpus, study, entries, seeds, path, repeat, stop)
            if path.exists():
                _judged(read_language(path))
                say(f"Recorded in {path}")
            if stop():
                say("Call the same command again to go on.")
                return


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part.replace("_", "")) for part in text.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 4:
        raise ValueError(f"--vocabulary takes whole numbers from 4 on, separated by commas, such as 4096, got {text!r}")
    return sizes


def _study(size: int, seconds: float | None, hidden_size: int | None) -> Study:
    from sce_lab.language import Study

    study = Study.of_size(size)
    if seconds is not None:
        study = dataclasses.replace(study, seconds=seconds)
    if hidden_size is not None:
        study = dataclasses.replace(study, config=dataclasses.replace(study.config, hidden_size=hidden_size, n_heads=1))
    return study


def _plan(corpus: Corpus, study: Study, entries: dict[str, Entry], seeds: int) -> None:
    import pandas as pd

    from sce_lab.language.study import workspace_of
    from sce_lab.reproduce import format_setting

    rows = []
    for name, entry in entries.items():
        settings = ", ".join(format_setting(*one) for one in entry.settings.items())
        settings += f"; the last {entry.finish:.0%} of the time cross-entropy" if entry.finish else ""
        held = workspace_of(entry, study, len(corpus.vocabulary))
        rows.append({"name": name, "what": entry.words, "settings": settings, "loss holds": sce_lab.format_bytes(held)})
    show(pd.DataFrame(rows))
    minutes = len(entries) * seeds * study.seconds / 60
    say(f"{len(entries)} x {seeds} trainings of {study.seconds:g} s: {minutes:.1f} minutes of one core, and judging.")


def _train(
    corpus: Corpus, study: Study, entries: dict[str, Entry], seeds: int, path: Path, repeat: str, stop: object
) -> None:
    from tqdm import tqdm

    from sce_lab.language import run_study

    bar: tqdm | None = None
    every = 0.2 if sys.stderr.isatty() else 10.0

    def watch(name: str, seed: int, steps: int, progress: Progress) -> None:
        nonlocal bar
        if progress.step == 1:
            bar = tqdm(total=steps, unit="step", desc=f"{name}, seed {seed}", dynamic_ncols=True, mininterval=every)
        bar.update()
        bar.set_postfix(loss=f"{progress.loss:.3f}", refresh=False)
        if progress.step == steps:
            bar.close()

    say("Timing steps of what is new; then training.")
    for name, seed, found in run_study(corpus, study, entries, seeds, path, repeat=repeat, watch=watch, stop=stop):
        test = found["test"]
        say(
            f"{name}, seed {seed}: perplexity {test['none']['perplexity']:.1f}, with word bias and scale "
            f"{test['word bias']['perplexity']:.1f}, top-10 {test['none']['top10']:.1%}"
        )
    if bar is not None:
        bar.close()


def _judged(record: dict) -> None:
    from sce_lab.language.report import findings, for_people, language_table

    table = language_table(record)
    if len(table):
        show(for_people(table))
        for sentence in findings(table):
            say(sentence)


def _repeat(size: int, text: Path | None, loss: str, seeds: int, seconds: float | None, hidden_size: int | None) -> str:
    words = ["sce-lab", "language", "--vocabulary", str(size), "--seeds", str(seeds)]
    words += ["--text", text.name] if text else []  # where it lies is nobody's business
    words += ["--loss", loss] if loss != "all" else []
    words += ["--seconds", f"{seconds:g}"] if seconds is not None else []
    words += ["--hidden-size", str(hidden_size)] if hidden_size is not None else []
    return shlex.join([*words, "--record"])
