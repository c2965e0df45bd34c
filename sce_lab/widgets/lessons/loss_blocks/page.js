// The page of LossBlocks: controls, two pictures, what is read off them, and the steps. It computes all it shows, so it
// needs no kernel. core.js and picture.js stand before it in the same module.

const NAMES = { ce: "Cross-entropy", sampled: "Sampled softmax", in_batch: "In-batch", sce: "SCE", rece: "RECE" };
const SLIDERS = [
  { name: "n_buckets", label: "n<sub>b</sub> buckets", says: "Number of buckets", of: ["sce", "rece"], range: () => [1, 24] },
  { name: "bucket_size_x", label: "b<sub>x</sub> positions", says: "Positions a bucket takes", of: ["sce"], range: ({ N }) => [1, N] },
  { name: "bucket_size_y", label: "b<sub>y</sub> items", says: "Items a bucket takes", of: ["sce"], range: ({ C }) => [1, C] },
  { name: "n_negatives", label: "k negatives", says: "Negatives drawn", of: ["sampled"], range: ({ C }) => [1, C] },
  { name: "seed", label: "seed", says: "Seed of the random draw", of: ["sampled", "sce", "rece"], range: () => [0, 99] },
];
const MOVE_MS = 350, PLAY_MS = 1800;

function element(tag, properties = {}, ...children) {
  const { dataset, style, role, aria = {}, ...rest } = properties, made = Object.assign(document.createElement(tag), rest);
  if (role) made.setAttribute("role", role);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, value);
  made.append(...children);
  return made;
}
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
const bound = (value, [low, high]) => Math.min(Math.max(value, low), high);

class Page {
  constructor(model, el) {
    this.model = model;
    this.moving = null;  // the frame in which rows and columns move on
    this.frame = null;  // the next drawing
    this.places = null;  // where rows and columns stand
    this.position = -1;  // under the pointer
    this.root = element("div", { className: "sce-blocks" }, this.controls(), this.pictures(), this.numbers(), this.steps());
    this.root.addEventListener("keydown", (event) => {  // arrows move the handle, not the notebook
      if (/^(Arrow|Page|Home|End|Escape)/.test(event.key)) event.stopPropagation();
    });
    el.append(this.root);
    this.world();
  }
  get(name) { return this.model.get(name); }
  set(changes) {
    for (const [name, value] of Object.entries(changes)) this.model.set(name, value);
    this.model.save_changes();
  }

