"""What was recorded of language models, looked at from Python."""

import copy
import html

import pytest

from sce_lab.language import read_all
from sce_lab.language.report import findings, for_people, language_table
from sce_lab.reproduce import results_folder
from sce_lab.widgets.lessons.language_record import LanguageRecord


@pytest.fixture(scope="module")
def record():
    """The first that has been trained; as if there were two, of which one seed is another's."""
    return next(each for each in read_all(results_folder("language_model")) if language_table(each).size)


def texts(shown):
    return " ".join(child.value for child in shown._page.children if hasattr(child, "value"))


def test_figures_sentences_and_table_are_those_of_the_record(record):
    longer = copy.deepcopy(record)
    longer["rules"]["seconds"] *= 10
    for entry in longer["entries"].values():
        for seed in entry["seeds"].values():
            for found in seed["test"].values():
                found["perplexity"] *= 1000
    shown = LanguageRecord([record, longer])
    for name, each in zip(shown.records, (record, longer)):
        shown.which.value = name
        table = language_table(each)
        assert shown.sentences == findings(table)
        assert all(html.escape(sentence) in texts(shown) for sentence in shown.sentences)
        cells = for_people(table)
        assert all(html.escape(value) in texts(shown) for value in cells["perplexity as it is"])
        assert shown.results()["shown"] == name
        perplexities = [row["perplexity"] for row in shown.results()["rows"] if row["correction"] == "none"]
        figure = next(child for child in shown._page.children if hasattr(child, "current"))
        assert sorted(x for trace in figure.current["data"] for x in trace["x"]) == pytest.approx(sorted(perplexities))
    assert len(shown.results()["recorded"]) == 2


def test_one_record_has_nothing_to_choose_and_none_is_said(record):
    assert LanguageRecord([record]).which.disabled
    nothing = copy.deepcopy(record)
    for entry in nothing["entries"].values():
        entry["seeds"] = {}
    for records in ([], [nothing]):
        shown = LanguageRecord(records)
        assert "sce-lab language --record" in shown.view.children[-1].value
        assert shown.results() == {"recorded": [], "shown": None, "rows": [], "sentences": []}
