"""A person's file: which of its columns say what, what it is, and how it is kept for training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from sce_lab.data import Split, SyntheticProcess, read_interactions, summarize
from sce_lab.data.fetching import DATA_VARIABLE
from sce_lab.data.sources import divide
from sce_lab.files import replacing
from sce_lab.metrics import BASELINES, Ranking, ranking_metrics
from sce_lab.runs import runs_root

#: Files that may hold interactions.
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
#: So many files are listed at most.
NEAR = 200
#: Test users that baselines are judged on at most: they are for comparison at a glance.
ASKED = 5_000
#: What a column is usually called, in small letters without marks, the surest first.
USUAL = {
    "user": ("user", "userid", "uid", "reviewerid", "customerid", "customer", "visitorid", "householdid", "sessionid"),
    "item": ("item", "itemid", "iid", "parentasin", "asin", "productid", "product", "movieid", "trackid", "sku"),
    "timestamp": ("timestamp", "ts", "time", "datetime", "date", "unixreviewtime", "createdat", "transactiontimestamp"),
}


def files_near(folder: str | os.PathLike[str] = ".") -> list[Path]:
    """Files that may hold interactions, in ``folder``, in that of SCE_LAB_DATA, and at most two folders below."""
    roots = [Path(folder), *map(Path, filter(None, [os.environ.get(DATA_VARIABLE)]))]
    found = [
        path
        for root in roots
        for pattern in ("*", "*/*", "*/*/*")
        for path in sorted(root.glob(pattern))
        if path.suffix in SUFFIXES and path.is_file() and not any(part.startswith(".") for part in path.parts)
    ]
    return list(dict.fromkeys(found))[:NEAR]


def columns_of(path: str | os.PathLike[str]) -> list[str]:
    """The names that a file's columns have, from its first line or its schema.

    Raises:
        OSError: it cannot be read. ValueError: it is empty, or no parquet in spite of its name.
    """
    path = Path(os.path.expanduser(path))
    if path.suffix == ".parquet":
        return list(pq.read_schema(path).names)
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        first = file.readline().rstrip("\r\n")
    if not first:
        raise ValueError(f"{path.name} is empty: there is nothing in it to learn from")
    separator = max((",", "\t", ";"), key=first.count)
    return [name.strip().strip('"') for name in first.split(separator)]


def guess(columns: Sequence[str]) -> dict[str, str | None]:
    """Which column says who, what and when, by their usual names; None where none has one."""
    plain = {"".join(letter for letter in name.lower() if letter.isalnum()): name for name in columns}
    return {role: next((plain[name] for name in names if name in plain), None) for role, names in USUAL.items()}


@dataclass(frozen=True)
class OwnData:
    """What was brought, ready for training.

    Attributes:
        name: of the file.
        kept: the same interactions, with columns that this lab knows, below the folder of runs.
        rule: by which they are divided, a key of :data:`sce_lab.data.SPLITS`.
        columns: which column of the file said what.
        summary: as of :func:`sce_lab.data.summarize`.
        times, counts: of all interactions, and of each item how many there are.
        baselines: by name, metrics of what needs no model, on validation.
        popularity: where popularity alone ranks the test targets.
    """

    name: str
    kept: Path
    rule: str
    columns: Mapping[str, str | None]
    split: Split
    summary: pd.DataFrame
    times: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    baselines: Mapping[str, Mapping[str, float]]
    popularity: Ranking = field(repr=False)

    @property
    def source(self) -> dict[str, Any]:
        """What :func:`sce_lab.data.open_split` takes."""
        return {"source": str(self.kept), "split": self.rule}

    @property
    def dated(self) -> bool:
        """Whether times are Unix seconds."""
        return "span (days)" in self.summary.index

    @property
    def facts(self) -> dict[str, str]:
        """What the data are, for people."""
        value = self.summary["value"]
        span = f"{value['span (days)']:,.0f} days" if self.dated else "the order is known, the time is not"
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
    """Read a file, keep its interactions, divide them, and find out what they are.

    Args:
        path: the file.
        columns: by "user", "item" and "timestamp" the name of the column; None for the last: rows stand in order.
        rule: how they are divided.

    Raises:
        FileNotFoundError, ValueError: as :func:`sce_lab.data.read_interactions` and the rule say them.
    """
    if missing := [role for role in ("user", "item") if not columns.get(role)]:
        raise ValueError(f"no column was chosen that says which {missing[0]}; choose one in the list")
    interactions = read_interactions(path, **columns)
    name = Path(path).name
    split = divide(interactions, rule, name)
    asked = split.validation.take(
        np.linspace(0, len(split.validation) - 1, min(ASKED, len(split.validation))).astype(int)
    )
    baselines = {
        key: ranking_metrics(BASELINES[key].rank(split, asked), split.catalog_size)
        for key in ("popularity", "transitions")
    }
    return OwnData(
        name=name,
        kept=_kept(interactions, name),
        rule=rule,
        columns=dict(columns),
        split=split,
        summary=summarize(interactions),
        times=interactions["timestamp"].to_numpy(),
        counts=interactions["item"].value_counts().to_numpy(),
        baselines=baselines,
        popularity=BASELINES["popularity"].rank(split, split.test),
    )


def _kept(interactions: pd.DataFrame, name: str) -> Path:
    """The interactions as a parquet file named after their content: the same again is the same file."""
    content = hashlib.blake2b(digest_size=6)
    content.update(pd.util.hash_pandas_object(interactions, index=False).to_numpy().tobytes())
    path = runs_root() / "own_data" / f"{Path(name).stem}-{content.hexdigest()}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            interactions.to_parquet(partial, index=False)
    return path


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
    path = Path(folder) / "purchases.csv"
    with replacing(path) as partial:
        table.sample(frac=1, random_state=0).to_csv(partial, index=False)
    return path


RULES = {"leave_one_out": "each user's last item is the test", "temporal": "the last 5 % of the time is the test"}