  // --------------------------------------------------------------------------------------------------------- building
  controls() {
    const group = `sce-blocks-${Math.random().toString(36).slice(2)}`;
    this.radios = LOSSES.map((loss) => element("input", { type: "radio", name: group, value: loss,
      onchange: () => this.set({ loss, bucket: -1, step: 0 }) }));
    const losses = element("div", { className: "sb-losses", role: "radiogroup", aria: { label: "Loss" } },
      ...this.radios.map((radio) => element("label", { className: `sb-${radio.value}` }, radio, element("span", { textContent: NAMES[radio.value] }))));
    this.sliders = Object.fromEntries(SLIDERS.map(({ name, says }) => [name, element("input", { type: "range", step: 1,
      title: says, aria: { label: says }, oninput: (event) => this.set({ [name]: Number(event.target.value) }) })]));
    this.values = Object.fromEntries(SLIDERS.map(({ name }) => [name, element("output")]));
    this.mix = element("input", { type: "checkbox", aria: { label: "Mix: directions are sums of positions" },
      onchange: () => this.set({ mix_x: this.mix.checked }) });
    this.mixLabel = element("label", { className: "sb-mix", title: "Directions are random sums of positions" }, this.mix, " Mix");
    this.again = element("button", { type: "button", textContent: "Draw again", title: "The next seed",
      onclick: () => this.set({ seed: (this.get("seed") + 1) % 100 }) });
    const sliders = SLIDERS.map(({ name, label, of }) => {
      const title = element("span", { innerHTML: label });
      return element("label", { className: `sb-slider ${of.map((loss) => `sb-of-${loss}`).join(" ")}` },
        element("span", { className: "sb-label" }, title, this.values[name]), this.sliders[name]);
    });
    return element("div", { className: "sb-controls" }, losses, element("div", { className: "sb-sliders" }, ...sliders,
      element("div", { className: "sb-more" }, this.mixLabel, this.again)));
  }
  pictures() {
    this.plane = element("canvas", { tabIndex: 0, role: "img", className: "sb-plane" });
    this.matrix = element("canvas", { role: "img", className: "sb-matrix" });
    this.plane.addEventListener("click", (event) => this.choose(this.nearest(event)));
    this.plane.addEventListener("keydown", (event) => this.keys(event));
    this.matrix.addEventListener("pointermove", (event) => this.point(event));
    this.matrix.addEventListener("pointerleave", () => this.point(null));
    this.said = element("div", { className: "sb-said", role: "status" });
    this.legend = element("div", { className: "sb-legend" });
    return element("div", { className: "sb-pictures" },
      element("figure", {}, this.plane, element("figcaption", { className: "sb-legend" })),
      element("figure", {}, this.matrix, this.legend), this.said);
  }
  numbers() {
    const shown = [["coverage", "positions in a block (coverage)"], ["captured_mass", "of their softmax mass looked at (captured mass)"],
      ["missed", "positions whose hardest wrong item is missed"], ["cells", "logits computed"]];
    this.readouts = Object.fromEntries(shown.map(([name]) => [name, element("b")]));
    return element("div", { className: "sb-numbers" }, ...shown.map(([name, says]) =>
      element("div", {}, this.readouts[name], element("span", { textContent: says }))));
  }
  steps() {
    const button = (textContent, label, onclick) => element("button", { type: "button", textContent, title: label, aria: { label }, onclick });
    const last = Object.keys(STEPS).length - 1, by = (move) => () => { this.stop(); this.set(this.toStep(this.get("step") + move)); };
    this.scrubber = element("input", { type: "range", min: 0, max: last, step: 1, aria: { label: "Step of SCE" },
      oninput: () => { this.stop(); this.set(this.toStep(Number(this.scrubber.value))); } });
    this.player = button("Play", "Play the steps", () => (this.playing ? this.stop() : this.play()));
    this.bar = element("div", { className: "sb-bar" }, button("‹ Back", "Step back", by(-1)), this.scrubber, button("Next ›", "Step on", by(1)), this.player);
    [this.title, this.says, this.formula, this.shape, this.code] = ["h4", "p", "div", "div", "pre"].map((tag, i) =>
      element(tag, { className: ["sb-title", "sb-says", "sb-formula", "sb-shape", "sb-code"][i] }));
    const words = element("div", { className: "sb-words", aria: { live: "polite" } }, this.title, this.says, this.formula, this.shape);
    return element("div", { className: "sb-steps" }, this.bar, words, this.code);
  }

  // ----------------------------------------------------------------------------------------------------------- acting
  toStep(step) {
    const to = bound(step, [0, Object.keys(STEPS).length - 1]), chosen = this.get("bucket");
    const one = to >= STEPS.score && to <= STEPS.softmax;  // these are about one bucket
    return { step: to, bucket: one ? Math.max(chosen, 0) : to >= STEPS.largest || to === STEPS.draw ? -1 : chosen };
  }
  play() {
    if (this.get("step") >= STEPS.gradient) this.set(this.toStep(0));
    this.player.textContent = "Pause";
    this.playing = setInterval(() => {
      this.set(this.toStep(this.get("step") + 1));
      if (this.get("step") >= STEPS.gradient) this.stop();
    }, PLAY_MS);
  }
  stop() {
    clearInterval(this.playing);
    this.playing = null;
    this.player.textContent = "Play";
  }
  choose(bucket) { if (this.get("loss") === "sce") this.set({ bucket }); }
  keys(event) {
    const many = this.get("n_buckets"), now = this.get("bucket");
    const to = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Escape: -1, Home: 0, End: many - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.choose(to < -1 ? many - 1 : to >= many ? -1 : to);
  }
  nearest(event) {
    const box = this.plane.getBoundingClientRect(), spot = [event.clientX - box.left, event.clientY - box.top];
    const { tips, origin } = layout(this.result, this.flat, box.width, box.height);
    const away = tips.map((tip) => {  // from the outer half of the arrow
      const t = bound(((spot[0] - origin[0]) * (tip[0] - origin[0]) + (spot[1] - origin[1]) * (tip[1] - origin[1]))
        / ((tip[0] - origin[0]) ** 2 + (tip[1] - origin[1]) ** 2), [0.4, 1]);
      return Math.hypot(spot[0] - origin[0] - t * (tip[0] - origin[0]), spot[1] - origin[1] - t * (tip[1] - origin[1]));
    });
    const best = away.indexOf(Math.min(...away));
    return away[best] < 14 && best !== this.get("bucket") ? best : -1;
  }
  point(event) {
    const { world: { targets, items }, logits, mass, looked, winner } = this.result, C = items.length;
    const before = this.position, box = this.matrix.getBoundingClientRect();
    const x = event ? (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right) : -1;
    const y = event ? (event.clientY - box.top - MARGIN.top) / (box.height - MARGIN.top - MARGIN.bottom) : -1;
    const inside = x >= 0 && x < 1 && y >= 0 && y < 1;
    this.position = inside ? this.order.rows[Math.floor(y * targets.length)] : -1;
    this.said.textContent = "";
    if (inside) {
      const i = this.order.columns[Math.floor(x * C)], cell = this.position * C + i, kind = i === targets[this.position] ? "its target" : "wrong";
      const seen = winner[this.position] < 0 ? "in no block" : looked[cell] ? "looked at" : "not looked at";
      this.said.textContent = `Position ${this.position}, item ${i} (${kind}): logit ${logits[cell].toFixed(2)}, ${percent(mass[cell])} of the position's softmax, ${seen}.`;
    }
    if (before !== this.position) this.draw();
  }

