"""What to train, as data: the paper's settings of each data set, and what they are compared with.

A recipe is a data set, a name and a configuration. To add one, add it to ``RECIPES``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from sce_lab.losses import LOSSES
from sce_lab.training import TrainingConfig
from sce_lab.training.config import is_of, settings_of


@dataclass(frozen=True)
class Recipe:
    """A row to reproduce.

    Attributes:
        dataset: a key of :data:`sce_lab.data.DATASETS`.
        name: the loss, or a word for what is special: unique within a data set.
        config: what is trained; its seed is replaced by each of the seeds asked for.
        note: one sentence on where the settings come from and what is different from there.
        reduced: settings to replace on a machine without a GPU. A recipe with such settings is refused on a CPU unless
            it is reduced or forced.
    """

    dataset: str
    name: str
    config: TrainingConfig = field(hash=False)
    note: str
    reduced: dict[str, Any] = field(default_factory=dict, hash=False)

    def with_settings(self, changes: dict[str, Any]) -> Recipe:
        """The recipe with other settings, its name saying which: ``sce+dropout=0.5``.

        ``changes`` are fields of :class:`TrainingConfig`, or settings of the loss.

        Raises:
            ValueError: a setting that neither has, the message lists those there are; or a value of another kind than
                the setting's.
        """
        if not changes:
            return self
        fields = {f.name for f in dataclasses.fields(TrainingConfig)} - {"loss", "loss_settings", "seed"}
        of_run = {name: value for name, value in changes.items() if name in fields}
        of_loss = {name: value for name, value in changes.items() if name not in fields}
        known = settings_of(self.config.loss)
        for name in of_loss:
            if name not in known:
                raise ValueError(
                    f"there is no setting {name!r}; the run takes {', '.join(sorted(fields))}, "
                    f"and the loss {self.config.loss} takes {', '.join(known)}"
                )
        kinds = get_type_hints(TrainingConfig) | get_type_hints(LOSSES[self.config.loss].function)
        for name, value in changes.items():
            if not is_of(kinds[name], value):
                kind = kinds[name].__name__ if isinstance(kinds[name], type) else kinds[name]
                raise ValueError(f"{name} takes {kind}, written as JSON, such as 0.5, 16, true or null; got {value!r}")
        config = dataclasses.replace(self.config, **of_run, loss_settings={**self.config.loss_settings, **of_loss})
        suffix = ",".join(format_setting(*change) for change in changes.items())
        return dataclasses.replace(self, name=f"{self.name}+{suffix}", config=config)

    def for_cpu(self) -> Recipe:
        """The recipe with its ``reduced`` settings; its note says what was reduced.

        Raises:
            ValueError: there is nothing to reduce.
        """
        if not self.reduced:
            raise ValueError(f"{self.dataset} {self.name} has no reduced settings: it runs on a CPU as it is")
        changed = self.with_settings(self.reduced).config
        before = {**dataclasses.asdict(self.config), **self.config.loss_settings}
        words = ", ".join(f"{name} {value} instead of {before[name]}" for name, value in self.reduced.items())
        return dataclasses.replace(
            self, name=f"{self.name}-reduced", config=changed, note=f"{self.note}; reduced: {words}", reduced={}
        )


def parse_setting(text: str) -> tuple[str, Any]:
    """``"dropout=0.5"`` -> ``("dropout", 0.5)``. The value is JSON, or else the text as it stands.

    Raises:
        ValueError: there is no ``=``.
    """
    name, equals, value = text.partition("=")
    if not (equals and name and value):
        raise ValueError(f"a setting is written name=value, such as dropout=0.5, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def format_setting(name: str, value: Any) -> str:
    """The text that :func:`parse_setting` reads as this setting."""
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def _sce(n_buckets: int, bucket_size_y: int, mix_x: bool = False) -> dict[str, Any]:
    """The paper's rule: as many positions in a bucket as there are buckets."""
    sizes = {"n_buckets": n_buckets, "bucket_size_x": n_buckets, "bucket_size_y": bucket_size_y}
    return {"loss": "sce", "loss_settings": sizes | {"mix_x": mix_x}}


def _sce_by_rule() -> dict[str, Any]:
    """The paper's rule, applied to each batch; 256 items in a bucket."""
    return {"loss": "sce", "loss_settings": {"mix_x": False}}


