// The two pictures of LossBlocks: the plane of positions, items and directions, and the N x C matrix. What a cell looks
// like is worked out by `paint`; the rest puts it on a canvas.

export const STEPS = { overview: 0, draw: 1, score: 2, rows: 3, items: 4, logits: 5, softmax: 6, largest: 7, gradient: 8 };
const [GREY, LOOKED, OTHER, BAND, MASKED] = [0, 1, 2, 3, 4];

/** The smallest of many numbers, and how far above it the largest is. */
function lowAndSpan(values) {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return [low, high - low || 1];
}

/** Kind and strength (0 to 1) of every cell. Grey is what the loss does not look at, darker for more softmax mass. */
export function paint(result, step, bucket) {
  const { mass, looked, logits, gradient, blocks, winner, losses, world: { targets, items } } = result, C = items.length;
  const kind = new Uint8Array(mass.length), strength = Float32Array.from(mass, (m) => 0.8 * Math.sqrt(m));
  const put = (cell, what, how) => {
    if (what >= kind[cell] || kind[cell] === BAND) [kind[cell], strength[cell]] = [what, how];
  };
  if (step === STEPS.overview) {
    looked.forEach((seen, cell) => { if (seen) put(cell, LOOKED, 0.22 + 0.78 * Math.sqrt(mass[cell])); });
  } else if (step === STEPS.gradient) {
    const most = gradient.reduce((largest, g) => Math.max(largest, Math.abs(g)), 0);
    gradient.forEach((g, cell) => { if (g) put(cell, g > 0 ? OTHER : LOOKED, 0.12 + 0.88 * Math.sqrt(Math.abs(g) / most)); });
  } else if (step >= STEPS.rows) {
    const [low, span] = lowAndSpan(logits.filter((_, cell) => looked[cell]));
    blocks.forEach(({ rows, items: taken, losses: slotLosses }, b) => {
      if (bucket >= 0 && b !== bucket) return;
      if (step <= STEPS.items) for (const n of rows) for (let i = 0; i < C; i++) put(n * C + i, BAND, 0.16);
      if (step === STEPS.items) for (const i of taken) for (let n = 0; n < targets.length; n++) put(n * C + i, BAND, 0.16);
      if (step === STEPS.rows) return;
      rows.forEach((n, slot) => {
        const lost = step === STEPS.largest && (winner[n] !== b || slotLosses[slot] < losses[n]);
        for (const i of new Set([...taken, targets[n]])) {
          const cell = n * C + i, target = i === targets[n];
          const p = Math.exp(logits[cell] - slotLosses[slot] - logits[n * C + targets[n]]);
          if (step === STEPS.items) { if (!target || taken.includes(i)) [kind[cell], strength[cell]] = [LOOKED, 0.6]; }
          else if (lost) { if (kind[cell] !== LOOKED) [kind[cell], strength[cell]] = [OTHER, 0.3]; }
          else if (step === STEPS.largest) [kind[cell], strength[cell]] = [LOOKED, 0.15 + 0.85 * Math.sqrt(p)];
          else if (target && step === STEPS.logits) { if (taken.includes(i)) put(cell, MASKED, 1); }
          else put(cell, LOOKED, Math.max(kind[cell] === LOOKED ? strength[cell] : 0, step === STEPS.logits
            ? 0.1 + 0.9 * (logits[cell] - low) / span : 0.1 + 0.9 * Math.sqrt(p)));
        }
      });
    });
  }
  return { kind, strength };
}

// ------------------------------------------------------------------------------------------------------------- canvas

