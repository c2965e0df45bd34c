"""Controls that are not shown, for a class or a talk; and a state that comes with the page's address."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import anywidget
import traitlets

from sce_lab.widgets.playground.controls import CARDS, CONTROLS
from sce_lab.widgets.playground.settings import Settings, parse

#: The word in a state, beside the settings.
HIDE = "hide"


def checked(names: str | Iterable[str]) -> tuple[str, ...]:
    """Names of controls and of whole cards, as a list or as text with commas.

    Raises:
        ValueError: there is none of a name.
    """
    given = names.split(",") if isinstance(names, str) else list(names)
    wanted = [str(name).strip() for name in given if str(name).strip()]
    if unknown := [name for name in wanted if name not in (*CARDS, *CONTROLS)]:
        raise ValueError(
            f"{HIDE} takes cards ({', '.join(CARDS)}) and controls ({', '.join(CONTROLS)}), got {unknown[0]!r}"
        )
    return tuple(dict.fromkeys(wanted))


def controls_of(names: Iterable[str]) -> set[str]:
    """The controls that are meant, those of cards one by one."""
    return {control for name in names for control in (CARDS[name][1] if name in CARDS else (name,))}


def taken_apart(state: str | Mapping[str, Any]) -> tuple[Any, tuple[str, ...] | None]:
    """The settings of a state, and what it hides: None if it does not say.

    Raises:
        ValueError: it is no state, or hides what is not there.
    """
    state = parse(state) if isinstance(state, str) and state.strip() else state
    if not isinstance(state, Mapping) or HIDE not in state:
        return state, None
    names = state[HIDE]
    if not isinstance(names, str | list | tuple):
        raise ValueError(f"{HIDE} takes a list of names, got {names!r:.40}")
    return {name: value for name, value in state.items() if name != HIDE}, checked(names)


def line(settings: Settings, hidden: tuple[str, ...]) -> str:
    """The whole state on one line: the settings and what is hidden."""
    whole = json.loads(settings.line())
    return json.dumps(whole | {HIDE: list(hidden)}) if hidden else settings.line()


class Address(anywidget.AnyWidget):
    """``line`` becomes what stands behind ``?state=`` in the address that the page was opened with, if anything does.

    JupyterLab rewrites the address while it starts; what was asked for first the browser still knows.
    """

    _esm = """
    export default {
      render({ model, el }) {
        el.style.display = "none";
        const first = performance.getEntriesByType("navigation")[0]?.name ?? location.href;
        const state = new URL(first).searchParams.get("state");
        if (!state || model.get("line")) return;
        model.set("line", state);
        model.save_changes();
      },
    };
    """
    line = traitlets.Unicode("").tag(sync=True)
