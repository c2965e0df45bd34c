"""Random numbers from torch's own generators, or from one of the caller's."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def draw(
    make: Callable[..., Tensor],
    *arguments: Any,
    device: torch.device,
    generator: torch.Generator | None,
    **options: Any,
) -> Tensor:
    """``make(*arguments)``, such as ``torch.rand``, on the device; drawn where the generator is, if there is one.

    Raises:
        RuntimeError: the draw would be repeated, but could not come out the same. ``torch.utils.checkpoint`` runs the
            forward pass again within the backward pass. It restores torch's own generators before, and knows of no
            other: the gradient would be that of another draw.
    """
    if generator is None:
        return make(*arguments, device=device, **options)
    if torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            "a loss with a generator of its own ran again within a backward pass (torch.utils.checkpoint?), where it "
            "would draw something else than before; leave the generator out there, or call the loss outside"
        )
    drawn = make(*arguments, device=generator.device, generator=generator, **options)
    return drawn.to(device, non_blocking=True)  # a GPU is not waited for
