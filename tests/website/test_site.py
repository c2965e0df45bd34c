"""The site, made without running the notebooks: every page is there, every link and anchor leads somewhere."""

import os
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml

import sce_lab
from sce_lab import scalable_cross_entropy
from website.build import build, executed
from website.pages import ROOT, Page, course
from website.render import markdown, prepare, where


class Read(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self.loaded, self.headings, self.pictures, self.tags = (
            Counter(),
            [],
            [],
            [],
            [],
            Counter(),
        )
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags[tag] += 1
        self.ids.update([given["id"]] if given.get("id") else [])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loaded += [given[name] for name in ("src", "data-plotly") if given.get(name)]
        self.loaded += [given["href"]] if tag == "link" else []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.pictures.append(given)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    pages = build(out, execute=False)
    ours = [path for path in out.rglob("*.html") if not path.is_relative_to(out / "api")]
    return out, pages, {path: Read(path.read_text(encoding="utf-8")) for path in ours}


def test_all_pages_are_there(site):
    out, pages, read = site
    names = {page.name for page in pages}
    assert names >= {path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")}
    assert names >= {"index", "glossary", "teaching", "results"}
    assert {out / f"{name}.html" for name in names} == set(read)
    assert (out / "static" / "plotly.min.js").stat().st_size > 10**6
    assert "SASRec-SCE, published" in (out / "results.html").read_text(encoding="utf-8")


def test_every_link_and_every_anchor_leads_somewhere(site):
    out, _, read = site
    followed = 0
    for path, page in read.items():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https", (path.name, link)
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), (path.name, link)
            if target.is_relative_to(out / "api"):
                continue
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in read[target].ids, (path.name, link)
            followed += 1
    assert followed > 300


def test_every_public_name_has_an_entry_and_all_are_linked(site):
    out, _, read = site
    read = {path: Read(path.read_text(encoding="utf-8")) for path in (out / "api").rglob("*.html")}
    assert set(sce_lab.__all__) <= set(read[out / "api" / "sce_lab.html"].ids)
    losses = (out / "api" / "sce_lab" / "losses.html").read_text(encoding="utf-8")
    assert scalable_cross_entropy.__doc__.strip().splitlines()[0][:40] in losses
    assert "../../index.html" in read[out / "api" / "sce_lab" / "losses.html"].links
    for path, page in read.items():
        assert not [link for link in page.loaded if urlsplit(link).scheme], path.name
        for link in page.links:
            parts = urlsplit(link)
            if not parts.scheme and parts.path:
                assert (path.parent / unquote(parts.path)).is_file(), (path.name, link)


def test_nothing_is_loaded_from_elsewhere(site):
    for path, page in site[2].items():
        assert not [link for link in page.loaded if urlsplit(link).scheme], path.name


def test_pages_can_be_found_one_s_way_in(site):
    for path, page in site[2].items():
        assert page.headings[0] == 1, path.name
        assert page.headings.count(1) == 1, path.name
        assert all(now <= before + 1 for before, now in pairwise(page.headings)), path.name
        assert [given for given in page.pictures if not given.get("alt")] == [], path.name
        assert [name for name, n in page.ids.items() if n > 1] == [], path.name
        assert (page.tags["main"], page.tags["title"], page.tags["nav"]) == (1, 1, 1), path.name
        assert page.links.count("#main") == 1


def test_the_course_begins_at_the_beginning_and_goes_why_how_sliders():
    names = [page.name for page in course()]
    numbers = [name[:2] for name in names]
    assert sorted(names) == sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    assert numbers[:5] == ["00", "02", "03", "04", "01"]


def test_a_guess_is_asked_again_and_what_all_pages_share_is_not_in_them():
    guess = {"_anywidget_id": "sce_lab.widgets.kit.guess.GuessCard", "choice": 3, "committed": True, "told": "It is."}
    engine = {"_anywidget_id": "sce_lab.widgets.kit.plot.Engine", "source": "plotly"}
    states = {"state": {"a": {"state": guess}, "b": {"state": engine}}}
    notebook = nbformat.v4.new_notebook(metadata={"widgets": {"application/vnd.jupyter.widget-state+json": states}})
    prepare(notebook)
    made = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    guess, engine = made["a"]["state"], made["b"]["state"]
    assert (guess["choice"], guess["committed"], guess["told"], engine["source"]) == (-1, False, "It is.", "")


def test_links_lead_to_pages_of_the_site_and_to_files_that_are_shown():
    page, files = Page("01_playground", ROOT / "notebooks" / "01_playground.ipynb"), []
    pages = [page, Page("glossary", ROOT / "docs" / "glossary.md")]
    assert where("../docs/glossary.md#hr", page, pages, files) == "glossary.html#hr"
    assert where("../sce_lab/losses/sce.py", page, pages, files) == "files/sce_lab/losses/sce.py.html"
    assert where("https://example.org", page, pages, files) == "https://example.org"
    assert files == [ROOT / "sce_lab" / "losses" / "sce.py"]
    for nowhere in ("../docs/nothing.md", "../../elsewhere.md", "../sce_lab"):
        with pytest.raises(ValueError, match=r"01_playground.ipynb links to .*, which is not there"):
            where(nowhere, page, pages, files)


def test_formulas_are_drawn_without_a_script():
    page = Page("index", ROOT / "website" / "index.md")
    made = markdown("Say $a^2$, not `$b$` or 5 $ and 6 $.\n\n$$\\frac{1}{2}$$\n", page, [page], [])
    assert made.count("<math") == 2
    assert "<mfrac>" in made
    assert "$b$" in made


def test_a_notebook_is_not_run_again_while_nothing_has_changed(tmp_path, monkeypatch):
    calls = []

    def run(source, target, **_):
        calls.append(Path(source).name)
        assert "send_all()" in Path(target).read_text()

    monkeypatch.setattr("website.build.papermill.execute_notebook", run)
    path = tmp_path / "new.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    for _ in range(2):
        executed(path, tmp_path / "done")
    assert calls == [path.name]
    (tmp_path / "done" / path.name).touch()
    path.write_text(path.read_text())  # newer now
    os.utime(tmp_path / "done" / path.name, (1, 1))
    executed(path, tmp_path / "done")
    assert calls == [path.name, path.name]


def test_the_workflow_makes_it_and_publishes_that():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text())
    build_steps, publish = workflow["jobs"]["build"]["steps"], workflow["jobs"]["publish"]
    assert "make site" in [step.get("run") for step in build_steps]
    [upload] = [step for step in build_steps if "upload-pages-artifact" in step.get("uses", "")]
    assert upload["with"]["path"] == "build/site"
    assert publish["permissions"] == {"pages": "write", "id-token": "write"}
    assert workflow["permissions"] == {"contents": "read"}
