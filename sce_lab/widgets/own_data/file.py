"""A person's file: what its columns are called, and what it is once it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet

from sce_lab.data import SPLITS, Split, SyntheticProcess, read_interactions, summarize
from sce_lab.data.fetching import DATA_VARIABLE
from sce_lab.data.opening import PACKED, content_name, unpacked
from sce_lab.data.reading import existing
from sce_lab.data.tables import SUFFIXES
from sce_lab.describing import popularity_ranks
from sce_lab.files import write_text
from sce_lab.metrics import BASELINES, ranking_metrics

#: Endings of files that can be read.
READABLE = (*SUFFIXES, *(suffix + packed for suffix in SUFFIXES for packed in PACKED))
#: So many files are listed at most.
NEAR = 200
#: Users that baselines are judged on at most: they are for comparison at a glance.
ASKED = 5_000
#: The rules that a file can be divided by, for people.
RULES = {"leave_one_out": "each user's last item", "temporal": "one moment for all"}


def files_near(folder: str | os.PathLike[str] = ".") -> list[Path]:
    """Files that may hold interactions, in ``folder``, in that of SCE_LAB_DATA, and at most two folders below."""
    roots = [Path(folder), *map(Path, filter(None, [os.environ.get(DATA_VARIABLE)]))]
    found = [
        path
        for root in roots
        for pattern in ("*", "*/*", "*/*/*")
        for path in sorted(root.glob(pattern))
        if path.name.lower().endswith(READABLE)
        and path.is_file()
        and not any(part.startswith(".") for part in path.parts)
    ]
    return list(dict.fromkeys(found))[:NEAR]


def names_of(path: str | os.PathLike[str]) -> list[str]:
    """What the columns of a file are called, for a person who has to say which is which.

    Raises:
        OSError, ValueError: it cannot be read, or is empty.
    """
    path = existing(path)
    if content_name(path).endswith(".parquet") or path.is_dir():
        part = next(iter(sorted(path.rglob("*.parquet"))), path) if path.is_dir() else path
        return list(parquet.read_schema(part).names)
    with unpacked(path) as file:
        first = file.readline(2**16).decode("utf-8-sig", errors="replace").strip()
    if not first:
        raise ValueError(f"{path.name} is empty: there is nothing in it to learn from")
    if first.startswith("{"):
        return list(json.loads(first))
    separator = max((",", "\t", ";", "|", "::"), key=first.count)
    return [name.strip().strip('"') for name in first.split(separator)]


@dataclass(frozen=True)
class OwnData:
    """What was brought, ready for training.

    Attributes:
        name: of the file.
        path: where it is.
        rule: by which they are divided, a key of :data:`sce_lab.data.SPLITS`.
        columns: which column of the file said what; "" for the time: the order of the rows.
        summary: as of :func:`sce_lab.data.summarize`.
        times, counts: of all interactions, and of each item how many there are.
        baselines: by name, metrics of what needs no model, on validation.
        popularity: ``(U,)``, where popularity alone ranks the test targets.
    """

    name: str
    path: Path
    rule: str
    columns: Mapping[str, str]
    split: Split
    summary: pd.DataFrame
    times: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    baselines: Mapping[str, Mapping[str, float]]
    popularity: np.ndarray = field(repr=False)

    @property
    def source(self) -> dict[str, Any]:
        """What :func:`sce_lab.data.open_split` takes."""
        return {"source": str(self.path), "split": self.rule, **self.columns}

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


def bring(path: str | os.PathLike[str], columns: Mapping[str, str | None], rule: str = "leave_one_out") -> OwnData:
    """Read a file, divide its interactions, and find out what they are.

    Args:
        path: the file.
        columns: by "user", "item" and "timestamp" the name of the column; "" for the last: rows stand in order.
        rule: how they are divided, a key of :data:`RULES`.

    Raises:
        FileNotFoundError, ValueError: as :func:`sce_lab.data.read_interactions` and the rule say them.
    """
    path = existing(path).absolute()
    interactions = read_interactions(path, **columns)
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
        rule=rule,
        columns=dict(columns),
        split=split,
        summary=summarize(interactions),
        times=interactions["timestamp"].to_numpy(),
        counts=interactions["item"].value_counts().to_numpy(),
        baselines=baselines,
        popularity=popularity_ranks(split),
    )


def example_file(folder: str | os.PathLike[str] = ".", *, n_users: int = 800) -> Path:
    """Write a small shop's purchases, made up, into ``folder``: for a page that has no file yet."""
    world = SyntheticProcess(catalog_size=200, n_users=n_users, mean_length=12, seed=1)
    made = world.interactions()
    table = pd.DataFrame(
        {
            "customer_id": made["user"].map("C{:05d}".format),
            "product_id": made["item"].map("P{:04d}".format),
            "date": pd.to_datetime(made["timestamp"], unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )
    content = table.sample(frac=1, random_state=0).to_csv(index=False)
    path = Path(folder) / "purchases.csv"
    if not path.exists() or path.read_text(encoding="utf-8") != content:  # a file that was touched is another one
        write_text(path, content)
    return path
