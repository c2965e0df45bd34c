"""A person's own file, in all the ways it may be right or wrong."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest

from sce_lab.data import read_interactions, summarize
from sce_lab.describing import describe


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="data.csv", encoding="utf-8"):
        path = tmp_path / name
        content = text.encode(encoding)
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write_file


CLICKS = "user,item,timestamp\nann,7,30\nbob,8,10\nann,9,20\n"


@pytest.mark.parametrize(
    ("name", "separator"), [("a.csv", ","), ("a.CSV", ";"), ("a.csv.gz", ","), ("a.tsv", "\t"), ("a.tsv.gz", "\t")]
)
def test_text_files(write, name, separator):
    interactions = read_interactions(write(CLICKS.replace(",", separator), name))
    assert list(interactions.columns) == ["user", "item", "timestamp"]
    assert interactions["user"].tolist() == ["ann", "bob", "ann"]
    assert interactions["item"].tolist() == [7, 8, 9]
    assert interactions["timestamp"].tolist() == [30, 10, 20]
    assert interactions["item"].dtype == interactions["timestamp"].dtype == np.int64


def test_columns_can_be_named_and_others_are_ignored(write):
    path = write("when,stars,who,what\n1.5,5,u,i\n2.5,,u,j\n")
    interactions = read_interactions(str(path), user="who", item="what", timestamp="when")
    assert interactions.to_numpy().tolist() == [["u", "i", 1.5], ["u", "j", 2.5]]


def test_a_spreadsheets_byte_order_mark_is_not_part_of_the_first_column(write):
    assert len(read_interactions(write(CLICKS, encoding="utf-8-sig"))) == 3


def test_without_times_the_rows_are_in_order(write):
    interactions = read_interactions(write("user,item\nu,c\nv,a\nu,b\n"), timestamp=None)
    assert interactions["timestamp"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "ids",
    [["007", "7", "07"], ["1.0", "2.0", "3"], ["NA", "null", "None"], ["1e3", "1000", "x"], ["9" * 30, "8" * 30, "1"]],
)
def test_ids_are_taken_as_written(write, ids):
    interactions = read_interactions(
        write("user,item,timestamp\n" + "".join(f"u,{i},{t}\n" for t, i in enumerate(ids)))
    )
    assert interactions["item"].tolist() == ids


@pytest.mark.parametrize(
    ("texts", "seconds"),
    [
        (["2024-05-01", "2024-05-02"], [1714521600, 1714608000]),
        (["2024-05-01T13:30:00Z", "2024-05-01 13:30:01"], [1714570200, 1714570201]),
        (["2024-05-01T13:30:00+02:00", "2024-05-01T13:30:00Z"], [1714563000, 1714570200]),
        (["2024-05-01T00:00:00.25Z", "2024-05-01T00:00:00Z"], [1714521600.25, 1714521600.0]),
        (["12", "-3"], [12, -3]),
        (["0.5", "1e3"], [0.5, 1000.0]),
    ],
)
def test_times_are_numbers_or_dates(write, texts, seconds):
    interactions = read_interactions(write("user,item,timestamp\n" + "".join(f"u,i,{text}\n" for text in texts)))
    assert interactions["timestamp"].tolist() == seconds
    assert interactions["timestamp"].dtype == (np.int64 if isinstance(seconds[0], int) else np.float64)


@pytest.mark.parametrize(
    "times",
    [
        pd.to_datetime(["2024-05-01", "2024-05-02"]),
        pd.to_datetime(["2024-05-01", "2024-05-02"]).astype("datetime64[ms]"),
        pd.to_datetime(["2024-05-01", "2024-05-02"], utc=True),
        pd.to_datetime(["2024-05-01T02:00", "2024-05-02T02:00"]).tz_localize("Europe/Berlin"),
        pd.to_datetime(["2024-05-01", "2024-05-02"]).date,
        ["2024-05-01", "2024-05-02"],
        [1714521600, 1714608000],
    ],
    ids=str,
)
def test_parquet(tmp_path, times):
    path = tmp_path / "data.parquet"
    pd.DataFrame({"user": ["007", "007"], "item": [5, 6], "timestamp": times}).to_parquet(path)
    interactions = read_interactions(path)
    assert interactions.to_numpy().tolist() == [["007", 5, 1714521600], ["007", 6, 1714608000]]


def explain(message):
    return pytest.raises(ValueError, match=re.escape(message))


def test_missing_file_and_unknown_suffix(tmp_path, write):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing\.csv"):
        read_interactions(tmp_path / "nothing.csv")
    with explain("the suffix of data.xlsx is unknown; known are .csv, .tsv, .txt"):
        read_interactions(write(CLICKS, "data.xlsx"))


@pytest.mark.parametrize("name", ["data.csv", "data.tsv.gz"])
def test_empty_files(write, name):
    with explain("is empty: its first line must name the columns"):
        read_interactions(write("", name))
    with explain("has column names but no rows"):
        read_interactions(write("user\titem\ttimestamp\n", name))


def test_missing_column_is_named_with_what_there_is_and_what_to_do(write):
    with explain(
        "data.csv has no column with a usual name for the item (item, item_id, iid, asin, ...), it has 'userId', "
        "'filmId', 'itemName'; is it itemName? type --item itemName, in Python item='itemName'"
    ):
        read_interactions(write("userId,filmId,itemName\n1,2,x\n"), user="userId")
    with explain("data.csv has no column 'when', it has 'user', 'item'; type --time NAME, in Python timestamp='NAME'"):
        read_interactions(write("user,item\n1,2\n"), timestamp="when")
    with explain("must be different columns, got id, id"):
        read_interactions(write(CLICKS), user="id", item="id")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("u,i,1\nu,i,yesterday\nu,i,soon\n", "2 times that cannot be read, the first is 'yesterday' in row 2"),
        ("u,i,2024-05-01\nu,i,2024-13-01\n", "1 time that cannot be read, the first is '2024-13-01' in row 2"),
        ("u,i,2024-05-01\nu,j,2024-05-01\nu,i,1714521600\n", "the first is '1714521600' in row 3"),
        ("u,i,1\nu,i,2\nu,i,2024-05-01\n", "the first is '2024-05-01' in row 3"),
        ("u,i,1\nu,i,\n", "column 'timestamp' has 1 missing time, the first in row 2; fill in"),
        ("u,i,1\nu,i,inf\n", "the first is 'inf' in row 2"),
        ("u,i,1\n,i,2\n,i,3\n", "column 'user' has 2 missing ids, the first in row 2"),
        ("u,i,1\nu,,2\n", "column 'item' has 1 missing id, the first in row 2"),
        ("u,i,1\nv,j,2\n", "every one of the 2 users in data.csv has a single interaction"),
        ("u,i,1\nu,i,2,3,4\n", "row 2 of data.csv has 5 fields, but the first line names 3 columns: 'u,i,2,3,4'; give"),
    ],
)
def test_bad_rows_are_pointed_at(write, rows, message):
    with explain(message):
        read_interactions(write("user,item,timestamp\n" + rows))


def test_content_that_is_not_what_the_suffix_says(write):
    with explain("data.csv is not UTF-8 text"):
        read_interactions(write(CLICKS.replace("ann", "andré"), encoding="latin-1"))
    with explain("data.parquet cannot be read"):
        read_interactions(write(CLICKS, "data.parquet"))
    path = write(CLICKS)
    path.rename(path.with_name("plain.csv.gz"))
    with explain("plain.csv.gz cannot be read"):
        read_interactions(path.with_name("plain.csv.gz"))


def test_summary():
    rows = [(0, "a", 0), (0, "b", 1), (0, "a", 2), (1, "a", 7), (2, "c", 3)]
    summary = summarize(pd.DataFrame(rows, columns=["user", "item", "timestamp"]))
    assert list(summary.columns) == ["value"]
    assert summary["value"].to_dict() == {
        "users": 3,
        "items": 3,
        "interactions": 5,
        "interactions per user, mean": 5 / 3,
        "interactions per user, median": 1,
        "interactions per user, least": 1,
        "interactions per user, most": 3,
        "interactions per item, mean": 5 / 3,
        "interactions per item, median": 1,
        "items that occur once": 2,
        "share of the most popular 1 % of items": 3 / 5,
        "repeated (user, item) pairs": 1,
        "density": 4 / 9,
        "span (steps)": 7,
    }


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
def test_span_is_in_days_for_unix_times_of_any_unit(per_second):
    rows = [(0, 0, 1714521600 * per_second), (0, 1, (1714521600 + 36 * 3600) * per_second)]
    summary = summarize(pd.DataFrame(rows, columns=["user", "item", "timestamp"]))
    assert summary["value"]["span (days)"] == 1.5
    assert "span (steps)" not in summary.index
    described = describe(pd.DataFrame(rows, columns=["user", "item", "timestamp"])).numbers["value"]
    assert (described["first day"], described["last day"]) == ("2024-05-01", "2024-05-02")
