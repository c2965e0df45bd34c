"""Which item each row of a catalog is, as a file of its own: whoever has a model's table needs it beside it.

The file is JSON: the labels in the order of the rows, or one number C where row c simply is item c, ``0..C-1``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sce_lab.files import write_text

_AS_THEY_ARE = (str, int, float)  # truth values are whole numbers


def as_labels(labels: Any) -> np.ndarray:
    """Labels in the form that a :class:`sce_lab.data.Split` has: whole numbers as int64, others as objects."""
    return pd.Series(labels).infer_objects().to_numpy()


def write_labels(path: str | os.PathLike[str], labels: np.ndarray, *, always_list: bool = False) -> None:
    """Write ``labels`` ``(C,)``, whole or not at all. What is neither number nor text becomes text.

    Args:
        path: the file.
        labels: the item of each row.
        always_list: write a list even where a number would do, for a reader who knows nothing of that.

    Raises:
        OSError: it could not be written; what was there before is still there.
    """
    if not always_list and labels.dtype.kind in "iu" and np.array_equal(labels, np.arange(len(labels))):
        write_text(path, json.dumps(len(labels)))
        return
    listed = [label if isinstance(label, _AS_THEY_ARE) else str(label) for label in pd.Series(labels).tolist()]
    write_text(path, json.dumps(listed, ensure_ascii=False))


def read_labels(path: str | os.PathLike[str], catalog_size: int) -> np.ndarray:
    """Read what :func:`write_labels` wrote, ``(catalog_size,)``.

    Raises:
        ValueError: the file is damaged, or of another catalog.
        OSError: there is none, or it cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): get it back") from error
    if isinstance(content, int):
        content = range(content)
    elif not (isinstance(content, list) and all(isinstance(label, _AS_THEY_ARE) for label in content)):
        raise ValueError(f"{path} is damaged or something else: it holds no list of item labels")
    if len(content) != catalog_size:
        raise ValueError(f"{path} names {len(content):,} items, but the catalog has {catalog_size:,}: get it back")
    return as_labels(content)
