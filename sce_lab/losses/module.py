"""The module around a functional loss: it stores settings and calls the function."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .inputs import check_ignore_index, check_reduction

#: Arguments of a loss that belong to a batch or a model, and so to a call: they are no settings.
_OF_A_CALL = ("linear_bias", "lengths")


class LossModule(nn.Module):
    """A loss whose settings are plain attributes that may change between steps.

    A subclass names the function, ``class SCELoss(LossModule, function=scalable_cross_entropy, label="SCE")``: its
    keyword arguments are the settings, with its defaults. Tensors among them are buffers that move with the module and
    stay out of its ``state_dict``; modules (a sampler) move with it, too, and parameters (a ``logit_scale``) are its
    own. Settings named after the label are fixed.

    For people: ``label`` is its name, ``says`` one sentence, and ``dials`` are the settings that a person turns first,
    those of commands and sliders.

    Args:
        settings: keyword arguments of the function; ``check`` complains of impossible ones here and now.

    Raises:
        ValueError: a setting that the loss does not know, or a value that it refuses.
    """

    function: ClassVar[Callable[..., Tensor]]
    label: ClassVar[str]
    says: ClassVar[str]
    dials: ClassVar[tuple[str, ...]]
    fixed: ClassVar[dict[str, Any]]
    defaults: ClassVar[dict[str, Any]]
    check: ClassVar[Callable[..., None] | None]
    _statistics: ClassVar[Callable[..., Any] | None]

    def __init_subclass__(
        cls,
        function: Callable[..., Tensor],
        label: str,
        says: str = "",
        dials: tuple[str, ...] = (),
        check: Callable[..., None] | None = None,
        statistics: Callable[..., Any] | None = None,
        **fixed: Any,
    ) -> None:
        super().__init_subclass__()
        parameters = inspect.signature(function).parameters.values()
        settings = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in (*fixed, *_OF_A_CALL)]
        cls.function, cls.check = staticmethod(function), staticmethod(check) if check else None
        cls._statistics = staticmethod(statistics) if statistics else None
        cls.label, cls.says, cls.dials, cls.fixed = label, says, dials, fixed
        cls.defaults = {p.name: p.default for p in settings}
        cls.__signature__ = inspect.Signature(settings)

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        if unknown := settings.keys() - self.defaults.keys():
            known = ", ".join(self.defaults)
            raise ValueError(f"{type(self).__name__} knows no setting {', '.join(sorted(unknown))}; it knows {known}")
        for name, value in (self.defaults | settings).items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value, persistent=False)
            else:
                setattr(self, name, value)
        self.check_settings()

    @property
    def settings(self) -> dict[str, Any]:
        """What the function is called with."""
        return {name: getattr(self, name) for name in self.defaults}

    def check_settings(self) -> None:
        """Raise a ValueError that names a setting out of range and its value."""
        check_reduction(self.reduction)
        check_ignore_index(self.settings.get("ignore_index"))
        if self.check:
            self.check(**self.settings, **self.fixed)

    def forward(self, input: Tensor, linear_weight: Tensor, target: Tensor, **more: Any) -> Tensor:
        """Loss of ``input (..., D)`` against ``target (...)`` over the catalog ``linear_weight (C, D)``.

        ``more`` is what a call has: ``linear_bias``, a learned ``logit_scale``, ``lengths`` of the sequences.
        """
        return self.function(input, linear_weight, target, **{**self.settings, **self.fixed, **more})

    @property
    def wants_lengths(self) -> bool:
        """Whether a call is to say how long the sequences are whose positions stand one behind the other."""
        return self.settings.get("shared_negatives") == "sequence"

    def statistics(self, input: Tensor, linear_weight: Tensor, target: Tensor, **_: Any) -> Any:
        """What the loss of these arguments looks at, if there is a function that says it; else None.

        A generator draws for it what it will draw for the loss, which is called next.
        """
        if self._statistics is None:
            return None
        known = inspect.signature(self._statistics).parameters
        settings = {name: value for name, value in self.settings.items() if name in known}
        if self.generator is not None:
            settings["generator"] = torch.Generator(self.generator.device)
            settings["generator"].set_state(self.generator.get_state())
        return self._statistics(input, linear_weight, target, **settings)

    def extra_repr(self) -> str:
        """The settings that are not the defaults, for ``print(loss)``."""
        return ", ".join(
            f"{name}={value!r}"
            for name, value in self.settings.items()
            if not isinstance(value, Tensor | torch.Generator | nn.Module) and value != self.defaults[name]
        )
