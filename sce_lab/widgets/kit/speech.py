"""The sentence on what is going on, as it is seen and as a screen reader says it."""

from __future__ import annotations

import html
import re

import anywidget
import traitlets

from sce_lab.widgets.kit.stage import text


class Speech(anywidget.AnyWidget):
    """A live region: whenever ``sentence`` changes, a screen reader says it when it is done with what it says.

    It stands apart from what is seen, since one that is replaced with its text is not listened to.
    """

    _esm = """
    export default {
      render({ model, el }) {
        el.classList.add("sce-speech");
        el.setAttribute("role", "status");
        el.setAttribute("aria-live", "polite");
        const show = () => { el.textContent = model.get("sentence"); };
        model.on("change:sentence", show);
        show();
      },
    };
    """
    sentence = traitlets.Unicode("").tag(sync=True)


class Status:
    """A sentence beside buttons. ``widgets`` are to stand in one box.

    Attributes:
        seen: what stands there, as HTML.
        speech: what is spoken.
    """

    def __init__(self) -> None:
        self.seen, self.speech = text("", "sce-status"), Speech()
        self.widgets = (self.seen, self.speech)

    def say(self, sentence: str, css_class: str = "", share: float | None = None, *, aloud: bool = True) -> None:
        """Show ``sentence``, which is HTML, and the share that is done; what changes all the time is not for ears."""
        if aloud:
            self.speech.sentence = html.unescape(re.sub(r"<[^>]+>", "", sentence))
        css = f' class="{css_class}"' if css_class else ""
        bar = "" if share is None else f'<div class="sce-progress"><div style="width: {share:.1%}"></div></div>'
        self.seen.value = f'<div class="sce-status-text"><div{css}>{sentence}</div></div>{bar}'
