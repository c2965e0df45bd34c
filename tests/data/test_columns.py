"""Columns by their usual names, and every kind of file that people have."""

import gzip
import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sce_lab.data.json_lines as in_lines
import sce_lab.data.text as text
from sce_lab.data import ColumnsError, columns_of, open_split, read_interactions
from sce_lab.data.naming import USUAL

ROWS = [["u", "i", 1_700_000_000], ["u", "j", 1_700_000_001], ["v", "i", 1_700_000_002]]


def lines(*header, between=",", rows=ROWS):
    table = [header, *rows] if header else rows
    return "".join(between.join(map(str, row)) + "\n" for row in table).encode()


def packed(content, name):
    """``content`` as the suffix of ``name`` has it."""
    if name.endswith(".gz"):
        return gzip.compress(content)
    if name.endswith(".zst"):
        return pa.compress(content, "zstd", asbytes=True)
    if name.endswith(".zip"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__MACOSX/._data.csv", b"junk")
            archive.writestr("folder/" + name.removesuffix(".zip"), content)
        return out.getvalue()
    return content


def as_json(names=("user_id", "item_id", "timestamp"), rows=ROWS):
    return "".join(json.dumps({"extra": {"a": 1}} | dict(zip(names, row))) + "\n" for row in rows).encode()


def values(frame):
    return [list(row) for row in frame.itertuples(index=False)]


FILES = {
    "MovieLens 25M": ("ratings.csv", lines("userId", "movieId", "timestamp")),
    "MovieLens 1M": ("ratings.dat", lines(between="::", rows=[[u, i, 5, t] for u, i, t in ROWS])),
    "MovieLens 100k": ("u.data", lines(between="\t", rows=[[u, i, 5, t] for u, i, t in ROWS])),
    "RecBole": ("ml.inter", lines("user_id:token", "item_id:token", "timestamp:float", between="\t")),
    "Amazon 2018": ("Beauty.json.gz", as_json(("reviewerID", "asin", "unixReviewTime"))),
    "RetailRocket": (
        "events.csv",
        lines("timestamp", "visitorid", "event", "itemid", rows=[[t, u, "view", i] for u, i, t in ROWS]),
    ),
    "Behance": ("appreciates.txt.gz", lines(between=" ")),
    "capitals and marks": ("a.csv", lines("User ID", "Item-ID", "Date Time")),
    "bars": ("a.txt", lines("uid", "sku", "ts", between="|")),
    "three columns": ("a.tsv.zip", lines(between="\t")),
    "zst": ("a.csv.zst", lines("customer_id", "article_id", "t_dat")),
    "JSON lines in a zip": ("a.jsonl.zip", as_json()),
    "colons in a name": ("a.csv", lines("user", "item", "timestamp", "a::b", rows=[[*row, 7] for row in ROWS])),
    "a wrong time beside": ("a.csv", lines("user", "item", "timestamp", "date", rows=[[*row, 7] for row in ROWS])),
    "blanks in names": ("a.csv", lines("my user id", "user", "item", "time", rows=[[0, *row] for row in ROWS])),
}


@pytest.mark.parametrize("kind", FILES)
def test_usual_names_and_kinds_of_files(tmp_path, kind):
    name, content = FILES[kind]
    path = tmp_path / name
    path.write_bytes(packed(content, name))
    assert values(read_interactions(path)) == ROWS
    chosen, names = columns_of(path)
    assert {chosen.user, chosen.item, chosen.timestamp} <= set(names)
    assert read_interactions(path).attrs["columns"] == chosen.sentence


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, names in USUAL.items() for name in names])
def test_every_usual_name_is_known_in_capitals_and_without_marks(tmp_path, key, name):
    own = {"user": "user", "item": "item", "timestamp": "timestamp"}
    path = tmp_path / "a.csv"
    path.write_bytes(lines(*(own | {key: name.upper().replace("_", "")}).values()))
    assert getattr(columns_of(path)[0], key) == name.upper().replace("_", "")


