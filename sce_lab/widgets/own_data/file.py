"""A person's file: what its columns are called, and what it is once it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sce_lab.data import SPLITS, Split, SyntheticProcess, read_interactions, summarize, written
from sce_lab.data.fetching import DATA_VARIABLE
from sce_lab.data.reading import existing
from sce_lab.data.tables import READABLE
from sce_lab.describing import popularity_ranks
from sce_lab.files import write_text
from sce_lab.metrics import BASELINES, ranking_metrics
from sce_lab.runs import runs_root

#: Endings of files that are listed.
LISTED = tuple(suffix for suffix in READABLE if suffix != ".json")
#: So many files are listed at most.
NEAR = 200
#: Users that baselines are judged on at most: they are for comparison at a glance.
ASKED = 5_000
#: The rules that a file can be divided by, for people.
RULES = {"leave_one_out": "each user's last item", "temporal": "one moment for all"}


def files_near(folder: str | os.PathLike[str] = ".") -> list[Path]:
    """Files that may hold interactions, in ``folder``, in that of SCE_LAB_DATA, and at most two folders below.

    What the lab keeps itself is left out, and so are ``.json`` files, of which nearly all are something else.
    """
    roots = [Path(folder), *map(Path, filter(None, [os.environ.get(DATA_VARIABLE)]))]
    found = (path for root in roots for path in _below(root, 2) if path.name.lower().endswith(LISTED))
    return list(islice(dict.fromkeys(islice(found, 2 * NEAR)), NEAR))


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Files in ``folder``, then those in its folders, as they are found; nothing hidden, and not the lab's runs."""
    try:
        entries = sorted((each for each in os.scandir(folder) if each.name[0] != "."), key=lambda each: each.name)
    except OSError:
        return
    yield from (Path(each.path) for each in entries if each.is_file())
    if depth:
        for each in entries:
            if each.is_dir() and Path(each.path).resolve() != runs_root().resolve():
                yield from _below(Path(each.path), depth - 1)


@dataclass(frozen=True)
class OwnData:
    """What was brought, ready for training.

    Attributes:
        name: of the file.
        path: where it is.
        version: of the file when it was read, see :func:`sce_lab.data.written`.
        rule: by which they are divided, a key of :data:`sce_lab.data.SPLITS`.
        columns: which column of the file said what; "" for the time: the order of the rows.
        reading: what else was said of the file: ``date_format`` and ``drop_repeats``, if they were.
        summary: as of :func:`sce_lab.data.summarize`.
        times, counts: of all interactions, and of each item how many there are.
        baselines: by name, metrics of what needs no model, on validation.
        popularity: ``(U,)``, where popularity alone ranks the test targets.
    """

    name: str
    path: Path
    version: list
    rule: str
    columns: Mapping[str, str]
    reading: Mapping[str, Any]
    split: Split
    summary: pd.DataFrame
    times: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    baselines: Mapping[str, Mapping[str, float]]
    popularity: np.ndarray = field(repr=False)

    @property
    def source(self) -> dict[str, Any]:
        """What :func:`sce_lab.data.open_split` takes."""
        return {"source": str(self.path), "split": self.rule, **self.columns, **self.reading}

    @property
    def dated(self) -> bool:
        """Whether times are Unix seconds."""
        return "span (days)" in self.summary.index

    @property
    def facts(self) -> dict[str, str]:
        """What the data are, for people."""
        value = self.summary["value"]
        span = f"{value['span (days)']:,.0f} days" if self.dated else "numbers that are no Unix times"
        reach = [f"{self.baselines[name]['HR@10']:.4f}" for name in ("popularity", "transitions")]
        return {
            "users": f"{value['users']:,}",
            "items": f"{value['items']:,}, {value['items that occur once']:,} of them once",
            "interactions": f"{value['interactions']:,}; {value['interactions per user, median']:,.0f} a user (median)",
            "long tail": f"{value['share of the most popular 1 % of items']:.0%} fall on the most popular 1 % of items",
            "time": span,
            "repeats": f"{value['repeated (user, item) pairs'] / value['interactions']:.1%} of the interactions",
            "tested": f"{len(self.split.test):,} users",
            "HR@10 without a model": f"{reach[0]} by popularity, {reach[1]} by what follows the last item (validation)",
        }


def bring(
    path: str | os.PathLike[str],
    columns: Mapping[str, str | None],
    rule: str = "leave_one_out",
    date_format: str = "",
    drop_repeats: bool = False,
) -> OwnData:
    """Read a file, divide its interactions, and find out what they are.

    Args:
        path: the file.
        columns: by "user", "item" and "timestamp" the name of the column; "" for the last: rows stand in order.
        rule: how they are divided, a key of :data:`RULES`.
        date_format, drop_repeats: see :func:`sce_lab.data.read_interactions`; "" is ISO 8601.

    Raises:
        FileNotFoundError, ValueError: as :func:`sce_lab.data.read_interactions` and the rule say them.
    """
    path = existing(path).absolute()
    version = written(str(path))  # what is written while it is read is news
    said = {"date_format": date_format, "drop_repeats": drop_repeats}
    reading = {name: value for name, value in said.items() if value}
    interactions = read_interactions(path, **columns, **reading)
    split = SPLITS[rule](interactions, name=path.name)
    users = len(split.validation)
    n = min(users, max(200, min(ASKED, 2 * 10**8 // split.catalog_size)))
    asked = split.validation.take(np.linspace(0, users - 1, n).astype(int))
    baselines = {
        key: ranking_metrics(BASELINES[key].rank(split, asked), split.catalog_size)
        for key in ("popularity", "transitions")
    }
    return OwnData(
        name=path.name,
        path=path,
        version=version,
        rule=rule,
        columns=dict(columns),
        reading=reading,
        split=split,
        summary=summarize(interactions),
        times=interactions["timestamp"].to_numpy(),
        counts=interactions["item"].value_counts().to_numpy(),
        baselines=baselines,
        popularity=popularity_ranks(split),
    )


def example_file(*, n_users: int = 800) -> Path:
    """A small shop's purchases, made up, among what the lab keeps: for a page that has no file yet.

    A file that is there already is taken as it is, whatever is in it.
    """
    path = runs_root() / "own_data" / "example" / f"purchases_of_{n_users}.csv"
    if path.exists():
        return path
    world = SyntheticProcess(catalog_size=200, n_users=n_users, mean_length=12, seed=1)
    made = world.interactions()
    table = pd.DataFrame(
        {
            "customer_id": made["user"].map("C{:05d}".format),
            "product_id": made["item"].map("P{:04d}".format),
            "date": pd.to_datetime(made["timestamp"], unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, table.sample(frac=1, random_state=0).to_csv(index=False))
    return path
