"""The command ``speedrun``."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

import sce_lab
from sce_lab.cli.options import DeviceOption, ResultsOption
from sce_lab.cli.output import say, show
from sce_lab.cli.running import open_data


def speedrun(
    dataset: Annotated[str, typer.Argument(help="A data set with a race: `amazon_beauty`.")],
    entry: Annotated[str | None, typer.Option(help="Which entry. Default: the last one.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many trainings, with seeds from 0. Five decide.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the CPU. Default: torch's own choice.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Keep it beside the records, for the table.")] = False,
    ahead: Annotated[
        bool, typer.Option("--ahead", help="Instead: validation and test after each epoch, with other seeds.")
    ] = False,
    device: DeviceOption = "auto",
    results: ResultsOption = None,
) -> None:
    """Train until the paper's row is passed, and say how long it took.

    Validation alone decides when to stop, by thresholds that were fixed with other seeds (`--ahead`). The clock counts
    training and validation; reading the data and judging the test are outside. The rules are in `docs/speedrun.md`.

    `sce-lab speedrun amazon_beauty`
    """
    import torch

    from sce_lab.reproduce import speedrun as racing
    from sce_lab.reproduce.races import find_race
    from sce_lab.runs.environment import environment

    if ahead and record:
        raise ValueError("--ahead looks at the test of other seeds, which is no race: leave out --record")
    race = find_race(dataset)
    chosen = race.entry(entry)
    device = sce_lab.training.choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    if record:
        racing.check_recordable(race, chosen, seeds, device, results)
    split = open_data({"source": dataset})
    say(f"{chosen.name}: {chosen.note}.")
    if ahead:
        for seed in range(seeds):
            for row in racing.look_ahead(chosen, split, seed, device):
                parts = [f"{name} {row[part][name]:.4f}" for part in ("validation", "test") for name in racing.METRICS]
                say(f"seed {row['seed']}, epoch {row['epochs']}: {', '.join(parts)} (validation, then test)")
        return
    here = environment()
    where = racing.machine_of({"environment": here, "device": device})
    came_out = []
    for seed in range(seeds):
        came_out.append(racing.run(chosen, split, seed, device))
        say(racing.in_a_line(came_out[-1], race.goal, where))
    if record:
        words = ["sce-lab", "speedrun", dataset, "--entry", chosen.name, "--seeds", str(seeds)]
        words += ["--threads", str(here["threads"])] if device == "cpu" else ["--device", device]
        racing.record_race(race, chosen, came_out, shlex.join(words), results, device)
    if seeds > 1 or record:
        shown = racing.read_races(dataset, results) if record else []
        if shown:
            show(racing.race_table(shown))
        mean = sum(each["seconds"] for each in came_out) / len(came_out)
        say(f"{mean:.1f} s on average over {seeds} seed{'s' if seeds > 1 else ''}.")
