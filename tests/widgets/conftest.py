import pytest


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    """Runs are kept below the test's own folder."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("SCE_LAB_RUNS", str(folder))
    return folder
