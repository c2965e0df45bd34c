"""What makes the lab installable, checked without a network: pins, Makefile, CI, Binder, what files may not name."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import sce_lab

ROOT = Path(__file__).resolve().parents[1]
START = "notebooks/00_start_here.ipynb"
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


@cache
def tracked_files() -> list[Path]:
    """What git would commit from here: tracked and new files, without the ignored ones."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


@cache
def texts() -> dict[str, str]:
    """Every tracked text file by its path in the repository."""
    found = {}
    for path in tracked_files():
        try:
            found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


@cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str) -> dict[str, Version]:
    """A requirements file as package -> version; anything but exact pins fails."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return exact_pins([line for line in lines if line])


def exact_pins(lines: list[str]) -> dict[str, Version]:
    pinned = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)", line)
        assert match, f"{line!r} is no exact pin of the form package==version"
        pinned[canonicalize_name(match[1])] = Version(match[2])
    assert len(pinned) == len(lines), "a package is pinned twice"
    return pinned


def ranges() -> dict[str, SpecifierSet]:
    lines = project()["dependencies"] + project()["optional-dependencies"]["lab"]
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


def binder_environment() -> tuple[list[str], list[str]]:
    """The conda packages and the pip lines of binder/environment.yml."""
    environment = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    [pip_lines] = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    return [d for d in environment["dependencies"] if isinstance(d, str)], pip_lines


class TestPins:
    def test_every_dependency_is_pinned_inside_its_range(self):
        pinned = pins("requirements.txt")
        assert set(pinned) == set(ranges())
        for package, specifier in ranges().items():
            assert specifier, f"{package} has no range in pyproject.toml"
            assert pinned[package] in specifier

    def test_test_tools_are_pinned_and_repeat_nothing(self):
        assert not set(pins("tests/requirements.txt")) & set(pins("requirements.txt"))

    def test_threads_can_move_widgets(self):
        """ipykernel 7.0 raises when a thread sets a widget's value, and notebooks still pass."""
        assert pins("requirements.txt")["ipykernel"] >= Version("7.1")
        assert Version("7.0.1") not in ranges()["ipykernel"]

    def test_this_environment_is_the_pinned_one(self):
        """Otherwise every result of this test run stands for something else than the requirements say."""
        from importlib.metadata import version

        for package, pinned in pins("requirements.txt").items():
            assert Version(version(package)).public == pinned.public, package


class TestPackage:
    def test_license_is_mit(self):
        text = (ROOT / "LICENSE").read_text()
        assert text.startswith("MIT License")
        assert project()["license"] == "MIT"

    def test_import_is_light(self, tmp_path: Path):
        """In a clean interpreter, from elsewhere, so that the installed package is the one that is found."""
        done = run([sys.executable, "-I", "-c", "import sys\nfrom sce_lab import *\nprint(*sys.modules)"], cwd=tmp_path)
        unwanted = {
            "ipywidgets",
            "anywidget",
            "plotly",
            "jupyterlab",
            "IPython",
            "ipykernel",
            "papermill",
            "matplotlib",
        }
        assert {name.partition(".")[0] for name in done.stdout.split()} & unwanted == set()
        assert done.stderr == ""
        assert list(tmp_path.iterdir()) == []

    def test_names_are_imported_when_they_are_asked_for(self):
        program = "import sys, sce_lab; print('torch' in sys.modules, set(sce_lab.__all__) <= set(dir(sce_lab)))\n"
        program += "print(sce_lab.memory.__name__, [getattr(sce_lab, n) for n in sce_lab.__all__].count(None))\n"
        program += "print(hasattr(sce_lab, 'nothing'), hasattr(sce_lab, '_nothing'))"
        done = run([sys.executable, "-c", program])
        assert done.stdout.split("\n")[:3] == ["False True", "sce_lab.memory 0", "False False"], done.stderr

    def test_losses_can_be_taken_home(self, tmp_path: Path):
        """The folder alone, copied into another project under another name: PyTorch is all it needs."""
        shutil.copytree(ROOT / "sce_lab" / "losses", tmp_path / "my_losses")
        program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import my_losses; print(*sys.modules)"
        done = run([sys.executable, "-I", "-c", program])
        assert {name.partition(".")[0] for name in done.stdout.split()} & {"sce_lab", "pandas", "pyarrow"} == set()

    def test_every_folder_is_a_package(self):
        folders = {path.parent for path in tracked_files() if path.is_relative_to(ROOT / "sce_lab")}
        assert [f for f in folders if not (f / "__init__.py").exists()] == []

    def test_the_version_is_in_the_changelog(self):
        assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == sce_lab.__version__
        citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
        assert citation["version"] == sce_lab.__version__
        assert citation["license"] == project()["license"]

    def test_command_line_helps(self, tmp_path: Path):
        command = Path(sysconfig.get_path("scripts")) / "sce-lab"
        done = run([command, "--help"], cwd=tmp_path)
        for name in ("compare", "train", "runs", "data"):
            assert name in done.stdout


