"""Hand-ins: what the card writes, what the table says of a class, and what becomes of files that are none."""

import json

import pytest

from sce_lab.explain import Verdict
from sce_lab.hand_in import FORMAT, LIMIT, HandIn, as_csv, as_markdown, grade, read_hand_in
from sce_lab.widgets import Guess, HandInCard

GUESS = {"question": "?", "guess": 2, "answer": 3, "distance": 1.5, "off": "factor"}


def page(**content):
    return {"guesses": [GUESS], "exercises": {"it": {"solved": True, "feedback": ""}}, **content}


def handed(path, name="Ada", **pages):
    HandIn(name, pages or {"03_sampled_softmax": page()}).write(path)
    return path


def test_the_card_writes_page_after_page_into_one_file(tmp_path):
    path = tmp_path / "hand-in.json"
    made = Guess("How many?", [("1", 1), ("10", 10)], lambda: 20)
    other = Guess("Which?", [("a", "a"), ("b", "b")], "b")
    verdict = Verdict(False, "Line 1.")
    card = HandInCard("03_sampled", guesses=(made, other), exercises=lambda: {"it": verdict}, path=path)
    card.button.click()
    assert "needs a name" in card._said.value
    assert not path.exists()
    card.name.value = "Ada"
    card.button.click()
    assert read_hand_in(path).row()["guesses"] == "0 of 2"
    made.commit(10)
    verdict = Verdict(True, "It is.")
    card.button.click()
    assert "with page 03" in card._said.value
    again = HandInCard("04_sce", path=path)
    assert again.name.value == "Ada"
    again.button.click()
    row = read_hand_in(path).row()
    assert (row["pages"], row["guesses"], row["good ones"], row["exercises"]) == ("03, 04", "1 of 2", "0", "1 of 1")
    again.name.value = "Bob"
    again.button.click()
    assert "hand-in.json is Ada" in again._said.value  # nobody's work is overwritten
    assert read_hand_in(path).name == "Ada"
    path.write_text("{")
    again.button.click()
    assert "is no hand-in" in again._said.value
    assert path.read_text() == "{"


def test_the_card_of_the_playground_hands_in_challenges_guesses_and_state(tmp_path):
    class Page:
        state = '{"seed": 1}'

        def results(self):
            return {
                "solved": ["Find the wall"],
                "guesses": [{"question": "?", "guess": 2.0, "answer": None, "off": None},
                            {"question": "?", "guess": 2.0, "answer": 0.0, "off": float("inf")},
                            {"question": "?", "guess": 2.0, "answer": 2.2, "off": 1.1}],
            }  # fmt: skip

    path = HandInCard("01_playground", playground=Page(), path=tmp_path / "mine.json").save("Ada")
    row = read_hand_in(path).row()
    assert row["challenges"] == "Find the wall"
    assert (row["guesses"], row["good ones"], row["state"]) == ("3 of 3", "1", '{"seed": 1}')


def test_a_class_becomes_a_table(tmp_path, sce_lab):
    folder = tmp_path / "class"
    (folder / "bob").mkdir(parents=True)
    handed(folder / "a.json")
    open_guess = {**GUESS, "guess": None, "answer": None, "distance": None}
    handed(folder / "bob" / "hand-in.json", "=Bob|", **{"02_wall": page(guesses=[open_guess, GUESS], exercises={})})
    status, out, err = sce_lab(
        "grade", str(folder), "--csv", str(tmp_path / "t.csv"), "--markdown", str(tmp_path / "t.md")
    )
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["Ada", "03", "1", "of", "1", "1", "1", "of", "1", "a.json"] in lines
    assert ["=Bob|", "02", "1", "of", "2", "1", "0", "of", "0", "bob/hand-in.json"] in lines
    assert "'=Bob|,02," in (tmp_path / "t.csv").read_text()  # no formula for a spreadsheet
    assert "| =Bob\\| | 02 |" in (tmp_path / "t.md").read_text()


BAD = {
    "empty": ("", "its JSON goes wrong in line 1"),
    "half": ('{"format": "sce-lab hand-in 1", "na', "its JSON goes wrong"),
    "list": ("[]", 'it does not say "format"'),
    "other": ('{"format": "sce-lab hand-in 9"}', 'it does not say "format": "sce-lab hand-in 1"'),
    "nameless": (json.dumps({"format": FORMAT, "pages": {}}), '"name" must be a name'),
    "escape": (json.dumps({"format": FORMAT, "name": "\x1b[31mX", "pages": {}}), '"name" must be a name'),
    "pages": (json.dumps({"format": FORMAT, "name": "X", "pages": []}), '"pages" must hold the pages'),
    "guess": (json.dumps({"format": FORMAT, "name": "X", "pages": {"p": {"guesses": [1]}}}), "page p: a guess must"),
    "distance": (
        json.dumps({"format": FORMAT, "name": "X", "pages": {"p": {"guesses": [{**GUESS, "distance": "0"}]}}}),
        '"distance" of a guess must be a number or null',
    ),
    "off": (
        json.dumps({"format": FORMAT, "name": "X", "pages": {"p": {"guesses": [{**GUESS, "off": []}]}}}),
        '"off" of a guess must be factor, points, choice',
    ),
    "solved": (
        json.dumps({"format": FORMAT, "name": "X", "pages": {"p": {"exercises": {"it": {"solved": "yes"}}}}}),
        "true or false",
    ),
    "nan": ('{"format": "sce-lab hand-in 1", "name": NaN}', "NaN is no number of JSON"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "large": (" " * (LIMIT + 1), "no hand-in has more than 1,000,000"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_hand_in_is_refused_in_one_sentence(tmp_path, name):
    content, words = BAD[name]
    path = tmp_path / f"{name}.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="is no hand-in: ") as problem:
        read_hand_in(path)
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


def test_files_that_are_something_else_are_named_and_the_others_counted(tmp_path, sce_lab):
    handed(tmp_path / "a.json")
    handed(tmp_path / "b.json")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")
    table, told = grade(tmp_path)
    assert list(table["file"]) == ["a.json", "b.json"]
    assert [sentence.split(" is ")[0] for sentence in told[:3]] == [".hidden", "link.json", "photo.jpg"]
    assert told[-1] == "Ada stands there 2 times: a.json, b.json"
    status, out, err = sce_lab("grade", str(tmp_path))
    assert (status, out.count("Ada"), err.count("note")) == (1, 2, 4)


def test_no_hand_in_at_all_and_no_folder_are_said(tmp_path, sce_lab):
    (tmp_path / "notes.txt").write_text("x")
    status, _, err = sce_lab("grade", str(tmp_path))
    assert status == 2
    assert "there is no hand-in in" in err
    assert "notes.txt is no hand-in" in err
    status, _, err = sce_lab("grade", str(tmp_path / "nowhere"))
    assert status == 2
    assert "is no folder" in err


def test_what_stands_in_a_cell_is_text(tmp_path):
    handed(tmp_path / "a.json", "-<b>")
    table, _ = grade(tmp_path)
    assert "'-<b>" in as_csv(table)
    assert "-&lt;b>" in as_markdown(table)
