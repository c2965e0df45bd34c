"""Settings outlive a kernel."""

import pytest

from sce_lab.widgets import Playground
from sce_lab.widgets.playground.kept import FILE
from sce_lab.widgets.playground.settings import Settings


def left_behind(**settings):
    """A page on which something was moved, and which is gone."""
    page = Playground()
    page.apply(settings)
    page.results()


def test_a_page_begins_with_what_the_last_one_was_left_with_and_undo_goes_back_to_the_first():
    left_behind(catalog_size=500, seed=3, losses=["ce"])
    page = Playground()
    assert page.settings == Settings(catalog_size=500, seed=3, losses="ce")
    assert "left here last" in page.view.share._said.value
    assert not page.view.transport.buttons["undo"].disabled
    page.undo()
    assert page.settings == Settings()


def test_settings_that_are_asked_for_go_before():
    left_behind(catalog_size=500)
    assert Playground(seed=1).settings == Settings(seed=1)
    assert Playground('{"seed": 2}').settings == Settings(seed=2)


@pytest.mark.parametrize("content", ["", "{", '{"n_bucket": 3}', "[]", "\ufffd", '{"batch_size": 0}', '{"path": 3}'])
def test_what_cannot_be_taken_is_as_if_it_were_not_there(runs_folder, content):
    runs_folder.mkdir()
    (runs_folder / FILE).write_text(content)
    assert Playground().settings == Settings()


def test_looking_alone_leaves_nothing_behind(runs_folder):
    Playground().results()
    assert not runs_folder.exists()


def test_a_page_whose_settings_cannot_be_kept_works(tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("SCE_LAB_RUNS", str(tmp_path / "a file"))
    left_behind(catalog_size=500)
    assert Playground().settings == Settings()
