"""The pages of the site, and the order in which they are learned."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
_NOTEBOOK_LINK = re.compile(r"\]\((\d\d_\w+\.ipynb)")
PICTURES = (".gif", ".png", ".svg", ".jpg")


@dataclass(frozen=True)
class Page:
    """One page: ``name`` is its address without the ending, ``source`` the notebook, text or file it is made of."""

    name: str
    source: Path

    @cached_property
    def text(self) -> str:
        """All of its Markdown."""
        if self.source.suffix == ".ipynb":
            cells = nbformat.read(self.source, as_version=4).cells
            return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        text = self.source.read_text(encoding="utf-8")
        if self.source.suffix != ".md":
            return f"# {self.name.removeprefix('files/')}\n\n```{_language(self.source)}\n{text}\n```\n"
        return text

    @property
    def title(self) -> str:
        """Its heading."""
        found = re.search(r"^# (.+)$", self.text, re.MULTILINE)
        if not found:
            raise ValueError(f"{self.source.name} has no title: its first line must be '# ' and a few words")
        return found[1]

    @property
    def short(self) -> str:
        """Its name in a list of pages: a notebook's with its number."""
        if self.name == "index":
            return "Overview"
        words = self.name[3:].replace("_", " ").replace("sce", "SCE")
        return f"{self.name[:2]} {words[0].upper()}{words[1:]}" if self.name[:2].isdigit() else self.title

    @property
    def summary(self) -> str:
        """Its first paragraph, without marks."""
        first = next((p for p in self.text.split("\n\n")[1:] if p[:1].isalpha() or p[:1] in "*["), self.title)
        return re.sub(r"\[([^\]]*)\]\([^)]*\)|[*`]", r"\1", first).replace("\n", " ")[:200]

    @property
    def executed(self) -> bool:
        """Is it a notebook?"""
        return self.source.suffix == ".ipynb"

    def as_notebook(self) -> nbformat.NotebookNode:
        """A text as a notebook of one cell."""
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(self.text)])


def course() -> list[Page]:
    """The notebooks: from the first along each page's first link under "Where to go next", then the rest by number."""
    pages = {path.name: Page(path.stem, path) for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    order, name = [], next(iter(pages))
    while name in pages and pages[name] not in order:
        order.append(pages[name])
        links = _NOTEBOOK_LINK.findall(pages[name].text.partition("## Where to go next")[2])
        name = links[0] if links else ""
    return order + [page for page in pages.values() if page not in order]


def texts() -> list[Page]:
    """The other pages: ``index.md`` and what stands beside it, and all of ``docs``."""
    own, docs = sorted((ROOT / "website").glob("*.md")), sorted((ROOT / "docs").glob("*.md"))
    return [Page(path.stem, path) for path in (*own, *docs)]


def file_page(path: Path) -> Page | None:
    """The page that shows a file of the repository; None for a picture, which is shown as it is."""
    return None if path.suffix in PICTURES else Page(f"files/{path.relative_to(ROOT).as_posix()}", path)


def _language(path: Path) -> str:
    return {".py": "python", ".js": "javascript", ".json": "json", ".yml": "yaml"}.get(path.suffix, "text")
