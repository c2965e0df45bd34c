// Brings a saved notebook to life without a kernel: its widgets that need none, and its figures.
//
// What works by itself (the picture of a loss's blocks, figures, questions) runs the very code that the notebook runs.
// A control that only Python answers would be dead here: of it only what it says is shown.
(() => {
  const PLOTLY = document.currentScript.dataset.plotly;
  const saved = document.querySelector('script[type="application/vnd.jupyter.widget-state+json"]');
  const states = saved ? JSON.parse(saved.textContent).state : {};
  const made = (tag, className, ...children) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children);
    return element;
  };

  // plotly.js, once and only where there is something to draw. The figures' widgets wait for the same promise.
  const waiting = (globalThis.sceLabPlotly = { loaded: true });
  waiting.ready = new Promise((resolve) => { waiting.resolve = resolve; });
  let asked = false;
  const plotly = () => {
    if (!asked) {
      asked = true;
      const script = made("script");
      script.src = PLOTLY;
      script.onload = () => waiting.resolve(globalThis.Plotly);
      document.head.append(script);
    }
    return waiting.ready;
  };

  class Model {  // what a widget's script is given: values, and who hears of a change
    constructor(state) { this.state = state; this.heard = {}; }
    get(name) { return this.state[name]; }
    set(name, value) {
      const values = typeof name === "object" ? name : { [name]: value };
      for (const [key, each] of Object.entries(values)) {
        if (this.state[key] === each) continue;
        this.state[key] = each;
        for (const listener of [...(this.heard["change:" + key] ?? []), ...(this.heard.change ?? [])]) listener();
      }
    }
    save_changes() {}
    send() {}
    on(names, listener) { for (const name of names.split(" ")) (this.heard[name] ??= []).push(listener); }
    off(names, listener) {
      for (const name of names.split(" ")) this.heard[name] = (this.heard[name] ?? []).filter((each) => each !== listener);
    }
  }

  const models = {}, modules = {}, styles = new Set();
  const module = (source) => (modules[source] ??= (async () => {
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const loaded = (await import(url)).default;
    URL.revokeObjectURL(url);
    return typeof loaded === "function" ? loaded() : loaded;
  })());

  const dead = (state) => state._esm && "grip" in state || state._anywidget_id?.endsWith("Speech");

  async function anywidget(id, state, el) {
    if (state._css && !styles.has(state._css)) {
      styles.add(state._css);
      document.head.append(Object.assign(made("style"), { textContent: state._css }));
    }
    if ("spec" in state) plotly();
    const widget = await module(state._esm), first = !models[id];
    const model = (models[id] ??= new Model(state));
    if (first) await widget.initialize?.({ model });
    await widget.render?.({ model, el });
  }

  const says = (name, value) => made("div", "says", Object.assign(made("span", "what"), { innerHTML: name }), " ", made("b", "", value));
  const CONTROLS = {
    ButtonModel: () => null,
    TextModel: () => null,
    HTMLModel: (state) => Object.assign(made("div", "widget-html-content"), { innerHTML: state.value }),
    DropdownModel: (state) => says(state.description || "", state._options_labels?.[state.index] ?? ""),
    CheckboxModel: (state) => says(state.description, state.value ? "on" : "off"),
    ToggleButtonModel: (state) => (state.value ? made("div", "says", made("b", "", state.description)) : null),
    ToggleButtonsModel: (state) => says(state.description || "", state._options_labels?.[state.index] ?? ""),
  };

  const child = (reference) => reference.replace("IPY_MODEL_", "");
  function place(id) {
    const found = states[id];
    if (!found) return null;
    const { state, model_name: kind } = found;
    if (state._dom_classes?.includes("sce-needs-kernel")) return null;
    if (dead(state)) return "label" in state ? says(state.description, state.label) : null;
    if (kind === "TabModel") {
      const tabs = state.children.map((each, nth) => [state.titles[nth], place(child(each))]);
      const alive = tabs.filter(([, content]) => content?.textContent.trim() || content?.querySelector(".any"));
      return made("div", "tabs", ...alive.map(([title, content]) => made("details", "", made("summary", "", title), content)));
    }
    let el;
    if (state._esm) {
      el = made("div", "any");
      anywidget(id, state, el).catch((error) => { el.textContent = "This part could not be shown: " + error.message; throw error; });
    } else if (state.children) {
      const across = kind === "HBoxModel" ? " across" : kind === "BoxModel" ? " across wrap" : "";
      el = made("div", "box" + across, ...state.children.map((each) => place(child(each))).filter(Boolean));
      if (!el.childNodes.length && !state._dom_classes?.length && kind !== "VBoxModel") return null;
    } else el = CONTROLS[kind]?.(state);
    if (!el) return null;
    el.classList.add(...(state._dom_classes ?? []));
    const layout = states[child(state.layout ?? "")]?.state;
    if (layout?.display) el.style.display = layout.display;
    return el;
  }

  const titles = (layout) => (layout?.annotations ?? []).map(({ text }) => text.replace(/<[^>]+>/g, "")).join("; ");
  async function figure(el) {
    const spec = JSON.parse(el.querySelector("script").textContent);
    el.setAttribute("role", "img");
    el.setAttribute("aria-label", "Figure. " + (spec.layout?.title?.text ?? titles(spec.layout)));
    const drawn = await plotly();
    const { width, ...layout } = spec.layout;
    await drawn.newPlot(el, spec.data, layout, { displaylogo: false, responsive: true, displayModeBar: false });
  }

  for (const el of document.querySelectorAll(".widget")) {
    const placed = place(el.dataset.model);
    if (placed) el.append(placed);
    else el.closest(".cell").remove();
  }
  document.querySelectorAll(".plotly-figure").forEach(figure);
})();