  // ---------------------------------------------------------------------------------------------------------- showing
  world() {
    const world = this.get("world"), { plane } = world;
    this.all = scoreAll(world);
    this.exact = evaluate(world, { loss: "ce", n_buckets: 1, seed: 0 }, this.all);
    this.exactGradient = backward(this.exact);
    this.flat = (v) => [0, 1].map((axis) => v.reduce((sum, value, d) => sum + value * plane[d][axis], 0));
    for (const { name, range } of SLIDERS) {
      [this.sliders[name].min, this.sliders[name].max] = range({ N: world.positions.length, C: world.items.length });
    }
    this.places = null;
    this.compute();
  }
  compute() {
    const settings = Object.fromEntries(["loss", "mix_x", ...SLIDERS.map(({ name }) => name)].map((name) => [name, this.get(name)]));
    this.result = evaluate(this.get("world"), settings, this.all);
    this.order = arrange(this.result, this.flat, this.get("bucket"));
    this.gradient = backward(this.result);
    this.root.dataset.loss = settings.loss;
    this.write(settings);
    this.repaint();
  }
  look() {
    this.order = arrange(this.result, this.flat, this.get("bucket"));
    this.write(this.result.settings);
    this.repaint();
  }
  repaint() {
    const step = this.result.settings.loss === "sce" ? this.get("step") : 0;
    this.painted = paint(this.result, step, this.get("bucket"));
    const goals = { rows: invert(this.order.rows), columns: invert(this.order.columns) }, from = this.places ?? goals;
    const still = !this.places || matchMedia("(prefers-reduced-motion: reduce)").matches;
    const began = performance.now();
    cancelAnimationFrame(this.moving);
    const move = (now) => {
      const t = still ? 1 : bound((now - began) / MOVE_MS, [0, 1]), ease = t * t * (3 - 2 * t);
      const between = (side) => goals[side].map((to, at) => from[side][at] + ease * (to - from[side][at]));
      this.places = t < 1 ? { rows: between("rows"), columns: between("columns") } : goals;
      this.drawNow();
      if (t < 1) this.moving = requestAnimationFrame(move);
    };
    this.moving = requestAnimationFrame(move);
  }
  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.drawNow());
  }
  drawNow() {
    if (!this.plane.clientWidth || !this.places) return;
    const style = getComputedStyle(this.root), color = (name) => hex(style.getPropertyValue(`--sb-${name}`));
    const names = ["ink", "soft", "paper", "warn", ...LOSSES], colors = Object.fromEntries(names.map((name) => [name, color(name)]));
    const view = { plane: this.flat, step: this.result.settings.loss === "sce" ? this.get("step") : 0, bucket: this.get("bucket"),
      position: this.position, colors, painted: this.painted, places: this.places, ...this.pulls() };
    drawPlane(this.plane, this.result, view);
    drawMatrix(this.matrix, this.result, view);
    this.root.dispatchEvent(new CustomEvent("sce-drawn"));
  }
  pulls() {  // where each position is pulled, in pixels: the negative gradients, of this loss and of cross-entropy
    const { world: { positions }, covered } = this.result, D = positions[0].length, N = positions.length;
    const of = (gradient, share) => positions.map((_, n) => this.flat(Array.from(gradient.inPositions.subarray(n * D, (n + 1) * D), (g) => -g * share)));
    const [mine, theirs] = [of(this.gradient, covered.length), of(this.exactGradient, N)];
    const longest = Math.max(...theirs.map((v) => Math.hypot(...v)), 1e-9), scaled = (v) => v.map((c) => (42 * c) / longest);
    return { pulls: mine.map(scaled), true_pulls: theirs.map(scaled) };
  }
  write({ loss, ...settings }) {
    const { result, root } = this, texts = this.get("texts"), step = loss === "sce" ? this.get("step") : 0, bucket = this.get("bucket");
    for (const radio of this.radios) radio.checked = radio.value === loss;
    for (const { name, of } of SLIDERS) {
      [this.sliders[name].value, this.values[name].textContent] = [settings[name], settings[name]];
      this.sliders[name].disabled = !of.includes(loss);
    }
    this.mix.checked = settings.mix_x;
    this.mix.disabled = !["sce", "rece"].includes(loss);
    this.again.disabled = !["sampled", "sce", "rece"].includes(loss);
    this.scrubber.value = step;
    this.scrubber.setAttribute("aria-valuetext", texts.steps[step].title);
    for (const control of this.bar.children) control.disabled = loss !== "sce";
    const N = result.winner.length, C = result.looked.length / N;
    this.readouts.coverage.textContent = percent(result.coverage);
    this.readouts.captured_mass.textContent = percent(result.captured_mass);
    this.readouts.missed.textContent = `${result.n_missed} of ${N}`;
    this.readouts.cells.textContent = `${result.cells.toLocaleString("en")} of ${(N * C).toLocaleString("en")}`;
    const said = step ? texts.steps[step] : texts.losses[loss];
    this.title.textContent = (step ? `${step}. ` : "") + said.title;
    this.says.innerHTML = said.says;
    if (step === STEPS.gradient) {
      const { cosine, length } = compare(this.gradient, this.exactGradient);
      this.says.innerHTML += ` Against full cross-entropy: cosine <b>${cosine.toFixed(3)}</b>, length <b>${length.toFixed(2)}</b>.`;
    }
    this.formula.innerHTML = said.formula;
    this.shape.textContent = said.shape;
    this.code.textContent = said.code;
    this.legend.innerHTML = texts.legends[step === STEPS.gradient ? "gradient" : step === STEPS.largest ? "largest" : step ? "step" : "overview"];
    root.querySelector("figcaption").innerHTML = texts.legends[step === STEPS.gradient ? "pulls" : loss === "sce" ? "plane" : "points"];
    const chosen = bucket < 0 ? "no bucket chosen" : `bucket ${bucket + 1} of ${settings.n_buckets} chosen`;
    this.plane.setAttribute("aria-label", `Plane of ${N} positions and ${C} items, ${chosen}. Arrow keys choose a bucket, Escape none.`);
    this.matrix.setAttribute("aria-label", `Matrix of ${N} positions and ${C} items: ${NAMES[loss]} looks at ${result.looked_at.toLocaleString("en")} of its cells.`);
  }
}