class TestFiles:
    def test_no_registry_is_named(self):
        """Where packages come from is the person's setting (a mirror, a proxy), not ours."""
        hosts = "pypi.org|pythonhosted.org|download.pytorch.org|anaconda.org|anaconda.com|npmjs.org|npmjs.com|ghcr.io"
        hosts += "|docker.io|unpkg.com|jsdelivr.net|cdnjs.cloudflare.com"
        pattern = re.compile(rf"\b({hosts.replace('.', '[.]')})\b")
        this = Path(__file__).relative_to(ROOT).as_posix()
        assert {n: m[0] for n, text in texts().items() if n != this and (m := pattern.search(text))} == {}

    def test_no_folder_of_some_machine_is_named(self):
        pattern = re.compile(r"(?<![\w.\-}~])/(home|work|root|Users|workspace)(/[\w.-]+|\b(?!/))")
        this = Path(__file__).relative_to(ROOT).as_posix()
        assert {n: m[0] for n, text in texts().items() if n != this and (m := pattern.search(text))} == {}

    def test_every_named_notebook_exists(self):
        named = {(m, n) for n, text in texts().items() for m in re.findall(r"\b\d\d_[a-z0-9_]+\.ipynb\b", text)}
        assert {m for m, _ in named} >= {Path(START).name}
        assert [(m, n) for m, n in sorted(named) if not (ROOT / "notebooks" / m).is_file()] == []

    def test_links_of_the_readme_lead_somewhere(self):
        text = (ROOT / "README.md").read_text()
        links = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text)
        local = [unquote(a or b).partition("#")[0] for a, b in links if not re.match(r"[a-z]+:|#", a or b)]
        assert [link for link in local if not (ROOT / link).exists()] == []

    def test_binder_badge_opens_a_notebook_that_exists(self):
        text = (ROOT / "README.md").read_text()
        if not text.strip():
            pytest.skip("README.md is still empty")
        links = re.findall(r"https://mybinder\.org/v2/gh/[^\s)\"'>]+", text)
        assert links, "README.md has no Binder link"
        for link in links:
            target = re.search(r"[?&](?:urlpath=lab/tree/|labpath=)([^&#]+)", unquote(link))
            assert target, f"{link} opens no notebook"
            assert (ROOT / target[1]).is_file()

    def test_where_the_repository_is_stands_in_one_place(self):
        pattern = re.compile(r"(?:github\.com|mybinder\.org/v2/gh)/OWNER/|/gh/OWNER/REPO")
        named = {name: len(pattern.findall(text)) for name, text in texts().items() if not name.startswith("tests/")}
        assert {name: n for name, n in named.items() if n} in ({"README.md": 1}, {})


