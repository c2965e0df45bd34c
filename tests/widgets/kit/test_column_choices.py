"""Lists of columns: offered in one thread and chosen in another, nothing breaks and the last choice stands."""

import sys
import threading

import pytest

from sce_lab.widgets.kit.columns import ColumnChoice


@pytest.fixture
def hurried():
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_columns_may_be_offered_while_one_is_chosen(hurried):
    choice, done, failed = ColumnChoice("user"), threading.Event(), []

    def offer():
        while not done.is_set():
            for names, found in ((["a", "b"], "a"), (["x", "y", "z"], None)):
                try:
                    choice.offer(names, found)
                except Exception as error:
                    failed.append(error)

    other = threading.Thread(target=offer)
    other.start()
    try:
        for _ in range(60):
            for name in ("item", None, "user", "b"):
                choice.value = name
                assert choice.value == name
    finally:
        done.set()
        other.join()
    assert failed == []
    choice.offer(["x"], "x")
    assert choice.options == (("x (found)", None), ("x", "x"), ("b", "b"))
    assert (choice.index, choice.label, choice.value, choice.meant) == (2, "b", "b", "b")


def test_what_a_person_points_at_is_chosen():
    choice = ColumnChoice("timestamp")
    choice.offer(["a", "b"], "b")
    assert (choice.index, choice.label, choice.meant) == (0, "b (found)", "b")
    choice.index = 2
    assert (choice.value, choice.label) == ("a", "a")
    choice.label = "(no column: the rows stand in order)"
    assert (choice.value, choice.index) == ("", 1)
    choice.value = None
    assert (choice.index, choice.meant) == (0, "b")
