"""What counts of what followed what add to models that are trained already, on validation.

    python benchmarks/counts.py amazon_beauty           # the models that `sce-lab tournament amazon_beauty` has trained
    python benchmarks/counts.py gowalla_sepgcn --seeds 5 --runs runs

Nothing is trained: the same weights are ranked with the counts and without (:class:`sce_lab.followers.Followers`), by
the match's rule about seen items. Results go to ``benchmarks/results/counts/``, a file a match.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

import torch
from plain import RESULTS, environment, write

from sce_lab.data import Split, open_split
from sce_lab.followers import Followers
from sce_lab.metrics import BASELINES, ranking_metrics
from sce_lab.reproduce.matches import MATCHES, Match
from sce_lab.reproduce.records import best_model
from sce_lab.reproduce.tournament import entries_of
from sce_lab.runs import Run, runs_root
from sce_lab.training import rank_together

WEIGHTS = (0.0, 0.5, 1.0, 2.0)
METRIC = "NDCG@10"


def reached(run: Run, split: Split, followers: Followers, seen: str) -> list[float]:
    """Validation NDCG@10 of a run's best model with each weight of the counts."""
    model, found = best_model(run, split), []
    for followers.weight in WEIGHTS:
        model.followers = followers if followers.weight else None
        ranking = rank_together([model], split.validation, seen=seen)
        found.append(ranking_metrics(ranking, split.catalog_size)[METRIC])
    return found


def measure(match: Match, runs: Path, seeds: int) -> dict:
    """The record of a match: its entries that are trained, and what counts and popularity reach alone."""
    split, _ = open_split(**match.source)
    seen = match.config.seen
    followers = Followers.counted(split.train, split.catalog_size)
    alone = {
        name: ranking_metrics(baseline.rank(split, split.validation, seen=seen), split.catalog_size)[METRIC]
        for name, baseline in BASELINES.items()
        if name != "repeat"
    }
    rows = []
    for name in entries_of(match, split):
        folders = [runs / "tournament" / "reproduce" / match.name / name / f"seed-{seed}" for seed in range(seeds)]
        trained = [Run(folder) for folder in folders if Run(folder).summary]
        if trained:
            by_seed = [reached(run, split, followers, seen) for run in trained]
            mean = [fmean(values) for values in zip(*by_seed)]
            loss = trained[0].config.loss
            rows.append({"recipe": name, "loss": loss, "mean": mean, "by seed": by_seed})
            print(match.name, name, [f"{value:.4f}" for value in mean], flush=True)
    return {
        "dataset": match.name,
        "title": match.title,
        "weights": WEIGHTS,
        "metric": METRIC,
        "alone": alone,
        "rows": rows,
    }


def main() -> None:
    """Measure the matches that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("match", nargs="+", choices=MATCHES)
    parser.add_argument("--runs", type=Path, default=runs_root(), help="where the tournament's runs are")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.match:
        record = measure(MATCHES[name], given.runs, given.seeds)
        if not record["rows"]:
            parser.error(f"nothing of {name} is trained in {given.runs}: `sce-lab tournament {name}` does it")
        repeat = f"python benchmarks/counts.py {name} --seeds {given.seeds}"
        record |= {"repeat": repeat, "environment": environment() | {"command": repeat}}
        write(RESULTS / "counts" / f"{name}.json", json.loads(json.dumps(record)))


if __name__ == "__main__":
    main()
