"""What LossBlocks says: of every loss, and of every step of SCE with its lines of the readable implementation."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass

from sce_lab.losses import scalable_cross_entropy_reference


@dataclass(frozen=True)
class Words:
    """A title, a sentence or two, a formula (HTML), a shape, and code.

    The code is the lines of the readable implementation that give the variables ``names`` their values, and ``call``.
    """

    title: str
    says: str
    formula: str
    shape: str
    names: tuple[str, ...] = ()
    call: str = ""


LOSSES = {
    "ce": Words(
        "Cross-entropy looks at everything",
        "One logit for every position and every item. Exact, and N × C numbers.",
        "ℓ<sub>n</sub> = −x<sub>n</sub>·w<sub>t</sub> + <b>log</b> Σ<sub>i</sub> "
        "<b>exp</b>(x<sub>n</sub>·w<sub>i</sub>)",
        "logits (N, C)",
        call="cross_entropy(outputs, items, target)",
    ),
    "sampled": Words(
        "Sampled softmax looks at k columns",
        "The same random items for all positions. Each logit is corrected by how often its item is expected, so that "
        "the sum over the catalog is right on average.",
        "ℓ<sub>n</sub> = −x<sub>n</sub>·w<sub>t</sub> + <b>log</b>(<b>exp</b>(x<sub>n</sub>·w<sub>t</sub>) + "
        "Σ<sub>j</sub> <b>exp</b>(x<sub>n</sub>·w<sub>j</sub> − <b>log</b> k/C))",
        "logits (N, k), and the targets (N,)",
        call="sampled_softmax(outputs, items, target, n_negatives=k)",
    ),
    "in_batch": Words(
        "In-batch negatives are the other positions' targets",
        "Nothing is drawn: the columns are the targets of the batch, and popular items are among them more often.",
        "ℓ<sub>n</sub> = −x<sub>n</sub>·w<sub>t</sub> + <b>log</b> Σ<sub>i ∈ batch</sub> "
        "<b>exp</b>(x<sub>n</sub>·w<sub>i</sub>)",
        "logits (N, distinct targets)",
        call='sampled_softmax(outputs, items, target, sampling="in_batch")',
    ),
    "sce": Words(
        "SCE looks where large logits are likely",
        "Random directions collect, each into its bucket, the positions and the items that point their way. Choose an "
        "arrow, or go through the steps.",
        "ℓ<sub>n</sub> = <b>max</b><sub>b</sub> ℓ<sub>b,n</sub> over the buckets b that took n",
        "logits (n_buckets, bucket_size_x, bucket_size_y)",
        call="scalable_cross_entropy(outputs, items, target,\n    n_buckets=n_b, bucket_size_x=b_x, bucket_size_y=b_y)",
    ),
    "rece": Words(
        "RECE looks along a diagonal",
        "Positions and items are sorted by the direction that suits them best and cut into chunks. A chunk of "
        "positions meets the items of its own chunk and of both neighbours. Nobody is left out. (One round of it.)",
        "ℓ<sub>n</sub> = −x<sub>n</sub>·w<sub>t</sub> + <b>log</b> Σ<sub>i ∈ chunks c−1, c, c+1</sub> "
        "<b>exp</b>(x<sub>n</sub>·w<sub>i</sub>)",
        "logits (n_buckets, N / n_buckets, 3 C / n_buckets)",
        call="reduced_cross_entropy(outputs, items, target, n_buckets=n_b)",
    ),
}

_SLOT = "x<sub>n</sub>·w<sub>t</sub>"
STEPS = (
    LOSSES["sce"],
    Words(
        "Draw directions",
        "Each bucket gets a random direction, its centre. With Mix it is a random sum of positions, so that it lies "
        "where they lie.",
        "B ~ N(0, 1), or B = ΩX with Ω ~ N(0, 1)",
        "B (n_buckets, D)",
        ("B",),
    ),
    Words(
        "Score",
        "How far does everything point in the direction? The scores of the chosen bucket stand along the edges of the "
        "matrix. No gradient goes through them: they only choose.",
        "B X<sup>T</sup> and B W<sup>T</sup>",
        "(n_buckets, N) and (n_buckets, C)",
        ("position_scores",),
    ),
    Words(
        "Take positions",
        "The bucket takes the positions with the largest scores: rows of the matrix.",
        "X<sub>b</sub> = <b>top</b> b<sub>x</sub> of (B X<sup>T</sup>)<sub>b</sub>",
        "rows (n_buckets, bucket_size_x)",
        ("rows",),
    ),
    Words(
        "Take items",
        "And the items with the largest scores: columns. Two vectors that both point in one direction have a large "
        "inner product, so where rows and columns cross, large logits are likely.",
        "I<sub>b</sub> = <b>top</b> b<sub>y</sub> of (B W<sup>T</sup>)<sub>b</sub>",
        "items (n_buckets, bucket_size_y)",
        ("items",),
    ),
    Words(
        "Logits, target masked",
        "Only now logits, of the rectangle alone. A position's own target is computed separately and taken out of "
        "the rectangle, so that it counts once.",
        "x<sub>n</sub>·w<sub>i</sub> for n ∈ X<sub>b</sub>, i ∈ I<sub>b</sub>, i ≠ t<sub>n</sub>",
        "logits (n_buckets, bucket_size_x, bucket_size_y)",
        ("logits", "target_logits", "is_target"),
    ),
    Words(
        "Softmax inside the bucket",
        "Cross-entropy of each position against the bucket's items and its own target. The sum over the rest of the "
        "catalog is not estimated: it is left out.",
        f"ℓ<sub>b,n</sub> = −{_SLOT} + <b>log</b>(<b>exp</b>({_SLOT}) + "
        "Σ<sub>i ∈ I<sub>b</sub></sub> <b>exp</b>(x<sub>n</sub>·w<sub>i</sub>))",
        "slot_losses (n_buckets, bucket_size_x)",
        ("all_logits", "slot_losses"),
    ),
    Words(
        "Keep the largest",
        "A position in several buckets keeps its largest loss: the bucket that found the hardest items. What it lost "
        "in the others is orange, and has no gradient. A position in no bucket is not trained in this step.",
        "ℓ<sub>n</sub> = <b>max</b><sub>b : n ∈ X<sub>b</sub></sub> ℓ<sub>b,n</sub>",
        "losses (N,)",
        ("losses", "covered"),
    ),
    Words(
        "Gradient",
        "The target is pulled up, each looked-at item is pushed down by its share of the bucket's softmax. In the "
        "plane: orange is where SCE pulls a position, grey where full cross-entropy would.",
        "∂ℓ<sub>n</sub>/∂x<sub>n</sub> = Σ<sub>i</sub> p<sub>i</sub> w<sub>i</sub> − w<sub>t</sub>",
        "gradients (N, D) and (C, D)",
        ("loss",),
        call="loss.backward()",
    ),
)


def _mark(css: str, text: str) -> str:
    return f'<i class="{css}">{text}</i>'


_RING, _GREY = _mark("sb-ring", "target"), _mark("sb-grey", "not looked at")
LEGENDS = {
    "overview": _mark("", "looked at") + _GREY + "stronger: more of the position's softmax mass "
    + _RING + _mark("sb-cross", "hardest wrong item, missed"),
    "step": _mark("", "of the bucket") + _GREY + _RING,
    "largest": _mark("", "keeps its loss") + _mark("sb-orange", "a smaller loss, dropped") + _RING,
    "gradient": _mark("", "pulled up") + _mark("sb-orange", "pushed down") + "nothing else is touched " + _RING,
    "plane": _mark("sb-dot", "position") + _mark("", "item") + _mark("sb-arrow", "direction of a bucket (click)")
    + _mark("sb-grey sb-dot", "in no bucket"),
    "points": _mark("sb-dot", "position") + _mark("", "item") + _mark("sb-grey", "item not looked at"),
    "pulls": _mark("sb-orange", "pull of SCE") + _mark("sb-grey", "pull of cross-entropy")
    + _mark("sb-dot", "position"),
}  # fmt: skip


def lines_of(names: tuple[str, ...]) -> str:
    """The lines of the readable implementation that give these variables their values."""
    source = textwrap.dedent(inspect.getsource(scalable_cross_entropy_reference))
    lines, found = source.splitlines(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id in names for t in node.targets):
            found |= set(range(node.lineno - 1, node.end_lineno))
    return textwrap.dedent("\n".join(lines[at].split("  # ")[0].rstrip() for at in sorted(found)))


def texts() -> dict[str, object]:
    """All of it, as a page is sent it."""

    def said(words: Words) -> dict[str, str]:
        shown = {name: value for name, value in vars(words).items() if name not in ("names", "call")}
        return {**shown, "code": "\n".join(filter(None, (lines_of(words.names), words.call)))}

    return {"losses": {k: said(w) for k, w in LOSSES.items()}, "steps": [said(w) for w in STEPS], "legends": LEGENDS}