class TestBinder:
    def test_pins_are_those_of_the_requirements(self):
        """Exact pins only: no -e, -r, -c (they would defeat the layer cache), no URL, no path."""
        expected = pins("requirements.txt")
        del expected["torch"]
        assert exact_pins(binder_environment()[1]) == expected

    def test_conda_brings_python_and_a_cpu_torch(self):
        """repo2docker reads python=X.Y to choose its base environment and has one for each of these."""
        conda, _ = binder_environment()
        named = dict(re.fullmatch(r"([a-z-]+)(.*)", line).groups() for line in conda)
        assert set(named) == {"python", "pip", "pytorch-cpu"}
        assert re.fullmatch(r"=3\.1[1-4]", named["python"])
        assert Version(named["python"][1:]) in SpecifierSet(project()["requires-python"])
        torch = SpecifierSet(named["pytorch-cpu"])
        assert pins("requirements.txt")["torch"] in torch
        [lowest] = [s.version for s in torch if s.operator == ">="]
        assert Version(lowest) in ranges()["torch"]

    def test_nothing_else_decides(self):
        """A Dockerfile would replace all of this; these would be installed beside it or silently ignored."""
        assert {p.name for p in (ROOT / "binder").iterdir()} == {"environment.yml", "postBuild", "start"}
        assert not (ROOT / ".binder").exists()

    @pytest.mark.parametrize("name", ["postBuild", "start"])
    def test_scripts_are_executable(self, name: str):
        path = ROOT / "binder" / name
        assert path.read_bytes().startswith(b"#!/usr/bin/env bash\n")
        assert os.access(path, os.X_OK)

    def test_post_build_installs_the_package(self, tmp_path: Path):
        tools, log = stand_ins(tmp_path, "python")
        shutil.copy(ROOT / "binder" / "postBuild", tmp_path)
        run(["bash", "postBuild"], cwd=tmp_path, path=tools)
        [installed] = [line.split() for line in log.read_text().splitlines() if "pip install" in line]
        assert installed[-1] == "."
        assert "--no-deps" in installed

    def test_start_limits_threads_and_runs_the_server(self):
        show = (
            "import os, sys; print(*[os.environ[n + '_NUM_THREADS'] for n in ('OMP', 'MKL', 'OPENBLAS')], sys.argv[1])"
        )
        done = run([ROOT / "binder" / "start", sys.executable, "-c", show, "two words"])
        assert done.stdout == "1 1 1 two words\n"


