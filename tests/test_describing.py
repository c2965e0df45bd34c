"""What is said of a stranger's file before anything is trained on it."""

import json
import re
import shlex

import numpy as np
import pandas as pd
import pytest

from sce_lab import describe
from sce_lab.data import DATASETS, SPLITS, SyntheticProcess, leave_one_out, open_split, summarize
from sce_lab.describing import popularity_ranks
from sce_lab.metrics.baselines import popularity
from sce_lab.runs import list_runs


@pytest.fixture
def clicks():
    """150 users, 60 items of which few are met often, some met again."""
    rng = np.random.default_rng(0)
    n = 4000
    users = rng.integers(150, size=n)  # one after the other: the last are those of the future
    times = 1_600_000_000 + users * 10**5 + rng.integers(10**5, size=n)
    return pd.DataFrame({"user": users, "item": rng.zipf(1.4, n) % 60, "timestamp": times})


@pytest.fixture
def shop(clicks, tmp_path):
    path = tmp_path / "shop.csv"
    clicks.rename(columns={"user": "customer_id", "item": "sku", "timestamp": "ts"}).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("world", ["clicks", "synthetic", "ties"])
def test_popularity_is_ranked_as_the_baseline_ranks_it(clicks, world):
    if world == "synthetic":
        clicks = SyntheticProcess(catalog_size=200, n_users=300).interactions()
    if world == "ties":
        clicks = clicks.assign(item=clicks.index % 60)
    split = leave_one_out(clicks)
    assert split.test.repeats.any() or world == "synthetic"
    assert popularity_ranks(split).tolist() == popularity(split, split.test).ranks.tolist()


def test_a_description(clicks, shop):
    found = describe(str(shop))
    assert found.columns == "'customer_id' says who, 'sku' says what, 'ts' says when."
    expected = summarize(clicks)["value"]
    pd.testing.assert_series_equal(found.numbers["value"][: len(expected)], expected)
    numbers = found.numbers["value"]
    popular = clicks["item"].value_counts()
    assert numbers["share of the most popular 10 % of items"] == popular[:6].sum() / 4000
    half = numbers["items that have half of all interactions"]
    assert popular[:half].sum() >= 2000 > popular[: half - 1].sum()
    assert (numbers["first day"], numbers["last day"]) == ("2020-09-13", "2021-03-06")
    assert found.tail["interactions"].iloc[[0, -1]].tolist() == [0, 1]
    assert found.tail["interactions"].is_monotonic_increasing
    assert found.splits["split"].tolist() == list(SPLITS)
    for row in found.splits.itertuples():
        split = SPLITS[row.split](clicks)
        assert row.items == split.catalog_size
        ranking = popularity(split, split.test)
        assert found.splits.set_index("split").loc[row.split, "HR@10"] == (ranking.ranks <= 10).double().mean()
        assert found.splits.set_index("split").loc[row.split, "test users"] == len(split.test)


def test_a_rule_that_cannot_be_used_says_why(clicks):
    found = describe(clicks.assign(timestamp=5)).splits.set_index("split")
    assert "leaves no users" in found.loc["temporal", "problem"]
    assert found.loc["temporal", "test users"] == 0
    assert found.loc["leave_one_out", "problem"] == ""
    assert found.loc["leave_one_out", "test users"] == 150


def test_the_command_describes_a_file(sce_lab, shop):
    status, out, err = sce_lab("data", str(shop))
    assert status == 0
    assert "shop.csv: 'customer_id' says who, 'sku' says what, 'ts' says when." in out
    assert re.search(r"users +150\n", out)
    assert re.search(r"first day +2020-09-13", out)
    assert re.search(r"leave_one_out +150 +150 +150 +60 +\d+\.\d% +\d+\.\d% +0\.\d{4} +0\.\d{4}", out)
    assert "only" in err or err == ""
    status, out, _ = sce_lab("data", str(shop), "--user", "sku", "--item", "customer_id", "--drop-repeats")
    assert status == 0
    assert re.search(r"users +60\n", out)
    assert re.search(r"repeated \(user, item\) pairs +0\n", out)
    status, _, err = sce_lab("data", str(shop), "--time", "when")
    assert status == 2
    assert "shop.csv has no column 'when', it has 'customer_id', 'sku', 'ts'; type --time NAME" in err


def test_baselines_are_told_the_columns_of_a_file(sce_lab, shop, tmp_path):
    words = ("--user", "sku", "--item", "customer_id", "--drop-repeats", "--split", "leave_one_out")
    status, out, _ = sce_lab("baselines", str(shop), *words, "--record", "--folder", str(tmp_path / "my records"))
    assert status == 0
    assert "150 items, 0.0% of the targets repeat" in out
    (path,) = (tmp_path / "my records" / "baselines").glob("*.json")
    repeat = json.loads(path.read_text())["repeat"]
    assert shlex.split(repeat) == [
        *("sce-lab", "baselines", str(shop), "--user", "sku", "--item", "customer_id", "--split", "leave_one_out"),
        *("--drop-repeats", "--record"),
    ]
    assert not list(shop.parent.glob("*.json")), "nothing is written beside a person's file"


def test_every_data_set_says_where_it_is_or_how_to_get_it(sce_lab, monkeypatch, tmp_path):
    monkeypatch.setenv("SCE_LAB_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    (tmp_path / "gowalla_nyc").mkdir()
    (tmp_path / DATASETS["gowalla_nyc"].path).touch()
    status, out, _ = sce_lab("data")
    assert status == 0
    where = {line.split()[0]: line for line in out.splitlines() if line.split() and line.split()[0] in DATASETS}
    assert set(where) == set(DATASETS)
    assert where["gowalla_nyc"].rstrip().endswith(" here")
    assert "fetched when it is asked for" in where["complete_journey"]
    assert "fetched when it is asked for" in where["epinions"]
    assert (
        "by hand, as gowalla_sepgcn/gowalla_sepgcn.txt.gz in a folder that SCE_LAB_DATA names"
        in where["gowalla_sepgcn"]
    )


def test_training_takes_columns_and_a_rule_and_resumes_with_them(sce_lab, shop, tmp_path, monkeypatch):
    monkeypatch.setenv("SCE_LAB_RUNS", str(tmp_path / "runs"))
    small = ["--hidden-size", "8", "--n-blocks", "1", "--epochs", "1", "--loss", "ce"]
    columns = ["--user", "sku", "--item", "customer_id", "--drop-repeats", "--split", "leave_one_out"]
    status, out, _ = sce_lab("train", "--dataset", str(shop), *columns, *small)
    assert status == 0
    assert "150 items" in out
    assert "says who" in out
    (run,) = list_runs()
    source = run.settings["source"]
    assert source["user"] == "sku"
    assert source["drop_repeats"] is True
    assert open_split(**source)[0].fingerprint == run.settings["fingerprint"]
    status, _, err = sce_lab("train", "--resume", str(run.folder), "--user", "sku")
    assert status == 2
    assert "leave out --user" in err
    assert sce_lab("train", "--resume", str(run.folder), "--epochs", "2")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"source": "synthetic", "user": "who"}, "user cannot be chosen for synthetic data"),
        ({"source": "amazon_beauty", "user": "who"}, "user say which columns of a file are meant; 'amazon_beauty' has"),
        (
            {"source": "synthetic", "split": "half"},
            "split must be one of leave_one_out, temporal, published_temporal, got",
        ),
    ],
)
def test_options_that_do_not_go_with_the_data_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        open_split(**arguments)
