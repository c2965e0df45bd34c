"""The command ``tournament``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sce_lab
from sce_lab.cli.options import ForceOption, OutOption, ResultsOption
from sce_lab.cli.output import complain, say, show
from sce_lab.cli.running import check_fits, open_data, stop_on_interrupt, train_with_bar

if TYPE_CHECKING:
    from sce_lab.data import Split
    from sce_lab.reproduce.matches import Match
    from sce_lab.reproduce.tournament import Entry
    from sce_lab.training import TrainingConfig


def tournament(
    dataset: Annotated[
        str | None, typer.Argument(help="One data set: `amazon_beauty`, `synthetic_1e5`, ... Default: all.")
    ] = None,
    loss: Annotated[str, typer.Option(help="Which losses, separated by commas, or `all`.")] = "all",
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be trained and how long it takes.")] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="Only measure how long a step of each loss takes. The machine must do nothing else."
        ),
    ] = False,
    force: ForceOption = False,
    out: OutOption = None,
    results: ResultsOption = None,
) -> None:
    """Train all losses under the same rules and judge them: equal seconds, and equal memory of the loss.

    On a data set every loss has the same encoder, batches, first weights, number of trials and seconds; what is chosen
    on validation is trained with fresh seeds, and tested once. Seconds are those that `--calibrate` has recorded, once,
    on a quiet machine: where they are missing, call it so first. A busy machine then changes nothing, and each process
    takes one thread: two can run side by side, for other data sets or losses. Called again, it goes on where it was, an
    evaluation back at most.

    `sce-lab tournament amazon_beauty --loss sce,cce`
    """
    import torch

    from sce_lab.memory.allocator import keep_freed_memory
    from sce_lab.reproduce import own_results, results_folder
    from sce_lab.reproduce.calibration import pace_of
    from sce_lab.reproduce.matches import MATCHES
    from sce_lab.reproduce.tournament import entries_of

    if dataset not in (None, *MATCHES):
        raise ValueError(f"there is no tournament on {dataset!r}; there is one on {', '.join(MATCHES)}")
    matches = [match for name, match in MATCHES.items() if dataset in (None, name)]
    known = dict.fromkeys(name for match in matches for name in match.contenders)
    wanted = list(known) if loss == "all" else [name.strip() for name in loss.split(",")]
    for name in wanted:
        if name not in known:
            raise ValueError(f"the tournament has {', '.join(known)}, got {name!r}")
    torch.set_num_threads(1)
    keep_freed_memory()  # a step then takes as long in a training as where it was measured
    folder = results_folder("tournament", results) if plan else own_results(results, "tournament")
    total = 0.0
    with stop_on_interrupt() as stop:
        for match in matches:
            split = open_data(dict(match.source))
            all_of_it = entries_of(match, split)
            entries = {name: entry for name, entry in all_of_it.items() if entry.contender in wanted}
            if calibrate:
                _calibrate(match, all_of_it, split, folder)
            elif plan:
                total += _plan(match, entries, folder)
            else:
                paces = {name: pace_of(match, entry, folder) for name, entry in entries.items()}
                _judge_untrained(match, split, folder)
                for name, entry in entries.items():
                    if stop():
                        break
                    _play(match, entry, paces[name], split, stop, force, out, folder)
    if plan:
        say(f"\n{total / 3600:.1f} hours on one core, {total / 7200:.1f} on two, of a machine like that one.")
    if stop():
        say("Call the same command again to go on.")


def _calibrate(match: Match, entries: dict[str, Entry], split: Split, folder: Path) -> None:
    from sce_lab.reproduce.calibration import calibrate

    repeat = f"sce-lab tournament {match.name} --calibrate"
    for name, seconds in calibrate(match, entries, split, repeat=repeat, results=folder):
        say(f"{match.name} {name}: {1000 * seconds:,.0f} ms a step")


def _judge_untrained(match: Match, split: Split, folder: Path) -> None:
    """Record what needs no training, and the best possible where it is known, unless that is done."""
    from sce_lab.reproduce import judge_baselines, read_baselines, write_baselines

    known = {record["dataset"]: record["fingerprint"] for record in read_baselines(folder)}
    if known.get(match.name) == split.fingerprint:
        return
    _, process = sce_lab.data.open_split(**match.source)
    ceiling = process.ceiling(split.test) if process else None
    judged = judge_baselines(match.name, split, repeat=f"sce-lab tournament {match.name}", ceiling=ceiling)
    write_baselines(judged, folder)


def _plan(match: Match, entries: dict[str, Entry], folder: Path) -> float:
    """Show what would be trained; returns the seconds of it."""
    import pandas as pd

    from sce_lab.reproduce import format_setting
    from sce_lab.reproduce.calibration import estimate, pace_of
    from sce_lab.reproduce.matches import in_words
    from sce_lab.reproduce.tournament import plan_of

    rows, total, left_out = [], 0.0, []
    for name, entry in entries.items():
        row = {"name": name, "settings": ", ".join(format_setting(*one) for one in entry.settings.items())}
        row["loss holds"] = sce_lab.format_bytes(entry.workspace)
        try:
            took = plan_of(match, entry, *pace_of(match, entry, folder)).took
            seconds = estimate(match, entry, folder)
        except ValueError as error:
            left_out.append(str(error))
            continue
        row |= {"steps": f"{took['steps']:,}", "s used": f"{took['seconds']:.1f}"}
        row |= {"minutes in all": f"{seconds / 60:.0f}"}
        rows.append(row)
        total += seconds
    if rows:
        show(pd.DataFrame(rows), f"{match.name}: {in_words(match.rules)}")
    for sentence in dict.fromkeys(left_out):
        complain(sentence, "yellow", "note")
    return total


def _play(
    match: Match,
    entry: Entry,
    pace: tuple[float, int],
    split: Split,
    stop: object,
    force: bool,
    out: Path | None,
    folder: Path,
) -> None:
    from sce_lab.reproduce.tournament import compete, plan_of

    source = dict(match.source)
    try:
        plan = plan_of(match, entry, *pace)
    except ValueError as error:
        complain(str(error), "yellow", "note")
        return
    if not force:
        check_fits(plan.config_of(entry.name), split)
    used = f"{plan.took['seconds']:.1f} of {match.seconds:g} s"
    say(f"{entry.name}: {plan.took['steps']:,} steps a training, {used} of a quiet machine")

    def train_run(config: TrainingConfig, run: Path) -> None:
        say(f"to epoch {config.max_epochs} in {run}")
        train_with_bar(config, split, source, run, stop, when_to_test="never")

    repeat = f"sce-lab tournament {match.name} --loss {entry.contender}"
    runs = out or sce_lab.runs.runs_root()
    for record in compete(
        match, plan, split, train_run, repeat=repeat, runs=runs / "tournament", results=folder, say=say
    ):
        if "trials" in record:
            best = max(trial["validation NDCG@10"] for trial in record["trials"])
            tried = f"{len(record['trials'])} of {match.n_trials} trials"
            say(f"{entry.name}: {tried}, best NDCG@10 {best:.4f} on validation")
        else:
            tested = f", {record['mean']['NDCG@10']:.4f} on test" if "NDCG@10" in record["mean"] else ""
            reached = f"NDCG@10 {record['mean']['validation NDCG@10']:.4f} on validation{tested}"
            say(f"{entry.name}, {len(record['seeds'])} of {match.seeds} seeds: {reached}")
