"""Look at what a model recommends, and take it home."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from sce_lab.data import Split
from sce_lab.figures import label
from sce_lab.recommending import Recommender, export
from sce_lab.runs import Run
from sce_lab.widgets.kit.stage import stage, table, text
from sce_lab.widgets.kit.words import capitalised
from sce_lab.widgets.own_data.training import Training

#: Items of a history that are shown.
SHOWN = 10
#: Items that can be chosen from a list, the most popular ones.
LISTED = 200


class Look:
    """The panel: a test user's history beside the ten items that the best model recommends; and an item's neighbours.

    From Python: ``user.value``, ``item.value``, :meth:`results`.

    Attributes:
        recommender: the best model of the training; None before there is one.
    """

    def __init__(self, training: Training) -> None:
        self.training, self.recommender = training, None
        self._run: Run | None = None
        self._split: Split | None = None  # that of the run
        self.user = widgets.BoundedIntText(1, min=1, max=1, description="Test user")
        self.user.tooltip = "Number of a test user"
        self.another = widgets.Button(description="Another user", icon="random", tooltip="A test user by chance")
        self.item = widgets.Combobox(description="Neighbours of", placeholder="an item", continuous_update=False)
        self.item.tooltip = "An item as your file calls it"
        self._which, self._user_said, self._item_said = text(""), text(""), text("")
        self._chance = np.random.default_rng(0)
        self.another.on_click(lambda _: self._pick())
        self.user.observe(lambda _: self._show_user(), "value")
        self.item.observe(lambda _: self._show_item(), "value")
        users = widgets.HBox([self.user, self.another]).add_class("sce-own")
        items = widgets.HBox([self.item]).add_class("sce-own")
        self.view = stage(self._which, users, self._user_said, items, self._item_said)
        self._show_nothing()
        training.when_ended(self._renew)

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    def results(self) -> dict[str, Any]:
        """What is shown, as plain data."""
        if self.recommender is None:
            return {"history": [], "recommended": [], "target": None, "neighbours": []}
        history, target = self._of(self.user.value)
        similar = self.recommender.neighbours(self._label(self.item.value)) if self.item.value else None
        return {
            "history": [str(each) for each in history],
            "target": str(target),
            "recommended": self._recommended(history)["item"].astype(str).tolist(),
            "neighbours": [] if similar is None else similar["item"].astype(str).tolist(),
        }

    def _show_nothing(self) -> None:
        self._run = self._split = self.recommender = None
        self._user_said.value = self._item_said.value = ""
        self.item.options = ()
        self._which.value = '<div class="sce-empty">When a model is trained, it recommends here.</div>'

    def _renew(self) -> None:
        run, own = self.training.best, self.training.own
        if run is None or own is None:
            self._show_nothing()
            return
        if self._run is not None and run.folder == self._run.folder:
            return
        recommender, split = Recommender.from_run(run), own.split
        self._show_nothing()  # what is shown below is of this run and its data, at every moment
        self.user.max = len(split.test)
        self._run, self._split, self.recommender = run, split, recommender
        loss, seed = label(run.config.loss), run.config.seed
        self._which.value = f"<div>The model: <b>{html.escape(loss)}</b>, seed {seed}, the best on validation.</div>"
        popular = np.argsort(-split.item_counts, kind="stable")[:LISTED]
        self.item.options = tuple(str(split.item_labels[row]) for row in popular)
        self.item.value = self.item.options[0]
        self._show_user()
        self._show_item()

    def _pick(self) -> None:
        if self._split is not None:
            self.user.value = int(self._chance.integers(1, len(self._split.test) + 1))

    def _of(self, user: int) -> tuple[np.ndarray, Any]:
        """The history of a test user, and what came next, as the file calls them."""
        split = self._split
        return split.item_labels[split.test.histories[user - 1]], split.item_labels[split.test.targets[user - 1]]

    def _recommended(self, history: np.ndarray) -> Any:
        return self.recommender.recommend(history.tolist(), 10)

    def _label(self, words: str) -> Any:
        """The item that was typed: a number where items are numbers."""
        labels = self.recommender.item_labels
        return int(words) if labels.dtype.kind in "iu" and words.strip().lstrip("-").isdigit() else words.strip()

    def _show_user(self) -> None:
        if self.recommender is None:
            return
        history, target = self._of(self.user.value)
        found = self._recommended(history)
        before = f", {len(history) - SHOWN:,} earlier ones not shown" if len(history) > SHOWN else ""
        had = [html.escape(str(each)) for each in history[-SHOWN:][::-1]]
        next_ = [
            f"<b>{html.escape(str(item))} ← the user's next</b>" if item == target else html.escape(str(item))
            for item in found["item"]
        ]
        scores = [f"{score:.2f}" for score in found["score"]]
        n = max(len(had), len(next_))
        rows = [
            {"": str(i + 1), "had, the latest first": h, "recommended": r, "score": s}
            for i, (h, r, s) in enumerate(zip(*(_filled(column, n) for column in (had, next_, scores))))
        ]
        came = html.escape(str(target))
        hit = "is among the ten" if (found["item"] == target).any() else "is not among the ten"
        caption = f'<div class="sce-caption"><span>What came next, {came}, {hit}{before}.</span></div>'
        self._user_said.value = table(rows, left=("had, the latest first", "recommended")) + caption

    def _show_item(self) -> None:
        if self.recommender is None or not self.item.value:
            return
        try:
            found = self.recommender.neighbours(self._label(self.item.value))
        except ValueError as error:
            self._item_said.value = f'<div class="sce-problem">{html.escape(str(error))}</div>'
            return
        rows = [
            {"neighbour": html.escape(str(item)), "cosine": f"{cosine:.3f}"}
            for item, cosine in zip(found["item"], found["similarity"])
        ]
        self._item_said.value = table(rows, left=("neighbour",))


def _filled(column: list[str], n: int) -> list[str]:
    return column + [""] * (n - len(column))


class TakeHome:
    """The panel: a folder that needs nothing of this lab, and the code that does the same.

    From Python: ``folder.value``, :meth:`export`.
    """

    def __init__(self, training: Training, folder: str = "my_model") -> None:
        self.training = training
        self.folder = widgets.Text(value=folder, description="Folder", continuous_update=False)
        self.folder.tooltip = "Folder, a new one"
        self.button = widgets.Button(description="Export", icon="download", tooltip="Write the best model there")
        self.button.add_class("sce-primary")
        self.button.on_click(lambda _: self.export())
        self._said, self._code = text(""), text("")
        row = widgets.HBox([self.folder, self.button]).add_class("sce-bar")
        self.view = stage(row, self._said, self._code)
        self.button.disabled = True
        training.when_ended(self._renew)

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    def export(self) -> Path | None:
        """Write the best model; None, and a sentence, if that cannot be."""
        run = self.training.best
        self._said.value, self.button.disabled = "<div>Writing ...</div>", True
        try:
            if run is None:
                raise ValueError("there is no trained model yet: press Start above")
            export(run, self.folder.value)
        except (ValueError, OSError) as error:
            self._said.value = f'<div class="sce-problem">{html.escape(capitalised(str(error)))}</div>'
            return None
        finally:
            self.button.disabled = run is None
        path = Path(self.folder.value).resolve()
        self._said.value = f"<div>Written: <code>{html.escape(str(path))}</code></div>"
        return path

    def _renew(self) -> None:
        run, own = self.training.best, self.training.own
        self.button.disabled = run is None
        if run is None or own is None:
            self._code.value = ""
            return
        first = own.split.item_labels[0]
        first = first.item() if isinstance(first, np.generic) else first
        code = (
            f"# in a shell: sce-lab export {run.folder} {self.folder.value}\n"
            "from sce_lab import Recommender\n\n"
            f"model = Recommender.load({self.folder.value!r})\n"
            f"model.recommend([{first!r}], 10)   # after this history\n"
            f"model.neighbours({first!r}, 10)\n"
        )
        self._code.value = f'<pre class="sce-run-code">{html.escape(code)}</pre>'
