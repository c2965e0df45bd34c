"""The heading of a card, which folds the card up and opens it again."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets


class Fold(anywidget.AnyWidget):
    """A button with the card's title. It works in the page alone; the kernel hears of it.

    Attributes:
        unfolded: is what the card holds in sight?
    """

    _esm = """
    export default {
      render({ model, el }) {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "sce-heading sce-fold";
        button.textContent = model.get("title");
        const show = () => {
          button.setAttribute("aria-expanded", model.get("unfolded"));
          el.closest(".sce-card")?.classList.toggle("sce-folded", !model.get("unfolded"));
        };
        button.onclick = () => { model.set("unfolded", !model.get("unfolded")); model.save_changes(); };
        model.on("change:unfolded", show);
        el.append(button);
        show();
        requestAnimationFrame(show);  // it may not stand in its card yet
        return () => model.off("change:unfolded", show);
      },
    };
    """
    _css = (Path(__file__).parent / "playground.css").read_text(encoding="utf-8")
    title = traitlets.Unicode("").tag(sync=True)
    unfolded = traitlets.Bool(True).tag(sync=True)
