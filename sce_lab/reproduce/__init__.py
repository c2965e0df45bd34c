"""Published results, the recipes that reproduce them, and the records of what came out."""

from sce_lab.reproduce.baselines import baselines_table, judge_baselines, read_baselines, write_baselines
from sce_lab.reproduce.published import PUBLISHED, Published
from sce_lab.reproduce.recipes import RECIPES, Recipe, format_setting, parse_setting
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
from sce_lab.reproduce.search import SEARCHES, Search, find_recipe, find_search, read_searches, search

__all__ = [
    "PUBLISHED",
    "RECIPES",
    "SEARCHES",
    "Published",
    "Recipe",
    "Search",
    "baselines_table",
    "find_recipe",
    "find_search",
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
    "read_searches",
    "reproduce",
    "results_folder",
    "results_markdown",
    "results_table",
    "run_folder",
    "search",
    "update_file",
    "withdrawn",
    "write_baselines",
]
