"""Who meets in the tournament, on which data, and by which rules, as data.

A match is a data set, what no loss changes, a budget, and who takes part. To add one, add it to ``_MATCHES``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from sce_lab.data import DATASETS
from sce_lab.memory import format_bytes
from sce_lab.reproduce.search import SEARCHES
from sce_lab.training import TrainingConfig


@dataclass(frozen=True)
class Contender:
    """A loss of the tournament.

    Attributes:
        settings: that it always has.
        size: the setting that decides what it takes, if it has one.
        usual: its value where time is what counts.
        ladder: its values where memory counts, smallest first: those of the papers' grids.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    size: str = ""
    usual: int = 0
    ladder: tuple[int, ...] = ()

    def of_size(self, value: int) -> dict[str, Any]:
        """All of its settings with this size."""
        return dict(self.settings) | ({self.size: value} if self.size else {})


_NEGATIVES = (16, 64, 256, 1024, 4096)

CONTENDERS = {
    "sce": Contender({"mix_x": False}, "bucket_size_y", 256, (64, 256, 512, 1024, 4096)),
    "cce": Contender(),
    "ce_minus": Contender({"shared_negatives": True}, "n_negatives", 4096, _NEGATIVES),
    "sampled": Contender({"logq_correction": True}, "n_negatives", 4096, _NEGATIVES),
    "bce": Contender({"calibration": 0.75}, "n_negatives", 64, (1, 4, 16, 64, 256)),
    "rece": Contender({}, "n_rounds", 1, (1, 2, 4, 8)),
}
"""By name: that of the loss, or the loss, a dash and what is special."""


@dataclass(frozen=True)
class Match:
    """A data set of the tournament.

    Attributes:
        name: of its records.
        source: the arguments of :func:`sce_lab.data.open_split`.
        config: what no loss and no trial changes. Where few of its epochs fit into the seconds, their
            ``steps_per_epoch`` are fewer, so that whole epochs use the seconds up: see :func:`plan_of`.
        space: the values of each setting that are tried, all with all.
        seconds: of each training, trial or not, evaluations apart, on one thread of a quiet machine.
        cap: bytes that a loss may hold beyond its inputs and their gradients, where memory counts; 0: it does not.
        seeds: of what was chosen.
        evaluations: of each training, about. They cost time that no loss is charged for.
        contenders: who takes part.
    """

    name: str
    source: Mapping[str, Any] = field(hash=False)
    config: TrainingConfig = field(hash=False)
    space: Mapping[str, tuple[Any, ...]] = field(hash=False)
    seconds: float
    cap: int
    seeds: int = 5
    evaluations: int = 10
    contenders: Mapping[str, Contender] = field(default_factory=lambda: CONTENDERS, hash=False)

    @property
    def title(self) -> str:
        """For headings: that of the data set, and what is special."""
        source, size = self.source["source"], self.source.get("catalog_size")
        title = DATASETS[source].title if source in DATASETS else f"{source.capitalize()}, {size:,} items"
        special = self.name.removeprefix(source).strip("_") if size is None else ""
        return f"{title}, {special}" if special else title

    @property
    def n_trials(self) -> int:
        """Of each loss."""
        return len(list(product(*self.space.values())))

    @property
    def rules(self) -> dict[str, Any]:
        """What every loss has, as records keep it."""
        asked = {"trials": self.n_trials, "space": dict(self.space), "seeds": self.seeds, "seconds": self.seconds}
        asked |= {"cap": self.cap, "evaluations": self.evaluations, "config": dataclasses.asdict(self.config)}
        return json.loads(json.dumps(asked))


def in_words(rules: Mapping[str, Any]) -> str:
    """The rules of a match, as people read them."""
    cap, seconds = rules["cap"], rules["seconds"]
    held = f"where memory counts, a loss may hold {format_bytes(cap)}" if cap else "memory does not count"
    return f"{rules['trials']} trials and {rules['seeds']} seeds of {seconds:g} s each, of a quiet core; {held}."


def _match(name: str, source: dict[str, Any], seconds: float, cap: int, **more: Any) -> Match:
    settings = {"batch_size": 64, "max_length": 50, "low_pass": 0.5, "averaging": 0.99, "dropout": 0.3}
    settings |= more.pop("settings", {})
    space = more.pop("space", {"learning_rate": (1e-3, 3e-3)})
    return Match(name, source, TrainingConfig(**settings), space, seconds, cap * 2**20, **more)


def _synthetic(catalog_size: int) -> dict[str, Any]:
    return {"source": "synthetic", "catalog_size": catalog_size}


_UNION = Contender(
    {"mix_x": False, "combine": "union", "n_negatives": 256, "negatives_for": "all"}, "bucket_size_y", 256
)

# What helped SCE most (`sce-lab variants`): positions in no bucket learn from uniform negatives.
_WITH_NEGATIVES = Contender({"mix_x": False, "n_negatives": 256}, "bucket_size_y", 256)

_MATCHES = (
    Match(
        "amazon_beauty",
        {"source": "amazon_beauty"},
        dataclasses.replace(SEARCHES["amazon_beauty"].config, steps_per_epoch=22),
        {"learning_rate": (2e-3, 4e-3), "dropout": (0.3, 0.5)},
        seconds=90,
        cap=8 * 2**20,
        evaluations=5,
        contenders=CONTENDERS | {"sce-union": _UNION},
    ),
    # The best model: gated, as wide and as much left out as the rows called best, time enough for that, and counts.
    Match(
        "amazon_beauty_wide",
        {"source": "amazon_beauty"},
        dataclasses.replace(
            SEARCHES["amazon_beauty"].config,
            steps_per_epoch=22,
            encoder="sasrec_gated",
            hidden_size=128,
            followers=1.0,
            item_dropout=0.2,
            averaging=0.998,
            dropout=0.6,
        ),
        {"learning_rate": (1e-3, 2e-3)},
        seconds=420,
        cap=0,
        evaluations=10,
        contenders={"sce-negatives": _WITH_NEGATIVES} | {name: CONTENDERS[name] for name in ("cce", "ce_minus")},
    ),
    _match("gowalla_sepgcn", {"source": "gowalla_sepgcn"}, 30, 8, settings={"steps_per_epoch": 8}),
    _match(
        "complete_journey", {"source": "complete_journey"}, 30, 20, settings={"batch_size": 32, "steps_per_epoch": 8}
    ),
    _match("synthetic_1e4", _synthetic(10**4), 20, 8, settings={"steps_per_epoch": 8}),
    _match("synthetic_1e5", _synthetic(10**5), 25, 24, settings={"steps_per_epoch": 8}),
    # Where an evaluation takes as long as a training there are few, and fewer seeds.
    # Narrower: a checkpoint has five copies of the item table.
    _match(
        "synthetic_1e6",
        _synthetic(10**6),
        120,
        0,
        seeds=3,
        evaluations=3,
        settings={"hidden_size": 32, "steps_per_epoch": 2},
    ),
    _match(
        "epinions",
        {"source": "epinions"},
        40,
        0,
        seeds=3,
        evaluations=1,
        settings={"batch_size": 128, "steps_per_epoch": 4},
    ),
)

MATCHES = {match.name: match for match in _MATCHES}
"""Matches by name, in the order of usefulness."""
