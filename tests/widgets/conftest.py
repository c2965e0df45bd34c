import pytest


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    """Runs are kept below the test's own folder."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("SCE_LAB_RUNS", str(folder))
    return folder


@pytest.fixture(autouse=True)
def nothing_is_timed(monkeypatch):
    """No playground tries in the background how long its runs would take: whoever wants that asks for it."""
    monkeypatch.setattr("sce_lab.widgets.playground.pace.REST", 0.0)
    monkeypatch.setattr("sce_lab.widgets.playground.forecast.Forecast.time", lambda forecast: None)
