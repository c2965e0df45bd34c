"""Losses with settings that somebody published."""

from typing import Any, NamedTuple


class Preset(NamedTuple):
    """A loss of the registry, its settings, and where they are from."""

    loss: str
    settings: dict[str, Any]
    source: str


_GSASREC = "Petrov and Macdonald, gSASRec, RecSys 2023, arXiv 2308.07192: 256 negatives a position"
_SCE = "Mezentsev et al., SCE, RecSys 2024, arXiv 2409.18721, section 4"
_RECE = "Gusak et al., RECE, CIKM 2024, arXiv 2408.02354: the configuration of its repository"

#: By name, for :func:`sce_lab.losses.make_loss`. Settings that a paper searches for have a value of its grid here.
PRESETS = {
    "gsasrec": Preset("bce", {"n_negatives": 256, "calibration": 0.75}, _GSASREC),
    "gbce_0.9": Preset("bce", {"n_negatives": 256, "calibration": 0.9}, f"{_GSASREC}; t of {_SCE}"),
    "bce_plus": Preset(
        "bce", {"n_negatives": 256, "shared_negatives": "sequence"}, f"{_SCE}: 1 to 4,096 for a user's sequence"
    ),
    "ce_minus_sequence": Preset(
        "ce_minus", {"n_negatives": 256, "shared_negatives": "sequence"}, f"{_SCE}: 1 to 4,096 for a user's sequence"
    ),
    "rece_gowalla": Preset("rece", {"n_buckets": 583, "n_extra_chunks": 3, "n_rounds": 8}, _RECE),
    "rece_beauty": Preset("rece", {"n_buckets": 907, "n_extra_chunks": 8, "n_rounds": 64}, _RECE),
}
