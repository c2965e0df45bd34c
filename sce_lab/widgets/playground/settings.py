"""Everything the controls of the playground say, as one value that can be written down on one line and read back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sce_lab.data import SYNTHETIC
from sce_lab.figures import LOOKS, label
from sce_lab.losses import LOSSES
from sce_lab.losses.buckets import BucketSizes
from sce_lab.training import AUTO, TrainingConfig, choose_device

OWN_FILE = "file"
#: The synthetic world is the same whatever the training seed is, so that runs stay comparable.
WORLD_SEED = 0
#: What a run has beside its loss and where :class:`TrainingConfig` has the same name for it.
OF_THE_RUN = (
    "encoder", "hidden_size", "n_blocks", "low_pass", "dropout", "max_length",
    "batch_size", "learning_rate", "averaging",
)  # fmt: skip
#: Dials of a loss that a run does not take over while it goes on.
_FIXED = ("sampling",)


def live_dials(loss: str) -> tuple[str, ...]:
    """Settings of a loss that a run takes over while it goes on."""
    return tuple(name for name in dials(loss) if name not in _FIXED)


def dials(loss: str) -> tuple[str, ...]:
    """Settings of a loss that have a control here."""
    controls = {each.name for each in dataclasses.fields(Settings)}
    return tuple(name for name in LOSSES[loss].dials if name in controls)


class Source(NamedTuple):
    """Data: what :func:`.assessment.open_data` takes. A synthetic catalog has a size, a file may have columns named."""

    source: str
    catalog_size: int | None = None
    user: str | None = None
    item: str | None = None
    timestamp: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What :func:`sce_lab.data.open_split` takes."""
        given = {name: value for name, value in self._asdict().items() if value is not None}
        return given | ({} if self.catalog_size is None else {"seed": WORLD_SEED})


#: Which columns of a file are meant; None for that with a usual name.
COLUMNS = ("user", "item", "timestamp")


@dataclass(frozen=True)
class Settings:
    """Everything the playground's controls say. ``losses`` may be given as text too: ``"ce, sce"``.

    ``user``, ``item``, ``timestamp``: columns of the file at ``path``; None for those with usual names.
    ``device``: where to train, or "auto"; a device that is not here counts as "auto" until something is trained.
    ``paper_rule``: as many buckets and positions per bucket as the paper takes, ``2 sqrt(N)``.
    """

    dataset: str = SYNTHETIC
    catalog_size: int = 10_000
    path: str = ""
    user: str | None = None
    item: str | None = None
    timestamp: str | None = None
    losses: tuple[str, ...] = ("sce",)
    n_negatives: int = 256
    sampling: str = "uniform"
    paper_rule: bool = False
    n_buckets: int = 64
    bucket_size_x: int = 64
    bucket_size_y: int = 256
    mix_x: bool = True
    encoder: str = "sasrec"
    hidden_size: int = 64
    n_blocks: int = 2
    low_pass: float = 0.0
    dropout: float = 0.3
    max_length: int = 50
    batch_size: int = 64
    epochs: int = 12
    learning_rate: float = 1e-3
    averaging: float = 0.0
    seed: int = 0
    n_seeds: int = 1
    device: str = AUTO

    def __post_init__(self) -> None:
        names = self.losses.split(",") if isinstance(self.losses, str) else self.losses
        names = tuple(str(name).strip() for name in names)
        if unknown := [name for name in names if name not in LOOKS]:
            raise ValueError(f"losses are {', '.join(LOOKS)}, got {unknown[0]!r}")
        object.__setattr__(self, "losses", tuple(name for name in LOOKS if name in names))

    def config(self, loss: str) -> TrainingConfig:
        """The training these settings mean for ``loss``."""
        return TrainingConfig(
            loss=loss,
            loss_settings=self.loss_settings(loss),
            max_epochs=self.epochs,
            seed=self.seed,
            device=self.place,
            **{name: getattr(self, name) for name in OF_THE_RUN},
        )

    def loss_settings(self, loss: str) -> dict[str, Any]:
        """Those of the settings that ``loss`` takes."""
        return {name: getattr(self, name) for name in dials(loss)}

    def as_in_the_paper(self, n_positions: int, catalog_size: int) -> Settings:
        """With ``paper_rule``, the bucket count and size that the paper takes for ``n_positions`` in a step."""
        if not self.paper_rule:
            return self
        rule = BucketSizes.paper_rule(n_positions, catalog_size)
        return dataclasses.replace(self, n_buckets=rule.n_buckets, bucket_size_x=rule.bucket_size_x)

    def recipe(self, loss: str) -> tuple[Any, ...]:
        """All that decides what ``loss`` learns, but for the seed."""
        of_losses = {name for each in LOSSES for name in dials(each)}
        aside = {"losses", "seed", "n_seeds", "device", "paper_rule"} | of_losses - set(dials(loss))
        return tuple(value for name, value in dataclasses.asdict(self).items() if name not in aside)

    @property
    def place(self) -> str:
        """The device that is meant here."""
        return choose_device(AUTO if self.device_problem else self.device)

    @property
    def device_problem(self) -> str:
        """Why nothing can be trained on the chosen device; empty if something can."""
        try:
            choose_device(self.device)
        except ValueError as error:
            return str(error)
        return ""

    @property
    def source(self) -> Source:
        """The data that are meant."""
        if self.dataset == SYNTHETIC:
            return Source(SYNTHETIC, self.catalog_size)
        if self.dataset != OWN_FILE:
            return Source(self.dataset)
        return Source(self.path.strip(), None, self.user, self.item, self.timestamp)

    @property
    def asked(self) -> Settings:
        """These without what the paper's rule makes of them, to compare what a person asked for."""
        return dataclasses.replace(self, n_buckets=0, bucket_size_x=0) if self.paper_rule else self

    @property
    def names(self) -> str:
        """The chosen losses, for people."""
        return ", ".join(label(loss) for loss in self.losses)

    def line(self) -> str:
        """All of it as one line of JSON, for :func:`read_line`."""
        return json.dumps(dataclasses.asdict(self))


