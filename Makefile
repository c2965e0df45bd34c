# `make lab` opens the lab, `make test` checks it, `make help` lists the rest.
#
# Everything is installed into .venv, and nothing outside this folder is touched. All paths are relative, so the
# folder may lie anywhere, under a name with spaces too.

NOTEBOOK ?= notebooks/00_start_here.ipynb
LAB_ARGS ?=
PYTEST_ARGS ?=

.NOTPARALLEL:
.PHONY: help lab test test-slow site setup setup-test publish-as clean

help:
	@printf '%s\n' \
	  'make lab      set up what is missing and open JupyterLab on $(NOTEBOOK)' \
	  'make test     set up what is missing, then run ruff and the tests' \
	  'make test-slow  the tests that take minutes, which make test leaves out' \
	  'make site     set up what is missing, run the notebooks and make static pages of them in build/site' \
	  'make publish-as OWNER/REPO  make the Binder link of README.md that of this repository on GitHub' \
	  'make setup    only set up .venv, as make lab does (make setup-test: as make test does)' \
	  'make clean    remove .venv and all else that can be made again; runs/ stays' \
	  '' \
	  'Settings, as in: make lab PYTHON=python3.12' \
	  '  PYTHON       the Python to make .venv with, 3.11 or newer; without it one is looked for' \
	  '  TORCH_ARGS   options for the pip call that installs PyTorch, to choose its CPU or a CUDA build:' \
	  '               the --index-url that the installation page of pytorch.org shows' \
	  '  NOTEBOOK     the notebook that make lab opens' \
	  '  LAB_ARGS     further options for JupyterLab, such as --port=9999' \
	  '  PYTEST_ARGS  further options for pytest, such as tests/test_packaging.py'

# The server answers on this machine only and asks for JupyterLab's own token. With nobody at a screen here (CI, a
# remote shell, no display) no browser is started and the address is printed. Root, as in containers, needs a flag.
lab: setup
	@set --; \
	if [ -n "$$CI$$SSH_CONNECTION" ] || { [ "$$(uname)" = Linux ] && [ -z "$$DISPLAY$$WAYLAND_DISPLAY" ]; }; then \
	  set -- --no-browser; \
	fi; \
	if [ "$$(id -u)" = 0 ]; then set -- "$$@" --allow-root; fi; \
	if [ -n "$$SSH_CONNECTION" ]; then \
	  echo 'From another computer: ssh -L 8888:127.0.0.1:8888 THIS-MACHINE (the port of the address below), and open it there.'; \
	fi; \
	echo 'Starting JupyterLab; its address follows in a few seconds. Ctrl-C twice stops it.'; \
	export PATH="$(CURDIR)/.venv/bin:$$PATH"; \
	exec .venv/bin/python -m jupyterlab --ip=127.0.0.1 --log-level=WARN \
	  --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url="/lab/tree/$(NOTEBOOK)" "$$@" $(LAB_ARGS)

test: setup-test
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	@echo 'Running the tests: some minutes on two cores, most of it notebooks and the browser.'
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python -m pytest \
	  --numprocesses=logical --maxprocesses=4 --dist=load $(PYTEST_ARGS)

test-slow: setup-test
	.venv/bin/python -m pytest -m slow --numprocesses=logical --maxprocesses=4 $(PYTEST_ARGS)

site: setup-test
	@echo 'Running the notebooks in their fast profiles: some minutes, and none for those that have not changed.'
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python -m website

# The word after publish-as is for it, and nothing to be made.
ifeq ($(firstword $(MAKECMDGOALS)),publish-as)
WHERE := $(word 2,$(MAKECMDGOALS))
ifneq ($(WHERE),)
.PHONY: $(WHERE)
$(WHERE): ;@:
endif
endif
publish-as:
	@if ! printf '%s\n' '$(WHERE)' | grep -Eqx '[A-Za-z0-9-]+/[A-Za-z0-9._-]+'; then \
	  echo 'Name the repository as GitHub does, as in: make publish-as ada/sce-lab' >&2; exit 1; fi
	@sed 's#\(mybinder.org/v2/gh/\)[^/]*/[^/]*/#\1$(WHERE)/#' README.md >README.md.new && mv README.md.new README.md
	@echo 'README.md opens $(WHERE) on Binder.'

setup:
	@sh -c "$$SETUP"

