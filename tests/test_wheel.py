"""The wheel, built here and unpacked beside no checkout: it runs, shows the records and hands out the course."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import papermill
import pytest

ROOT = Path(__file__).resolve().parents[1]


def tracked() -> list[str]:
    """What git would commit from here, without tests."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = listed.stdout.split("\0")
    return [name for name in names if name and not name.startswith("tests/") and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that the wheel is unpacked in; nothing of the checkout is in reach of it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist"]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    [wheel] = (folder / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    shutil.rmtree(source)
    return folder / "site"


@pytest.fixture
def command(installed, tmp_path):
    """Call the command line of the unpacked wheel from a folder of nobody's."""
    where = {k: v for k, v in os.environ.items() if k not in ("SCE_LAB_RESULTS", "SCE_LAB_RUNS")}

    def call(*words: str) -> subprocess.CompletedProcess:
        program = f"import sys; sys.path.insert(0, {str(installed)!r}); import sce_lab.cli; "
        program += f"assert sce_lab.__file__.startswith({str(installed)!r}); sce_lab.cli.main()"
        return subprocess.run(
            [sys.executable, "-I", "-c", program, *words], cwd=tmp_path, env=where, capture_output=True, text=True
        )

    return call


def test_it_brings_all_files_of_the_package(installed):
    ours = [name for name in tracked() if name.startswith("sce_lab/")]
    assert [name for name in ours if not (installed / name).is_file()] == []


def test_it_shows_the_records(command, installed):
    shown = command("results")
    assert shown.returncode == 0, shown.stderr
    assert "SASRec-SCE, published" in shown.stdout
    assert "What follows the last item, untrained" in shown.stdout


def test_it_does_not_write_into_itself(command, installed):
    before = {path for path in installed.rglob("*") if path.suffix != ".pyc"}
    for words in (("baselines", "synthetic", "--record"), ("reproduce", "synthetic"), ("open-test", "gowalla_nyc")):
        refused = command(*words)
        assert refused.returncode == 2, words
    recorded = command("baselines", "synthetic", "--record")
    assert re.search(r"are not written to: name a folder with --results.*SCE_LAB_RESULTS", recorded.stderr)
    planned = command("tournament", "synthetic_1e4", "--plan")  # asks for nothing to be written
    assert planned.returncode == 0, planned.stderr
    after = {path for path in installed.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}
    assert after <= before


def test_it_hands_out_the_course(command, tmp_path):
    copied = command("notebooks", "my course")
    assert copied.returncode == 0, copied.stderr
    course = tmp_path / "my course"
    names = [path.name for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))]
    assert sorted(path.name for path in (course / "notebooks").iterdir()) == names
    assert not (course / "sce_lab").exists()
    assert {path.name for path in course.iterdir()} >= {"notebooks", "docs", "source"}
    followed = 0
    for page in (*course.rglob("*.ipynb"), *course.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((\.\./(?:docs|notebooks|source|sce_lab)/[^)#]+)", text):
            assert (page.parent / link).is_file(), (page.name, link)
            followed += 1
    assert followed > 50
    again = command("notebooks", "my course")
    assert again.returncode == 2
    assert "is there already and is no empty folder" in again.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my course"]


def test_an_empty_folder_is_taken_and_a_half_one_never_left(tmp_path, monkeypatch):
    from sce_lab import course

    (tmp_path / "empty").mkdir()
    assert [path.name[:2] for path in course.copy_course(tmp_path / "empty")][:2] == ["00", "01"]
    monkeypatch.setattr(course.shutil, "copyfile", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        course.copy_course(tmp_path / "half")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    (tmp_path / "taken").touch()
    with pytest.raises(ValueError, match="taken is a file: name a folder that is new"):
        course.copy_course(tmp_path / "taken")


@pytest.mark.notebook
def test_a_page_of_it_runs(command, installed, tmp_path, monkeypatch):
    """In a kernel that imports the wheel: the appendix, which is the quickest."""
    assert command("notebooks", "course").returncode == 0
    page = next((tmp_path / "course" / "notebooks").glob("90_*.ipynb"))
    notebook = nbformat.read(page, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import sce_lab; print('FROM', sce_lab.__file__)"))
    nbformat.write(notebook, page)
    monkeypatch.setenv("PYTHONPATH", str(installed))
    results = tmp_path / "found.json"
    done = papermill.execute_notebook(
        page, tmp_path / "done.ipynb", parameters={"profile": "fast", "results_path": str(results)},
        cwd=page.parent, progress_bar=False, execution_timeout=120,
    )  # fmt: skip
    assert f"FROM {installed}" in "".join(done.cells[-1].outputs[0]["text"])
    assert json.loads(results.read_text())["notebook"] == "90_inside_the_engine"