SAID = {
    "names": (
        lines("reviewerID", "asin", "ts"),
        {},
        "'reviewerID' says who, 'asin' says what, 'ts' says when.",
        True,
    ),
    "own names": (lines("user", "item", "timestamp"), {}, "'user' says who, 'item' says what", False),
    "told": (lines("a", "b", "c"), {"user": "b", "item": "a", "timestamp": "c"}, "'b' says who, 'a' says what", False),
    "no header": (lines(), {}, "There is no header; column 1 says who, column 2 says what, column 3 says when.", True),
    "no time": (
        lines("user", "item", "stars", rows=[[1, 2, 3], [1, 3, 3]]),
        {},
        "no column says when, so the order of the lines is taken for it.",
        True,
    ),
    "no time meant": (lines("user", "item", "date"), {"timestamp": ""}, "the order of the lines is taken", False),
}


@pytest.mark.parametrize("kind", SAID)
def test_what_was_chosen_is_said(tmp_path, kind):
    content, asked, sentence, guessed = SAID[kind]
    (tmp_path / "a.csv").write_bytes(content)
    chosen, _ = columns_of(tmp_path / "a.csv", **asked)
    assert sentence in chosen.sentence
    assert chosen.guessed == guessed
    read = read_interactions(tmp_path / "a.csv", **asked)
    assert sentence in read.attrs["columns"]
    if chosen.timestamp == "":
        assert read["timestamp"].tolist() == list(range(len(read)))


REFUSED = {
    "two items": (
        ("user_id", "asin", "parent_asin", "ts"),
        {},
        "several columns that could say the item: asin or parent_asin? type --item asin, in Python item='asin'",
    ),
    "two users": (
        ("user_id", "session_id", "item", "ts"),
        {},
        "could say the user: user_id or session_id? type --user",
    ),
    "two times": (
        ("user", "item", "event_time", "date"),
        {},
        "could say the timestamp: event_time or date? type --time",
    ),
    "something like a time": (
        ("user", "item", "played_time_ms"),
        {},
        "is it played_time_ms? type --time played_time_ms",
    ),
    "a name that is not there": (
        ("user", "item", "ts"),
        {"item": "thing"},
        "a.csv has no column 'thing', it has 'user'",
    ),
    "a nameless user": (("user", "item", "ts"), {"user": ""}, "the column that says the user has no name"),
    "no header, a place that is none": ((1, 2, 1_700_000_000), {"user": "9"}, "is one of the columns 1 to 3, not '9'"),
    "no header, a name": ((1, 2, 1_700_000_000), {"user": "who"}, "is one of the columns 1 to 3, not 'who'"),
    "no header, two times": ((1, 2, 1_700_000_000, 1_700_000_000), {}, "which column says when cannot be seen"),
    "no header, one place for two": ((1, 2, 1_700_000_000), {"user": "2"}, "must be different columns, got 2, 2, 3"),
    "one for two": (("user", "item", "ts"), {"item": "ts"}, None),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_told_is_asked(tmp_path, kind):
    header, asked, sentence = REFUSED[kind]
    path = tmp_path / "a.csv"
    path.write_bytes(lines(header, header, rows=[]) if 0 else (",".join(map(str, header)) + "\n").encode() * 2)
    if sentence is None:  # no other column is called like a time: the order of the lines, and it says so
        assert "order of the lines" in columns_of(path, **asked)[0].sentence
        return
    for look in (columns_of, read_interactions):
        with pytest.raises(ValueError) as error:  # noqa: PT011 (what it says is compared below)
            look(path, **asked)
        assert sentence in str(error.value)


YOOCHOOSE = [[11, f"2014-04-07T10:5{n}:09.277Z", 214536502 + n, 0] for n in range(3)]


@pytest.mark.parametrize("rows", [YOOCHOOSE, [[t, u, i] for u, i, t in ROWS]], ids=["second", "first"])
def test_nothing_is_guessed_where_a_time_comes_first(tmp_path, rows):
    path = tmp_path / "a.csv"
    path.write_bytes(lines(rows=rows))
    place = 2 if rows is YOOCHOOSE else 1
    with pytest.raises(ValueError, match=f"column {place} holds times, so that .* type --user, --item and --time"):
        read_interactions(path)
    asked = {"user": "1", "item": "3", "timestamp": "2"} if place == 2 else {"user": "2", "item": "3", "timestamp": "1"}
    assert len(read_interactions(path, **asked)) == 3


def test_a_number_that_is_no_unix_time_is_no_time(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(lines(rows=[[1, 2, 214536502], [1, 3, 214536503]]))
    with pytest.raises(ValueError, match="which column says when cannot be seen"):
        read_interactions(path)


def written(folder, kind, names, rows):
    path = folder / f"a.{kind}"
    if kind == "parquet":
        pd.DataFrame(rows, columns=names).to_parquet(path)
    else:
        path.write_bytes(lines(*names, rows=rows) if kind == "csv" else as_json(names, rows))
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["viewed_at", "t", "created"])
@pytest.mark.parametrize("time", ["2024-05-01T10:00:00Z", 1_700_000_000, 1_433_221_332_117, 1_700_000_000.5])
def test_times_under_another_name_are_not_passed_over(tmp_path, kind, name, time):
    path = written(tmp_path, kind, ("user_id", "item_id", name), [[1, 2, time], [1, 3, time]])
    for look in (columns_of, read_interactions):
        with pytest.raises(ValueError, match=f"is it {name}[?] type --time {name}, in Python timestamp='{name}'"):
            look(path)
    assert len(read_interactions(path, timestamp=name)) == len(read_interactions(path, timestamp="")) == 2


def test_dates_of_parquet_and_fields_with_separators_are_seen(tmp_path):
    table = {"user": [1, 1], "item": [1, 2], "seen": pd.to_datetime(["2024-05-01", "2024-05-02"], utc=True)}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"is it seen\?"):
        columns_of(tmp_path / "a.parquet")
    path = tmp_path / "a.csv"
    path.write_text('user,item,title,seen\n1,1,"a, b","2024-05-01"\n1,2,"c, d","2024-05-02"\n')
    with pytest.raises(ValueError, match=r"is it seen\?"):
        columns_of(path)


