"""The lab's style sheet, for widgets in a page of any theme."""

from __future__ import annotations

from sce_lab.figures import FONT, LOOKS, THEME_CSS

# The variables are JupyterLab's, with values for pages that do not define them.
CSS = (
    f"""
.sce-lab {{
  --sce-ink: var(--jp-ui-font-color1, #222);
  --sce-soft: var(--jp-ui-font-color2, #666);
  --sce-edge: var(--jp-border-color2, #ccc);
  --sce-fill: var(--jp-layout-color2, #f3f3f3);
  --sce-accent: #009e73;
  --sce-warn: #c77700;
  --sce-stop: #d5400e;
  font-family: {FONT};
  color: var(--sce-ink);
}}
[data-jp-theme-light="false"] .sce-lab {{ --sce-warn: #f0a830; --sce-stop: #ff7a4d; }}
body {{ --sce-ink: var(--jp-ui-font-color1, #222); }}
"""
    + THEME_CSS
    + """
.sce-lab .widget-html-content, .sce-lab .widget-html > div { line-height: 1.4; }
.sce-plot { width: 100%; margin: 0; overflow: hidden; }

/* Notebook 7 puts every tall output into a small box with a scroll bar of its own */
[data-notebook="notebooks"] .sce-cell.jp-mod-outputsScrolled .jp-Cell-outputArea {
  max-height: none; overflow: visible; box-shadow: none; resize: none;
}

/* transport: the buttons and what is going on */
.sce-bar { align-items: center; gap: 6px; flex-flow: row wrap; padding-bottom: 6px; }
.sce-bar .jupyter-button { border-radius: 6px; width: auto; min-width: 84px; margin: 0; }
.sce-bar .jupyter-button.sce-primary { background: var(--sce-accent); color: white; font-weight: 600; }
.sce-bar .jupyter-button:disabled { opacity: 0.38; }
.sce-bar .sce-status { flex: 1 1 280px; min-width: 0; margin: 0 0 0 8px; }
.sce-status-text {
  font-size: 13px; line-height: 18px; height: 36px; overflow: hidden auto; display: flex; align-items: center;
  overflow-wrap: anywhere;
}
.sce-status-text > div { margin: auto 0; }
.sce-progress { height: 4px; border-radius: 2px; background: var(--sce-fill); overflow: hidden; }
.sce-progress > div { height: 100%; background: var(--sce-accent); }

.sce-speech { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }

/* cards of controls; the sentence of help of the control under the pointer or the keyboard stands at their foot */
.sce-cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(182px, 1fr)); gap: 8px; overflow: visible; }
.sce-cards, .sce-card, .sce-control, .sce-control > * { position: static !important; }
.sce-card {
  border: 1px solid var(--sce-edge); border-radius: 8px; padding: 8px 10px 6px; overflow: visible; margin: 0;
  min-width: 0;
}
.sce-card > * { width: auto; margin-left: 0; margin-right: 0; }
.sce-heading {
  font-weight: 600; font-size: 12px; letter-spacing: 0.04em; text-transform: uppercase; color: var(--sce-soft);
}
.sce-control { margin: 0; overflow: visible; }
.sce-control > * { width: auto; margin: 1px 0; }
.sce-slider {
  display: grid; grid-template-columns: 1fr auto; grid-template-areas: "label field" "handle handle" "refusal refusal";
  align-items: center; font-size: var(--jp-widgets-font-size, 13px);
}
.sce-slider > .widget-label {
  grid-area: label; text-align: left; width: auto; height: 20px; line-height: 20px; color: var(--sce-ink);
}
.sce-slider > input { color: var(--sce-ink); accent-color: var(--jp-brand-color1, #1976d2); box-sizing: border-box; }
.sce-slider > input[type="range"] { grid-area: handle; width: 100%; height: 18px; margin: 0; }
.sce-slider > input[type="text"] {
  grid-area: field; font: inherit; font-weight: 600; text-align: right; height: 20px; padding: 0 2px; max-width: 100%;
  background: none; border: 1px solid transparent; border-radius: 3px;
}
.sce-slider > input[type="text"]:hover:enabled, .sce-slider > input[type="text"]:focus {
  border-color: var(--sce-edge); outline: none;
}
.sce-slider > input[type="text"]:focus { border-color: var(--sce-accent); }
.sce-slider > input[type="range"]:focus-visible { outline: 2px solid var(--sce-accent); border-radius: 4px; }
.sce-slider > input:disabled { opacity: 0.5; }
.sce-refusal { grid-area: refusal; color: var(--sce-stop); font-size: 12px; line-height: 16px; white-space: normal; }
.sce-sub { font-size: 75%; vertical-align: -0.3em; line-height: 0; }
.sce-control .widget-label { width: auto; min-width: 0; text-align: left; height: 20px; line-height: 20px; }
.sce-control .widget-dropdown, .sce-control .widget-text { flex-flow: column; height: auto; align-items: stretch; }
.sce-control .widget-dropdown > select, .sce-control .widget-text > input { flex: 0 0 28px; width: 100%; }
.sce-control .widget-checkbox { width: 100%; }
.sce-losses { gap: 3px; overflow: visible; }
"""
    + "\n".join(
        f".sce-losses > .widget-toggle-button:nth-child({n + 1}) {{ --sce-loss: {look.color}; }}"
        for n, look in enumerate(LOOKS.values())
    )
    + """
.sce-losses > .widget-toggle-button {
  width: 100%; margin: 0; text-align: left; height: 26px; line-height: 24px; border-radius: 6px; box-shadow: none;
}
.sce-losses > .widget-toggle-button::before {
  content: ""; display: inline-block; width: 9px; height: 9px; margin-right: 8px; border-radius: 3px;
  border: 2px solid var(--sce-loss); vertical-align: -1px;
}
.sce-losses > .widget-toggle-button.mod-active {
  box-shadow: inset 0 0 0 2px var(--sce-loss); background: var(--sce-fill); color: var(--sce-ink); font-weight: 600;
}
.sce-losses > .widget-toggle-button.mod-active::before { background: var(--sce-loss); }
.sce-later .widget-label::after, .sce-later .sce-losses::after {
  content: " next start"; font-size: 11px; font-weight: 600; color: var(--sce-warn); margin-left: 6px;
}
.sce-aside { opacity: 0.55; }
.sce-aside:hover, .sce-aside:focus-within { opacity: 1; }
.sce-help {
  position: absolute !important; left: 0; right: 0; bottom: 0; height: 38px; visibility: hidden; margin: 0 !important;
  overflow: hidden;
}
.sce-control:hover > .sce-help, .sce-control:focus-within > .sce-help { visibility: visible; }
.sce-deck:hover .sce-control:focus-within:not(:hover) > .sce-help { visibility: hidden; }
.sce-deck:has(.sce-control:hover) > .sce-hint, .sce-deck:has(.sce-control:focus-within) > .sce-hint {
  visibility: hidden;
}
.sce-hint { position: absolute !important; left: 0; right: 0; bottom: 0; height: 38px; margin: 0; }
.sce-help-text { font-size: 12.5px; line-height: 17px; color: var(--sce-soft); padding: 3px 4px; }
.sce-help-text b { color: var(--sce-ink); }

/* notes at the foot of a card: what the settings come to, or what is wrong with them */
.sce-note { margin-top: auto !important; }
.sce-note-text {
  font-size: 12px; color: var(--sce-soft); min-height: 38px; border-top: 1px solid var(--sce-edge); padding-top: 4px;
  max-height: 72px; overflow: hidden auto; overflow-wrap: anywhere;
}
.sce-note, .sce-note .widget-html-content { min-width: 0; overflow: hidden; }
.sce-lab .sce-warning { color: var(--sce-warn); }
.sce-lab .sce-problem { color: var(--sce-stop); font-weight: 500; }
.sce-caption { font-size: 12px; color: var(--sce-soft); display: flex; flex-wrap: wrap; gap: 4px 18px; }
.sce-caption svg { vertical-align: -1px; margin-right: 5px; }

/* tables */
.sce-table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; width: 100%; }
.sce-table th { text-align: right; font-weight: 600; color: var(--sce-soft); padding: 4px 8px; vertical-align: bottom; }
.sce-table td { text-align: right; padding: 4px 8px; border-top: 1px solid var(--sce-edge); white-space: nowrap; }
.sce-table .sce-left { text-align: left; }
.sce-table td.sce-wrap { white-space: normal; text-align: left; color: var(--sce-soft); }
.sce-table td.sce-wrap code { overflow-wrap: anywhere; }
.sce-table td.sce-best { font-weight: 700; }
.sce-scroll { overflow-x: auto; }
.sce-empty { color: var(--sce-soft); font-size: 13px; padding: 6px 0; }
.sce-runs button {
  all: unset; cursor: pointer; font-weight: 600; color: var(--sce-soft); border-radius: 3px; padding: 0 2px;
}
.sce-runs button:hover { color: var(--sce-ink); }
.sce-runs button:focus-visible, .sce-runs input:focus-visible { outline: 2px solid var(--sce-accent); }
.sce-runs tr.sce-picked td { background: var(--sce-fill); }
.sce-runs input { margin: 0; vertical-align: middle; }

/* the line above the buttons: presets and the state; and the panels below the figures */
.sce-share { gap: 8px; align-items: center; overflow: visible; }
.sce-share .widget-dropdown { width: 220px; margin: 0; }
.sce-share .widget-text { flex: 1 1 200px; width: auto; min-width: 0; margin: 0; }
.sce-share .widget-html { margin: 0; width: auto; }
.sce-share .jupyter-button { width: auto; min-width: 74px; margin: 0; border-radius: 6px; }
.sce-state input { font-family: var(--jp-code-font-family, monospace); font-size: 11.5px; }
.sce-soft { color: var(--sce-soft); font-size: 13px; }
.sce-said { height: 18px; line-height: 18px; font-size: 12.5px; color: var(--sce-soft); overflow: hidden; }
.sce-said-box, .sce-said-box .widget-html-content { margin: 0; height: 18px; }
.sce-run-code {
  font-family: var(--jp-code-font-family, monospace); font-size: 12px; line-height: 1.45; margin: 4px 0;
  padding: 8px 10px; border-radius: 6px; background: var(--sce-fill); color: var(--sce-ink); overflow-x: auto;
  white-space: pre; user-select: all;
}
.sce-link { color: var(--jp-content-link-color, #0b62c4); font-size: 13px; margin: 0 8px; text-decoration: underline; }
.sce-tabs { margin-top: 8px; overflow: visible; }
.sce-tabs > .widget-tab-contents { padding: 8px 2px; border: none; overflow: visible; }
.sce-lab .sce-tabs > .lm-TabBar .lm-TabBar-tab { color: var(--sce-ink); }
.sce-static { display: none; }
.sce-tour { align-items: center; gap: 8px; border-left: 4px solid var(--sce-accent); background: var(--sce-fill);
  border-radius: 6px; padding: 6px 10px; margin: 0 0 8px; overflow: visible; }
.sce-tour .sce-tour-says { flex: 1 1 auto; margin: 0; min-width: 0; }
.sce-tour-text { font-size: 13.5px; line-height: 19px; white-space: normal; }
.sce-tour .jupyter-button { width: auto; min-width: 74px; margin: 0; border-radius: 6px; }
.sce-touch { border-radius: 6px; outline: 3px solid var(--sce-accent); outline-offset: 3px; }
.sce-bar .jupyter-button.sce-touch:disabled { opacity: 1; }
.sce-challenge { border: 1px solid var(--sce-edge); border-radius: 8px; padding: 8px 12px; margin: 0 0 8px;
  font-size: 13px; line-height: 19px; white-space: normal; }
.sce-challenge .sce-progress { margin: 6px 0; }
.sce-solved { border-color: var(--sce-accent); }
.sce-solved b { color: var(--sce-accent); }
.sce-ask { font-size: 14px; line-height: 20px; padding: 2px 0 4px; white-space: normal; }
.sce-told { min-height: 22px; line-height: 22px; font-size: 14px; font-weight: 600; }
.sce-guesses .sce-share .widget-text { flex: 0 0 180px; }
.sce-axis { padding: 0 0 6px; }
.sce-axis .widget-toggle-buttons { width: auto; margin: 0; }
.sce-axis .widget-toggle-button { min-width: 74px; height: 26px; line-height: 24px; }
.sce-own {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 4px 12px; padding: 2px 0 6px;
  align-items: end; overflow: visible;
}
.sce-own > * { width: auto; min-width: 0; margin: 0; }
.sce-own .widget-dropdown, .sce-own .widget-text, .sce-own .widget-combobox {
  flex-flow: column; height: auto; align-items: stretch;
}
.sce-own .widget-label { width: auto; text-align: left; height: 20px; line-height: 20px; }
.sce-own .widget-dropdown > select, .sce-own .widget-text > input, .sce-own .widget-combobox > input {
  flex: 0 0 28px; width: 100%;
}
.sce-own .jupyter-button { border-radius: 6px; }
.sce-told-apart { margin-top: 10px; }
.sce-told-apart span { white-space: normal; flex: 1 1 100%; font-size: 13px; color: var(--sce-ink); }
"""
)