const invert = (order) => {
  const places = [];
  order.forEach((at, place) => { places[at] = place; });
  return places;
};

/** Any CSS colour as #rrggbb; what is translucent counts as laid on grey. */
function hex(color) {
  const context = (hex.context ??= new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true }));
  const known = (hex.known ??= new Map());
  if (!known.has(color)) {
    context.fillStyle = "#808080";
    context.fillRect(0, 0, 1, 1);
    context.fillStyle = color.trim() || "#808080";
    context.fillRect(0, 0, 1, 1);
    known.set(color, "#" + [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)].map((c) => c.toString(16).padStart(2, "0")).join(""));
  }
  return known.get(color);
}

export default {
  render({ model, el }) {
    const page = new Page(model, el), on = [];
    const listen = (names, heard) => on.push(...names.map((name) => [`change:${name}`, heard]));
    let due = null;  // several changes at once are computed once
    const soon = (what) => () => {
      if (due !== "compute" && due !== "world") due = what;
      if (what === "world") due = what;
      queueMicrotask(() => { if (due) { const now = due; due = null; page[now](); } });
    };
    listen(["world"], soon("world"));
    listen(["loss", "mix_x", ...SLIDERS.map(({ name }) => name)], soon("compute"));
    listen(["bucket", "step"], soon("look"));
    for (const [name, heard] of on) model.on(name, heard);
    const resized = new ResizeObserver(() => page.draw()), themed = new MutationObserver(() => page.draw());
    resized.observe(page.root);
    themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class", "style"] });
    const dark = matchMedia("(prefers-color-scheme: dark)"), redraw = () => page.draw();
    dark.addEventListener("change", redraw);
    return () => {
      page.stop();
      for (const [name, heard] of on) model.off(name, heard);
      resized.disconnect();
      themed.disconnect();
      dark.removeEventListener("change", redraw);
    };
  },
};
