"""What a notebook found, for those who run it without looking at it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from sce_lab.runs import write_text


def write_results(path: str | os.PathLike[str], results: dict[str, Any]) -> None:
    """Write ``results`` as JSON, whole or not at all; an empty path writes nothing.

    Raises:
        ValueError: a number is infinite or not a number, which JSON cannot say.
    """
    if not path:
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(Path(path), json.dumps(results, indent=2, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")
