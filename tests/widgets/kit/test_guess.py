import numpy as np
import pytest

from sce_lab.widgets import Guess
from sce_lab.widgets.kit.stage import text


def guess(**options):
    return Guess("How many?", [("one", 1), ("ten", 10), ("a hundred", 100)], lambda: 20, **options)


def said(made):
    """What a reader sees below the choice."""
    verdict = made.card.verdicts[made.card.choice] if made.card.verdicts else ""
    return f"{verdict} {made.card.told}".strip()


def test_the_answer_is_not_worked_out_before_there_is_a_guess_and_nothing_is_chosen_at_first():
    asked = []
    made = Guess("Which?", [("this", "a"), ("that", "b")], lambda: asked.append(1) or "b", say=lambda a: f"It is {a}!")
    assert made.results() == {"question": "Which?", "guess": None, "answer": None, "distance": None, "off": "choice"}
    assert (made.card.choice, said(made), asked) == (-1, "", [])
    assert guess().card.choice == -1
    with pytest.raises(ValueError, match="there is no guess yet: commit one of 'a', 'b'"):
        made.commit()
    assert not made.committed
    made.card.choice = 0  # a click in the page
    made.card.committed = True
    assert asked == [1]
    assert said(made) == "You said: this. Not so. It is b!"
    assert made.distance == 1.0
    made.commit("b")  # too late
    assert made.results()["guess"] == "a"


def test_a_card_knows_the_verdict_on_every_answer_so_that_a_saved_page_can_ask_again():
    made = guess()
    made.commit(10)
    verdicts = ["You said one: off by a factor of 20.", "You said ten: off by a factor of 2.",
                "You said a hundred: off by a factor of 5."]  # fmt: skip
    assert made.card.verdicts == verdicts
    assert made.distance == pytest.approx(2)


def test_a_share_is_off_by_points_and_what_is_right_is_said_to_be():
    made = Guess("Share?", [("10 %", 0.1), ("50 %", 0.5)], 0.6, off="points")
    made.commit(0.5)
    assert "10 points off" in said(made)
    made = Guess("Share?", [("10 %", 0.1), ("50 %", 0.5)], np.float64(0.51), off="points")
    made.commit(0.5)
    assert "spot on" in said(made)
    assert made.results()["off"] == "points"


def test_a_number_that_no_factor_leads_to_is_infinitely_far_off_and_can_be_written_down():
    made = Guess("?", [("1", 1), ("2", 2)], 0)
    made.commit(1)
    assert made.distance == np.inf
    assert made.results()["distance"] is None


def test_what_is_revealed_is_made_at_the_commitment_and_stands_behind_the_card():
    made = guess(reveal=lambda: text("more"))
    assert made._more.children == ()
    made.commit(10)
    assert made._more.children[0].value == "more"
    assert list(made.view.children[-2:]) == [made.card, made._more]  # the style hides what follows an open card


def test_an_answer_that_is_not_known_yet_comes_later():
    known = []
    made = Guess("Which?", [("a", "a"), ("b", "b")], lambda: known[-1] if known else None, pending="Wait <for> it.")
    made.look()
    made.commit("a")
    assert (said(made), made.distance) == ("Wait &lt;for&gt; it.", None)
    known.append("a")
    made.look()
    assert said(made) == "Right. a"
    known.append("b")
    made.look()
    assert made.answer == "a"


def test_a_guess_that_is_no_option_and_an_answer_that_fails_are_said():
    with pytest.raises(ValueError, match="must be one of 1, 10, 100, got 7"):
        guess().commit(7)
    with pytest.raises(ValueError, match='off must be "factor" or "points"'):
        guess(off="percent")
    made = Guess("?", [("1", 1)], lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made.commit(1)
    assert "division by zero" in said(made)
