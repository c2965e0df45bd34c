"""A run of the playground as code: the Python call and the ``sce-lab`` command that do the same again."""

from __future__ import annotations

import os
import shlex
from typing import Any

from sce_lab.training import TrainingConfig
from sce_lab.widgets.playground.records import RunRecord
from sce_lab.widgets.playground.settings import OF_THE_RUN, OWN_FILE, Settings

_DEFAULTS = TrainingConfig()
#: Arguments of the data that a command calls by other names.
_OPTIONS = {"catalog_size": "catalog-size", "seed": "data-seed", "timestamp": "time"}


def _data(settings: Settings) -> dict[str, Any]:
    """What :func:`sce_lab.open_split` takes."""
    data = settings.source.arguments
    return data | ({"source": os.path.expanduser(data["source"])} if settings.dataset == OWN_FILE else {})


def python_call(settings: Settings, loss: str) -> str:
    """Python that trains ``loss`` as the playground does, prints what each epoch gives, and keeps nothing."""
    config = settings.config(loss)
    given: dict[str, Any] = {"loss": loss}
    for name in ("loss_settings", *OF_THE_RUN):
        if getattr(config, name) != getattr(_DEFAULTS, name):
            given[name] = getattr(config, name)
    given |= {"max_epochs": config.max_epochs, "seed": config.seed}
    given |= {"device": config.device} if config.device != _DEFAULTS.device else {}
    data = _data(settings)
    source = ", ".join([repr(data.pop("source")), *(f"{name}={value!r}" for name, value in data.items())])
    arguments = "".join(f"    {name}={value!r},\n" for name, value in given.items())
    return (
        "from sce_lab import Evaluated, TrainingConfig, open_split, train\n\n"
        f"split, _ = open_split({source})\n"
        f"config = TrainingConfig(\n{arguments})\n"
        "for event in train(config, split):\n"
        "    if isinstance(event, Evaluated):\n"
        "        print(event.epoch, f\"{event.metrics['NDCG@10']:.4f}\")\n"
    )


def command(settings: Settings, loss: str) -> str:
    """The ``sce-lab train`` command that does the same and records it."""
    config = settings.config(loss)
    data = _data(settings)
    options: dict[str, Any] = {"dataset": data.pop("source"), "loss": loss}
    options |= {_OPTIONS.get(name, name): value for name, value in data.items()}
    options["epochs"] = config.max_epochs
    for name in OF_THE_RUN:
        if getattr(config, name) != getattr(_DEFAULTS, name):
            options[name.replace("_", "-")] = getattr(config, name)
    for name, value in config.loss_settings.items():
        if name != "mix_x" and (name, value) != ("sampling", "uniform"):
            options[name.replace("_", "-")] = value
    options |= {"seed": config.seed, "device": config.device}
    words = ["sce-lab", "train", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
    if config.loss_settings.get("mix_x"):
        words.append("--mix")
    return shlex.join(words)


def as_code(record: RunRecord) -> str:
    """Both, for a run, with a word about settings that were changed while it ran."""
    lines = [f"# Run {record.number}. In a shell:", f"#   {command(record.settings, record.loss)}", ""]
    for epochs, settings in record.snapshot.changes:
        changed = ", ".join(f"{name}={value:g}" for name, value in settings.items())
        lines.append(f"# While it ran, after {epochs:.2f} epochs: {changed}. The code below does not do that.")
    return "\n".join(lines) + "\n" + python_call(record.settings, record.loss)
