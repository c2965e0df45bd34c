import pytest

from sce_lab.figures.memory import count
from sce_lab.widgets.kit.words import capitalised, counted


@pytest.mark.parametrize(
    ("sentence", "begins"),
    [
        ("there is no setting", "There is"),
        ("dropout, the share", "Dropout, the"),
        ("n_buckets takes a number", "n_buckets takes"),
        ("other_names.csv: no column", "other_names.csv: no"),
        ("/data/a.csv is empty", "/data/a.csv is"),
        ("a", "A"),
        ("", ""),
    ],
)
def test_a_sentence_begins_with_a_capital_unless_with_a_name(sentence, begins):
    assert capitalised(sentence) == begins + sentence[len(begins) :]


def test_one_is_not_many():
    assert [counted(n, "user") for n in (0, 1, 2, 3000)] == ["0 users", "1 user", "2 users", "3,000 users"]


def test_ticks_have_units_that_fit():
    assert [count(n) for n in (500, 20_000, 10**6, 10**9, 10**10)] == ["500", "20k", "1M", "1G", "10G"]
