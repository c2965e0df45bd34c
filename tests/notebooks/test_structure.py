"""What every committed notebook must be: clean, runnable by papermill, and thin."""

import ast
import re

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
