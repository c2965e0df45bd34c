"""The heads of well-known language models: what a loss takes there, predicted, and what others have measured."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import torch

from sce_lab.losses import LOSSES, make_loss
from sce_lab.memory.live import largest_workspace, stored_bytes
from sce_lab.memory.predict import one_at_a_time
from sce_lab.memory.shapes import shapes_only

#: Number formats of hidden states and table.
FORMATS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Head:
    """The last matrix of a language model.

    Attributes:
        name: of the model.
        vocabulary: rows V of the table.
        hidden_size: numbers D of each.
        softcap: of the logits, if they have one.
        source: where these numbers stand.
    """

    name: str
    vocabulary: int
    hidden_size: int
    softcap: float | None
    source: str


_TRANSFORMERS = "transformers 5.24.0, defaults of "
HEADS = {
    "gpt2": Head("GPT-2", 50_257, 768, None, f"{_TRANSFORMERS}GPT2Config"),
    "qwen2_5_half": Head(
        "Qwen2.5, 0.5B",
        151_936,
        896,
        None,
        "config.json of the model, as kept in github.com/rwth-i6/i6_experiments, "
        "users/juanola/experiments/e25_11_13_ctc/configurations/qwen2/qwen2_configs.py",
    ),
    "gemma_2": Head("Gemma 2, 2B", 256_000, 2_304, 30.0, f"{_TRANSFORMERS}Gemma2Config"),
    "gpt_oss": Head("gpt-oss", 201_088, 2_880, None, f"{_TRANSFORMERS}GptOssConfig"),
    "llama_3": Head(
        "Llama 3, 8B",
        128_256,
        4_096,
        None,
        "config.json of Llama 3.1, as kept in github.com/citsjtu2020/LLM-Prof, sglang/Model_Config.md",
    ),
    "command_r": Head("Command R", 256_000, 8_192, None, f"{_TRANSFORMERS}CohereConfig"),
}


@dataclass(frozen=True)
class HeadUse:
    """Bytes of the loss of one step, forward and backward, the layers below left out.

    Attributes:
        inputs: hidden states and the table.
        gradients: theirs.
        workspace: the most the loss held at once beyond them.
        peak: the most alive at once beyond the inputs.
    """

    inputs: int
    gradients: int
    workspace: int
    peak: int

    @property
    def total(self) -> int:
        """With the inputs: what a device has to have for it."""
        return self.inputs + self.peak


def predict_head(
    head: Head, loss: str, n_tokens: int, *, dtype: str = "bfloat16", frozen: bool = False, **settings: Any
) -> HeadUse:
    """What ``loss`` would take on this head, without allocating any of it: as PyTorch on a CPU computes it.

    The loss itself runs on tensors without content, as :func:`sce_lab.memory.predict_memory` does it with a whole step.
    For SCE it is the most there can be. A soft-cap that the head has is computed, by losses that take one.

    Args:
        head: one of :data:`HEADS`, or another.
        loss: a name in :data:`sce_lab.losses.LOSSES`.
        n_tokens: hidden states of a step, N.
        dtype: of hidden states and table, a key of :data:`FORMATS`.
        frozen: the table is not trained, as under LoRA: it has no gradient.
        settings: of the loss.

    Raises:
        ValueError: ``n_tokens`` is below 1, a format that is not known, or settings that the loss refuses.
    """
    if n_tokens < 1:
        raise ValueError(f"n_tokens must be at least 1, got {n_tokens}")
    if dtype not in FORMATS:
        raise ValueError(f"dtype must be one of {', '.join(FORMATS)}, got {dtype!r}")
    if head.softcap is not None and "softcap" in LOSSES[loss].defaults:
        settings = {"softcap": head.softcap} | settings
    return _predict(head.vocabulary, head.hidden_size, loss, n_tokens, dtype, frozen, json.dumps(settings))


@functools.lru_cache(maxsize=1024)
def _predict(V: int, D: int, loss: str, N: int, dtype: str, frozen: bool, settings: str) -> HeadUse:
    with one_at_a_time, shapes_only("cpu", dropout=False) as (device, counter):
        with torch.device(device):
            hidden = torch.empty(N, D, dtype=FORMATS[dtype], requires_grad=True)
            table = torch.empty(V, D, dtype=FORMATS[dtype], requires_grad=not frozen)
            target = torch.empty(N, dtype=torch.int64)
            module = make_loss(loss, **json.loads(settings))
        counter.know([hidden, table, target])
        with counter:
            module(hidden, table, target).backward()
        inputs, gradients = stored_bytes([hidden, table]), stored_bytes([hidden.grad, table.grad])
        return HeadUse(inputs, gradients, largest_workspace(counter.log), counter.peak)


@dataclass(frozen=True)
class PublishedHead:
    """What somebody measured for the loss of one step, forward and backward, on a GPU.

    Attributes:
        head: a key of :data:`HEADS`.
        n_tokens: hidden states of the step.
        what: who computed it.
        nbytes: the most that was allocated at once; ``with_inputs`` says whether hidden states and table are among it.
        held: whether the logits are held; else they are never whole. All of them are exact cross-entropy.
        source, file, commit: where the number stands.
    """

    head: str
    n_tokens: int
    what: str
    nbytes: int
    with_inputs: bool
    held: bool
    source: str
    file: str
    commit: str


_MIB = 2**20
_CCE = ("github.com/apple/ml-cross-entropy", "README.md", "d42911f9b1a1f98289bb601c35c8151562603d74")
_LIGER = (
    "github.com/linkedin/Liger-Kernel",
    "benchmark/data/all_benchmark_data.csv",
    "ead96b618e5c67bddc6a6e9bcb99bfe6b5ab661c",
)
#: All of an A100 with 80 GB, bfloat16. Those of cut-cross-entropy are the "expected output" of its benchmark, whose
#: default is 8,192 tokens (benchmark/data/models.py); its MB and Liger's are 2**20 bytes (benchmark/memory.py,
#: benchmark/scripts/utils.py).
PUBLISHED_HEADS = (
    PublishedHead("gemma_2", 8_192, "PyTorch (baseline)", 28_000 * _MIB, False, True, *_CCE),
    PublishedHead("gemma_2", 8_192, "torch.compile", round(16_000.1 * _MIB), False, True, *_CCE),
    PublishedHead("gemma_2", 8_192, "cut-cross-entropy", 1_164 * _MIB, False, False, *_CCE),
    PublishedHead("llama_3", 8_192, "PyTorch", round(9_162.3134765625 * _MIB), True, True, *_LIGER),
    PublishedHead("llama_3", 8_192, "Liger 0.4.2", round(4_466.9697265625 * _MIB), True, False, *_LIGER),
    PublishedHead("llama_3", 32_768, "PyTorch", round(27_582.5 * _MIB), True, True, *_LIGER),
    PublishedHead("llama_3", 32_768, "Liger 0.4.2", round(5_794.6259765625 * _MIB), True, False, *_LIGER),
)
