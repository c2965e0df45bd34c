"""Every odd kind of file and frame: the right result, or one sentence: what, which value, and what would work."""

import datetime
import decimal
import gzip
import uuid
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sce_lab.data import ColumnsError, leave_one_out, read_interactions, summarize

GOOD = [["u", "i", 5], ["u", "j", 6], ["v", "i", 7]]


def rows(*lines, header="user,item,timestamp", end="\n"):
    return (end.join([header, *lines]) + end).encode()


def swallowed(first, last, n=16, at="user"):
    """16 rows, and a quotation mark in two of them."""
    lines = [f"u{k % 4},i{k},4,{1_700_000_000 + k}" for k in range(n)]
    for k in (first, last):
        lines[k] = {"user": '"' + lines[k], "rating": lines[k].replace(",4,", ',"4,')}[at]
    return rows(*lines, header="user,item,rating,timestamp")


GZIPPED = gzip.compress(rows(*(f"u{k % 9},i{k * 7919 % 1000},{k}" for k in range(2000))))
# A file's bytes, and its interactions or what the refusal says. Rows are counted from 1, without the header.
TEXT = {
    # rows that are not as long as the header
    "a field more everywhere": (rows("u0,i0,4,1700000000", "u0,i1,4,1700000001"), "row 1 of data.csv has 4 fields"),
    "a field more once": (
        rows("u,i,5", "u,j,6,7", "v,i,7"),
        "row 2 of data.csv has 4 fields, but the first line names 3",
    ),
    "a field less": (rows("u,i,5", "u,j", "v,i,7"), "row 2 of data.csv has 2 fields"),
    "a field less at the end": (rows("u,i,5", "u,j,6") + b"v", "row 3 of data.csv has 1 field, but"),
    "a separator at the end of rows": (rows("u,i,5,", "u,j,6,"), "row 1 of data.csv has 4 fields"),
    "a separator at every end": (rows("u,i,5,", "u,j,6,", "v,i,7,", header="user,item,timestamp,"), GOOD),
    "a comma in a date": (rows("u,i,May 1, 2024", "u,j,May 2, 2024"), "quote values that contain a comma"),
    "a quoted comma in a date": (rows('u,i,"May 1, 2024"', 'u,j,"May 2, 2024"'), "2 times that cannot be read"),
    "other separator in a row": (rows("u,i,5", "u;j;6"), "row 2 of data.csv has 1 field"),
    "an empty line": (rows("u,i,5", "", "u,j,6", "v,i,7", ""), GOOD),
    "empty lines before": (b"\n\r\n" + rows("u,i,5", "u,j,6", "v,i,7"), GOOD),
    "a wrong row after an empty line": (rows("u,i,5", "", "u,j"), "row 2 of data.csv has 2 fields"),
    "a line of blanks": (rows("u,i,5", "   ", "u,j,6"), "row 2 of data.csv has 1 field"),
    # line ends and marks
    "windows line ends": (rows("u,i,5", "u,j,6", "v,i,7", end="\r\n"), GOOD),
    "old line ends": (rows("u,i,5", "u,j,6", "v,i,7", end="\r"), GOOD),
    "no last line end": (rows("u,i,5", "u,j,6", "v,i,7")[:-1], GOOD),
    "byte order mark": (b"\xef\xbb\xbf" + rows("u,i,5", "u,j,6", "v,i,7"), GOOD),
    # quotation marks
    "all quoted": (rows('"u","i","5"', '"u","j","6"', '"v","i","7"', header='"user","item","timestamp"'), GOOD),
    "quoted separator": (rows('"u,1",i,5', '"u,1",j,6'), [["u,1", "i", 5], ["u,1", "j", 6]]),
    "doubled quotation mark": (rows('"u""1",i,5', '"u""1",j,6'), [['u"1', "i", 5], ['u"1', "j", 6]]),
    "quotation mark inside": (rows('u"1,i,5', 'u"1,j,6'), [['u"1', "i", 5], ['u"1', "j", 6]]),
    "two stray quotes": (swallowed(3, 8), "row 4 of data.csv has a stray quotation mark"),
    "two stray quotes elsewhere": (swallowed(3, 8, at="rating"), "row 4 of data.csv has a stray quotation mark"),
    "two quotes that fit": (
        swallowed(3, 8, at="rating").replace(b'"4,1700000008', b'4",1700000008'),
        "row 4 of data.csv has a stray quotation mark (which makes one row of 6 lines)",
    ),
    "one stray quote": (
        rows('"u,i,5', "u,j,6", "v,i,7"),
        "row 1 of data.csv has a stray quotation mark (unexpected end",
    ),
    "a quote before text": (rows('"u"1,i,5', "u,j,6"), "row 1 of data.csv has a stray quotation mark"),
    "a quote in the header": (rows("u,i,5", header='"user,item,timestamp'), "the first line of data.csv has a stray"),
    "line break in an id": (rows('"u\n1",i,5', "u,j,6"), "row 1 of data.csv has a stray quotation mark"),
    "line breaks in a text": (
        rows('u,i,5,"good,\nbut, well, long"', 'u,j,6,""', 'v,i,7,"a\n\nb"', header="user,item,timestamp,text"),
        GOOD,
    ),
    # columns
    "item twice": (rows("u,i,x,5", "u,j,y,6", header="user,item,item,timestamp"), "has 2 columns 'item'"),
    "another column twice": (rows("u,i,x,y,5", "u,j,x,y,6", "v,i,x,y,7", header="user,item,a,a,timestamp"), GOOD),
    "no header": (
        rows("u,j,6", header="u,i,5"),
        "it begins with 'u,i,5', and which column says when cannot be seen; type --time 3",
    ),
    "no header, numbers": (rows("0,2,6", header="0,1,5"), "or add a first line such as user,item,timestamp"),
    "no header, dates": (
        rows("u,j,2024-05-02", header="u,i,2024-05-01"),
        [["u", "i", 1714521600], ["u", "j", 1714608000]],
    ),
    "no time": (
        rows("u,i", "u,j", header="user,item"),
        [["u", "i", 0], ["u", "j", 1]],
    ),
    "time under another name": (
        rows("u,i,5", "u,j,6", header="user,item,timePlayed"),
        "is it timePlayed? type --time timePlayed, in Python timestamp='timePlayed' (or '' if the rows stand oldest",
    ),
    "user under another name": (
        rows("u,i,5", header="theUser,item,timestamp"),
        "is it theUser? type --user theUser, in Python user='theUser'",
    ),
    "nobody": (
        rows("u,i,5", header="a,item,timestamp"),
        "no column with a usual name for the user (user, user_id, uid, user_name, ...), it has 'a', 'item', ",
    ),
    "capitals": (rows("u,i,5", "u,j,6", "v,i,7", header="User,Item,Timestamp"), GOOD),
    "nothing": (b"", "data.csv is empty: its first line must name the columns"),
    "blank": (b"\n \n", "data.csv is empty"),
    "header only": (rows(), "has column names but no rows"),
    "header only, no line end": (b"user,item,timestamp", "has column names but no rows"),
    # cells
    "no id": (rows("u,i,5", ",j,6"), "column 'user' has 1 missing id, the first in row 2"),
    "a blank id": (rows("u,i,5", "u,  ,6"), "column 'item' has 1 missing id, the first in row 2"),
    "no numbers among ids": (rows("1,i,5", ",j,6"), "column 'user' has 1 missing id, the first in row 2"),
    "no time in a row": (rows("u,i,5", "u,j,", "v,i,"), "column 'timestamp' has 2 missing times, the first in row 2"),
    "an id called nan": (rows("nan,NA,5", "nan,null,6"), [["nan", "NA", 5], ["nan", "null", 6]]),
    "a time called nan": (rows("u,i,5", "u,j,nan"), "1 time that cannot be read, the first is 'nan' in row 2"),
    "1 and 1.0": (rows("1,i,5", "1.0,j,6"), "column 'user' has both '1' and '1.0'"),
    "1 and a blank before 1": (rows("u,1,5", "u, 1,6", "u,x,6"), "column 'item' has both '1' and ' 1'"),
    "007 and 7": (rows("u,007,5", "u,7,6"), [["u", "007", 5], ["u", "7", 6]]),
    "numbers too long": (rows(f"u,{2**63},5", f"u,{2**64},6"), [["u", f"{2**63}", 5], ["u", f"{2**64}", 6]]),
    "a zero byte": (rows("u\0,i,5", "u\0,j,6"), [["u\0", "i", 5], ["u\0", "j", 6]]),
    # encodings
    "latin-1": (rows("u,é,5", "u,j,6").decode().encode("latin-1"), "data.csv is not UTF-8 text"),
    "latin-1 in a row that is too long": (
        rows("u,i,5", "u,é,6,7").decode().encode("latin-1"),
        "row 2 of data.csv has 4 fields",
    ),
    "latin-1 in the header": ("user,item,timestamp,né\n".encode("latin-1"), "data.csv is not UTF-8 text"),
    "latin-1 elsewhere": (
        "user,item,timestamp,name\nu,i,5,é\nu,j,6,\nv,i,7,\n".encode("latin-1"),
        GOOD,
    ),
    "utf-16": (rows("u,i,5", "u,j,6").decode().encode("utf-16"), "data.csv is not UTF-8 text"),
    "gzipped under a plain name": (GZIPPED, "data.csv is not UTF-8 text"),
    "a page of the web": (
        b"<html><body>Sign in</body></html>",
        "no column with a usual name for the user (user, user_id, uid, user_name, ...), it has '<html>",
    ),
    "zeros": (bytes(2000), "has no column with a usual name for the user"),
    # times
    "booleans": (rows("u,i,True", "u,j,False"), "2 times that cannot be read, the first is 'True' in row 1"),
    "infinite": (rows("u,i,5", "u,j,inf"), "1 time that cannot be read, the first is 'inf' in row 2"),
    "now": (rows("u,i,2024-05-01", "u,j,now"), "1 time that cannot be read, the first is 'now' in row 2"),
    "hexadecimal": (rows("u,i,0x10", "u,j,17"), "1 time that cannot be read, the first is '0x10' in row 1"),
    "thousands": (rows('u,i,"1,000"', 'u,j,"2,000"'), "2 times that cannot be read"),
    "blanks around": (rows("u,i, 5", "u,j,6 ", "v,i,7"), GOOD),
    "signs": (rows("u,i,+5", "u,j,-6"), [["u", "i", 5], ["u", "j", -6]]),
    "seconds and milliseconds": (
        rows("u,i,1700000000", "u,j,1700000001000"),
        "row 1 has 1700000000, which are Unix seconds, and row 2 has 1700000001000, which are milliseconds",
    ),
    "microseconds and nanoseconds": (
        rows("u,i,1700000000000000000", "u,j,1700000001000000"),
        "mixes units of time: row 2 has 1700000001000000, which are Unix microseconds, and row 1",
    ),
    "nanoseconds": (
        rows("u,i,1700000000000000001", "u,j,1700000000000000002"),
        [["u", "i", 1700000000000000001], ["u", "j", 1700000000000000002]],
    ),
    "microseconds in ISO": (
        rows("u,i,2024-05-01T00:00:00.000001Z", "u,j,2024-05-01T00:00:00.000002Z"),
        [["u", "i", 1714521600.000001], ["u", "j", 1714521600.000002]],
    ),
    "nanoseconds in ISO": (
        rows("u,i,2024-05-01T00:00:00.000000001Z", "u,j,2024-05-01T00:00:00.000000002Z"),
        "rows 1 and 2 differ",
    ),
    "nanoseconds in ISO that are far apart": (
        rows("u,i,2024-05-01T00:00:00.000000000Z", "u,j,2024-05-01T00:00:01.500000000Z"),
        [["u", "i", 1714521600.0], ["u", "j", 1714521601.5]],
    ),
    "finer than nanoseconds": (
        rows("u,i,2024-05-01T00:00:00.0000000001Z", "u,j,2024-05-01T00:00:00Z"),
        "1 time that cannot be read, the first is '2024-05-01T00:00:00.0000000001Z' in row 1",
    ),
    "fine decimals": (rows("u,i,1714521600.0000001", "u,j,1714521600.00000011"), "rows 1 and 2 differ"),
    "the same in other digits": (
        rows("u,i,1714521600.5", "u,j,1714521600.50", "v,i,1714521600.25"),
        [["u", "i", 1714521600.5], ["u", "j", 1714521600.5], ["v", "i", 1714521600.25]],
    ),
    "one fraction among nanoseconds": (
        rows("v,i,1700000000000001000.5", "u,i,1700000000000000001", "u,j,1700000000000000002"),
        "rows 2 and 3 differ",
    ),
    "from 2^64": (rows(f"u,i,{2**64}", f"u,j,{2**64 + 1}"), "rows 1 and 2 differ"),
    "from 2^63": (rows(f"u,i,{2**63}", f"u,j,{2**63 + 1}"), [["u", "i", 2**63], ["u", "j", 2**63 + 1]]),
    "beyond every float": (rows("u,i,1e999", "u,j,5"), "1 time that cannot be read, the first is '1e999' in row 1"),
    "equal times": (
        rows("u,i,5", "u,j,5", "u,k,5", "u,a,4"),
        [["u", "i", 5], ["u", "j", 5], ["u", "k", 5], ["u", "a", 4]],
    ),
    "day before month": (rows("u,i,31/12/2024", "u,j,31/12/2024"), "2 times that cannot be read"),
    "one user each": (rows("u,i,5", "v,j,6"), "every one of the 2 users in data.csv has a single interaction"),
    "one row": (rows("u,i,5"), "the only user in data.csv has a single interaction"),
}


