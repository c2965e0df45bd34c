"""A page as HTML: nbconvert with the template of this folder, links that lead to the site, formulas as MathML."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from traitlets.config import Config

from website.pages import ROOT, Page, file_page

HERE = Path(__file__).parent
_STATES = "application/vnd.jupyter.widget-state+json"
_FIGURE = "application/vnd.plotly.v1+json"
_ATTRIBUTE = re.compile(r'(?<=\s)(href|src)="([^"]+)"')
_DISPLAY, _INLINE = (
    re.compile(r"\$\$(.+?)\$\$", re.DOTALL),
    re.compile(r"(?<![\\$\w])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\w$])"),
)


def render(page: Page, notebook: nbformat.NotebookNode, pages: Sequence[Page]) -> tuple[str, list[Path]]:
    """The page, and which other files of the repository it links to.

    Raises:
        ValueError: a link that leads nowhere.
    """
    prepare(notebook)
    files: list[Path] = []
    depth = page.name.count("/")
    listed = [each for each in pages if not each.name.startswith("files/")]
    order = [each for each in listed if each.executed]
    following = order[order.index(page) + 1 : order.index(page) + 2] if page in order else []
    site = {
        "page": page,
        "root": "../" * depth,
        "groups": [
            {"title": "Start", "pages": [each for each in listed if each.name == "index"]},
            {"title": "The course", "pages": order},
            {"title": "Beside it", "pages": [each for each in listed if not each.executed and each.name != "index"]},
        ],
        "next": following[0] if following else None,
    }
    priority = ["application/vnd.jupyter.widget-view+json", _FIGURE, "text/html", "image/svg+xml", "text/plain"]
    exporter = HTMLExporter(
        template_name="sce",
        extra_template_basedirs=[str(HERE / "template")],
        config=Config(NbConvertBase={"display_data_priority": priority}),
        filters={"page_markdown": partial(markdown, page=page, pages=pages, files=files)},
    )
    body, _ = exporter.from_notebook_node(notebook, resources={"site": site})
    return body, files


def prepare(notebook: nbformat.NotebookNode) -> None:
    """Guesses are open again, and what all pages share is not in each of them."""
    states = notebook.metadata.get("widgets", {}).get(_STATES, {}).get("state", {})
    for model in states.values():
        state = model["state"]
        match state.get("_anywidget_id", "").rpartition(".")[2]:
            case "GuessCard":
                state.update(choice=-1, committed=False)
            case "Engine":
                state["source"] = ""  # plotly.js, which the site has as a file
    for cell in notebook.cells:
        cell["outputs"] = [each for each in cell.get("outputs", []) if not _is_plotly_itself(each)]


def _is_plotly_itself(output: nbformat.NotebookNode) -> bool:
    data = output.get("data", {})
    return "text/html" in data and _FIGURE not in data and "plotly.js v" in data["text/html"][:100_000]


def markdown(source: str, page: Page, pages: Sequence[Page], files: list[Path]) -> str:
    """Markdown as HTML."""
    formulas: list[str] = []

    def formula(found: re.Match[str], display: str) -> str:
        formulas.append(convert(found[1].strip(), display=display))
        return f"FORMULA{len(formulas) - 1}X"

    pieces = re.split(r"(```.*?```|`[^`\n]+`)", source, flags=re.DOTALL)  # no formulas in code
    for at in range(0, len(pieces), 2):
        pieces[at] = _INLINE.sub(
            partial(formula, display="inline"), _DISPLAY.sub(partial(formula, display="block"), pieces[at])
        )
    made = markdown2html("".join(pieces))
    made = re.sub(r"FORMULA(\d+)X", lambda found: formulas[int(found[1])], made)
    made = made.replace('class="anchor-link"', 'class="anchor-link" aria-label="Link to this section"')
    return _ATTRIBUTE.sub(lambda m: f'{m[1]}="{html.escape(where(html.unescape(m[2]), page, pages, files))}"', made)


def where(link: str, page: Page, pages: Sequence[Page], files: list[Path]) -> str:
    """Where a link of the repository leads on the site.

    Raises:
        ValueError: nowhere.
    """
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or not parts.path:
        return link
    target = (page.source.parent / unquote(parts.path)).resolve()
    root, fragment = "../" * page.name.count("/"), f"#{parts.fragment}" if parts.fragment else ""
    for each in pages:
        if each.source == target:
            return f"{root}{each.name}.html{fragment}"
    if not target.is_relative_to(ROOT) or not target.is_file():
        raise ValueError(f"{page.source.name} links to {link!r}, which is not there")
    files.append(target)
    shown = file_page(target)
    return f"{root}{shown.name}.html{fragment}" if shown else f"{root}files/{target.relative_to(ROOT).as_posix()}"
