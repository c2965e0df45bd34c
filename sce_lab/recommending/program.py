"""The encoder as a program of PyTorch's own: ``torch.export``. It runs without a line of this lab."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sce_lab.data.batches import Packed
from sce_lab.model import SASRec
from sce_lab.training import TrainingConfig, make_model

_PICKLED = "data/sample_inputs/"  # where an archive of torch.export keeps example inputs: none are needed

_FEWEST = 3  # positions in a program: what can only be 1 or 2 is no length of its own to torch.export


class _AfterHistory(nn.Module):
    """``embedded`` ``(length, D)``, rows of the item table, to the encoder's last output ``(D,)``."""

    def __init__(self, encoder: SASRec) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, embedded: Tensor) -> Tensor:
        length, longest = embedded.shape[0], self.encoder.position_embedding.shape[0]
        positions = torch.arange(longest - length, longest)
        return self.encoder(Packed(positions, positions, ((1, length),)), embedded)[-1]


def encoder_program(config: TrainingConfig, model: SASRec) -> ExportedProgram:
    """The encoder of ``model`` without its item table: ``(length, D) -> (D,)`` for any length from 1 to ``max_length``.

    Its input are the rows of the item table of a history, oldest first; the inner product of its output with a row of
    the table is that item's score.
    """
    alone = make_model(config, 1)
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "item_embedding"}
    alone.load_state_dict(weights | {"item_embedding": alone.item_embedding[:1]})
    positions = F.pad(alone.position_embedding, (0, 0, max(0, _FEWEST - config.max_length), 0))  # before the first one
    alone.position_embedding = nn.Parameter(positions)
    example = torch.zeros(2, config.hidden_size, dtype=positions.dtype)
    lengths = Dim("length", min=1, max=len(positions))
    with torch.no_grad():
        return torch.export.export(_AfterHistory(alone.eval()), (example,), dynamic_shapes=({0: lengths},))


def save_program(program: ExportedProgram, path: str | os.PathLike[str]) -> None:
    """Write a program for ``torch.export.load``, without the pickled example inputs that torch puts beside it.

    Weights in such an archive are plain bytes and the graph is JSON; with the examples gone, nothing is unpickled when
    it is loaded.
    """
    path = Path(path)
    torch.export.save(program, path)
    with zipfile.ZipFile(path) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            archive.writestr(name, b"" if _PICKLED in name else content)
