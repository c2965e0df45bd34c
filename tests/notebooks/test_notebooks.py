"""Every notebook, run as a stranger runs it but without a front end: fast, within Binder's means, and right."""

import json
import math
import os
import threading
import time
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXECUTED = ROOT / "build" / "notebooks"
SECONDS, BYTES = 90, 1.5 * 2**30  # what Binder gives, with room to spare

#: Runs in the notebook before its results are written: every control is moved, and something is asserted of each move.
MOVE_EVERY_CONTROL = {
    "00_start_here": """
race.wait(timeout=60)
assert race.start() and not race.start()  # "Again", and a second click on it
race.stop()
race.wait(timeout=10)
race.start()
race.wait(timeout=60)
""",
    "01_playground": """
playground.start()
playground.wait(timeout=60)
moved = {}

def use(loss, part):
    return playground.results()["predicted_memory"][loss][part]

def move(name, value, loss="sce", part="loss_workspace"):
    before = use(loss, part)
    playground.controls[name].value = value
    moved[name] = [before, use(loss, part)]

move("catalog_size", 50_000, "ce")
move("n_negatives", 1024, "sampled")
move("batch_size", 128, "ce")
move("n_buckets", 96)
move("bucket_size_x", 128)
move("bucket_size_y", 512)
move("mix_x", not playground.controls["mix_x"].value)
move("seed", 1)
move("epochs", 1)
playground.controls["catalog_size"].value = 1_000
for loss in ("ce", "sampled"):
    playground.controls["loss"].value = loss
    assert playground.start()
    playground.wait(timeout=60)

playground.controls["loss"].value = "sce"
playground.controls["epochs"].value = 100
assert playground.start() and not playground.start()
playground.pause()
playground.resume()
playground.stop()
playground.wait(timeout=20)

playground.controls["dataset"].value = "file"
playground.controls["path"].value = "nowhere.csv"
moved["path"] = playground.results()["problem"]
assert not playground.start()
playground.controls["dataset"].value = "synthetic"
playground.controls["catalog_size"].value = 10_000_000
playground.controls["loss"].value = "ce"
moved["too large"] = playground.results()["problem"]
assert not playground.start()
assert set(playground.controls) == {*moved, "loss", "dataset"} - {"too large"}, "a control was not moved"
import json, pathlib
pathlib.Path(results_path + ".moved").write_text(json.dumps(moved))
""",
}