def _bce(**settings: Any) -> dict[str, Any]:
    return {"loss": "bce", "loss_settings": settings}


def _sampled(n_negatives: int, **settings: Any) -> dict[str, Any]:
    return {"loss": "sampled", "loss_settings": {"n_negatives": n_negatives, **settings}}


def _comparison(dataset: str, names: tuple[str, ...], **settings: Any) -> Iterator[Recipe]:
    """The same settings with each loss, chosen to fit two CPU cores and not tuned for any of them. Besides, the race's
    model, to see whether what was chosen on Beauty holds elsewhere."""
    how = {
        "ce": ({"loss": "cce"}, "all items, logits never held"),
        "sampled": (_sampled(256), "256 uniform negatives, shared by the batch, with correction"),
        "bce": (_bce(n_negatives=1), "one negative a position"),
        "sce": (_sce_by_rule(), "the paper's rule for the buckets, 256 items in each"),
        "race": (_sce_by_rule() | _CARRIED, "Beauty's race, carried over: its model, rates and averaging"),
    }
    for name in names:
        which, words = how[name]
        config = TrainingConfig(**{"dropout": 0.3, "max_length": 50} | settings | which)
        same = "batches and epochs" if name == "race" else "settings"
        yield Recipe(dataset, name, config, f"{words}; the same {same} for every loss, tuned for none")


_PAPER = "the paper's settings (arXiv 2409.18721, section 4)"
# 144 of 22,363 histories are longer than 50. The authors stop after 300 epochs at most.
_BEAUTY = {"batch_size": 1024, "dropout": 0.6, "max_length": 50, "max_epochs": 100, "patience": 50}
_BEAUTY_QUICK = {"batch_size": 256, "dropout": 0.6, "max_length": 50, "max_epochs": 30, "patience": 30}
_BEAUTY_RACE = _BEAUTY_QUICK | {
    "encoder": "sasrec_gated", "n_blocks": 1, "low_pass": 0.8, "dropout": 0.2, "learning_rate": 0.003,
    "averaging": 0.98, "max_epochs": 6, "patience": 6,
}  # fmt: skip
_BEAUTY_BEST = _BEAUTY | {
    "hidden_size": 128, "dropout": 0.7, "low_pass": 0.5, "item_dropout": 0.2, "averaging": 0.998, "max_epochs": 150
}  # fmt: skip

_CARRIED = {
    name: _BEAUTY_RACE[name] for name in ("encoder", "n_blocks", "low_pass", "dropout", "learning_rate", "averaging")
}

_TEMPORAL = {"dropout": 0.3, "max_length": 200, "max_epochs": 300, "patience": 10}