/** A canvas as large as its place, sharp on any screen; returns its context, in CSS pixels, empty. */
function cleared(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas, ratio = globalThis.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const faded = (hex, alpha) => `rgba(${rgb(hex).join(", ")}, ${alpha})`;

/** The place of everything in the plane, in pixels: positions and items each on a scale of their own. */
export function layout({ world, centers }, plane, width, height) {
  const R = Math.min(width, height) / 2 - 14, longest = (vs) => Math.max(...vs.map((v) => Math.hypot(...v)), 1e-9);
  const at = ([x, y], scale) => [width / 2 + x * scale, height / 2 - y * scale];
  const points = (vectors, share) => {
    const flat = vectors.map(plane), scale = (share * R) / longest(flat);
    return flat.map((v) => at(v, scale));
  };
  const tips = centers.map((center) => {
    const v = plane(center), share = Math.hypot(...v) / (Math.hypot(...center) || 1);
    return at(v, (R * Math.max(share, 0.3)) / (Math.hypot(...v) || 1));
  });
  return { positions: points(world.positions, 0.78), items: points(world.items, 0.94), tips, origin: at([0, 0], 1), R };
}

function arrow(context, [x0, y0], [x1, y1], head) {
  const angle = Math.atan2(y1 - y0, x1 - x0), wing = (turn) => [x1 - head * Math.cos(angle + turn), y1 - head * Math.sin(angle + turn)];
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.moveTo(...wing(0.5));
  context.lineTo(x1, y1);
  context.lineTo(...wing(-0.5));
  context.stroke();
}

export function drawPlane(canvas, result, { plane, step, bucket, position, colors, pulls, true_pulls }) {
  const { context, width, height } = cleared(canvas), { blocks, covered, settings: { loss } } = result;
  const spots = layout(result, plane, width, height), color = colors[loss], bucketed = loss === "sce";
  const shown = bucketed && bucket >= 0 ? [blocks[bucket]] : blocks;
  const rowsIn = new Set(bucketed && bucket < 0 ? covered : shown.flatMap((block) => block.rows));
  const itemsIn = new Set(shown.flatMap((block) => block.items)), { targets } = result.world;
  if (!bucketed) for (const n of rowsIn) if (loss !== "in_batch") itemsIn.add(targets[n]);
  const scores = (name) => {
    const all = blocks[bucket]?.[name];
    if (step !== STEPS.score || !all) return () => 0;
    const [low, span] = lowAndSpan(all);
    return (at) => (all[at] - low) / span;
  };
  const rowScore = scores("rowScores"), itemScore = scores("itemScores");
  context.strokeStyle = faded(colors.ink, 0.2);
  context.lineWidth = 1;
  context.beginPath();
  context.arc(...spots.origin, spots.R, 0, 2 * Math.PI);
  context.stroke();
  spots.items.forEach(([x, y], i) => {
    const taken = itemsIn.has(i) && (step === STEPS.overview || step >= STEPS.items || !bucketed), size = taken ? 2.8 : 2;
    context.fillStyle = taken ? faded(color, 0.85) : faded(colors.ink, 0.16 + 0.7 * itemScore(i));
    context.fillRect(x - size, y - size, 2 * size, 2 * size);
  });
  spots.positions.forEach(([x, y], n) => {
    const taken = rowsIn.has(n) && (step === STEPS.overview || step >= STEPS.rows || !bucketed);
    context.beginPath();
    context.arc(x, y, n === position ? 7 : 4.6, 0, 2 * Math.PI);
    context.fillStyle = taken ? color : faded(colors.ink, 0.1 + 0.75 * rowScore(n));
    context.strokeStyle = taken ? colors.paper : faded(colors.ink, 0.55);
    context.lineWidth = taken ? 1.4 : 1.2;
    context.fill();
    context.stroke();
  });
  if (step === STEPS.gradient && bucketed) {
    const from = (n, [x, y]) => [spots.positions[n], [spots.positions[n][0] + x, spots.positions[n][1] - y]];
    context.lineWidth = 3;
    context.strokeStyle = faded(colors.ink, 0.28);
    true_pulls.forEach((pull, n) => arrow(context, ...from(n, pull), 6));
    context.lineWidth = 1.6;
    context.strokeStyle = colors.warn;
    covered.forEach((n) => arrow(context, ...from(n, pulls[n]), 6));
  } else if (bucketed || loss === "rece") {
    spots.tips.forEach((tip, b) => {
      context.lineWidth = b === bucket ? 3 : 1.6;
      context.strokeStyle = b === bucket ? colors.ink : faded(colors.ink, bucket >= 0 ? 0.3 : 0.65);
      arrow(context, spots.origin, tip, 9);
    });
  }
}

// ------------------------------------------------------------------------------------------------------------- matrix

/** The cells as a picture of C x N pixels, in the order of the world. */
function bitmap({ kind, strength }, columns, colors, color) {
  const rows = kind.length / columns, canvas = new OffscreenCanvas(columns, rows), image = new ImageData(columns, rows);
  const inks = [colors.ink, color, colors.warn, color, colors.paper].map(rgb);
  kind.forEach((what, cell) => image.data.set([...inks[what], 255 * strength[cell]], 4 * cell));
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

export const MARGIN = { left: 26, top: 26, right: 2, bottom: 2 };
const between = (places, length, at) => [Math.round(places[at] * length), Math.max(Math.round((places[at] + 1) * length), 1)];

/** `places`: where each row and column stands now, not always a whole number while they move. */
export function drawMatrix(canvas, result, { painted, places, step, bucket, position, colors }) {
  const { context, width, height } = cleared(canvas), { world: { targets, items }, blocks, settings: { loss } } = result;
  const C = items.length, N = targets.length, color = colors[loss], bucketed = loss === "sce";
  const w = width - MARGIN.left - MARGIN.right, h = height - MARGIN.top - MARGIN.bottom, cw = w / C, ch = h / N;
  const source = bitmap(painted, C, colors, color), sorted = new OffscreenCanvas(Math.max(Math.round(w), 1), N);
  const columns = sorted.getContext("2d");
  columns.imageSmoothingEnabled = context.imageSmoothingEnabled = false;
  for (let i = 0; i < C; i++) {
    const [from, to] = between(places.columns, cw, i);
    columns.drawImage(source, i, 0, 1, N, from, 0, Math.max(to - from, 1), N);
  }
  context.save();
  context.translate(MARGIN.left, MARGIN.top);
  context.fillStyle = faded(colors.ink, 0.035);
  context.fillRect(0, 0, w, h);
  for (let n = 0; n < N; n++) {
    const [from, to] = between(places.rows, ch, n);
    context.drawImage(sorted, 0, n, sorted.width, 1, 0, from, w, Math.max(to - from, 1));
  }
  targets.forEach((target, n) => {
    const x = (places.columns[target] + 0.5) * cw, y = (places.rows[n] + 0.5) * ch, r = Math.min(Math.max(ch / 2 - 0.4, 1.4), 3.2);
    context.lineWidth = 1.3;
    context.strokeStyle = colors.ink;
    context.beginPath();
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.stroke();
    if (step !== STEPS.overview || !result.missed[n]) return;
    context.strokeStyle = colors.warn;
    const mx = (places.columns[result.hardest[n]] + 0.5) * cw, d = Math.min(ch / 2, 3);
    context.beginPath();
    context.moveTo(mx - d, y - d);
    context.lineTo(mx + d, y + d);
    context.moveTo(mx - d, y + d);
    context.lineTo(mx + d, y - d);
    context.stroke();
  });
  context.strokeStyle = colors.ink;
  context.lineWidth = 1.6;
  const chosen = bucketed ? blocks[bucket] : undefined;
  if (chosen && (step === STEPS.overview || step >= STEPS.items) && step < STEPS.gradient) {
    context.strokeRect(0, 0, chosen.items.length * cw, chosen.rows.length * ch);
  }
  if (position >= 0) context.strokeRect(-2, places.rows[position] * ch - 0.5, w + 3, ch + 1);
  context.restore();
  if (chosen && step >= STEPS.score && step <= STEPS.items) strips(context, chosen, places, cw, ch, colors);
  context.fillStyle = colors.soft;
  context.font = "12px system-ui, sans-serif";
  context.fillText(`${C} items →`, MARGIN.left, 10);
  context.save();
  context.translate(10, MARGIN.top + 74);
  context.rotate(-Math.PI / 2);
  context.fillText(`← ${N} positions`, -16, 0);
  context.restore();
}

/** The scores of one bucket along the edges: its rows at the left, its columns above. */
function strips(context, { rowScores, itemScores }, places, cw, ch, colors) {
  const draw = (scores, rect) => {
    const [low, span] = lowAndSpan(scores);
    scores.forEach((score, at) => {
      context.fillStyle = faded(colors.ink, 0.04 + 0.9 * ((score - low) / span) ** 2);
      context.fillRect(...rect(at));
    });
  };
  draw(rowScores, (n) => [MARGIN.left - 11, MARGIN.top + places.rows[n] * ch, 8, Math.max(ch - 0.5, 1)]);
  draw(itemScores, (i) => [MARGIN.left + places.columns[i] * cw, MARGIN.top - 11, Math.max(cw - 0.3, 1), 8]);
}