setup-test:
	@sh -c "$$SETUP" setup tests/requirements.txt

clean:
	rm -rf .venv build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --------------------------------------------------------------------------------------------------------------------
# Setting up .venv, a shell script. What is there is noted in .venv/.ready-*: a checksum of the files that say what to
# install, and of where this folder is, which the editable install knows. While it matches, nothing is done. It is
# written last: after an interrupted installation it is missing, and the next call goes on from there.
define SETUP_SCRIPT
set -eu
export PIP_DISABLE_PIP_VERSION_CHECK=1
python=.venv/bin/python

fail() { printf '\n%s\n' "$*" >&2; exit 1; }
works() { "$@" >/dev/null 2>&1; }
checksum() { { pwd; cat "$@"; } | cksum; }
is_ready() { [ "$(cat ".venv/.ready-$1" 2>/dev/null)" = "$2" ] && works "$python" -c ''; }

# is_recent PYTHON [N]: does it run, and is it 3.11 or newer (and older than 3.N)?
is_recent() { works "$1" -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, ${2:-99}))"; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    base=$PYTHON
    is_recent "$base" || fail "PYTHON=$base is no Python 3.11 or newer that runs here; name another one."
    return
  fi
  # The pinned packages come ready-built for Python up to 3.14.
  for base in python3 python3.13 python3.12 python3.11 python3.14; do
    if is_recent "$base" 15; then return; fi
  done
  found=$(python3 --version 2>/dev/null) || found='no python3'
  fail "SCE Lab needs Python 3.11 to 3.14, and here is $found: install one, or name it as in" \
    "make lab PYTHON=/path/to/python3.12"
}

make_venv() {
  find_python
  version=$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  works "$base" -c 'import venv, ensurepip' ||
    fail "$base cannot make virtual environments, since its module venv or ensurepip is missing:" \
      "on Debian and Ubuntu call sudo apt-get install python$version-venv, then make again."
  echo "Making .venv with Python $version (10 seconds) ..."
  "$base" -m venv --clear .venv || fail 'Making .venv failed; the reason stands above.'
}

install() {
  "$python" -m pip install $quiet "$@" ||
    fail 'Installing failed; the reason stands above. Call make again to go on, or make clean to start afresh.'
}

lab_ready=$(checksum requirements.txt pyproject.toml)
tests_ready=$(checksum requirements.txt pyproject.toml tests/requirements.txt)
if [ -n "${PYTHON:-}" ] && works "$python" -c '' && [ "$("$python" --version)" != "$("$PYTHON" --version 2>&1)" ]; then
  echo "Note: .venv has $("$python" --version); call make clean first to make it anew with PYTHON=$PYTHON."
fi
if is_ready lab "$lab_ready" && { [ $# = 0 ] || is_ready tests "$tests_ready"; }; then exit; fi

# pip writes a package's RECORD last. Without it the package is half there, yet would pass for installed.
if ! { is_recent "$python" && works "$python" -m pip --version && works ls .venv/lib/*/site-packages/pip-*/RECORD; }; then
  make_venv
fi
for half in .venv/lib/*/site-packages/*.dist-info; do
  if [ ! -e "$half/RECORD" ]; then rm -rf "$half"; fi
done

if [ -t 1 ]; then quiet=; else quiet=--quiet; fi
if ! is_ready lab "$lab_ready"; then
  rm -f .venv/.ready-*
  torch=$(sed -n 's/^\(torch==[^ ;#]*\).*/\1/p' requirements.txt)
  echo "Installing $torch (1 to 15 minutes: with CUDA it downloads some 3 GB; for less, see TORCH_ARGS in make help) ..."
  install ${TORCH_ARGS:-} "$torch"
  echo 'Installing the other packages of requirements.txt (1 to 3 minutes) ...'
  install -r requirements.txt
  echo 'Installing sce_lab, editable (10 seconds) ...'
  install --no-deps -e .
  echo "$lab_ready" >.venv/.ready-lab
fi
if [ $# != 0 ]; then
  echo "Installing the test tools of $1 (1 minute) ..."
  install -r "$1"
  echo "$tests_ready" >.venv/.ready-tests
fi
echo 'Everything is set up; the next call starts at once.'
endef
setup setup-test: export SETUP = $(value SETUP_SCRIPT)
