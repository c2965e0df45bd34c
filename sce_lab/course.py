"""The course as a folder of one's own: the notebooks, and whatever they link to."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import unquote

from sce_lab.files import new_folder, repository

_LINK = re.compile(r"(?<=\]\()[^)#\s:]+(?=[)#])")
_SHOWN = (".ipynb", ".md", ".py", ".json")


def copy_course(folder: Path) -> list[Path]:
    """Copy the notebooks to ``folder``, with the pages, records and sources that they link to, or nothing at all.

    Sources go to ``source/``: a folder called ``sce_lab`` beside the notebooks could be imported in place of the
    package.

    Returns:
        The notebooks.

    Raises:
        ValueError: there is something at ``folder`` other than an empty folder.
        OSError: it could not be written.
    """
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as made:
        left = [Path("notebooks") / path.name for path in _numbered(repository() / "notebooks")]
        seen = set(left)
        while left:
            name = left.pop()
            copy = made / _place(name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if name.suffix not in (".ipynb", ".md"):
                shutil.copyfile(_original(name), copy)
                continue
            text = _original(name).read_text(encoding="utf-8")
            copy.write_text(_LINK.sub(lambda link: link[0].replace("../sce_lab/", "../source/"), text), "utf-8")
            linked = {_linked(name.parent, link) for link in _LINK.findall(text)} - {None}
            left += linked - seen
            seen |= linked
    return _numbered(folder / "notebooks")


def _numbered(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def _place(name: Path) -> Path:
    """Where a file goes: that of the repository, but for sources."""
    return Path("source", *name.parts[1:]) if name.parts[0] == "sce_lab" else name


def _original(name: Path) -> Path:
    """Where a file of the repository is."""
    return Path(__file__).parent.joinpath(*name.parts[1:]) if name.parts[0] == "sce_lab" else repository() / name


def _linked(folder: Path, link: str) -> Path | None:
    """The file that a link from this folder leads to, by its path in the repository; None if it is not to be shown."""
    target = (repository() / folder / unquote(link)).resolve()
    root = repository().resolve()
    if not target.is_relative_to(root) or target.suffix not in _SHOWN:
        return None
    name = target.relative_to(root)
    return name if _original(name).is_file() else None
