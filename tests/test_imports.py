"""Dependencies point one way: no file of the library reaches itself through its imports, lazy ones included."""

import ast
import re
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
            elif isinstance(node, ast.ImportFrom) and node.names[0].name != "__version__":
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


def part(module):
    """The package or file of the house that a module is in; of what ``import sce_lab`` gives, the house itself."""
    return module.removeprefix("sce_lab").removeprefix(".").partition(".")[0]


def test_the_layers_are_those_that_the_page_for_contributors_shows():
    page = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"reads this list.*?```\n(.*?)```", page, re.DOTALL)
    layer = {name: height for height, line in enumerate(shown.splitlines()) for name in line.split()}
    found = arrows()
    assert set(layer) == {part(module) for module in found} - {""}
    layer[""] = max(layer.values())  # `import sce_lab` gives everything when it is asked for
    above = {
        (module, other) for module, others in found.items() for other in others
        if module != "sce_lab" and layer[part(other)] > layer[part(module)]
    }  # fmt: skip
    assert above == set()


def test_widgets_and_commands_do_not_know_each_other():
    for module, others in arrows().items():
        if part(module) in ("widgets", "cli"):
            assert {part(other) for other in others} & {"widgets", "cli"} <= {part(module)}, (module, others)
