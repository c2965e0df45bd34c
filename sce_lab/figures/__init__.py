"""Figures: from tables to plotly, in one look.

Every public function takes tables and returns figures; nothing here trains, measures or draws on a screen. A loss has
one colour, dash and marker in all of them; what all share (weights, encoder) is grey: colour means "the loss".

Backgrounds are transparent and text is a grey that can be read on white and on black. A page that knows its theme can
do better: :data:`THEME_CSS` replaces that grey by the page's own ink.
"""

from sce_lab.figures.against_memory import quality_memory_spec
from sce_lab.figures.comparison import comparison_page, html_page, run_names, write_comparison_page
from sce_lab.figures.curves import Curves
from sce_lab.figures.engine import beating_spec, running_sums_spec, timelines_spec
from sce_lab.figures.fidelity import fidelity_spec
from sce_lab.figures.hypotheses import contrasts_spec, recorded_seeds_spec, seeds_spec
from sce_lab.figures.insight import insight_spec
from sce_lab.figures.language import language_curves_spec, perplexity_memory_spec, top10_perplexity_spec
from sce_lab.figures.lessons import (
    collapse_spec,
    estimates_spec,
    found_spec,
    gradient_spec,
    mass_spec,
    pushes_spec,
)
from sce_lab.figures.memory import memory_figure, memory_spec, memory_wall, memory_wall_spec
from sce_lab.figures.own_data import data_spec, intervals_spec
from sce_lab.figures.reproduction import curves_figure, live_spec, results_figure, results_spec, write_live_page
from sce_lab.figures.scaling import against_seconds_spec, ends_spec, growth_panels_spec
from sce_lab.figures.selection import overlay_spec, pareto_spec
from sce_lab.figures.style import (
    FONT,
    INK,
    LOOKS,
    TAUGHT,
    TEMPLATE,
    THEME_CSS,
    Look,
    Spec,
    brief_label,
    figure,
    label,
    look,
    narrow_label,
    nice_ceiling,
    short_label,
)
from sce_lab.figures.sweeps import heat_spec, settings_spec
from sce_lab.figures.training import METRICS, TIME_PARTS, training_figure, training_spec

__all__ = [
    "FONT",
    "INK",
    "LOOKS",
    "METRICS",
    "TAUGHT",
    "TEMPLATE",
    "THEME_CSS",
    "TIME_PARTS",
    "Curves",
    "Look",
    "Spec",
    "against_seconds_spec",
    "beating_spec",
    "brief_label",
    "collapse_spec",
    "comparison_page",
    "contrasts_spec",
    "curves_figure",
    "data_spec",
    "ends_spec",
    "estimates_spec",
    "fidelity_spec",
    "figure",
    "found_spec",
    "gradient_spec",
    "growth_panels_spec",
    "heat_spec",
    "html_page",
    "insight_spec",
    "intervals_spec",
    "label",
    "language_curves_spec",
    "live_spec",
    "look",
    "mass_spec",
    "memory_figure",
    "memory_spec",
    "memory_wall",
    "memory_wall_spec",
    "narrow_label",
    "nice_ceiling",
    "overlay_spec",
    "pareto_spec",
    "perplexity_memory_spec",
    "pushes_spec",
    "quality_memory_spec",
    "recorded_seeds_spec",
    "results_figure",
    "results_spec",
    "run_names",
    "running_sums_spec",
    "seeds_spec",
    "settings_spec",
    "short_label",
    "timelines_spec",
    "top10_perplexity_spec",
    "training_figure",
    "training_spec",
    "write_comparison_page",
    "write_live_page",
]
