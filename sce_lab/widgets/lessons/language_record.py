"""The recorded experiment on a language model's head: figures, a table and sentences, for each record."""

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
    """A slider over what was recorded, by size of vocabulary and seconds of a training, and what came out.

    Args:
        records: as :func:`sce_lab.language.read_all` reads them; with none it says so.
    """

    def __init__(self, records: Sequence[dict[str, Any]]) -> None:
        self.records = {_called(record): record for record in records if any(_seeds(record))}
        self.tables: dict[str, pd.DataFrame] = {name: language_table(each) for name, each in self.records.items()}
        self._pages: dict[str, list[widgets.Widget]] = {}
        self._page = widgets.VBox([], layout=widgets.Layout(overflow="visible"))
        self.which: Slider | None = None
        if not self.records:
            self.view = stage(text(_NOTHING))
            return
        names = list(self.records)
        self.which = Slider([(name, name) for name in names], names[-1], description="Words <i>V</i>, and training")
        self.which.tooltip = "Words of the vocabulary, and seconds of a training"
        self.which.disabled = len(names) == 1
        self.which.observe(lambda _: self._show(), "value")
        self.view = stage(self.which, self._page)
        self._show()

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    @property
    def sentences(self) -> list[str]:
        """What follows from the record that is shown."""
        return findings(self.tables[self.which.value]) if self.which else []

    def results(self) -> dict[str, Any]:
        """What is shown, as plain data."""
        shown = self.which.value if self.which else None
        plain = ("entry", "correction", "seeds", "perplexity", "top1", "top10", "workspace")
        rows = [] if shown is None else self.tables[shown][list(plain)].to_dict("records")
        return {"recorded": list(self.records), "shown": shown, "rows": rows, "sentences": self.sentences}

    def _show(self) -> None:
        name = self.which.value
        if name not in self._pages:
            self._pages[name] = self._made(self.records[name], self.tables[name])
        self._page.children = self._pages[name]

    def _made(self, record: dict[str, Any], found: pd.DataFrame) -> list[widgets.Widget]:
        curves = language_curves_spec(record)  # its legend is that of the figures above
        curves["layout"] |= {"showlegend": False, "height": 320, "margin": {"l": 12, "r": 12, "t": 34, "b": 48}}
        specs = (top10_perplexity_spec(record), perplexity_memory_spec(record), curves)
        rows = [{k: html.escape(v) for k, v in row.items()} for row in for_people(found).to_dict("records")]
        said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in findings(found))
        return [
            text(f"<ul>{said}</ul>"),
            *(Canvas(spec).widget for spec in specs),
            text(table(rows, left=("loss",), wrap=("loss",))),
        ]


def _called(record: dict[str, Any]) -> str:
    return f"{record['corpus']['statistics']['vocabulary']:,} words, {record['rules']['seconds']:g} s"


def _seeds(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry["seeds"] for entry in record["entries"].values()]
