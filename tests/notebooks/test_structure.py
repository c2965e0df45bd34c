"""What every committed notebook must be: clean, runnable by papermill, and thin."""

import ast
import re
from itertools import pairwise

import nbformat
import papermill
import pytest
from notebook_tools import NOTEBOOKS, check_parameters


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} >= {"00_start_here", "01_playground"}


def test_it_is_valid_and_names_its_kernel(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec["name"] == "python3"
    assert notebook.metadata.kernelspec["language"] == "python"


def test_nothing_of_a_run_is_committed(notebook):
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
    assert "widgets" not in notebook.metadata


def test_one_cell_holds_the_parameters(path, notebook):
    tagged = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    parameters = papermill.inspect_notebook(path)
    assert parameters["profile"]["default"] == '"full"'
    assert parameters["results_path"]["default"] == '""'


def test_an_unknown_parameter_is_an_error(path):
    check_parameters(path, {"profile": "fast"})
    with pytest.raises(KeyError, match="has no parameter n_epoch; it has profile"):
        check_parameters(path, {"n_epoch": 3})


def test_it_is_thin(notebook):
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) < 25, cell.source
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.end_lineno - node.lineno < 15, node.name
        assert max((len(line) for line in cell.source.splitlines()), default=0) <= 120


def test_it_holds_nothing_that_stops_papermill_or_a_server(notebook):
    for cell in code_cells(notebook):
        assert not re.search(r"@interact|pyplot|input\(|with Output\(|^[%!]", cell.source, re.MULTILINE), cell.source


def test_links_to_other_notebooks_lead_somewhere(path, notebook):
    for cell in notebook.cells:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", cell.source):
            assert (path.parent / target).exists(), target


def test_it_begins_with_a_title_and_says_something_before_every_output(notebook):
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")


# ---------------------------------------------------------------------------------------- what a page of the course is


def guesses(cell):
    """The names of the guesses that a code cell makes."""
    if cell.cell_type != "code":
        return []
    assigned = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Assign)]
    return [node.targets[0].id for node in assigned if getattr(getattr(node.value, "func", None), "id", "") == "Guess"]


def test_nobody_who_reads_on_is_told_an_answer(notebook):
    """Code with an answer is folded. What follows a guess is folded, too, or begins something else, or is tagged by
    who wrote it as saying nothing; figures and tables with the answer belong into the guess's ``reveal``."""
    for cell, following in zip(notebook.cells, [*notebook.cells[1:], None]):
        if not guesses(cell):
            continue
        assert cell.metadata.get("jupyter", {}).get("source_hidden"), cell.source
        if following is not None and following.cell_type == "markdown":
            says_nothing = "says-no-answer" in following.metadata.get("tags", [])
            assert says_nothing or following.source.startswith(("<details>", "## ")), following.source


def test_a_question_is_a_card_that_has_to_be_answered_first(notebook):
    """Not a bold line above a figure that shows the answer."""
    for cell, following in zip(notebook.cells, notebook.cells[1:]):
        if cell.cell_type == "markdown" and re.search(r"guess first|guess, then", cell.source, re.IGNORECASE):
            later = [each for each in notebook.cells[notebook.cells.index(cell) :] if each.cell_type == "code"]
            panel = "Below the figures is a tab of that name" in cell.source
            assert panel or guesses(later[0]), (cell.source, following.source)


def test_answers_are_not_chosen_at_first(notebook):
    """A guess takes no first value, and a commitment is made by the reader: only the fast profile commits by itself."""
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "commit":
                assert re.search(r"if (fast|profile == \"fast\"):\n    ", cell.source), cell.source


def test_its_headings_are_in_order(notebook):
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    levels = [
        len(marks) for marks in re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(now <= before + 1 for before, now in pairwise(levels))


def test_it_says_where_to_go_next(notebook):
    last = [cell for cell in notebook.cells if cell.cell_type == "markdown"][-1]
    assert last.source.startswith("## Where to go next")
    assert re.search(r"\]\(\d\d_\w+\.ipynb\)", last.source)


def test_words_are_explained_where_the_glossary_is_said_to_explain_them(path, notebook):
    known = re.findall(r'<a id="([\w-]+)"></a>', (path.parents[1] / "docs" / "glossary.md").read_text())
    assert len(known) == len(set(known))
    for cell in notebook.cells:
        for word in re.findall(r"docs/glossary\.md#([\w-]+)", cell.source):
            assert word in known, word


def test_the_first_page_introduces_the_words():
    first = nbformat.read(NOTEBOOKS[0], as_version=4)
    text = "\n".join(cell.source for cell in first.cells)
    words = [
        "correction",
        "hard-negatives",
        "position",
        "encoder",
        "leave-one-out",
        "hr",
        "ndcg",
        "cov",
        "captured-mass",
    ]
    for word in [*words, "coverage", "calibration"]:
        assert f"docs/glossary.md#{word})" in text, word


def test_all_its_guesses_are_handed_in(notebook):
    made = [name for cell in notebook.cells for name in guesses(cell)]
    cards = [
        cell.source for cell in code_cells(notebook) if "HandInCard(" in cell.source and "import" not in cell.source
    ]
    if made:
        assert len(cards) == 1
        [call] = [node for node in ast.walk(ast.parse(cards[0])) if isinstance(node, ast.Call) and node.keywords][:1]
        [given] = [keyword.value.elts for keyword in call.keywords if keyword.arg == "guesses"]
        assert {name.id for name in given} == set(made)
