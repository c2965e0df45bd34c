"""Hand-ins: what a person guessed, wrote and solved on the pages of the course, as one JSON file; and a class's table.

A file comes from anybody. It is read as JSON and as nothing else, its size is limited, and whatever is not as it must
be is refused in one sentence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sce_lab.files import replacing

FORMAT = "sce-lab hand-in 1"
#: Bytes of the largest file that is read. A whole course is some ten thousand.
LIMIT = 1_000_000
#: How far off a good guess may be, by the way it is measured: the factor, the points of a share, or not at all.
GOOD = {"factor": 1.5, "points": 0.1, "choice": 0.0}


@dataclass(frozen=True)
class HandIn:
    """One person's.

    Attributes:
        name: whose.
        pages: by a notebook's name, a mapping of ``guesses`` (as of :meth:`sce_lab.widgets.Guess.results`),
            ``exercises`` (name: {"solved", "feedback"}), ``challenges`` (titles of those solved), ``state`` (of the
            playground, a line) and ``saved`` (when).
    """

    name: str
    pages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def with_page(self, page: str, content: Mapping[str, Any]) -> HandIn:
        """With that page anew, and the others as they are."""
        return HandIn(self.name, {**self.pages, page: dict(content)})

    def write(self, path: Path) -> None:
        """Write it down, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        text = json.dumps({"format": FORMAT, "name": self.name, "pages": self.pages}, indent=1, allow_nan=False)
        with replacing(path) as file:
            file.write_text(text + "\n", encoding="utf-8")

    def row(self) -> dict[str, str]:
        """Its line of the table."""
        pages = sorted(self.pages.items())
        guesses = [guess for _, page in pages for guess in page["guesses"]]
        made = [guess for guess in guesses if guess["guess"] is not None]
        exercises = [exercise["solved"] for _, page in pages for exercise in page["exercises"].values()]
        return {
            "name": self.name,
            "pages": ", ".join(name.partition("_")[0] for name, _ in pages),
            "guesses": f"{len(made)} of {len(guesses)}",
            "good ones": str(sum(is_good(guess) for guess in made)),
            "exercises": f"{sum(exercises)} of {len(exercises)}",
            "challenges": ", ".join(title for _, page in pages for title in page["challenges"]),
            "state": next((page["state"] for _, page in pages if page["state"]), ""),
        }


def is_good(guess: Mapping[str, Any]) -> bool:
    """Was a committed guess near enough? One that waits for its answer is not."""
    distance = guess["distance"]
    return distance is not None and distance <= GOOD[guess["off"]]


def read_hand_in(path: Path) -> HandIn:
    """Read one file.

    Raises:
        ValueError: it is none; the message says why, in one sentence.
    """
    try:
        if path.is_symlink():
            raise ValueError("it is a link to another file")
        if (size := path.stat().st_size) > LIMIT:
            raise ValueError(f"it has {size:,} bytes, and no hand-in has more than {LIMIT:,}")
        content = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_no_number)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f'it does not say "format": "{FORMAT}"')
        return HandIn(_name(content.get("name")), {key: _page(key, page) for key, page in _pages(content)})
    except UnicodeDecodeError:
        reason = "it is not text in UTF-8"
    except json.JSONDecodeError as error:
        reason = f"its JSON goes wrong in line {error.lineno}, column {error.colno}"
    except RecursionError:
        reason = "its JSON is nested too deeply"
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{path.name} is no hand-in: {reason}")


def grade(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table of all hand-ins in ``folder`` and the folders in it, and a sentence about every other file there.

    Raises:
        ValueError: there is no such folder, or no hand-in in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: give the one that the hand-ins lie in")
    rows, said = [], []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink()):
        try:
            row = read_hand_in(path).row()
        except ValueError as problem:
            said.append(str(problem).replace(path.name, str(path.relative_to(folder)), 1))
            continue
        rows.append({**row, "file": path.relative_to(folder).as_posix()})
    if not rows:
        raise ValueError(". ".join([f"there is no hand-in in {folder}", *said]))
    table = pd.DataFrame(rows).sort_values(["name", "file"], ignore_index=True)
    for name, same in table[table["name"].duplicated(keep=False)].groupby("name"):
        said.append(f"{name} stands there {len(same)} times: {', '.join(same['file'])}")
    return table, said


def as_csv(table: pd.DataFrame) -> str:
    """The table as CSV. What a spreadsheet would take for a formula is marked as text: names are other people's."""
    return table.map(lambda cell: f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell).to_csv(index=False)


def as_markdown(table: pd.DataFrame) -> str:
    """The table in Markdown."""
    cells = table.map(lambda cell: cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;"))
    rows = [table.columns, ["---"] * len(table.columns), *cells.to_numpy()]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


# ------------------------------------------------------------------------------------------------------- what must be


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > 100 or not name.isprintable():
        raise ValueError('"name" must be a name, of at most 100 letters')
    return name.strip()


def _pages(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    pages = content.get("pages")
    if not isinstance(pages, dict) or not all(key.isprintable() and len(key) <= 100 for key in pages):
        raise ValueError('"pages" must hold the pages by their names')
    return list(pages.items())


def _page(name: str, page: Any) -> dict[str, Any]:
    """A page with all that one has, or why it is none."""

    def need(right: bool, what: str) -> None:
        if not right:
            raise ValueError(f"page {name}: {what}")

    need(isinstance(page, dict), "it must be an object")
    page = {"guesses": [], "exercises": {}, "challenges": [], "state": "", "saved": "", **page}
    need(isinstance(page["guesses"], list), '"guesses" must be a list')
    for guess in page["guesses"]:
        keys = isinstance(guess, dict) and {"question", "guess", "answer", "distance", "off"} <= guess.keys()
        need(keys, "a guess must have question, guess, answer, distance and off")
        need(isinstance(guess["off"], str) and guess["off"] in GOOD, f'"off" of a guess must be {", ".join(GOOD)}')
        distance = guess["distance"]
        number = isinstance(distance, int | float) and not isinstance(distance, bool) and math.isfinite(distance)
        need(distance is None or number, '"distance" of a guess must be a number or null')
    exercises = page["exercises"]
    right = isinstance(exercises, dict) and all(
        isinstance(each, dict) and isinstance(each.get("solved"), bool) for each in exercises.values()
    )
    need(right, '"exercises" must say of each whether it is solved, true or false')
    titles = page["challenges"]
    right = isinstance(titles, list) and all(isinstance(each, str) and each.isprintable() for each in titles)
    need(right, '"challenges" must be a list of titles')
    need(isinstance(page["state"], str) and page["state"].isprintable(), '"state" must be one line of text')
    return page


__all__ = ["FORMAT", "HandIn", "as_csv", "as_markdown", "grade", "read_hand_in"]
