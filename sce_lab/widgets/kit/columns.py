"""Lists to choose from which column of a file says who, what and when."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import traitlets

from sce_lab.data.naming import ORDER
from sce_lab.widgets.kit.own import OwnMoves

#: What each is called for people, in the order in which they are asked for.
ROLES = {"user": "Who", "item": "What", "timestamp": "When"}
_IN_ORDER = "(no column: the rows stand in order)"


class ColumnChoice(widgets.Dropdown):
    """The column that says one thing. ``value`` is its name, ``""`` if the order of the rows says when, or None.

    None is nobody's choice: then it is the column that has a usual name, if that was found, and the list says which.
    From Python any name can be set; whether a file has it is found out when it is read. Columns may be offered in one
    thread while another one chooses.

    Args:
        role: a key of :data:`ROLES`.
        value: the first choice.
        options: of the widget.
    """

    def __init__(self, role: str, value: str | None = None, **options: Any) -> None:
        self._role, self.found = role, None
        # Held while what is offered and where it points are brought together, never while others are told of a choice:
        # they have locks of their own.
        self._lock, self._own = threading.RLock(), OwnMoves()
        self.names: tuple[str, ...] = ()
        words = {"description": ROLES[role], "tooltip": ROLES[role]} | options
        super().__init__(options=self._offered(value), index=0 if value is None else None, value=value, **words)

    @property
    def meant(self) -> str | None:
        """What was chosen, else what was found; None if neither is there."""
        return self.found if self.value is None else self.value

    def offer(self, names: Sequence[str], found: str | None) -> bool:
        """Offer other columns to choose from; what is chosen stays. False if just these are offered already.

        Args:
            names: of all columns of a file.
            found: that which is meant if none is chosen, ``""`` for the order of the rows; None if it cannot be told.
        """
        with self._lock:
            self.names, self.found = tuple(names), found
            if (offered := self._offered(self.value)) == self.options:
                return False
            self.options = offered
            return True

    def _offered(self, *chosen: str | None) -> tuple[tuple[str, str | None], ...]:
        none = "choose ..." if self.found is None else _IN_ORDER if self.found == ORDER else f"{self.found} (found)"
        order = [(_IN_ORDER, ORDER)] if self._role == "timestamp" else []
        names = dict.fromkeys([*self.names, *filter(None, chosen)])
        return ((none, None), *order, *((name, name) for name in names))

    @traitlets.validate("value")
    def _validate_value(self, proposal: traitlets.Bunch) -> str | None:
        value = proposal.value
        if value is not None and not (isinstance(value, str) and (value or self._role == "timestamp")):
            raise traitlets.TraitError(f"{self.tooltip} takes the name of a column, got {value!r}")
        with self._lock:
            if value not in self._options_values:
                self.options = self._offered(self.value, value)
        return value

    # ipywidgets takes None for nothing, and the first of other options for what is chosen then

    @traitlets.observe("value")
    def _propagate_value(self, change: traitlets.Bunch) -> None:
        self._point()

    @traitlets.observe("options")
    def _propagate_options(self, change: traitlets.Bunch) -> None:
        labels, self._options_values = zip(*self._options_full)
        self.set_trait("_options_labels", labels)
        self._point()

    def _point(self) -> None:
        """To what is chosen. Meanwhile another thread may have offered what has it not, or have chosen again."""
        with self._lock:
            value = self.value
            if value not in self._options_values:
                self.options = self._offered(value)  # and that points there
                return
            index = self._options_values.index(value)
            with self._own:
                self.index, self.label = index, self._options_labels[index]

    @traitlets.observe("index")
    def _propagate_index(self, change: traitlets.Bunch) -> None:
        if not self._own:  # a person has chosen
            super()._propagate_index(change)

    @traitlets.observe("label")
    def _propagate_label(self, change: traitlets.Bunch) -> None:
        if not self._own:
            super()._propagate_label(change)
