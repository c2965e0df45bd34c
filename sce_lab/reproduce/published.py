"""Results that others published on the data sets the lab reproduces. Typed once, here, each with its source."""

from __future__ import annotations

from dataclasses import dataclass, field

NOT_RECORDED = "not recorded"
SCE_PAPER = "Mezentsev et al., RecSys 2024, arXiv 2409.18721"
CCE_PAPER = "arXiv 2509.09682, github.com/On-Point-RND/MemoryEfficientSRS"
FICLREC = "github.com/syf1844803351/FICLRec"
ESASREC = "github.com/blondered/transformer_benchmark"


@dataclass(frozen=True)
class Published:
    """One row of somebody's table.

    Attributes:
        dataset: a key of :data:`sce_lab.data.DATASETS`, or the name of a data set that the lab does not load.
        model: what was trained, as its authors call it.
        metrics: test metrics by the names of :func:`sce_lab.metrics.ranking_metrics`; what is missing is not known.
        source: where the numbers stand.
        file: the file or table there.
        commit: of a repository, the state that was read.
        note: what a reader should know before comparing with it.
    """

    dataset: str
    model: str
    metrics: dict[str, float] = field(hash=False)
    source: str
    file: str = NOT_RECORDED
    commit: str = NOT_RECORDED
    note: str = ""


def _cce(dataset: str, loss: str, ndcg: float, note: str = "") -> Published:
    """A row of the paper on CCE-; what stands in its repository, too, is given with the file and commit."""
    where = ("README.md", "26b6170579c0e9a1edf7f559e69e985fe0607fba") if loss == "CCE-" else ()
    return Published(dataset, f"SASRec, {loss}", {"NDCG@10": ndcg}, CCE_PAPER, *where, note=note or _CCE_NOTE)


_CCE_NOTE = "data and protocol of that paper, not those of the lab"
_ITS_SCE = f"SCE as they ran it; {_CCE_NOTE}"

PUBLISHED = (
    Published("amazon_beauty", "SASRec-SCE", {"HR@10": 0.0935, "NDCG@10": 0.0544}, SCE_PAPER),
    Published(
        "amazon_beauty",
        "SASRec, sampled softmax (256 negatives)",
        {"HR@10": 0.0921, "NDCG@10": 0.0531},
        ESASREC,
        "README.md",
        "b558c2ce8d5ab4610ee3335d71e548c4f08c282e",
    ),
    Published(
        "amazon_beauty",
        "eSASRec",
        {"HR@10": 0.0928, "NDCG@10": 0.0523},
        ESASREC,
        "README.md",
        "b558c2ce8d5ab4610ee3335d71e548c4f08c282e",
        "called uSASRec in that state of the file",
    ),
    Published(
        "amazon_beauty",
        "BSARec",
        {"HR@10": 0.1008, "NDCG@10": 0.0611},
        "github.com/yehjin-shin/BSARec",
        "src/output/BSARec_Beauty_best.log",
        "34036fdc8df8bdbccb896ec7f68d3ded016c328d",
    ),
    Published(
        "amazon_beauty",
        "BSARec, as run for FICLRec",
        {"HR@10": 0.0987, "NDCG@10": 0.0595},
        FICLREC,
        "performances.md",
        "141f50a38d388ad2e9e0ec0b42dc6afc2d793c33",
        "the same model in somebody else's table",
    ),
    Published(
        "amazon_beauty",
        "FICLRec",
        {"HR@10": 0.1007, "NDCG@10": 0.0606},
        FICLREC,
        "README.md",
        "62a841118b9b8246d3653689c3ab2240bfae6630",
    ),
    Published(
        "amazon_beauty",
        "TV-Rec",
        {"HR@10": 0.1017, "NDCG@10": 0.0608},
        "github.com/yehjin-shin/TV-Rec",
        "output/TVRec_Beauty_best.log",
        "0ed874e9791c58bf8ad3715208e4d4e3ece19381",
    ),
    Published(
        "amazon_beauty",
        "WEARec",
        {"HR@10": 0.1041, "NDCG@10": 0.0614},
        "github.com/xhy963319431/WEARec",
        "src/output/WEARec_K_50_Beauty_0.5_0.0005_0.2_8.log",
        "22aa27fe9ae21c5704101ec0c2aa4c8197c3e520",
        "chosen on test",
    ),
    Published("amazon_beauty", "KERec", {"HR@10": 0.1050, "NDCG@10": 0.0623}, "repository of KERec", "README"),
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
    _cce("gowalla", "CCE-", 0.0279),
    _cce("gowalla", "SCE (lowest of several)", 0.0205, _ITS_SCE),
    _cce("gowalla", "SCE (highest of several)", 0.0222, _ITS_SCE),
    _cce("30music", "CCE-", 0.1436),
    _cce("30music", "SCE", 0.1218, _ITS_SCE),
    _cce("movielens_20m", "CCE-", 0.0523),
    _cce("movielens_20m", "SCE", 0.0477, _ITS_SCE),
    _cce("zvuk", "CCE-", 0.0852),
    _cce("zvuk", "SCE", 0.0879, _ITS_SCE),
)
