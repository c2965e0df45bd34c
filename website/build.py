"""Makes the course a site that can be read without installing anything.

Every notebook is run once, in its fast profile, and rendered by nbconvert with the template of this folder. Widgets
that need no kernel (the picture of a loss's blocks, figures, questions) work in the page: see ``static/page.js``.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import nbformat
import papermill
from plotly.offline import get_plotlyjs

from website.api import write_api
from website.pages import ROOT, Page, course, file_page, texts
from website.render import render

HERE = Path(__file__).parent
EXECUTED = ROOT / "build" / "site-notebooks"
#: Seconds for one cell. A fast profile takes less for the whole notebook.
PATIENCE = 120
#: Run as the last cell: what papermill keeps of a widget is what the widget has sent.
_LAST = "from sce_lab.widgets.kit.plot import send_all\n\nsend_all()"


def executed(path: Path, folder: Path = EXECUTED) -> nbformat.NotebookNode:
    """The notebook with its outputs, of an earlier call if nothing that it depends on has changed since."""
    result = folder / path.name
    sources = [path, *(file for file in (ROOT / "sce_lab").rglob("*.*") if file.suffix in (".py", ".js", ".css"))]
    if not result.exists() or result.stat().st_mtime < max(file.stat().st_mtime for file in sources):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as elsewhere:  # what it writes is nobody's
            half = Path(elsewhere) / path.name
            notebook = nbformat.read(path, as_version=4)
            notebook.cells.append(nbformat.v4.new_code_cell(_LAST, metadata={"jupyter": {"source_hidden": True}}))
            nbformat.write(notebook, half)
            papermill.execute_notebook(
                half, half, parameters={"profile": "fast"}, kernel_name="python3", cwd=elsewhere,
                execution_timeout=PATIENCE, progress_bar=False,
            )  # fmt: skip
            shutil.copy(half, result)
    return nbformat.read(result, as_version=4)


def build(out: Path, *, execute: bool = True) -> list[Page]:
    """Write the site to ``out``, which is made anew.

    Args:
        out: the folder.
        execute: run the notebooks; without it their pages have no outputs, which is enough to follow links.

    Returns:
        The pages, in the order of the course, files that they link to last.

    Raises:
        ValueError: a link that leads nowhere.
    """
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(HERE / "static", out / "static")
    (out / "static" / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    (out / ".nojekyll").touch()  # GitHub Pages: serve the files as they are
    notebooks, others = course(), texts()
    pages, linked = [*notebooks, *others], {}
    for page in pages:
        if page.source.suffix == ".ipynb":
            print(f"{page.source.name} ...", flush=True)
            notebook = executed(page.source) if execute else nbformat.read(page.source, as_version=4)
        else:
            notebook = page.as_notebook()
        html, files = render(page, notebook, pages)
        (out / f"{page.name}.html").write_text(html, encoding="utf-8")
        linked |= dict.fromkeys(files)
    left = list(linked)
    while left:  # what is linked links further
        file = left.pop(0)
        target = out / "files" / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if (page := file_page(file)) is None:
            shutil.copy(file, target)
            continue
        pages.append(page)
        html, files = render(page, page.as_notebook(), pages)
        target.with_name(f"{target.name}.html").write_text(html, encoding="utf-8")
        left += [each for each in dict.fromkeys(files) if each not in linked]
        linked |= dict.fromkeys(files)
    write_api(out / "api")
    return pages
