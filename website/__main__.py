"""``python -m website``: make the site."""

from __future__ import annotations

import argparse
from pathlib import Path

from website.build import build
from website.pages import ROOT

parser = argparse.ArgumentParser(prog="python -m website", description="Make the course a site of static pages.")
parser.add_argument("out", nargs="?", type=Path, default=ROOT / "build" / "site", help="folder, made anew")
parser.add_argument("--no-execute", action="store_true", help="pages without outputs, in seconds")
arguments = parser.parse_args()
made = build(arguments.out, execute=not arguments.no_execute)
print(f"{len(made)} pages: open {arguments.out / 'index.html'} in a browser.")
