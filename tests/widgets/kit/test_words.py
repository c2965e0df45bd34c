import pytest

from sce_lab.figures.style import TEMPLATE, decade_ticks, in_words
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


def test_ticks_read_as_the_text_does():
    words = [in_words(n) for n in (500, 20_000, 10**6, 2_500_000, 10**9, 10**10)]
    assert words == ["500", "20,000", "1 million", "2.5 million", "1 billion", "10 billion"]
    for axis in (TEMPLATE.layout.xaxis, TEMPLATE.layout.yaxis):  # where plotly makes the ticks it writes 1M and 1k
        assert (axis.exponentformat, axis.separatethousands) == ("none", True)


@pytest.mark.parametrize(
    ("ends", "names"),
    [
        ((100, 10**5), ["100", "1,000", "10,000", "100,000"]),
        ((100, 10**7), ["100", "", "10,000", "", "1 million", ""]),
        ((1_000, 10**9), ["1,000", "", "", "1 million", "", "", "1 billion"]),
        ((150, 900), []),
    ],
)
def test_no_more_decades_are_named_than_there_is_room_for(ends, names):
    ticks = decade_ticks(*ends)
    assert ticks["ticktext"] == names
    assert len(ticks["tickvals"]) == len(names)
