"""A trained model that answers: what next after a history, and what is like an item."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sce_lab.data.batches import Packed
from sce_lab.data.interactions import count
from sce_lab.followers import Followers
from sce_lab.model import SASRec
from sce_lab.recommending.cells import Cells
from sce_lab.recommending.reading import read_folder, read_run
from sce_lab.runs import Run
from sce_lab.training import TrainingConfig, make_model
from sce_lab.training.checkpoint import check_tensors

_ROWS = 2**16  # of the item table, scored at a time
_NAMED = 10  # unknown items in a message


class Recommender:
    """A model with the names of its items. Exact, on a CPU, in memory beyond the weights that the catalog does not set.
    Where that takes too long, an approximate search can be asked for.

        score[c] = <encoder(history), E[c]> (+ what the counts of followers add),    similarity[c] = cos(E[item], E[c])

    The item table E is gone through in pieces of 65,536 rows, of which the best k so far are kept: some 20 MiB at
    D = 64, for a million items as for ten thousand.

    Args:
        config: what was trained.
        weights: of the model, as ``state_dict`` names them.
        item_labels: ``(C,)`` the item of each row of the table, each another one.
        followers: counts that are added to its scores, if ``config`` has a weight for them.
        about: where it comes from, for people: JSON-able.

    Raises:
        ValueError: weights or counts that are not of this configuration and catalog, or an item that stands twice.
    """

    def __init__(
        self,
        config: TrainingConfig,
        weights: Mapping[str, Tensor],
        item_labels: np.ndarray,
        about: Mapping[str, Any] | None = None,
        followers: Followers | None = None,
    ) -> None:
        if (config.followers > 0) != (followers is not None):
            wanted = f"with followers={config.followers}"
            raise ValueError(f"a model {wanted} is given {'no counts' if followers is None else 'counts it has not'}")
        if followers is not None and followers.table.shape != (len(item_labels),) * 2:
            raise ValueError(f"counts of {len(item_labels):,} items are needed, got a table {followers.table.shape}")
        self.config = dataclasses.replace(config, device="cpu")
        self.about = dict(about or {})
        self.item_labels = item_labels
        self._rows = pd.Index(item_labels, dtype=item_labels.dtype)  # text stays what it is
        if not self._rows.is_unique:
            twice = self._rows[self._rows.duplicated()][0]
            raise ValueError(f"the item {_shown(twice)} has several rows, and which is meant cannot be known")
        self.model = _model_of(self.config, weights, len(item_labels))
        self.model.followers = followers and Followers(followers.table, weight=config.followers)
        self._cells: Cells | None = None  # made when they are first asked for

    @classmethod
    def from_run(cls, run: Run | str | os.PathLike[str]) -> Recommender:
        """The model of a run's best epoch so far; the run may still go on.

        Raises:
            ValueError: no run folder, a run without weights, not evaluated yet, damaged, or one of an earlier version
                that kept no labels of its items and whose data are no longer as they were.
        """
        return cls(*read_run(run if isinstance(run, Run) else Run(run)))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Recommender:
        """What ``sce-lab export`` or :func:`.export` wrote.

        Raises:
            ValueError: no such folder, a file that is missing or damaged.
        """
        return cls(*read_folder(Path(folder)))

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.item_labels)

    def recommend(
        self,
        history: Sequence[Any],
        k: int = 10,
        *,
        seen: Literal["exclude", "keep"] = "exclude",
        unknown: Literal["refuse", "skip"] = "refuse",
        search: Literal["exact", "approximate"] = "exact",
    ) -> pd.DataFrame:
        """The k items with the highest scores after a history, best first.

        Args:
            history: items as the data call them, oldest first; the model sees the last ``max_length`` of them.
            k: how many; fewer come where the catalog has no more.
            seen: "exclude" leaves out every item of the history, "keep" lets them compete.
            unknown: what happens to items that the model does not know: "refuse" names them, "skip" goes on without.
            search: "exact" goes through the whole table. "approximate" goes through a tenth of it
                (:class:`~sce_lab.recommending.cells.Cells`), may miss some of the best, and takes another copy of the
                table, made at the first such call.

        Returns:
            Columns ``item`` and ``score``; ``.attrs["search"]`` says how they were found. Of equal scores the earlier
            row of the catalog comes first, if the search is exact.

        Raises:
            ValueError: unknown items, a history in which no item is known, k below 1, no such rule, or an approximate
                search without its library.
        """
        _check_k(k)
        for name, value, allowed in (
            ("seen", seen, ("exclude", "keep")),
            ("unknown", unknown, ("refuse", "skip")),
            ("search", search, ("exact", "approximate")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, got {value!r}")
        rows = self._find(history, unknown)
        output = self.encode(rows)
        left_out = rows if seen == "exclude" else rows[:0]
        if search == "approximate":
            self._cells = self._cells or Cells(self.model.item_embedding)
            scores, found = self._cells.best(output, np.unique(left_out), k)
        else:
            scores, found = self._best(lambda part: part @ output, left_out, k)
        if self.model.followers is not None:
            scores, found = self._with_followers(rows, output, left_out, scores, found, k)
        answer = pd.DataFrame({"item": self.item_labels[found], "score": scores})
        answer.attrs["search"] = search
        return answer

    def neighbours(self, item: Any, k: int = 10) -> pd.DataFrame:
        """The k items whose rows of the table point most in the direction of the item's, itself left out.

        Returns:
            Columns ``item`` and ``similarity``, the cosine, -1 to 1.

        Raises:
            ValueError: an unknown item, or k below 1.
        """
        _check_k(k)
        row = self._find([item], "refuse")
        one = self.model.item_embedding[row[0]].float()

        def cosines(part: Tensor) -> Tensor:
            return torch.nn.functional.cosine_similarity(part, one[None], dim=1)

        similarities, found = self._best(cosines, row, k)
        return pd.DataFrame({"item": self.item_labels[found], "similarity": similarities})

    @torch.no_grad()
    def encode(self, rows: np.ndarray) -> Tensor:
        """What the encoder says after a history of catalog rows, ``(D,)`` in float32."""
        longest = len(self.model.position_embedding)
        items = torch.from_numpy(rows[-longest:].astype(np.int64))
        positions = torch.arange(longest - len(items), longest)
        return self.model(Packed(items, positions, ((1, len(items)),)))[-1].float()

    @torch.no_grad()
    def _best(self, score: Any, left_out: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k highest of ``score(E[c])`` and their rows c, without some rows."""
        table = self.model.item_embedding
        best, found = torch.empty(0), torch.empty(0, dtype=torch.int64)
        for start in range(0, len(table), _ROWS):
            scores = score(table[start : start + _ROWS].float())  # (rows,)
            inside = left_out[(left_out >= start) & (left_out < start + len(scores))]
            scores[torch.from_numpy(inside - start)] = -torch.inf
            top, at = scores.topk(min(k, len(scores)))
            best, found = torch.cat([best, top]), torch.cat([found, at + start])
            order = np.lexsort((found.numpy(), -best.numpy()))[:k].copy()
            best, found = best[order], found[order]
        kept = best > -torch.inf
        return best[kept].numpy(), found[kept].numpy()

    @torch.no_grad()
    def _with_followers(
        self, rows: np.ndarray, output: Tensor, left_out: np.ndarray, scores: np.ndarray, found: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best when counts are added, from the k best without: only what has followed can come before those."""
        columns, bonus = self.model.followers.bonus(rows)
        allowed = ~np.isin(columns, left_out)
        columns, bonus = columns[allowed], bonus[allowed]
        own = (self.model.item_embedding[torch.from_numpy(columns)].float() @ output).numpy() + bonus
        rest = ~np.isin(found, columns)
        scores, found = np.concatenate([scores[rest], own]), np.concatenate([found[rest], columns])
        order = np.lexsort((found, -scores))[:k]
        return scores[order], found[order]

    def _find(self, items: Sequence[Any], unknown: str) -> np.ndarray:
        """Rows of items.

        Raises:
            ValueError: some are unknown, or all.
        """
        if isinstance(items, str | bytes):
            raise ValueError(f"a history is a list of items, got {items!r}; one item is [{items!r}]")
        items = list(items)
        if not items:
            raise ValueError("the history is empty: it needs one item at least")
        try:
            rows = self._rows.get_indexer(pd.Index(items, dtype=object))
        except TypeError:
            raise ValueError(f"a history is a list of items, which are numbers or words, got {items!r:.200}") from None
        strange = list(dict.fromkeys(item for item, row in zip(items, rows) if row < 0))
        if strange and (unknown == "refuse" or len(strange) == len(set(items))):
            shown = ", ".join(map(_shown, strange[:_NAMED]))
            more = f" and {len(strange) - _NAMED:,} more" if len(strange) > _NAMED else ""
            advice = "leave them out, or say unknown='skip'" if len(strange) < len(set(items)) else self._sample()
            raise ValueError(f"{count(len(strange), 'item')} unknown to this model: {shown}{more}; {advice}")
        return rows[rows >= 0]

    def _sample(self) -> str:
        return f"its items are called like {', '.join(map(_shown, self.item_labels[:3].tolist()))}"


def _shown(label: Any) -> str:
    return repr(label.item() if isinstance(label, np.generic) else label)


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, got {k!r}")


def _model_of(config: TrainingConfig, weights: Mapping[str, Tensor], catalog_size: int) -> SASRec:
    """The model with these weights themselves, not a copy."""
    model = make_model(dataclasses.replace(config, device="meta"), catalog_size)  # without content
    check_tensors("the model", weights, model.state_dict(), "the weights are not of this configuration and catalog")
    model.load_state_dict(dict(weights), assign=True)
    return model.eval().requires_grad_(False)
