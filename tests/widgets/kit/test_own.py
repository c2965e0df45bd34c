import threading

import pytest

from sce_lab.widgets.kit.own import OwnMoves


def elsewhere(ask):
    """What ``ask`` answers in another thread."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    thread.join(10)
    return answers[0]


def test_only_the_thread_that_moves_something_knows_it_for_its_own():
    own = OwnMoves()
    assert not own
    with own:
        assert own
        assert elsewhere(lambda: bool(own)) is False
        with own:
            pass
        assert own
    assert not own


def test_an_error_ends_it():
    own = OwnMoves()
    with pytest.raises(KeyError), own:
        raise KeyError
    assert not own
