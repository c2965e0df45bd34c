"""The formats of the published files: each function reads one, as interactions ``user, item, timestamp``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat


def parse_sequences(path: Path) -> pd.DataFrame:
    """One user a line, ``user item item ...``, oldest first. There are no times: the position is the order."""
    lines = path.read_text().splitlines()
    lengths = np.array([line.count(" ") for line in lines])
    tokens = np.array(" ".join(lines).split(), dtype=np.int64)
    starts = np.cumsum(lengths + 1) - (lengths + 1)
    is_item = np.ones(len(tokens), dtype=bool)
    is_item[starts] = False
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return pd.DataFrame({"user": np.repeat(tokens[starts], lengths), "item": tokens[is_item], "timestamp": position})


def parse_triples(path: Path) -> pd.DataFrame:
    """``user TAB item TAB time``, without a header."""
    return pd.read_csv(path, sep="\t", names=["user", "item", "timestamp"], dtype=np.int64)


def parse_checkins(path: Path) -> pd.DataFrame:
    """SNAP's check-ins: user, ISO time, latitude, longitude, location; newest first within a user, no header.

    Read in pieces: the whole of Gowalla, 6.4 million rows, would take a gigabyte as text.
    """
    columns = ["user", "time", "_", "__", "item"]
    parts = []
    for part in pd.read_csv(path, sep="\t", header=None, usecols=[0, 1, 4], names=columns, chunksize=500_000):
        seconds = pd.to_datetime(part["time"], format="%Y-%m-%dT%H:%M:%SZ").astype("datetime64[s]").astype("int64")
        parts.append(pd.DataFrame({"user": part["user"], "item": part["item"], "timestamp": seconds}))
    return pd.concat(parts, ignore_index=True)


def parse_appreciates(path: Path) -> pd.DataFrame:
    """Behance's "appreciates": user, item, Unix time, separated by spaces, without a header; ids may start with 0."""
    return pd.read_csv(path, sep=" ", header=None, names=["user", "item", "timestamp"], dtype=np.int64)


def parse_beer_reviews(path: Path) -> pd.DataFrame:
    """Reviews as CSV with a header. A few have no user, and some users are called like missing values ("NA")."""
    columns = {"review_profilename": "user", "beer_beerid": "item", "review_time": "timestamp"}
    table = pd.read_csv(path, usecols=list(columns), keep_default_na=False, na_values={"review_profilename": [""]})
    return table.rename(columns=columns).dropna(subset="user", ignore_index=True)[["user", "item", "timestamp"]]


def parse_epinions(path: Path) -> pd.DataFrame:
    """Ratings in a MATLAB 5 file: user, product, category, rating, helpfulness, time bucket 1..11.

    A user's rows stand newest first, and the buckets are coarse: the order is that of the buckets, and inside a bucket
    that of the page, read from its end. The timestamp is bucket * 100,000 + position in the user's history.
    """
    matrices = loadmat(path)
    (name,) = (name for name in matrices if not name.startswith("__"))
    table = matrices[name][::-1]  # (ratings, 6), now oldest first within a user and bucket
    order = np.lexsort((table[:, 5], table[:, 0]))
    user, item, bucket = table[order][:, [0, 1, 5]].T.astype(np.int64)
    position = pd.Series(user).groupby(user).cumcount()
    return pd.DataFrame({"user": user, "item": item, "timestamp": bucket * 100_000 + position})


def parse_purchases(path: Path) -> pd.DataFrame:
    """Purchases, a row each: household, product, time.

    All products of a basket have one time, and stand in the file in the order of their numbers. So the last of a basket
    would always be the one with the largest number, which a model could learn: within one time the order is drawn, with
    a fixed seed. A product that is twice in one basket is there once.
    """
    columns = {"household_id": "user", "product_id": "item", "transaction_timestamp": "timestamp"}
    table = pd.read_parquet(path, columns=list(columns)).rename(columns=columns).drop_duplicates(ignore_index=True)
    table["timestamp"] = table["timestamp"].astype("datetime64[s]").astype("int64")
    drawn = np.random.default_rng(0).permutation(len(table))
    return table.iloc[np.lexsort((drawn, table["timestamp"]))].reset_index(drop=True)
