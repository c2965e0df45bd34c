"""Who has tried to pass a published row of the test soonest, in the order of trying, as data.

To enter, add an :class:`Entry` to its race in ``RACES``; :mod:`.speedrun` runs it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from sce_lab.reproduce.recipes import RECIPES
from sce_lab.training import TrainingConfig


@dataclass(frozen=True)
class Entry:
    """One way to run the race.

    Attributes:
        name: short, of what it changes.
        note: what it changes, against the entry before it; the first one against the quick recipe.
        config: ``max_epochs`` is where it gives up.
        thresholds: of validation, by metric: what stops it.
    """

    name: str
    note: str
    config: TrainingConfig = field(hash=False)
    thresholds: dict[str, float] = field(hash=False)


@dataclass(frozen=True)
class Race:
    """A row of the test to be passed, and who has tried, in the order of trying."""

    dataset: str
    goal: dict[str, float] = field(hash=False)
    entries: tuple[Entry, ...] = ()

    def entry(self, name: str | None = None) -> Entry:
        """The entry of this name, by default the last one.

        Raises:
            ValueError: there is none.
        """
        found = [entry for entry in self.entries if name in (None, entry.name)]
        if not found:
            names = ", ".join(entry.name for entry in self.entries)
            raise ValueError(f"the race on {self.dataset} has the entries {names}, got {name!r}")
        return found[-1]


_MEANS = Entry(
    "running mean",
    "the quick recipe with three times its learning rate, a running mean beside attention, dropout .3 in place of .6, "
    "a shorter average of the weights; validation is looked at after nine epochs",
    dataclasses.replace(
        RECIPES["amazon_beauty"]["quick"].config,
        max_epochs=40,
        evaluate_every=9,
        learning_rate=3e-3,
        low_pass=0.5,
        dropout=0.3,
        averaging=0.99,
    ),
    {"HR@10": 0.1136, "NDCG@10": 0.0695},  # .98 of the mean of three other seeds after 8 epochs
)

_GATED = Entry(
    "one gated block",
    "one block with a gated feed-forward layer in place of two plain ones, more of the running mean, dropout .2, a "
    "still shorter average; validation is looked at after six epochs",
    dataclasses.replace(
        _MEANS.config,
        encoder="sasrec_gated",
        n_blocks=1,
        low_pass=0.8,
        dropout=0.2,
        averaging=0.98,
        evaluate_every=6,
    ),
    {"HR@10": 0.114, "NDCG@10": 0.0702},  # .98 of the mean of three other seeds after 6 epochs
)

RACES = {
    "amazon_beauty": Race("amazon_beauty", {"HR@10": 0.0935, "NDCG@10": 0.0544}, (_MEANS, _GATED)),
}
"""Races by data set. The goal on Amazon Beauty is the row that the paper of SCE published."""


def find_race(dataset: str) -> Race:
    """The race on a data set.

    Raises:
        ValueError: there is none.
    """
    if dataset not in RACES:
        raise ValueError(f"there is no race on {dataset!r}; there is one on {', '.join(RACES)}")
    return RACES[dataset]
