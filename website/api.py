"""Pages of the public functions and classes, from their docstrings, by pdoc."""

from __future__ import annotations

import warnings
from pathlib import Path

import pdoc

import sce_lab

#: Each has a page. The first has the names that ``import sce_lab`` gives.
MODULES = (
    "sce_lab",
    *(f"sce_lab.{name}" for name in ("losses", "data", "metrics", "model", "training", "memory", "runs", "reproduce")),
    *(f"sce_lab.{name}" for name in ("fidelity", "explain", "distributed", "language", "figures")),
    "sce_lab.losses.engine.backend",
)

TEMPLATE = Path(__file__).parent / "template" / "api"


def write_api(folder: Path) -> list[Path]:
    """Write a page a module to ``folder``; returns the pages.

    Raises:
        UserWarning: a public name that is not there.
    """
    for name in sce_lab.__all__:  # imported when asked for, and pdoc does not ask
        setattr(sce_lab, name, getattr(sce_lab, name))
    pdoc.render.configure(docformat="google", show_source=False, template_directory=TEMPLATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # what does not resolve
        pdoc.pdoc(*MODULES, output_directory=folder)
    return [folder / f"{module.replace('.', '/')}.html" for module in MODULES]
