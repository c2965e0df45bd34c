"""Language models trained in turns, driven from Python, on a made text."""

import pytest

from sce_lab.language import read_corpus
from sce_lab.widgets import LanguageRun
from sce_lab.widgets.lessons import language_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on a text of which some words follow from the one before."""
    path = tmp_path_factory.mktemp("text") / "made.txt"
    path.write_text("\n".join(" ".join(f"w{(7 * i * i + n) % 53}" for i in range(40)) for n in range(400)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_run, "read_corpus", lambda size: read_corpus(size, path))
        patch.setattr(language_run, "SECONDS", (1, 2))
        made, ended = LanguageRun(vocabulary=512, seconds=1), []
        made.ended = lambda: ended.append(made.verdict())
        assert made.verdict() is None
        assert made.closed() is None
        assert made.start()
        assert not made.start()
        made.wait(120)
    assert len(ended) == 1
    return made


def test_each_learns_for_its_seconds_and_is_mended(run):
    found = run.results()
    assert found["state"] == "finished"
    assert list(found["losses"]) == list(language_run.SHOWN)
    for reached in found["losses"].values():
        assert 1 <= reached["seconds"] < 1.5
        assert 1 < reached["perplexity"] < found["vocabulary"]
        assert reached["corrected"]["none"] == pytest.approx(reached["perplexity"])
        assert reached["corrected"]["scale"] <= reached["perplexity"] * 1.001
    *_, cce, sampled, sce = run._figure.widget.current["data"]
    for name, marks in zip(language_run.SHOWN, (cce, sampled, sce)):
        assert marks["y"] == [*found["losses"][name]["corrected"].values()]


def test_the_verdict_says_what_the_numbers_say(run):
    exact, sce = (run.results()["losses"][name] for name in ("cce", "sce"))
    ranks = sce["top1"] >= exact["top1"] - 0.01
    likely = sce["perplexity"] <= 1.1 * exact["perplexity"]
    assert run.verdict() == (("both" if likely else "ranks") if ranks else ("likely" if likely else "neither"))
    assert f"{sce['perplexity']:.0f} with SCE" in run.told("verdict")
    assert f"{run.closed():.0%} of the distance" in run.told("closed")


def test_a_stop_fits_nothing(monkeypatch, run):
    monkeypatch.setattr(language_run, "corrections", lambda *_: 1 / 0)
    made = LanguageRun(vocabulary=512, seconds=80)
    made.corpus = run.corpus
    monkeypatch.setattr(language_run, "read_corpus", lambda size: run.corpus)
    made.start()
    made.stop()
    made.wait(60)
    assert made.verdict() is None
    assert made.results()["state"] == "stopped"