def test_a_time_of_the_day_is_not_advised(tmp_path):
    path = tmp_path / "a.csv"
    rows = [[1, 1, 7, 1631], [1, 1, 8, 1642], [1, 2, 7, 905]]
    path.write_bytes(lines("household_key", "DAY", "PRODUCT_ID", "TRANS_TIME", rows=rows))
    with pytest.raises(ValueError, match="type --time DAY") as error:
        columns_of(path)
    assert "--time TRANS_TIME" not in str(error.value)
    path.write_bytes(lines("household_key", "n", "PRODUCT_ID", "TRANS_TIME", rows=rows))
    with pytest.raises(ValueError, match=r"'TRANS_TIME' looks like a time of the day, .* type --time NAME"):
        columns_of(path)


def test_one_answer_settles_what_is_ambiguous(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(lines("user_id", "asin", "parent_asin", "ts", rows=[[u, "x", i, t] for u, i, t in ROWS]))
    assert values(read_interactions(path, item="parent_asin")) == ROWS


def test_places_of_a_file_without_a_header_can_be_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(lines(rows=[[t, i, u] for u, i, t in ROWS]))
    assert values(read_interactions(path, user="3", item="2", timestamp="1")) == ROWS


# --------------------------------------------------------------------------------------------------- block by block


def in_small_blocks(path, monkeypatch, **options):
    monkeypatch.setattr(text, "_BLOCK", 128)
    return read_interactions(path, **options)


BLOCKS = {
    "whole numbers": [[f"{n % 7}", f"{n % 11}", f"{n}"] for n in range(200)],
    "text late": [[f"{n % 7}" if n < 150 else f"u{n % 3}", f"{n % 11}", f"{n}"] for n in range(200)],
    "text early": [[f"u{n % 3}" if n < 20 else f"{n % 7}", f"{n % 11}", f"{n}"] for n in range(200)],
    "007 late": [["007" if n == 190 else f"{n % 7}", f"{n % 11}", f"{n}"] for n in range(200)],
    "fractions late": [[f"{n % 7}", "x", f"{n}" if n < 150 else f"{n}.5"] for n in range(200)],
    "dates": [[f"{n % 7}", "x", f"2024-05-01T00:{n % 60:02d}:00Z"] for n in range(200)],
    "dates, fractions late": [
        [f"{n % 7}", "x", f"2024-05-01T00:{n % 60:02d}:00{'.000001' if n == 180 else ''}Z"] for n in range(200)
    ],
    "dates, nanoseconds late": [
        [f"{n % 7}", "x", f"2024-05-01T00:{n % 60:02d}:{n // 60:02d}{'.100000001' if n == 180 else ''}Z"]
        for n in range(200)
    ],
    "blanks around times": [[f"{n % 7}", "x", f" {n}" if n == 150 else f"{n}"] for n in range(200)],
}


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("between", [",", "::"])
def test_blocks_make_no_difference(tmp_path, monkeypatch, kind, between):
    path = tmp_path / "a.csv"
    path.write_bytes(lines("user", "item", "time", between=between, rows=BLOCKS[kind]))
    expected = read_interactions(path)
    assert len(expected) == 200
    pd.testing.assert_frame_equal(in_small_blocks(path, monkeypatch), expected)
    if "dates" not in kind:
        assert expected["user"].astype(str).tolist() == [row[0] for row in BLOCKS[kind]]
        assert expected["timestamp"].tolist() == [float(row[2]) for row in BLOCKS[kind]]


def test_rows_are_counted_from_the_beginning_in_every_block(tmp_path, monkeypatch):
    rows = [["u", "i", n] for n in range(200)]
    path = tmp_path / "a.csv"
    path.write_bytes(lines("user", "item", "time", rows=[*rows[:180], ["u", "i"], *rows[180:]]))
    with pytest.raises(ValueError, match=r"row 181 of a.csv has 2 fields, but the first line names 3 columns: 'u,i'"):
        in_small_blocks(path, monkeypatch)
    path.write_bytes(lines("user", "item", "time", rows=[*rows[:150], ["u", "i", "then"], *rows[150:]]))
    with pytest.raises(ValueError, match="1 time that cannot be read, the first is 'then' in row 151"):
        in_small_blocks(path, monkeypatch)
    path.write_bytes(lines("user", "item", "time", rows=[*rows[:150], ["", "i", 5], *rows[150:]]))
    with pytest.raises(ValueError, match="column 'user' has 1 missing id, the first in row 151"):
        in_small_blocks(path, monkeypatch)
    path.write_bytes(lines("user", "item", "time", rows=[*rows[:150], ['"u', "i", 5], *rows[150:]]))
    with pytest.raises(ValueError, match=r"row 151 of a.csv has a stray quotation mark"):
        in_small_blocks(path, monkeypatch)


# ------------------------------------------------------------------------------------------------------- other formats


def test_dates_in_a_format(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(lines("user", "item", "date", rows=[["u", "i", "31/12/2023"], ["u", "j", "01/02/2024"]]))
    with pytest.raises(ValueError, match=r"2 times that cannot be read.*--date-format '%d/%m/%Y'"):
        read_interactions(path)
    assert read_interactions(path, date_format="%d/%m/%Y")["timestamp"].tolist() == [1703980800, 1706745600]
    with pytest.raises(ValueError, match="first is '31/12/2023' in row 1; they are not written as %m/%d/%Y"):
        read_interactions(path, date_format="%m/%d/%Y")
    with pytest.raises(ValueError, match="date_format='%Q' is no format of dates"):
        read_interactions(path, date_format="%Q")
    path.write_bytes(lines("user", "item", "date", rows=[["u", "i", "2024-02-01"], ["u", "j", "2024-03-01"]]))
    assert read_interactions(path, date_format="%Y-%d-%m")["timestamp"].tolist() == [1704153600, 1704240000]
    path.write_bytes(lines("user", "item", "date", rows=[["u", "i", 20240501], ["u", "j", 20240502]]))
    assert read_interactions(path, date_format="%Y%m%d")["timestamp"].tolist() == [1714521600, 1714608000]
    pq.write_table(pa.table({"user": [1, 1], "item": [1, 2], "date": [20240501, 20240502]}), tmp_path / "a.parquet")
    found = read_interactions(tmp_path / "a.parquet", date_format="%Y%m%d")
    assert found["timestamp"].tolist() == [1714521600, 1714608000]


def test_repeats_can_be_dropped(tmp_path):
    path = tmp_path / "a.csv"
    rows = [["u", "i", 9], ["u", "j", 6], ["u", "i", 5], ["v", "i", 7], ["u", "i", 5]]
    path.write_bytes(lines("user", "item", "timestamp", rows=rows))
    assert values(read_interactions(path, drop_repeats=True)) == [rows[1], rows[2], rows[3]]


def test_a_folder_of_parquet_is_read_in_the_order_of_names(tmp_path):
    folder = tmp_path / "clicks"
    for n, part in enumerate(("day=2/b.parquet", "day=1/a.parquet")):
        (folder / part).parent.mkdir(parents=True)
        table = {"user_id": [1, 1], "sku": [n, 5], "ts": [n, n]}
        pq.write_table(pa.table(table), folder / part)
    (folder / "_SUCCESS").touch()
    assert values(read_interactions(folder)) == [[1, 1, 1], [1, 5, 1], [1, 0, 0], [1, 5, 0]]
    assert open_split(str(folder))[0].name == "clicks"
    pq.write_table(pa.table({"user_id": ["1"], "sku": [1], "ts": [1]}), folder / "c.parquet")
    with pytest.raises(
        ValueError, match=r"a.parquet in clicks has columns of other kinds .*than c.parquet|c.parquet in"
    ):
        read_interactions(folder)
    pq.write_table(pa.table({"user_id": [1], "ts": [1]}), folder / "c.parquet")
    with pytest.raises(ValueError, match="no column"):
        read_interactions(folder)
    for name in ("c.parquet", "day=1/a.parquet"):  # the first one is looked at, the others are read
        (folder / name).write_bytes(b"no parquet")
        with pytest.raises(ValueError, match=rf"{Path(name).name} in clicks cannot be read"):
            read_interactions(folder)
        (folder / name).unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="the folder empty has no parquet files"):
        read_interactions(tmp_path / "empty")


JSON = {
    "one document": (b'[{"user": 1},\n {"user": 2}]', "a.json is no file of JSON lines: its first line is '[{"),
    "a table": (b"user,item\n1,2\n", "a.json is no file of JSON lines"),
    "nothing": (b"\n", "a.json is empty"),
    "cut": (as_json()[:-20], "a.json cannot be read: "),
    "kinds mixed": (as_json(rows=[*ROWS, [1, 2, 3]]), "a.json cannot be read: "),
    "a line without an item": (as_json() + b'{"user_id": "u", "timestamp": 1}\n', "column 'item_id' has 1 missing id"),
}


@pytest.mark.parametrize("kind", JSON)
def test_json_lines_that_are_none(tmp_path, kind):
    content, sentence = JSON[kind]
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError) as error:  # noqa: PT011 (what it says is compared below)
        read_interactions(tmp_path / "a.json")
    assert sentence in str(error.value)


