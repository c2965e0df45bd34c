"""Real data sets by name: found on this machine or downloaded once, and never used unless the checksum is right.

To add one: write a function that parses its file, and add a ``Dataset`` to ``DATASETS``.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
from scipy.io import loadmat

DATA_VARIABLE = "SCE_LAB_DATA"
"""Environment variable: a folder that is searched before anything is downloaded. It is never written to."""


@dataclass(frozen=True)
class Dataset:
    """Where a data set comes from, how it is read, and how it is usually split.

    split: the rule in ``SPLITS`` that its published results use.
    path: where the file is looked for first, relative to the folder that SCE_LAB_DATA names. An unpacked ``.gz`` file,
        without that suffix, will do where no checksum is known.
    url: where it is downloaded from; None if the file is not public as it is.
    sha256: of the file. A file with another checksum is never used. None where no checksum of the original file is
        known: then ``counts`` tell whether it is the right one.
    counts: users, items and interactions that published results have after the paper's filters
        (:func:`sce_lab.data.splits.drop_rare`).
    """

    name: str
    title: str
    split: str
    path: str
    sha256: str | None
    url: str | None
    source: str
    citation: str
    parse: Callable[[Path], pd.DataFrame] = field(repr=False)
    counts: tuple[int, int, int] | None = None

    def difference(self, kept: pd.DataFrame) -> str:
        """Say how ``kept``, the interactions after the paper's filters, differ from the published counts, if at all."""
        found = (kept["user"].nunique(), kept["item"].nunique(), len(kept))
        if self.counts in (None, found):
            return ""
        ours, theirs = (f"{u:,} users, {i:,} items and {n:,} interactions" for u, i, n in (found, self.counts))
        return f"{self.name} has {ours} after the paper's filters, while published results have {theirs}"