def read_line(state: str | Mapping[str, Any], base: Settings | None = None) -> Settings:
    """The settings of a line of :meth:`Settings.line`, or of a mapping; what it does not name is as in ``base``.

    Raises:
        ValueError: it is not such a line; the message says where it goes wrong and what would be right.
    """
    if isinstance(state, str):
        state = parse(state)
    if not isinstance(state, Mapping):
        raise ValueError(f"{_STATE}, got {state!r:.40}")
    known = {each.name: each.default for each in dataclasses.fields(Settings)}
    if unknown := [name for name in state if name not in known]:
        raise ValueError(f"there is no setting {unknown[0]!r}; there are {', '.join(known)}")
    values = {name: _read(name, value, known[name]) for name, value in state.items()}
    base = base or Settings()
    if values.get("path", base.path) != base.path:  # what was chosen of another file says nothing of this one
        values = dict.fromkeys(COLUMNS) | values
    return dataclasses.replace(base, **values)


def usual_here() -> dict[str, Any]:
    """What a page begins with instead of the defaults: a GPU has something to do from a larger world and batch on."""
    return {} if choose_device() == "cpu" else {"catalog_size": 100_000, "batch_size": 512}


_STATE = 'a state is one line in braces, such as {"catalog_size": 1000}'


def parse(line: str) -> Any:
    """What a line of JSON says.

    Raises:
        ValueError: it is not one; the message says where it goes wrong.
    """
    if not line.strip():
        raise ValueError(f"{_STATE}, and this line is empty")
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        there = line[error.pos :].strip()
        where = f"goes wrong at character {error.pos + 1}, {there[:20]!r}" if there else "ends too early"
        raise ValueError(f"{_STATE}, and this one {where}") from None


def _read(name: str, value: Any, example: Any) -> Any:
    """``value`` in the type of ``example``, if it is that already but for how JSON writes it."""
    if name == "losses" and isinstance(value, str | list | tuple):
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    match example:
        case bool():
            right = isinstance(value, bool)
        case int():
            right = number and value == int(value)
            value = int(value) if right else value
        case float():
            right = number
        case None:
            right = value is None or isinstance(value, str)
        case _:
            right = isinstance(value, str)
    if not right:
        kind = {bool: "true or false", int: "a whole number", float: "a number"}.get(type(example), "text")
        raise ValueError(f"{name} takes {kind}, such as {json.dumps(example)}, got {json.dumps(value, default=str)}")
    return value
