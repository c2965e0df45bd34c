import dataclasses
import json

import pytest

from sce_lab.widgets.playground.settings import Settings, read_line


def test_a_line_comes_back_as_what_it_was():
    settings = Settings(
        losses=("sce", "ce"), catalog_size=123, dropout=0.25, mix_x=False, paper_rule=True, path="ü.csv"
    )
    line = settings.line()
    assert "\n" not in line
    assert read_line(line) == settings
    assert json.loads(line)["losses"] == ["ce", "sce"]  # in the lab's order


def test_what_a_line_does_not_name_stays():
    base = Settings(seed=3, losses="ce")
    assert read_line('{"catalog_size": 50}', base) == dataclasses.replace(base, catalog_size=50)
    assert read_line({"dropout": 0}, base).dropout == 0


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", 'a state is one line in braces, such as {"catalog_size": 1000}, and this line is empty'),
        (" \n", "and this line is empty"),
        ('{"seed": 1', "and this one ends too early"),
        ("seed = 1", "and this one goes wrong at character 1, 'seed = 1'"),
        ('{"seed": 1 "x": 2}', """goes wrong at character 12, '"x": 2}'"""),
        ("[1, 2]", "a state is one line in braces, .*, got [1, 2]"),
        ('{"n_bucket": 1}', "there is no setting 'n_bucket'; there are dataset, catalog_size"),
        ('{"n_buckets": "many"}', 'n_buckets takes a whole number, such as 64, got "many"'),
        ('{"n_buckets": 1.5}', "n_buckets takes a whole number"),
        ('{"n_buckets": true}', "n_buckets takes a whole number"),
        ('{"mix_x": 1}', "mix_x takes true or false"),
        ('{"dropout": "x"}', "dropout takes a number"),
        ('{"dropout": NaN}', "dropout takes a number"),
        ('{"path": 3}', "path takes text"),
        ('{"losses": ["cee"]}', "losses are ce, cce, ce_minus, sampled, rece, sce, bce, got 'cee'"),
        ('{"losses": 3}', "losses takes text"),
    ],
)
def test_a_line_that_is_wrong_is_answered_with_what_would_be_right(line, sentence):
    with pytest.raises(ValueError, match=sentence.replace("[", r"\[").replace("{", r"\{")):
        read_line(line)


def test_the_paper_takes_twice_the_root_of_the_positions():
    settings = Settings(paper_rule=True, bucket_size_y=100).as_in_the_paper(6_400, 10_000)
    assert (settings.n_buckets, settings.bucket_size_x, settings.bucket_size_y) == (160, 160, 100)
    assert Settings(n_buckets=7).as_in_the_paper(6_400, 10_000).n_buckets == 7


def test_settings_of_a_loss_are_those_it_takes():
    settings = Settings(n_negatives=9, sampling="popularity", n_buckets=8)
    assert settings.loss_settings("ce") == {}
    assert settings.loss_settings("sampled") == {"n_negatives": 9, "sampling": "popularity"}
    assert set(settings.loss_settings("sce")) == {"n_buckets", "bucket_size_x", "bucket_size_y", "mix_x"}
    assert settings.config("sampled").loss_settings["n_negatives"] == 9
