"""What must be in sight: it is scrolled to, and what stays on top does not cover it."""

from __future__ import annotations

import anywidget
import traitlets


class Sight(anywidget.AnyWidget):
    """Stands in the head of the page: tells the style how tall that is, and shows what is ringed at every ``turn``."""

    _esm = """
    export default {
      render({ model, el }) {
        el.style.display = "none";
        let head = null;
        const watcher = new ResizeObserver(() => {
          head.closest(".sce-lab")?.style.setProperty("--sce-head", head.offsetHeight + "px");
        });
        requestAnimationFrame(() => {
          head = el.closest(".sce-head");
          if (head) watcher.observe(head);
        });
        const show = () => setTimeout(() => {  // the ring comes with a message of its own
          head?.closest(".sce-lab")?.querySelector(".sce-touch")?.scrollIntoView({ block: "nearest" });
        }, 150);
        model.on("change:turn", show);
        return () => { watcher.disconnect(); model.off("change:turn", show); };
      },
    };
    """
    turn = traitlets.Int(0).tag(sync=True)
