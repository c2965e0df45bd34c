"""What a screen reader is told."""

from __future__ import annotations

import anywidget
import traitlets


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
