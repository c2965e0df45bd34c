"""Published results, the recipes that reproduce them, and the records of what came out."""

from sce_lab.reproduce.baselines import baselines_table, judge_baselines, read_baselines, write_baselines
from sce_lab.reproduce.published import PUBLISHED, Published
from sce_lab.reproduce.recipes import RECIPES, Recipe, find_recipe, format_setting, parse_setting
from sce_lab.reproduce.records import has_ended, open_test, read_records, reproduce, results_folder, run_folder
from sce_lab.reproduce.report import (
    for_readers,
    heading,
    model_name,
    results_markdown,
    results_table,
    update_file,
    withdrawn,
)

__all__ = [
    "PUBLISHED",
    "RECIPES",
    "Published",
    "Recipe",
    "baselines_table",
    "find_recipe",
    "for_readers",
    "format_setting",
    "has_ended",
    "heading",
    "judge_baselines",
    "model_name",
    "open_test",
    "parse_setting",
    "read_baselines",
    "read_records",
    "reproduce",
    "results_folder",
    "results_markdown",
    "results_table",
    "run_folder",
    "update_file",
    "withdrawn",
    "write_baselines",
]
