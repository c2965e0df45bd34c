"""The shop window: short, and every figure in it is that of a record."""

import json
import re
from pathlib import Path

import pytest

from sce_lab.losses import LOSSES
from sce_lab.memory import format_bytes
from sce_lab.reproduce.races import RACES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a line that begins with ``heading``."""
    lines = README[README.index(heading) :].splitlines()[2:]
    table = lines[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def record(name: str) -> dict:
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))


def test_it_is_read_in_a_minute():
    assert len(README.splitlines()) <= 150
    listed = re.findall(r"^\| `(\d\d_\w+)` \|", README, re.MULTILINE)
    assert listed == [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))]


def test_the_compared_losses_are_as_recorded():
    runs = record("compare-amazon_beauty.json")["runs"]
    shown = rows("| loss | peak memory |")
    assert len(shown) == len(runs)
    for cells, run in zip(shown, runs):
        summary = run["summary"]
        assert cells[0] == LOSSES[run["loss"]].label
        assert cells[1:3] == [format_bytes(summary["memory"][part]) for part in ("peak", "loss_workspace")]
        assert cells[4] == str(summary["epoch"])
        assert cells[5:] == [f"{summary['test'][metric]:.4f}" for metric in ("HR@10", "NDCG@10", "COV@10")]
    assert "`" + record("compare-amazon_beauty.json")["environment"]["command"] + "`" in README


def test_times_are_as_recorded():
    heading = "| positions x items |"
    peers = ("SCE", "SCE, replay-rec", "CE, materialised", "CE, logits never held", "sampled softmax, 4,096")
    found = {(case["N"], case["C"], case["peer"]): case.get("seconds") for case in record("losses-cpu.json")["cases"]}
    shown = rows(heading)
    assert len(shown) == 5
    for size, *cells in shown:
        n, c = (int(number.replace(",", "")) for number in size.split(" x "))
        seconds = [found.get((n, c, peer)) for peer in peers]
        assert cells == [f"{1000 * each:,.0f} ms" if each else "" for each in seconds]


def test_where_sce_loses_is_as_recorded():
    assert "exact cross-entropy comes first" in README
    reached = {loss: _mean(loss) for loss in ("cce", "sce", "sampled", "bce")}
    assert max(reached, key=reached.get) == "cce"
    assert 0 < reached["sce"] - reached["sampled"] < 0.002  # "a little less quality"
    assert 0 < reached["cce"] - reached["sce"] < 0.002  # "ranks a little better"
    assert "two to three times the perplexity of cross-entropy" in README
    for name in ("python-4096", "python-16384"):
        entries = record(f"language_model/{name}.json")["entries"]
        times = _perplexity(entries["sce"], "none") / _perplexity(entries["cce"], "none")
        assert 1.9 < times < 3.2
        assert _perplexity(entries["sce"], "word bias") < 1.05 * _perplexity(entries["cce"], "word bias")


def test_what_the_authors_do_otherwise_does_not_explain_their_number():
    notebook = (ROOT / "notebooks" / "06_paper.ipynb").read_text(encoding="utf-8")
    assert "do not explain the published .0544" in notebook
    assert record("reproduce/amazon_beauty-as-published.json")["interval"]["NDCG@10"][0] > 0.0544


def test_the_race_is_as_recorded():
    races = record("speedrun/amazon_beauty.json")
    seconds = {}
    for entry in races["runs"]:
        assert entry["passed"]
        assert len(entry["seeds"]) == 5
        if entry["entry"] == RACES["amazon_beauty"].entry().name:
            maker = entry["environment"]["processor"].split()[0].removesuffix("(R)")
            seconds[maker, entry["environment"]["threads"]] = sum(seed["seconds"] for seed in entry["seeds"]) / 5
    two, one = (f"{seconds['Intel', threads]:.0f} s" for threads in (2, 1))
    assert f"{two} on two cores, {one} on one of an Intel Xeon; " in README
    two, one = (f"{seconds['AMD', threads]:.0f} s" for threads in (2, 1))
    assert f"{two} and {one} of an AMD EPYC (five seeds)" in README


def _mean(loss):
    return record(f"reproduce/amazon_beauty-{loss}-searched.json")["mean"]["NDCG@10"]


def _perplexity(entry, correction):
    found = [seed["test"][correction]["perplexity"] for seed in entry["seeds"].values()]
    assert len(found) >= 3
    return sum(found) / len(found)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_of_the_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_code_of_the_library_s_page_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})