class TestContinuousIntegration:
    def test_run_calls_make_test(self, tmp_path: Path):
        """With the data files beside the checkout, and with what the environment says about them."""
        checkout = tmp_path / "the checkout"
        (checkout / ".ci").mkdir(parents=True)
        shutil.copy(ROOT / ".ci" / "run", checkout / ".ci")
        tools, log = stand_ins(tmp_path, "make", "python3", "chromium", note="|$SCE_LAB_DATA|$CI")

        def make_call(*settings: str) -> str:
            log.write_text("")
            command = ["env", "--unset=SCE_LAB_DATA", *settings, "bash", checkout / ".ci" / "run"]
            run(command, cwd=tmp_path, path=tools)
            return next(line for line in log.read_text().splitlines() if line.startswith("make"))

        assert re.fullmatch(r"make test PYTEST_ARGS=.*\|\|true", make_call())
        (tmp_path / "shared" / "data").mkdir(parents=True)
        assert make_call().endswith(f"|{tmp_path}/shared/data|true")
        assert make_call("SCE_LAB_DATA=elsewhere", "PYTEST_ARGS=-x") == "make test PYTEST_ARGS=-x|elsewhere|true"

    def test_run_fails_when_the_tests_do(self, tmp_path: Path):
        tools, _ = stand_ins(tmp_path, "python3", "chromium")
        make = tools / "make"
        make.write_text("#!/bin/sh\nexit 2\n")
        make.chmod(0o755)
        assert run(["bash", ROOT / ".ci" / "run"], path=tools, check=False).returncode == 2

    def test_workflow_runs_the_same(self):
        workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
        job = workflow["jobs"]["test"]
        assert ".ci/run" in " ".join(step.get("run", "") for step in job["steps"])
        supported = SpecifierSet(project()["requires-python"])
        assert all(Version(python) in supported for python in job["strategy"]["matrix"]["python"])
        [upload] = [s for s in job["steps"] if "upload-artifact" in s.get("uses", "")]
        assert set(upload["with"]["path"].split()) == {"build/notebooks", "build/screenshots"}
        assert "cancelled" in upload["if"], "without a condition the artifacts of a failed run are lost"

    def test_workflow_tries_the_lowest_versions_on_the_oldest_python(self):
        job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["lowest"]
        assert "bash .ci/lowest" in [step.get("run", "") for step in job["steps"]]
        [python] = [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
        assert [s.version for s in SpecifierSet(project()["requires-python"])] == [python]

    def test_lowest_installs_what_the_ranges_begin_with(self, tmp_path: Path):
        """Without installing: a ``python3`` that makes an environment whose ``python`` notes what it is asked."""
        checkout = tmp_path / "checkout"
        (checkout / ".ci").mkdir(parents=True)
        (checkout / "tests").mkdir()
        shutil.copy(ROOT / ".ci" / "lowest", checkout / ".ci")
        for name in ("pyproject.toml", "tests/requirements.txt"):
            shutil.copy(ROOT / name, checkout / name)
        python = checkout / "build" / "lowest" / "bin" / "python"
        python.parent.mkdir(parents=True)
        log = tmp_path / "log"
        python.write_text(f'#!/bin/sh\n[ "$1" = - ] && exec "{sys.executable}" "$@"\necho "$@" >>"{log}"\n')
        python.chmod(0o755)
        tools, _ = stand_ins(tmp_path, "python3")
        run(["bash", checkout / ".ci" / "lowest", "torch==99"], path=tools)
        installed = " ".join(line for line in log.read_text().splitlines() if "pip install" in line).split()
        for package, specifier in ranges().items():
            lowest = [s.version for s in specifier if s.operator == ">="]
            expected = "99" if package == "torch" else lowest[0]
            if package in {Requirement(text).name for text in project()["dependencies"]}:
                assert f"{package}=={expected}" in installed
        assert "pytest" in log.read_text().splitlines()[-1]

    def test_shell_scripts_parse(self):
        for script in (".ci/run", ".ci/lowest", "binder/postBuild", "binder/start"):
            run(["bash", "-n", ROOT / script])
        assert os.access(ROOT / ".ci" / "run", os.X_OK)


@needs_make
class TestMakefile:
    def test_publish_as_sets_the_link_of_the_badge_as_often_as_one_likes(self, tmp_path: Path):
        shutil.copy(ROOT / "Makefile", tmp_path)
        readme, before = tmp_path / "README.md", (ROOT / "README.md").read_text()
        readme.write_text(before)
        for name in ("ada/sce-lab", "Grace-2/Lab_2.0"):
            run(["make", "publish-as", name], cwd=tmp_path)
            assert readme.read_text() == re.sub(r"(v2/gh/)[^/]+/[^/]+", rf"\g<1>{name}", before) != before
        for wrong in ([], ["ada"], ["ada/lab/x"], ["a&b/c"]):
            refused = run(["make", "publish-as", *wrong], cwd=tmp_path, check=False)
            assert refused.returncode != 0
            assert "make publish-as ada/sce-lab" in refused.stderr
            assert "Grace-2/Lab_2.0" in readme.read_text()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["Makefile", "README.md"]

    def test_lab_is_local_and_keeps_its_token(self):
        recipe = run(["make", "-n", "lab"], cwd=ROOT).stdout
        assert "--ip=127.0.0.1" in recipe
        assert START in recipe
        assert not re.search(r"token|password|allow_origin|0\.0\.0\.0|disable_check_xsrf", recipe, re.IGNORECASE)

    @pytest.mark.parametrize(
        ("environment", "flag"),
        [
            ({"DISPLAY": ":0"}, False),
            ({"WAYLAND_DISPLAY": "wayland-0"}, False),
            ({}, True),
            ({"DISPLAY": ":0", "CI": "true"}, True),
            ({"DISPLAY": ":0", "SSH_CONNECTION": "1 2 3 4"}, True),
        ],
    )
    def test_lab_opens_a_browser_only_where_someone_sees_it(self, checkout: "Checkout", environment: dict, flag: bool):
        hidden = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "CI": "", "SSH_CONNECTION": ""}
        assert checkout.make("lab", **(hidden | environment)).returncode == 0
        [server] = [call for call in checkout.calls() if "-m jupyterlab" in call]
        assert ("--no-browser" in server) == flag
        assert f"--LabApp.default_url=/lab/tree/{START}" in server
        assert f"--ServerApp.root_dir={checkout.folder}".replace(" ", "_") in server

    def test_test_runs_ruff_and_all_tests(self, checkout: "Checkout"):
        assert checkout.make("test").returncode == 0
        tests = "-m pytest --numprocesses=logical --maxprocesses=4 --dist=load"
        assert checkout.calls()[-3:] == ["-m ruff check .", "-m ruff format --check .", tests]

    def test_installs_in_order_and_only_once(self, checkout: "Checkout"):
        first = checkout.make("setup-test")
        assert first.returncode == 0
        torch = f"torch=={pins('requirements.txt')['torch']}"
        expected = [torch, "-r requirements.txt", "--no-deps -e .", "-r tests/requirements.txt"]
        assert checkout.installed() == expected
        assert torch in first.stdout
        assert "minutes" in first.stdout
        again = checkout.make("setup-test")
        assert (again.stdout, checkout.installed()) == ("", [])

    @pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml", "tests/requirements.txt"])
    def test_a_changed_requirement_is_installed(self, checkout: "Checkout", name: str):
        """By content: a file that was restored with an old date counts as well."""
        checkout.make("setup-test")
        changed = checkout.folder / name
        before = changed.stat()
        changed.write_text(changed.read_text() + "# changed\n")
        os.utime(changed, (before.st_atime, before.st_mtime))
        checkout.make("setup-test")
        everything = name != "tests/requirements.txt"
        assert ("--no-deps -e ." in checkout.installed()) == everything
        assert checkout.installed()[-1] == "-r tests/requirements.txt"
        assert checkout.made_anew == 1

    def test_a_moved_folder_is_installed_again(self, checkout: "Checkout"):
        checkout.make("setup")
        checkout.move("somewhere else")
        checkout.make("setup")
        assert "--no-deps -e ." in checkout.installed()

    @pytest.mark.parametrize("step", ["torch==", "-r requirements.txt", "--no-deps -e .", "-r tests/requirements.txt"])
    def test_an_interrupted_installation_is_repaired(self, checkout: "Checkout", step: str):
        interrupted = checkout.make("setup-test", FAIL_AT=step)
        assert interrupted.returncode != 0
        assert "Call make again" in interrupted.stderr
        checkout.calls()
        half = checkout.packages / "numpy-1.dist-info"
        whole = checkout.packages / "pandas-1.dist-info"
        for folder in (half, whole):
            folder.mkdir()
        (whole / "RECORD").touch()
        assert checkout.make("setup-test").returncode == 0
        assert any(call.startswith(step) for call in checkout.installed())
        assert (half.exists(), whole.exists()) == (False, True)
        assert checkout.made_anew == 1

    @pytest.mark.parametrize("damage", ["no pip", "half a pip", "no python"])
    def test_a_broken_environment_is_made_anew(self, checkout: "Checkout", damage: str):
        checkout.make("setup")
        ready = checkout.folder / ".venv" / ".ready-lab"
        match damage:
            case "no pip":
                shutil.rmtree(checkout.packages / "pip-1.dist-info")
                ready.unlink()
            case "half a pip":
                (checkout.packages / "pip-1.dist-info" / "RECORD").unlink()
                ready.unlink()
            case "no python":  # the system's Python was upgraded; .venv/bin/python leads nowhere
                (checkout.folder / ".venv" / "bin" / "python").unlink()
        checkout.calls()
        assert checkout.make("setup").returncode == 0
        assert checkout.made_anew == 2
        assert "-r requirements.txt" in checkout.installed()

    def test_old_python_is_refused_in_one_sentence(self, checkout: "Checkout"):
        named = checkout.make("lab", FAIL_AT="version_info")
        assert named.returncode != 0
        assert "is no Python 3.11 or newer" in named.stderr
        searched = checkout.make("lab", PYTHON="", FAIL_AT="version_info")
        assert searched.returncode != 0
        assert "needs Python 3.11" in searched.stderr
        assert not (checkout.folder / ".venv").exists()

    def test_a_newer_python_beside_an_old_python3_is_found(self, checkout: "Checkout"):
        old = checkout.tools / "python3"
        old.write_text("#!/bin/sh\nexit 1\n")
        shutil.copy(checkout.tools / "the python", checkout.tools / "python3.12")
        assert checkout.make("setup", PYTHON="").returncode == 0

    def test_missing_venv_module_names_the_package(self, checkout: "Checkout"):
        done = checkout.make("lab", FAIL_AT="ensurepip")
        assert done.returncode != 0
        assert "sudo apt-get install python3.12-venv" in done.stderr

    def test_torch_build_can_be_chosen(self, checkout: "Checkout"):
        checkout.make("setup", TORCH_ARGS="--index-url somewhere")
        calls = checkout.installed()
        assert calls[0].startswith("--index-url somewhere torch==")
        assert not any("somewhere" in call for call in calls[1:])

    def test_clean_keeps_runs(self, checkout: "Checkout"):
        checkout.make("setup")
        (checkout.folder / "runs").mkdir()
        assert checkout.make("clean").returncode == 0
        assert not (checkout.folder / ".venv").exists()
        assert (checkout.folder / "runs").exists()