def json_lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_json_ids_of_more_than_53_bits_stay_two(tmp_path):
    first, second = 18446744073709551615, 18446744073709551614
    rows = [{"user": u, "item": i, "timestamp": t} for t, (u, i) in enumerate([(first, 1), (second, 2)] * 2)]
    read = read_interactions(json_lines(tmp_path / "a.jsonl", *rows))
    assert read["user"].tolist() == [str(first), str(second)] * 2
    assert read["timestamp"].tolist() == [0, 1, 2, 3]
    assert read["item"].dtype == read["timestamp"].dtype == np.int64


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_floating_ids_that_may_have_become_one_are_refused(tmp_path, kind):
    large = 2.0 ** (np.finfo(kind).nmant + 1)
    for user, fine in ((large - 1, True), (large, False)):
        table = pa.table({"user": np.array([1, user, 1], kind), "item": [1, 2, 3], "ts": [1, 2, 3]})
        pq.write_table(table, tmp_path / "a.parquet")
        if fine:
            assert len(read_interactions(tmp_path / "a.parquet")) == 3
        else:
            with pytest.raises(ValueError, match=r"'user' holds numbers of \d+ bits, and 1 id from .* in row 2"):
                read_interactions(tmp_path / "a.parquet")
    rows = [{"user": user, "item": 1, "timestamp": 1} for user in (1.5, 2e30, 1.5)]
    with pytest.raises(ValueError, match="write ids as whole numbers or as text"):
        read_interactions(json_lines(tmp_path / "a.jsonl", *rows))


