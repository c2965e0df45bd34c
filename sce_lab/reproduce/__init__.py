"""Published results, the recipes that reproduce them, and the records of what came out."""

from sce_lab.reproduce.baselines import baselines_table, judge_baselines, read_baselines, write_baselines
from sce_lab.reproduce.comparing import compare_records, in_words, records_called
from sce_lab.reproduce.findings import findings
from sce_lab.reproduce.opening import open_test
from sce_lab.reproduce.published import PUBLISHED, Published
from sce_lab.reproduce.recipes import RECIPES, Recipe, format_setting, parse_setting
from sce_lab.reproduce.records import has_ended, own_results, read_records, reproduce, results_folder, run_folder
from sce_lab.reproduce.report import (
    for_readers,
    heading,
    model_name,
    results_table,
    withdrawn,
)
from sce_lab.reproduce.search import SEARCHES, Search, find_recipe, find_search, read_searches, search
from sce_lab.reproduce.writing import Evidence, glance_markdown, results_markdown, update_file

__all__ = [
    "PUBLISHED",
    "RECIPES",
    "SEARCHES",
    "Evidence",
    "Published",
    "Recipe",
    "Search",
    "baselines_table",
    "compare_records",
    "find_recipe",
    "find_search",
    "findings",
    "for_readers",
    "format_setting",
    "glance_markdown",
    "has_ended",
    "heading",
    "in_words",
    "judge_baselines",
    "model_name",
    "open_test",
    "own_results",
    "parse_setting",
    "read_baselines",
    "read_records",
    "read_searches",
    "records_called",
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