# --------------------------------------------------------------------------------------------------------------------
# Running the scripts with stand-ins for the programs they call.


def run(
    command: list[str | Path],
    *,
    cwd: Path | None = None,
    path: Path | None = None,
    check: bool = True,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command, with `path` before all else on PATH, and free of what an outer `make test` passes on."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTEST_ARGS")}
    if path:
        inherited["PATH"] = f"{path}{os.pathsep}{inherited['PATH']}"
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not check or done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done


def stand_ins(folder: Path, *names: str, note: str = "") -> tuple[Path, Path]:
    """Programs that only note how they were called: their folder, and the log."""
    tools, log = folder / "tools", folder / "calls.log"
    tools.mkdir()
    for name in names:
        tool = tools / name
        tool.write_text(f'#!/bin/sh\necho "{name} $*{note}" >>"{log}"\n')
        tool.chmod(0o755)
    return tools, log


class Checkout:
    """A copy of what the Makefile reads, in a folder with a space, and a stand-in for Python.

    The stand-in notes its arguments (a space inside one as _), fails when they contain FAIL_AT, makes `.venv` with
    itself inside, and leaves the question whether it is recent enough to the Python that runs these tests.
    """

    PYTHON = """#!/bin/sh
for argument do printf '%s ' "$(echo "$argument" | tr ' ' _)"; done >>"$LOG"
echo >>"$LOG"
case "$*" in
  *"${FAIL_AT:-nothing at all}"*) exit 1 ;;
  *print*) echo 3.12 ;;
  *version_info*) exec "$RECENT" "$@" ;;
  --version) echo "Python 3.12.1" ;;
  "-m venv --clear .venv")
    rm -rf .venv
    mkdir -p .venv/bin .venv/lib/python3.12/site-packages/pip-1.dist-info
    touch .venv/lib/python3.12/site-packages/pip-1.dist-info/RECORD
    cp "$0" .venv/bin/python ;;
esac
"""

    def __init__(self, parent: Path):
        self.log = parent / "log"
        self.log.touch()
        self.made_anew = 0
        self.tools = parent / "tools"
        self.folder = parent / "my checkout"
        self.tools.mkdir()
        (self.folder / "tests").mkdir(parents=True)
        for name in ("Makefile", "requirements.txt", "pyproject.toml", "tests/requirements.txt"):
            shutil.copy(ROOT / name, self.folder / name)
        for name in ("the python", "python3", *(f"python3.{minor}" for minor in range(11, 15))):
            (self.tools / name).write_text(self.PYTHON)
            (self.tools / name).chmod(0o755)

    @property
    def packages(self) -> Path:
        return self.folder / ".venv" / "lib" / "python3.12" / "site-packages"

    def move(self, name: str) -> None:
        self.folder = self.folder.rename(self.folder.with_name(name))

    def make(self, target: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {"PYTHON": str(self.tools / "the python"), "TORCH_ARGS": "", "LOG": str(self.log)} | environment
        environment["RECENT"] = sys.executable
        self.log.write_text("")
        done = run(
            ["make", "--no-print-directory", target], cwd=self.folder, path=self.tools, check=False, **environment
        )
        self.made_anew += sum(call.startswith("-m venv") for call in self.calls())
        return done

    def calls(self) -> list[str]:
        """How Python was called by the last `make`."""
        return [line.strip() for line in self.log.read_text().splitlines()]

    def installed(self) -> list[str]:
        """What the last `make` gave to pip install."""
        prefix = "-m pip install "
        return [c.removeprefix(prefix).removeprefix("--quiet ") for c in self.calls() if c.startswith(prefix)]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)
