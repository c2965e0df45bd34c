"""Results that others published on the data sets the lab reproduces. Typed once, here, each with its source."""

from __future__ import annotations

from dataclasses import dataclass, field

SCE_PAPER = "Mezentsev et al., RecSys 2024, arXiv 2409.18721"


@dataclass(frozen=True)
class Published:
    """One row of somebody's table.

    Attributes:
        dataset: a key of :data:`sce_lab.data.DATASETS`.
        model: what was trained, as its authors call it.
        metrics: test metrics by the names of :func:`sce_lab.metrics.ranking_metrics`; what is missing is not known.
        source: where the numbers stand.
    """

    dataset: str
    model: str
    metrics: dict[str, float] = field(hash=False)
    source: str


PUBLISHED = (
    Published("amazon_beauty", "SASRec-SCE", {"HR@10": 0.0935, "NDCG@10": 0.0544}, SCE_PAPER),
    Published(
        "amazon_beauty",
        "SASRec, sampled softmax (256 negatives)",
        {"HR@10": 0.0921, "NDCG@10": 0.0531},
        "README of eSASRec",
    ),
    Published("amazon_beauty", "BSARec", {"HR@10": 0.1008, "NDCG@10": 0.0611}, "training log shipped with BSARec"),
    Published("amazon_beauty", "KERec", {"HR@10": 0.1050, "NDCG@10": 0.0623}, "README of KERec"),
    Published(
        "behance",
        "SASRec-SCE",
        {
            "HR@5": 0.0853,
            "HR@10": 0.113,
            "NDCG@1": 0.0277,
            "NDCG@5": 0.0572,
            "NDCG@10": 0.0663,
            "COV@1": 0.0393,
            "COV@10": 0.25,
        },
        SCE_PAPER,
    ),
    Published(
        "gowalla",
        "SASRec-SCE",
        {
            "HR@5": 0.0574,
            "HR@10": 0.0831,
            "NDCG@1": 0.0207,
            "NDCG@5": 0.0393,
            "NDCG@10": 0.0476,
            "COV@1": 0.0304,
            "COV@5": 0.126,
            "COV@10": 0.219,
        },
        SCE_PAPER,
    ),
)
