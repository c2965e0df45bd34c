"""Dependencies point one way: no file of the library reaches itself through its imports, lazy ones included."""

import ast
from pathlib import Path

import sce_lab

HOUSE = Path(sce_lab.__file__).parent


def arrows():
    """Which modules of the library each of its modules imports anywhere, in functions too."""
    paths = {
        ".".join(
            ["sce_lab", *(part for part in path.relative_to(HOUSE).with_suffix("").parts if part != "__init__")]
        ): path
        for path in HOUSE.rglob("*.py")
    }
    found = {}
    for module, path in paths.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                start = package.rsplit(".", node.level - 1)[0] if node.level else ""
                base = ".".join(filter(None, (start, node.module)))
                names |= {name if (name := f"{base}.{alias.name}") in paths else base for alias in node.names}
        found[module] = {name for name in names if name in paths} - {module}
    return found


def test_no_file_reaches_itself_through_its_imports():
    left = arrows()
    assert len(left) > 100
    while leaves := {module for module, others in left.items() if not others & set(left)}:
        left = {module: others for module, others in left.items() if module not in leaves}
    assert left == {}


def test_the_losses_know_nothing_of_the_rest_and_the_engine_nothing_of_the_losses():
    for module, others in arrows().items():
        for wing in ("sce_lab.losses.engine", "sce_lab.losses"):
            if module.startswith(wing):
                assert all(other.startswith(wing) for other in others), (module, others)
                break
