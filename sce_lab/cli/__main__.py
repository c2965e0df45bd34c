"""``python -m sce_lab.cli``."""

from sce_lab.cli import main

main()
