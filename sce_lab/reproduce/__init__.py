"""Published results, the recipes that reproduce them, and the records of what came out."""

from sce_lab.reproduce.published import PUBLISHED, Published
from sce_lab.reproduce.recipes import RECIPES, Recipe, find_recipe, format_setting, parse_setting
from sce_lab.reproduce.records import has_ended, read_records, reproduce, results_folder, run_folder
from sce_lab.reproduce.report import for_readers, model_name, results_markdown, results_table, update_file

__all__ = [
    "PUBLISHED",
    "RECIPES",
    "Published",
    "Recipe",
    "find_recipe",
    "for_readers",
    "format_setting",
    "has_ended",
    "model_name",
    "parse_setting",
    "read_records",
    "reproduce",
    "results_folder",
    "results_markdown",
    "results_table",
    "run_folder",
    "update_file",
]