def test_json_ids_that_look_like_dates_are_text(tmp_path):
    rows = [{"user": 1, "item": f"2024-05-0{n}", "timestamp": n} for n in (1, 2)]
    assert read_interactions(json_lines(tmp_path / "a.jsonl", *rows))["item"].tolist() == ["2024-05-01", "2024-05-02"]


def test_json_numbers_that_are_whole_at_first_only(tmp_path, monkeypatch):
    monkeypatch.setattr(in_lines, "_BLOCK", 256)
    times = [*range(1_700_000_000, 1_700_000_050), 1_700_000_050.5]
    rows = [{"user": n % 3, "item": n, "timestamp": t, "price": 1.5 if n > 40 else 1} for n, t in enumerate(times)]
    read = read_interactions(json_lines(tmp_path / "a.jsonl", *rows))
    assert read["timestamp"].tolist() == times
    assert read["user"].tolist() == [n % 3 for n in range(51)]


def test_json_names_are_those_of_all_lines(tmp_path):
    rows = [{"user": 1, "item": 1}, {"user": 1, "item": 2, "timestamp": 5}]
    path = json_lines(tmp_path / "a.jsonl", *rows)
    assert columns_of(path)[0].timestamp == "timestamp"
    with pytest.raises(ValueError, match="column 'timestamp' has 1 missing time, the first in row 1"):
        read_interactions(path)