def load_dataset(name: str, *, progress: bool = True) -> pd.DataFrame:
    """Return the interactions of a data set in ``DATASETS``.

    The file is searched in the folder that the environment variable SCE_LAB_DATA names (at ``Dataset.path``, or by its
    name anywhere below); otherwise it is downloaded into the user's cache, once.

    Args:
        name: a key of ``DATASETS``.
        progress: show a progress bar while downloading.

    Returns:
        A DataFrame with the columns ``user, item, timestamp``, all int64.

    Raises:
        ValueError: an unknown name, or a file that ends early or is not of the format.
        FileNotFoundError: SCE_LAB_DATA is not a folder, or the file is neither here nor public.
        ConnectionError: the download failed, or brought something with another checksum.
    """
    if name not in DATASETS:
        raise ValueError(f"there is no data set {name!r}; known are {', '.join(DATASETS)}")
    dataset = DATASETS[name]
    path = _find(dataset) or _download(dataset, progress)
    try:
        return dataset.parse(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} ends early or is damaged ({error}); delete it and get it again") from error
    except (ValueError, LookupError, TypeError, pd.errors.ParserError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not the file of {dataset.title} ({reason}); delete it and get it again") from error


def _find(dataset: Dataset) -> Path | None:
    """Return the file in the folder of SCE_LAB_DATA, if it is there and is the right one."""
    if not (setting := os.environ.get(DATA_VARIABLE)):
        return None
    folder = Path(setting).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{DATA_VARIABLE}={setting} is not a folder; correct it or unset it")
    if dataset.sha256 is None:
        paths = (dataset.path, dataset.path.removesuffix(".gz"))
        return next((file for path in paths for file in _candidates(folder, path)), None)
    for candidate in _candidates(folder, dataset.path):
        if (found := _sha256(candidate)) == dataset.sha256:
            return candidate
        warnings.warn(
            f"{candidate} is not used for {dataset.name}: its SHA-256 is {found}, expected {dataset.sha256}",
            stacklevel=3,
        )
    return None


def _candidates(folder: Path, path: str) -> Iterator[Path]:
    expected = folder / path
    if expected.is_file():
        yield expected
    yield from (found for found in sorted(folder.rglob(expected.name)) if found.is_file() and found != expected)


def _download(dataset: Dataset, progress: bool) -> Path:
    checksum = f" with SHA-256 {dataset.sha256}" if dataset.sha256 else ""
    by_hand = (
        f"Put the file {dataset.path}{checksum} into a folder and set the environment variable "
        f"{DATA_VARIABLE} to that folder."
    )
    if dataset.url is None:
        raise FileNotFoundError(
            f"{dataset.name} cannot be downloaded as it is ({dataset.source}; {dataset.citation}). {by_hand}"
        )
    try:
        path = pooch.retrieve(
            dataset.url,
            known_hash=f"sha256:{dataset.sha256}" if dataset.sha256 else None,
            fname=Path(dataset.path).name,
            path=pooch.os_cache("sce_lab") / dataset.name,
            progressbar=progress,
        )
    except (
        OSError,
        ValueError,
    ) as error:  # requests' errors are OSErrors; ValueError is pooch's for a wrong checksum
        raise ConnectionError(f"could not download {dataset.name} from {dataset.url}: {error}. {by_hand}") from error
    return Path(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse_sequences(path: Path) -> pd.DataFrame:
    """One user a line, ``user item item ...``, oldest first. There are no times: the position is the order."""
    lines = path.read_text().splitlines()
    lengths = np.array([line.count(" ") for line in lines])
    tokens = np.array(" ".join(lines).split(), dtype=np.int64)
    starts = np.cumsum(lengths + 1) - (lengths + 1)
    is_item = np.ones(len(tokens), dtype=bool)
    is_item[starts] = False
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return pd.DataFrame({"user": np.repeat(tokens[starts], lengths), "item": tokens[is_item], "timestamp": position})


def _parse_triples(path: Path) -> pd.DataFrame:
    """``user TAB item TAB time``, without a header."""
    return pd.read_csv(path, sep="\t", names=["user", "item", "timestamp"], dtype=np.int64)


def _parse_checkins(path: Path) -> pd.DataFrame:
    """SNAP's check-ins: user, ISO time, latitude, longitude, location; newest first within a user, no header.

    Read in pieces: the whole of Gowalla, 6.4 million rows, would take a gigabyte as text.
    """
    columns = ["user", "time", "_", "__", "item"]
    parts = []
    for part in pd.read_csv(path, sep="\t", header=None, usecols=[0, 1, 4], names=columns, chunksize=500_000):
        seconds = pd.to_datetime(part["time"], format="%Y-%m-%dT%H:%M:%SZ").astype("datetime64[s]").astype("int64")
        parts.append(pd.DataFrame({"user": part["user"], "item": part["item"], "timestamp": seconds}))
    return pd.concat(parts, ignore_index=True)


def _parse_appreciates(path: Path) -> pd.DataFrame:
    """Behance's "appreciates": user, item, Unix time, separated by spaces, without a header; ids may start with 0."""
    return pd.read_csv(path, sep=" ", header=None, names=["user", "item", "timestamp"], dtype=np.int64)


def _parse_beer_reviews(path: Path) -> pd.DataFrame:
    """Reviews as CSV with a header. A few have no user, and some users are called like missing values ("NA")."""
    columns = {"review_profilename": "user", "beer_beerid": "item", "review_time": "timestamp"}
    table = pd.read_csv(path, usecols=list(columns), keep_default_na=False, na_values={"review_profilename": [""]})
    return table.rename(columns=columns).dropna(subset="user", ignore_index=True)[["user", "item", "timestamp"]]


def _parse_epinions(path: Path) -> pd.DataFrame:
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


_GITHUB = "https://raw.githubusercontent.com"

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="amazon_beauty",
            title="Amazon Beauty (5-core reviews, 2014)",
            split="leave_one_out",
            path="amazon_beauty/Beauty.txt",
            sha256="226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8",
            url=f"{_GITHUB}/RUCAIBox/CIKM2020-S3Rec/2a81540ae18615d88ef88227b0c066e5b74781e5/data/Beauty.txt",
            source="github.com/RUCAIBox/CIKM2020-S3Rec, data/Beauty.txt",
            citation="McAuley, Targett, Shi, van den Hengel, SIGIR 2015",
            parse=_parse_sequences,
        ),
        Dataset(
            name="epinions",
            title="Epinions (product ratings, 1999 to 2011)",
            split="leave_one_out",
            path="epinions/epinions_rating_with_timestamp.mat",
            sha256="a92e055b71b2e6ca70875979af79b90ef23360f4573204cade9a381ac1958509",
            url=f"{_GITHUB}/vinhqdang/trust_predict_ciao_epinions/cda9a716c5478c66f9660cdb39a04a0f0b5de869"
            "/code/epinions_rating_with_timestamp.mat",
            source="github.com/vinhqdang/trust_predict_ciao_epinions, code/epinions_rating_with_timestamp.mat",
            citation="Tang, Gao, Liu, WSDM 2012; Tang, Gao, Liu, Das Sarma, KDD 2012",
            parse=_parse_epinions,
        ),
        Dataset(
            name="gowalla",
            title="Gowalla check-ins (2009 to 2010)",
            split="published_temporal",
            path="gowalla/loc-gowalla_totalCheckins.txt.gz",
            sha256=None,
            url="https://snap.stanford.edu/data/loc-gowalla_totalCheckins.txt.gz",
            source="snap.stanford.edu/data/loc-gowalla.html",
            citation="Cho, Myers, Leskovec, KDD 2011",
            parse=_parse_checkins,
            counts=(27_516, 173_511, 2_627_663),
        ),
        Dataset(
            name="behance",
            title="Behance, appreciated art (one million events)",
            split="published_temporal",
            path="behance/Behance_appreciate_1M.gz",
            sha256=None,
            url="https://mcauleylab.ucsd.edu/public_datasets/gdrive/behance/Behance_appreciate_1M.gz",
            source="cseweb.ucsd.edu/~jmcauley/datasets.html, Behance",
            citation="He, Fang, Wang, McAuley, RecSys 2016",
            parse=_parse_appreciates,
            counts=(8_097, 32_434, 546_284),
        ),
        Dataset(
            name="beeradvocate",
            title="BeerAdvocate reviews (1998 to 2012)",
            split="published_temporal",
            path="beeradvocate/beer_reviews.csv",
            sha256=None,
            url=None,  # behind a login
            source="data.world/socialmediadata/beeradvocate or kaggle.com/datasets/rdoume/beerreviews",
            citation="McAuley, Leskovec, Jurafsky, ICDM 2012",
            parse=_parse_beer_reviews,
            counts=(7_606, 22_307, 1_409_494),
        ),
        Dataset(
            name="gowalla_nyc",
            title="Gowalla check-ins, New York",
            split="temporal",
            path="gowalla_nyc/gowalla_events.csv.gz",
            sha256="82bde51330ab2532dea8965197464dcdc5c29b89511656af7e76c226b79061f5",
            url=f"{_GITHUB}/rohitpandey13/academy/7e7919ac6ad5b4c299c7368c05953964820acb8f"
            "/tutorials/geo-located-data/jupyter/notebooks/data/gowalla_events.csv.gz",
            source="github.com/rohitpandey13/academy, from snap.stanford.edu/data/loc-gowalla.html",
            citation="Cho, Myers, Leskovec, KDD 2011",
            parse=_parse_checkins,
        ),
        Dataset(
            name="gowalla_sepgcn",
            title="Gowalla check-ins, 10-core, as used for SEP-GCN",
            split="temporal",
            path="gowalla_sepgcn/gowalla_sepgcn.txt.gz",
            sha256="3d1cfde15c61129ed8dcc74162261a3d167a148632245416efbf75dfccef9da1",
            url=None,  # one table made of the repository's several files
            source="made from github.com/tanloc49/SEP-GCN, data/gowalla; licence not stated",
            citation="Cho, Myers, Leskovec, KDD 2011; Nguyen, Tran, ICTIR 2025",
            parse=_parse_triples,
        ),
    )
}
"""The data sets that ``load_dataset`` knows, by name."""