def check(open_it, expected):
    """Right, or one sentence; and nothing is said besides."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if not isinstance(expected, str):
            found = open_it()
            assert list(found.columns) == ["user", "item", "timestamp"]
            assert [list(row) for row in found.itertuples(index=False)] == expected
            return
        with pytest.raises(ValueError, match=r"\S") as error:
            open_it()
    assert type(error.value) in (ValueError, ColumnsError)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", TEXT)
def test_text(tmp_path, kind):
    content, expected = TEXT[kind]
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    check(lambda: read_interactions(path), expected)


YEARS = ["0001-01-01", "1500-06-01T12:00:00Z", "9999-12-31"]


def test_years_that_nanoseconds_do_not_reach(tmp_path):
    """Right with pandas 3; pandas 2 has nanoseconds only."""
    path = tmp_path / "data.csv"
    path.write_bytes(rows(*(f"u,i,{year}" for year in YEARS)))
    if pd.__version__ < "3":
        check(lambda: read_interactions(path), "3 times that cannot be read, the first is '0001-01-01' in row 1")
    else:
        assert read_interactions(path)["timestamp"].tolist() == [-62135596800, -14818680000, 253402214400]


@pytest.mark.parametrize("kind", ["cut", "changed", "not gzip", "empty", "two members", "directory"])
def test_gzipped(tmp_path, kind):
    path = tmp_path / "data.csv.gz"
    changed = bytearray(GZIPPED)
    changed[len(changed) // 2] ^= 255
    contents = {"cut": GZIPPED[:-99], "changed": changed, "not gzip": rows("u,i,5"), "empty": b""}
    if kind == "directory":
        path.mkdir()
        with pytest.raises(FileNotFoundError, match="there is no file"):
            read_interactions(path)
        return
    path.write_bytes(contents.get(kind, gzip.compress(rows("u,i,5")) + gzip.compress(b"u,j,6\nv,i,7\n")))
    said = {"not gzip": "data.csv.gz cannot be read: Not a gzipped file", "empty": "is empty", "two members": GOOD}
    check(lambda: read_interactions(path), said.get(kind, "data.csv.gz ends early or is damaged ("))


UTC = datetime.UTC
COLUMNS = {"user": pa.array(["u", "u", "v"]), "item": pa.array(["i", "j", "i"]), "timestamp": pa.array([5, 6, 7])}
NANOSECONDS = 1_714_521_600_000_000_000
PARQUET = {
    # one column replaced by another
    "list ids": ("user", pa.array([[1], [1], [2]]), "column 'user' holds list<"),
    "struct ids": ("user", pa.array([{"a": 1}] * 3), "column 'user' holds struct<"),
    "map ids": ("item", pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())), "column 'item' holds map<"),
    "date ids": ("item", pa.array([datetime.date(2024, 1, 1)] * 3), "column 'item' holds date32"),
    "no ids": ("user", pa.nulls(3), "column 'user' has 3 missing ids, the first in row 1"),
    "an id missing": ("user", pa.array([1, None, 2]), "column 'user' has 1 missing id, the first in row 2"),
    "an id not a number": ("user", pa.array([1.0, np.nan, 2.0]), "column 'user' has 1 missing id, the first in row 2"),
    "categories": ("user", COLUMNS["user"].dictionary_encode(), GOOD),
    "categories of numbers": ("user", pa.array([7, 7, 8]).dictionary_encode(), [[7, "i", 5], [7, "j", 6], [8, "i", 7]]),
    "large text": ("user", COLUMNS["user"].cast(pa.large_string()), GOOD),
    "text of numbers": ("user", pa.array(["7", "7", "8"]), [[7, "i", 5], [7, "j", 6], [8, "i", 7]]),
    "small numbers": ("user", pa.array([7, 7, 8], pa.uint8()), [[7, "i", 5], [7, "j", 6], [8, "i", 7]]),
    "fractions as ids": ("user", pa.array([1.0, 1.0, 2.5]), [[1.0, "i", 5], [1.0, "j", 6], [2.5, "i", 7]]),
    "bytes as ids": ("user", pa.array([b"u", b"u", b"v"]), [[b"u", "i", 5], [b"u", "j", 6], [b"v", "i", 7]]),
    "uuids": (
        "user",
        pa.array([uuid.UUID(int=k).bytes for k in (1, 1, 2)], pa.binary(16)),
        [[uuid.UUID(int=k).bytes, i, t] for k, (_, i, t) in zip((1, 1, 2), GOOD)],
    ),
    "text 1 and 1.0": ("user", pa.array(["1", "1.0", "x"]), "column 'user' has both '1' and '1.0'"),
    "boolean times": ("timestamp", pa.array([True, False, True]), "column 'timestamp' holds bool, which says no time"),
    "list times": ("timestamp", pa.array([[1], [2], [3]]), "column 'timestamp' holds list<"),
    "times of the day": ("timestamp", pa.array([1, 2, 3], pa.time64("us")), "column 'timestamp' holds time64[us]"),
    "durations": ("timestamp", pa.array([1, 2, 3], pa.duration("s")), "column 'timestamp' holds duration[s]"),
    "a time missing": (
        "timestamp",
        pa.array([1, None, 3]),
        "column 'timestamp' has 1 missing time, the first in row 2",
    ),
    "a date missing": (
        "timestamp",
        pa.array([1, None, 3], pa.timestamp("us")),
        "has 1 missing time, the first in row 2",
    ),
    "a time that is no number": ("timestamp", pa.array([1.0, 2.0, np.nan]), "1 missing time, the first in row 3"),
    "an infinite time": (
        "timestamp",
        pa.array([1.0, -np.inf, 2.0]),
        "1 time that is not finite, the first is -inf in row 2",
    ),
    "mixed units": ("timestamp", pa.array([1.7e9, 1.7e12, 1.7e9]), "mixes units of time"),
    "decimals": ("timestamp", pa.array([decimal.Decimal("5.00"), decimal.Decimal(6), decimal.Decimal(7)]), GOOD),
    "fine decimals": (
        "timestamp",
        pa.array([decimal.Decimal(f"1714521600.00000001{k}") for k in range(3)]),
        "rows 1 and 2 differ",
    ),
    "unsigned": ("timestamp", pa.array([5, 6, 7], pa.uint64()), GOOD),
    "half precision": ("timestamp", pa.array(np.array([5, 6, 7], np.float16)), GOOD),
    "dates": (
        "timestamp",
        pa.array([datetime.date(1970, 1, 1), datetime.date(1500, 1, 1), datetime.date(9999, 12, 31)]),
        [["u", "i", 0], ["u", "j", -14831769600], ["v", "i", 253402214400]],
    ),
    "a zone": (
        "timestamp",
        pa.array([datetime.datetime(2024, 5, 1, tzinfo=UTC)] * 3, pa.timestamp("ms", "Europe/Berlin")),
        [[user, item, 1714521600] for user, item, _ in GOOD],
    ),
    "far years": (
        "timestamp",
        pa.array([-62135596800, 253402214400, 0], pa.timestamp("s")),
        [["u", "i", -62135596800], ["u", "j", 253402214400], ["v", "i", 0]],
    ),
    "nanoseconds far apart": (
        "timestamp",
        pa.array([NANOSECONDS, NANOSECONDS + 10**9, NANOSECONDS + 5 * 10**8], pa.timestamp("ns")),
        [["u", "i", 1714521600], ["u", "j", 1714521601], ["v", "i", 1714521600.5]],
    ),
    "nanoseconds close together": (
        "timestamp",
        pa.array([NANOSECONDS + k for k in (1, 3, 2)], pa.timestamp("ns")),
        "column 'timestamp' has times too fine to be told apart: rows 1 and 2 differ",
    ),
    "dates as text": (
        "timestamp",
        pa.array(["2024-05-01", "2024-05-01T00:00:01Z", "2024-05-02"]),
        [["u", "i", 1714521600], ["u", "j", 1714521601], ["v", "i", 1714608000]],
    ),
}


@pytest.mark.parametrize("kind", PARQUET)
def test_parquet(tmp_path, kind):
    column, values, expected = PARQUET[kind]
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table(COLUMNS | {column: values}), path)
    check(lambda: read_interactions(path), expected)


@pytest.mark.parametrize("kind", ["cut", "changed", "not UTF-8", "text", "empty", "twice", "no rows", "index"])
def test_parquet_files(tmp_path, kind):
    path = tmp_path / "data.parquet"
    table = pa.table(COLUMNS)
    if kind == "twice":
        table = table.append_column("item", COLUMNS["item"])
    if kind == "not UTF-8":
        latin = pa.array([b"\xe9", b"u", b"u"])
        table = table.set_column(0, "user", pa.Array.from_buffers(pa.string(), 3, latin.buffers()))
    pq.write_table(table.slice(0, 0) if kind == "no rows" else table, path)
    content = path.read_bytes()
    if kind == "index":
        pd.DataFrame(GOOD, columns=["user", "item", "timestamp"]).set_index("user").to_parquet(path)
    elif kind in ("cut", "changed", "text", "empty"):
        damaged = {"cut": content[:-20], "changed": content[:-9] + b"\xff" + content[-8:], "text": rows("u,i,5")}
        path.write_bytes(damaged.get(kind, b""))
    said = {"twice": "has 2 columns 'item'", "no rows": "has column names but no rows", "index": GOOD}
    check(lambda: read_interactions(path), said.get(kind, "data.parquet cannot be read: "))


FRAMES = {
    "a column twice": (
        pd.DataFrame([["u", "i", "j", 1]], columns=["user", "item", "item", "timestamp"]),
        "several columns 'item'",
    ),
    "no frame": ({"user": ["u"], "item": ["i"], "timestamp": [1]}, "must be a pandas DataFrame, got dict"),
    "infinite times": ({"timestamp": [1.0, 2.0, np.inf]}, "column 'timestamp' has 1 time that is not finite"),
    "boolean times": ({"timestamp": [True, False, True]}, "timestamps must be numbers, got bool"),
    "complex times": ({"timestamp": [1j, 2, 3]}, "timestamps must be numbers, got complex128"),
    "text times": ({"timestamp": ["1", "2", "3"]}, "timestamps must be numbers"),
    "dates": ({"timestamp": pd.to_datetime(["2024-05-01"] * 3)}, "timestamps must be numbers, got datetime64"),
    "mixed units": ({"timestamp": [1.7e9, 1.7e12, 1.7e9]}, "row 1 has 1700000000.0, which are Unix seconds, and row 2"),
    "a missing time": ({"timestamp": [1, None, 2]}, "column 'timestamp' has 1 missing value, the first in row 2"),
    "lists as ids": ({"user": [[1], [1], [1]]}, "column 'user' holds values that are no ids"),
    "sets as ids": ({"item": [{1}, {1}, {2}]}, "column 'item' holds values that are no ids"),
    "numbers as numbers and as text": ({"user": [1, "1", 1]}, "column 'user' has both 1 and '1'"),
    "1 and 1.0 as text": ({"item": ["1", "2", "1.0"]}, "column 'item' has both '1' and '1.0'"),
    "categories": ({"user": pd.Categorical(["u", "u", "u"])}, None),
    "nullable numbers": (
        {"timestamp": pd.array([1, 2, 3], dtype="Int64"), "item": pd.array([1, 2, 3], dtype="Int64")},
        None,
    ),
    "tuples as ids": ({"item": [(1, 2), (1, 3), (1, 2)]}, None),
    "numbers and text": ({"item": [1, "a", 2]}, None),
    "an index that repeats": (
        pd.DataFrame({"user": "u", "item": [1, 2, 3], "timestamp": [1, 2, 3]}, index=[7, 7, 7]),
        None,
    ),
    "small times": ({"timestamp": np.array([1, 2, 3], np.uint8)}, None),
    "half precision": ({"timestamp": np.array([1, 2, 3], np.float16)}, None),
}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("use", [summarize, leave_one_out], ids=lambda use: use.__name__)
def test_frames(kind, use):
    frame, expected = FRAMES[kind]
    if kind != "no frame" and isinstance(frame, dict):
        frame = pd.DataFrame({"user": ["u"] * 3, "item": ["i", "j", "k"], "timestamp": [1, 2, 3]} | frame)
    if expected is not None:
        check(lambda: use(frame), expected)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            use(frame)


def test_a_short_look_at_a_long_row(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(rows("u,i,5", f"u,{'x' * 5000},6,7"))
    check(lambda: read_interactions(path), "xxx...'; give every row as many fields")


@pytest.mark.parametrize("path", ["", "x" * 5000 + ".csv", "~nobody-here/data.csv", "a\0b.csv"])
def test_paths_that_are_none(path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_interactions(path)