class MemoryWatch(threading.Thread):
    """The most memory that a child process (the kernel) of this one had at once."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self.done = 0, threading.Event()

    def run(self):
        while not self.done.wait(0.2):
            for child in psutil.Process(os.getpid()).children(recursive=True):
                try:
                    if any("ipykernel" in part for part in child.cmdline()):
                        self.peak = max(self.peak, child.memory_info().rss)
                except psutil.Error:
                    continue


def execute(path, tmp_path, name, **parameters):
    """Run a notebook through papermill on one core; its results."""
    known = papermill.inspect_notebook(str(path))
    unknown = (set(parameters) | {"profile", "results_path"}) - set(known)
    assert not unknown, f"{path.name} has no parameter {', '.join(unknown)}"
    results = tmp_path / "results.json"
    EXECUTED.mkdir(parents=True, exist_ok=True)
    watch = MemoryWatch()
    watch.start()
    start = time.monotonic()
    try:
        papermill.execute_notebook(
            str(path),
            str(EXECUTED / f"{name}.ipynb"),
            parameters={"profile": "fast", "results_path": str(results), **parameters},
            cwd=str(tmp_path),
            execution_timeout=SECONDS,
            progress_bar=False,
        )
    finally:
        watch.done.set()
    assert 0 < watch.peak < BYTES, f"{watch.peak / 2**30:.2f} GiB"
    return json.loads(results.read_text()), time.monotonic() - start


@pytest.fixture(autouse=True)
def _one_core(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_clean(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.kernelspec.language == "python"
    assert "widgets" not in notebook.metadata
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for cell in code:
        assert not cell.outputs
        assert cell.execution_count is None
        assert len(cell.source.splitlines()) <= 25
    assert {"profile", "results_path"} <= set(papermill.inspect_notebook(str(path)))


def check_start_here(results):
    growth = results["growth"]
    assert growth["ce"] > 50
    assert growth["sce"] < growth["ce"] / 2
    for loss, run in results["race"]["losses"].items():
        assert run["state"] == "finished", loss
        assert run["loss_last"] < run["loss_first"], loss
        assert 0 < run["validation"]["HR@10"] < 1, loss
        assert run["measured_memory"]["peak"] > 0, loss
    assert list(results["race"]["losses"]) == ["ce", "sampled", "sce"]
    assert 0 < results["race"]["ceiling"]["NDCG@10"] < results["race"]["ceiling"]["HR@10"] < 1


def check_playground(results):
    assert results["runs"]
    for run in results["runs"]:
        assert run["error"] == ""
        assert run["state"] in ("finished", "stopped")
        if run["state"] == "finished":
            assert run["loss_last"] < run["loss_first"]
            assert 0 < run["test"]["HR@10"] < 1
            assert run["predicted_memory"]["peak"] == pytest.approx(run["measured_memory"]["peak"], rel=0.35)
            assert math.isfinite(sum(run["milliseconds"].values()))


CHECKS = {"00_start_here": check_start_here, "01_playground": check_playground}


def test_every_notebook_has_its_checks():
    assert {path.stem for path in NOTEBOOKS} == set(CHECKS) == set(MOVE_EVERY_CONTROL)


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_top_to_bottom(path, tmp_path):
    results, seconds = execute(path, tmp_path, path.stem)
    assert results["notebook"] == path.stem
    CHECKS[path.stem](results)
    assert seconds < SECONDS


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_control_can_be_moved_from_python(path, tmp_path):
    notebook = nbformat.read(path, 4)
    writing = next(
        i
        for i, cell in enumerate(notebook.cells)
        if "write_results(\n" in cell.source or "write_results(r" in cell.source
    )
    notebook.cells.insert(writing, nbformat.v4.new_code_cell(MOVE_EVERY_CONTROL[path.stem]))
    driven = tmp_path / path.name
    nbformat.write(notebook, driven)
    results, _ = execute(driven, tmp_path, f"{path.stem}-driven")
    CHECKS[path.stem](results)
    if path.stem == "01_playground":
        moved = json.loads((tmp_path / "results.json.moved").read_text())
        for name in ("catalog_size", "n_negatives", "batch_size"):
            before, after = moved[name]
            assert after > 1.5 * before, name
        for name in ("n_buckets", "bucket_size_x", "bucket_size_y"):
            before, after = moved[name]
            assert after > before, name
        assert moved["epochs"][0] == moved["epochs"][1]
        assert "nowhere.csv" in moved["path"]
        assert "10,000,000 items" in moved["too large"]
        losses = [run["settings"]["loss"] for run in results["runs"]]
        assert losses[-3:] == ["ce", "sampled", "sce"]
        assert results["runs"][-1]["state"] == "stopped"


@pytest.mark.notebook
def test_a_failing_training_fails_the_notebook(tmp_path):
    """Errors happen in a worker thread: without wait() papermill would pass over them."""
    path = ROOT / "notebooks" / "01_playground.ipynb"
    notebook = nbformat.read(path, 4)
    broken = "import sce_lab.widgets.playground as p\ndef train(*a, **k):\n    raise OSError('disk on fire')\np.train = train"
    at = next(i for i, cell in enumerate(notebook.cells) if "Playground(" in cell.source)
    notebook.cells.insert(at, nbformat.v4.new_code_cell(broken))
    driven = tmp_path / path.name
    nbformat.write(notebook, driven)
    with pytest.raises(papermill.PapermillExecutionError, match="disk on fire"):
        execute(driven, tmp_path, "01_playground-broken")


def test_an_unknown_parameter_fails(tmp_path):
    with pytest.raises(AssertionError, match="no parameter n_bukets"):
        execute(NOTEBOOKS[0], tmp_path, "never", n_bukets=3)
