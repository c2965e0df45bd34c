"""Settings that show something, each with a sentence that says what to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sce_lab.reproduce import find_recipe
from sce_lab.widgets.playground.assessment import Facts, needed, predict
from sce_lab.widgets.playground.settings import OF_THE_RUN, Settings

#: Cross-entropy once: without its logits held it learns the same, and the bars show it without training.
ALL = ("ce", "sampled", "sce")


@dataclass(frozen=True)
class Preset:
    """``settings`` is given the bytes that are free here."""

    title: str
    says: str
    settings: Callable[[int], Settings]


def _wall(free: int) -> Settings:
    """The first step on the way to large catalogs and batches where held logits have far too little room here, and SCE
    has enough; where exactly the wall is, is left as a challenge."""
    steps = [(64, 100_000), (64, 500_000), (128, 1_000_000), (512, 1_000_000), (2048, 1_000_000), (2048, 5_000_000)]
    for batch_size, catalog_size in steps:
        settings = Settings(
            losses=("ce", "sce"), catalog_size=catalog_size, batch_size=batch_size, epochs=1, paper_rule=True
        )
        facts = Facts.of(settings)
        n_sequences, length = facts.step(settings)
        settings = settings.as_in_the_paper(n_sequences * length, catalog_size)
        needs = predict(settings, facts).set_index("loss")
        if needed(needs.loc["ce"]) > 1.5 * free:
            break
    return settings


def _recipe(name: str, **changes: Any) -> Settings:
    """A recipe of Amazon Beauty as the controls say it."""
    config = find_recipe("amazon_beauty", name).config
    same = {setting: getattr(config, setting) for setting in OF_THE_RUN} | config.loss_settings
    same |= {"dataset": "amazon_beauty", "losses": (config.loss,), "epochs": config.max_epochs}
    return Settings(**same | changes)


TINY = Settings(
    losses=ALL, catalog_size=500, epochs=3, batch_size=64, n_negatives=64, n_buckets=48, bucket_size_x=48,
    bucket_size_y=64, hidden_size=32, n_blocks=1,
)  # fmt: skip
BINDER = Settings(losses=ALL, catalog_size=5_000, epochs=8, batch_size=64)
COLLAPSE = Settings(
    losses=("sce",), catalog_size=2_000, epochs=10, batch_size=64, n_buckets=64, bucket_size_x=18, bucket_size_y=64,
    mix_x=False,
)  # fmt: skip

PRESETS = {
    "tiny": Preset(
        "Tiny (10 s)", "Three losses side by side in a world of 500 items. Press Start and watch.", lambda free: TINY
    ),
    "binder": Preset(
        "Safe on Binder", "5,000 items, three losses: well within 2 GB and one core.", lambda free: BINDER
    ),
    "wall": Preset(
        "The memory wall",
        "Held logits have no room here: Start trains SCE only. Never held they have room; look at the operations.",
        _wall,
    ),
    "race": Preset(
        "Amazon Beauty in six epochs",
        "Real data, and the settings that pass the paper's NDCG@10, .0544 on the test items, in under a minute.",
        lambda free: _recipe("race"),
    ),
    "paper": Preset(
        "Paper: Amazon Beauty",
        "The paper's settings on its smallest data set. An epoch takes some time; NDCG@10 of the paper is .0544.",
        lambda free: _recipe("sce", epochs=100),
    ),
    "collapse": Preset(
        "Bucket collapse: Mix off",
        "Without Mix many buckets want the same positions. Watch the coverage fall, then switch Mix on.",
        lambda free: COLLAPSE,
    ),
    "repaired": Preset(
        "Bucket collapse: Mix on",
        "The same with Mix: buckets lie where the outputs are. Compare coverage, NDCG and captured mass.",
        lambda free: replace(COLLAPSE, mix_x=True),
    ),
}
