"""Small pictures for text and tables, and the lines that explain what a figure's colours mean."""

from __future__ import annotations

from collections.abc import Iterable

from sce_lab.figures import LOOKS, label, look


def swatch(loss: str) -> str:
    """The loss's line and marker."""
    style = look(loss)
    dashes = {"dash": "6 3", "longdash": "7 2", "dot": "2 2", "longdashdot": "5 2 1.5 2", "dashdot": "4 2 1 2"}
    dash = dashes.get(style.dash, "none")
    marker = {
        "square": '<rect x="9" y="2" width="8" height="8"/>',
        "diamond": '<path d="M13 0.5 L18.5 6 L13 11.5 L7.5 6 Z"/>',
        "triangle-up": '<path d="M13 1 L18 10 L8 10 Z"/>',
        "triangle-down": '<path d="M8 2 L18 2 L13 11 Z"/>',
        "star": '<path d="M13 0 L15 4 L19 4.5 L16 7.5 L17 12 L13 9.5 L9 12 L10 7.5 L7 4.5 L11 4 Z"/>',
        "x": '<path d="M9 2 L13 5 L17 2 L18 3 L15 6 L18 9 L17 10 L13 7 L9 10 L8 9 L11 6 L8 3 Z"/>',
        "cross": '<path d="M11 1.5h4v2.5h2.5v4H15v2.5h-4V8H8.5V4H11Z"/>',
    }.get(style.symbol, '<circle cx="13" cy="6" r="4.2"/>')
    return (
        f'<svg width="26" height="12" fill="{style.color}" style="margin-right: 6px" aria-hidden="true">'
        f'<line x1="0" x2="26" y1="6" y2="6" stroke="{style.color}" stroke-width="2" stroke-dasharray="{dash}"/>'
        f"{marker}</svg>"
    )


def losses_key(losses: Iterable[str], *more: str) -> str:
    """What lines and marks of these losses look like, and further remarks."""
    spans = [f"{swatch(loss)}{label(loss)}" for loss in losses]
    return '<div class="sce-caption">' + "".join(f"<span>{each}</span>" for each in (*spans, *more)) + "</div>"


def _patch(fill: str, extra: str = "") -> str:
    square = f'<rect width="12" height="12" rx="2" fill="{fill}"/>'
    return f'<svg width="12" height="12" aria-hidden="true">{square}{extra}</svg>'


_STRIPES = '<path d="M-2 8 L8 -2 M0 14 L14 0 M6 16 L16 6" stroke="white" stroke-opacity="0.75" stroke-width="2"/>'
MEMORY_KEY = (
    '<div class="sce-caption">'
    f"<span>{_patch('#808182b3')}weights, gradients, Adam</span><span>{_patch('#80818259')}encoder</span>"
    f"<span>{''.join(_patch(each.color) for each in LOOKS.values())}the loss</span>"
    '<span><svg width="14" height="12"><rect x="1" y="1" width="12" height="10" fill="none" stroke="currentColor" '
    'stroke-dasharray="2 2"/></svg>before the last change</span>'
    '<span><svg width="12" height="12"><path d="M6 1 L11 6 L6 11 L1 6 Z" fill="white" stroke="black"/></svg>'
    "measured while training</span></div>"
)


def training_key(losses: Iterable[str]) -> str:
    """What a figure of trainings with these losses shows."""
    return losses_key(
        losses,
        f"{_patch(LOOKS['sce'].color, _STRIPES)}forward",
        f"{_patch(LOOKS['sce'].color)}backward",
        f"{_patch('#808182b3')}encoder, Adam",
        "Training losses have scales of their own; HR and NDCG can be compared, and dotted is the best possible.",
    )


INSIGHT_KEY = (
    '<div class="sce-help-text"><b>Coverage</b> (solid): the share of positions that are in a bucket of SCE. '
    "<b>Captured mass</b> (dotted): the share of such a position's softmax that the items of its bucket hold. It "
    "compares ways to look at one model, not models: after a collapse it is higher, and the quality half. Page 04 "
    "shows why.</div>"
)
