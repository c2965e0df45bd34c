"""The command ``variants``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sce_lab
from sce_lab.cli.options import OutOption, ResultsOption
from sce_lab.cli.output import say
from sce_lab.cli.running import open_data, stop_on_interrupt, train_with_bar

if TYPE_CHECKING:
    from sce_lab.training import TrainingConfig


def variants(
    dataset: Annotated[str, typer.Argument(help="`synthetic`, or a name from `sce-lab data`.")] = "amazon_beauty",
    seeds: Annotated[int, typer.Option(min=1, help="Train each so many times, with the seeds 0, 1, ...")] = 3,
    out: OutOption = None,
    results: ResultsOption = None,
) -> None:
    """Train SCE's options beside the paper's SCE, alike and briefly, and measure what each changes.

    Quality is that on validation; the test is not looked at. Gradients and sums of the softmax are compared with those
    of full cross-entropy, on one model. Called again it goes on where it was; with more seeds it adds them.

    `sce-lab variants amazon_beauty --seeds 3`
    """
    import torch

    from sce_lab.reproduce import own_results
    from sce_lab.reproduce.variants import measure_variants

    path = own_results(results, "variants") / f"{dataset}.json"
    torch.set_num_threads(1)
    source = {"source": dataset}
    split = open_data(source)
    runs = (out or sce_lab.runs.runs_root()) / "variants"
    repeat = f"sce-lab variants {dataset} --seeds {seeds}"
    with stop_on_interrupt() as stop:

        def train_run(config: TrainingConfig, folder: Path) -> None:
            say(f"seed {config.seed} in {folder}")
            train_with_bar(config, split, source, folder, stop, when_to_test="never")

        for found in measure_variants(dataset, split, train_run, seeds=seeds, repeat=repeat, runs=runs, path=path):
            say(f"{found['name']}: NDCG@10 {found['validation NDCG@10']:.4f} on validation, {seeds} seeds")
        say("Call the same command again to go on." if stop() else f"Recorded in {path}")