_RECIPES = (
    Recipe(
        "amazon_beauty",
        "sce",
        TrainingConfig(**_sce(202, 256), **_BEAUTY | {"max_epochs": 300}),
        f"{_PAPER}, but histories up to 50 instead of 200",
    ),
    Recipe(
        "amazon_beauty",
        "as-published",
        TrainingConfig(
            **_sce(202, 256),
            encoder="sasrec_published",
            **_BEAUTY | {"max_length": 200, "max_epochs": 300, "patience": 52},
        ),
        f"{_PAPER}, and what the authors' code does otherwise in the encoder and its initial weights: see `06_paper`",
    ),
    Recipe(
        "amazon_beauty",
        "quick",
        TrainingConfig(**_sce(100, 100), averaging=0.995, **_BEAUTY_QUICK),
        "a quarter of the batch and smaller buckets: less to compute, and four times as many steps an epoch; the noise "
        "of small batches is averaged out of the weights",
    ),
    Recipe(
        "amazon_beauty",
        "race",
        TrainingConfig(**_sce(100, 100), **_BEAUTY_RACE),
        "the quick recipe, quicker: three times its learning rate, one gated block with more of a running mean than of "
        "attention, dropout .2 instead of .6, six epochs; see `docs/speedrun.md`",
    ),
    Recipe(
        "amazon_beauty",
        "best",
        TrainingConfig(**_sce(202, 256), **_BEAUTY_BEST),
        "the paper's batches and buckets; twice as wide, a running mean beside attention, a fifth of the items left "
        "out of the histories, others each epoch, and averaged weights; chosen on validation",
    ),
    Recipe(
        "amazon_beauty",
        "ce",
        TrainingConfig(loss="ce", averaging=0.995, **_BEAUTY_QUICK),
        "batches, epochs and averaging of the quick recipe: those of the paper take too long on two cores",
    ),
    Recipe(
        "amazon_beauty",
        "ce-best",
        TrainingConfig(loss="ce", **_BEAUTY_BEST),
        "as the best of SCE but for the loss",
    ),
    Recipe(
        "amazon_beauty",
        "sampled",
        TrainingConfig(**_sampled(256), **_BEAUTY),
        "as SCE but for the loss: 256 uniform negatives, shared by the batch, with correction",
    ),
    Recipe(
        "amazon_beauty",
        "sampled-own-negatives",
        TrainingConfig(**_sampled(256, shared_negatives=False), averaging=0.995, **_BEAUTY_QUICK),
        "256 uniform negatives for each position anew, as RecTools draws them, with correction; batches, epochs and "
        "averaging of the quick recipe",
    ),
    Recipe(
        "amazon_beauty",
        "sampled-best",
        TrainingConfig(**_sampled(1024), learning_rate=0.003, **_BEAUTY_BEST),
        "as the best of SCE but for the loss, 1,024 uniform negatives, shared by the batch, with correction, and "
        "three times its learning rate; both chosen on validation, where a trial with 250 epochs is a little better",
    ),
    Recipe(
        "amazon_beauty",
        "bce",
        TrainingConfig(**_bce(n_negatives=1), **_BEAUTY),
        "as SCE but for the loss: one negative a position, as in the original SASRec",
    ),
    Recipe(
        "amazon_beauty",
        "bce-best",
        TrainingConfig(**_bce(n_negatives=64, calibration=0.75), learning_rate=0.003, **_BEAUTY_BEST),
        "as the best of SCE but for the loss, 64 negatives for each position with gSASRec's calibration, and three "
        "times its learning rate; all chosen on validation",
    ),
    Recipe(
        "gowalla",
        "sce",
        TrainingConfig(**_sce(882, 256), batch_size=2048, **_TEMPORAL),
        _PAPER,
        reduced={"batch_size": 128, "n_buckets": 144, "bucket_size_x": 144, "max_length": 50, "max_epochs": 5},
    ),
    Recipe(
        "behance",
        "sce",
        TrainingConfig(**_sce(261, 64, mix_x=True), batch_size=256, **_TEMPORAL),
        _PAPER,
        reduced={"max_length": 50, "max_epochs": 20},
    ),
    Recipe(
        "beeradvocate",
        "sce",
        TrainingConfig(**_sce(615, 256, mix_x=True), batch_size=512, **_TEMPORAL),
        _PAPER,
        reduced={"batch_size": 128, "n_buckets": 144, "bucket_size_x": 144, "max_length": 50, "max_epochs": 10},
    ),
    # Fewer than 300 users validate: NDCG@10 jumps from epoch to epoch, and ten without a better one come by chance.
    *_comparison("gowalla_nyc", ("ce", "sampled", "bce", "sce", "race"), batch_size=32, max_epochs=100, patience=50),
    *_comparison("gowalla_sepgcn", ("ce", "sampled", "bce", "sce", "race"), batch_size=64, max_epochs=150, patience=10),
    Recipe(
        "epinions",
        "ce",
        TrainingConfig(loss="ce", dropout=0.3, max_length=50, batch_size=16, max_epochs=1),
        "one epoch with batches of 16: what fits and ends on two cores. Those of the other losses would need 39 GiB",
    ),
    *_comparison("epinions", ("sampled", "bce", "sce"), batch_size=512, max_epochs=10, evaluate_every=5),
)

RECIPES: dict[str, dict[str, Recipe]] = {}
"""Recipes by data set and name."""
for _recipe in _RECIPES:
    RECIPES.setdefault(_recipe.dataset, {})[_recipe.name] = _recipe


def declared_recipe(dataset: str, name: str) -> Recipe:
    """The recipe of ``dataset`` called ``name``.

    Raises:
        ValueError: there is none; the message says which there are.
    """
    if dataset not in RECIPES:
        raise ValueError(f"there is no recipe for {dataset!r}; there are recipes for {', '.join(RECIPES)}")
    if name not in RECIPES[dataset]:
        raise ValueError(f"{dataset} has no recipe {name!r}; it has {', '.join(RECIPES[dataset])}")
    return RECIPES[dataset][name]
