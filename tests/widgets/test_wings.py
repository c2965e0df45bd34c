"""Who may import whom among the wings of the widgets: the pages stand on the kit, and on nothing of each other."""

import ast
from pathlib import Path

import pytest

import sce_lab.widgets

PACKAGE = "sce_lab.widgets"
HOUSE = Path(sce_lab.widgets.__file__).parent
ALLOWED = {
    "kit": {"kit"},
    "playground": {"kit", "playground"},
    "lessons": {"kit", "lessons"},
    "own_data": {"kit", "own_data"},
}


def modules():
    """Every module of the widgets by its dotted name."""
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        yield ".".join([PACKAGE, *(part for part in parts if part != "__init__")]), path


def imported(module, path):
    """The modules of the widgets that it imports anywhere, in functions too, relative imports included."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package.rsplit(".", node.level - 1)[0] + "." if node.level else ""
            base = (start + (node.module or "")).rstrip(".")
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name == PACKAGE or name.startswith(PACKAGE + "."))


def wing(module):
    return module.removeprefix(PACKAGE).strip(".").split(".")[0]


def test_every_module_is_in_a_wing():
    assert {wing(module) for module, path in modules() if module != PACKAGE} == set(ALLOWED)
    assert [path.name for path in HOUSE.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("name", ALLOWED)
def test_a_wing_imports_only_what_it_stands_on(name):
    arrows = [(m, other) for m, path in modules() if wing(m) == name for other in imported(m, path)]
    assert arrows
    assert [(m, other) for m, other in arrows if wing(other) not in ALLOWED[name]] == []


def test_no_module_reaches_itself_through_its_imports():
    known = dict(modules())
    arrows = {m: {o if o in known else o.rpartition(".")[0] for o in imported(m, p)} - {m} for m, p in known.items()}
    while leaves := {m for m, others in arrows.items() if not others & set(arrows)}:
        arrows = {m: others for m, others in arrows.items() if m not in leaves}
    assert sorted(arrows) == []