@pytest.mark.parametrize("name", ["a.csv.zip", "a.csv.zst", "a.csv.gz", "a.jsonl.gz"])
def test_damaged_packings(tmp_path, name):
    content = lines("user", "item", "ts", rows=ROWS * 500) if "csv" in name else as_json(rows=ROWS * 500)
    whole = packed(content, name)
    for damaged in (
        whole[: len(whole) // 2],
        whole[: len(whole) // 2] + bytes(9) + whole[len(whole) // 2 + 9 :],
        b"no such thing",
    ):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=name):
            read_interactions(tmp_path / name)


def test_a_zip_of_several_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("ratings.csv", "x")
        archive.writestr("movies.csv", "x")
    with pytest.raises(ValueError, match=r"a.zip holds 2 files \(ratings.csv, movies.csv\): unpack it"):
        read_interactions(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_the_whole_of_a_large_file_is_never_held_twice(tmp_path, name):
    """While whole numbers are read there are the numbers, and a block or two of what they come from."""
    n, path = 600_000, tmp_path / name
    frame = pd.DataFrame({"user": 10**6 + np.arange(n) // 2, "item": 10**5 + np.arange(n) % 999, "ts": np.arange(n)})
    if name == "a.parquet":
        frame.to_parquet(path, row_group_size=50_000)
    else:
        frame.to_csv(path, index=False)
    pool = pa.system_memory_pool()  # another than other tests have used: its peak is of this one
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        read = read_interactions(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)
    assert len(read) == n
    assert peak + pool.max_memory() < 1.6 * 24 * n


def test_a_row_may_be_longer_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_BLOCK", 128)
    monkeypatch.setattr(text, "_LONG", 4096)
    path = tmp_path / "a.csv"
    header = ["user", "item", "ts", "said"]
    path.write_bytes(lines(*header, rows=[[*row, "x" * (999 * (n == 2))] for n, row in enumerate(ROWS)]))
    assert values(read_interactions(path)) == ROWS
    path.write_bytes(lines(*header, rows=[[*row, "x" * (99_999 * (n == 2))] for n, row in enumerate(ROWS)]))
    with pytest.raises(ValueError, match=r"a\.csv cannot be read: straddling"):
        read_interactions(path)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.parquet"])
def test_a_progress_bar_goes_to_the_end_if_it_is_wanted(tmp_path, monkeypatch, capfd, name):
    monkeypatch.setattr("sce_lab.data.opening._PATIENCE", 0)
    path = tmp_path / name
    rows = ROWS * 100
    if name == "a.parquet":
        pd.DataFrame(rows, columns=["user", "item", "timestamp"]).to_parquet(path)
    else:
        content = as_json(rows=rows) if "json" in name else lines("user", "item", "timestamp", rows=rows)
        path.write_bytes(packed(content, name))
    read_interactions(path, progress=True)
    assert f"{name}: " in capfd.readouterr().err
    read_interactions(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("first", "names", "header"), [("who,what", ["who", "what"], True), ("2,1,5", ["1", "2", "3"], False)]
)
def test_what_cannot_be_told_comes_with_what_can_be_chosen(tmp_path, first, names, header):
    (tmp_path / "a.csv").write_text(f"{first}\n1,2,3\n")
    with pytest.raises(ColumnsError) as error:
        columns_of(tmp_path / "a.csv")
    assert (error.value.names, error.value.header) == (names, header)


def test_a_folder_may_have_a_point_in_its_name(tmp_path):
    for name in ("events.2024", "events.csv"):
        (tmp_path / name).mkdir()
        pd.DataFrame({"user": [1, 1], "item": [2, 3]}).to_parquet(tmp_path / name / "a.parquet")
    assert len(read_interactions(tmp_path / "events.2024")) == 2
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_interactions(tmp_path / "events.csv")
