"""The recorded experiment on a language model's head: figures, a table and sentences, for each size of vocabulary."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import pandas as pd

from sce_lab.figures.language import language_curves_spec, perplexity_memory_spec, top10_perplexity_spec
from sce_lab.language.report import findings, for_people, language_table
from sce_lab.widgets.kit.slider import Slider
from sce_lab.widgets.kit.stage import Canvas, stage, table, text

_NOTHING = "Nothing of this has been recorded here yet: <code>sce-lab language --record</code> does it, in a while."


class LanguageRecord:
    """A slider over the sizes of vocabulary that were recorded, and what came out.

    Args:
        records: as :func:`sce_lab.language.read_all` reads them; with none it says so.
    """

    def __init__(self, records: Sequence[dict[str, Any]]) -> None:
        self.records = {record["corpus"]["statistics"]["vocabulary"]: record for record in records}
        self.tables: dict[int, pd.DataFrame] = {size: language_table(each) for size, each in self.records.items()}
        self._pages: dict[int, list[widgets.Widget]] = {}
        self._page = widgets.VBox([], layout=widgets.Layout(overflow="visible"))
        self.vocabulary: Slider | None = None
        if not self.records:
            self.view = stage(text(_NOTHING))
            return
        sizes = list(self.records)
        self.vocabulary = Slider([(f"{v:,}", v) for v in sizes], sizes[-1], description="Words <i>V</i>, recorded")
        self.vocabulary.tooltip = "Words of the vocabulary"
        self.vocabulary.disabled = len(sizes) == 1
        self.vocabulary.observe(lambda _: self._show(), "value")
        self.view = stage(self.vocabulary, self._page)
        self._show()

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    @property
    def sentences(self) -> list[str]:
        """What follows from the record that is shown."""
        return findings(self.tables[self.vocabulary.value]) if self.vocabulary else []

    def results(self) -> dict[str, Any]:
        """What is shown, as plain data."""
        shown = self.vocabulary.value if self.vocabulary else None
        plain = ("entry", "correction", "seeds", "perplexity", "top1", "top10", "workspace")
        rows = [] if shown is None else self.tables[shown][list(plain)].to_dict("records")
        return {"recorded": list(self.records), "vocabulary": shown, "rows": rows, "sentences": self.sentences}

    def _show(self) -> None:
        size = self.vocabulary.value
        if size not in self._pages:
            self._pages[size] = self._made(self.records[size], self.tables[size])
        self._page.children = self._pages[size]

    def _made(self, record: dict[str, Any], found: pd.DataFrame) -> list[widgets.Widget]:
        specs = (top10_perplexity_spec, perplexity_memory_spec, language_curves_spec)
        rows = [{k: html.escape(v) for k, v in row.items()} for row in for_people(found).to_dict("records")]
        said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in findings(found))
        return [
            text(f"<ul>{said}</ul>"),
            *(Canvas(spec(record)).widget for spec in specs),
            text(table(rows, left=("loss",), wrap=("loss",))),
        ]
