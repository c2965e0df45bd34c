// The numbers of LossBlocks: draws, blocks, losses, gradients. No page, no drawing: tests run this file by itself.
//
// A world is { positions: N rows of D numbers, items: C rows of D, targets: N item numbers }. A loss is a list of
// blocks { rows, items }: every one of its rows meets every one of its items. A row of several blocks keeps its
// largest loss. Matrices are flat arrays, a row behind the other.

// ------------------------------------------------------------------------------------------------------------- draws

/** n numbers in [0, 1): mulberry32, a 32-bit counter that is scrambled. draws.py has the same. */
export function uniforms(seed, stream, n) {
  let counter = (Math.imul(seed, 0x9e3779b1) + Math.imul(stream, 0x85ebca6b)) | 0;
  return Float64Array.from({ length: n }, () => {
    counter = (counter + 0x6d2b79f5) | 0;
    let t = Math.imul(counter ^ (counter >>> 15), 1 | counter);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  });
}

/** n standard normal numbers, by Box and Muller: two of them from two uniform ones. */
export function normals(seed, stream, n) {
  const u = uniforms(seed, stream, n + (n % 2));
  return Float64Array.from({ length: n }, (_, i) => {
    const pair = i - (i % 2), radius = Math.sqrt(-2 * Math.log(1 - u[pair])), angle = 2 * Math.PI * u[pair + 1];
    return radius * (i % 2 ? Math.sin(angle) : Math.cos(angle));
  });
}

const dot = (a, b) => a.reduce((sum, value, d) => sum + value * b[d], 0);
const rowsOf = (flat, width) => Array.from({ length: flat.length / width }, (_, r) => flat.slice(r * width, (r + 1) * width));
const range = (n) => Array.from({ length: n }, (_, i) => i);

/** Bucket centres, n_buckets rows of D: standard normal, or with Mix sums of positions with standard normal weights. */
export function drawCenters({ positions }, { n_buckets, mix_x, seed }) {
  const D = positions[0].length, N = positions.length;
  if (!mix_x) return rowsOf(normals(seed, 1, n_buckets * D), D);
  return rowsOf(normals(seed, 2, n_buckets * N), N).map((omega) =>
    range(D).map((d) => positions.reduce((sum, x, n) => sum + omega[n] * x[d], 0)));
}

/** The k largest of the scores, the largest first; of equals the first. */
export function topk(scores, k) {
  return range(scores.length).sort((a, b) => scores[b] - scores[a] || a - b).slice(0, k);
}

// ------------------------------------------------------------------------------------------------------------ blocks

/** The logits of all positions and items, N x C, and the softmax over all items that they make. */
export function scoreAll({ positions, items }) {
  const C = items.length, logits = new Float64Array(positions.length * C), mass = new Float64Array(logits.length);
  positions.forEach((x, n) => {
    items.forEach((w, i) => { logits[n * C + i] = dot(x, w); });
    const row = logits.subarray(n * C, (n + 1) * C), total = logSumExp(row);
    row.forEach((logit, i) => { mass[n * C + i] = Math.exp(logit - total); });
  });
  return { logits, mass };
}

function logSumExp(values) {
  let largest = -Infinity, sum = 0;
  for (const value of values) largest = Math.max(largest, value);
  for (const value of values) sum += Math.exp(value - largest);
  return largest + Math.log(sum);
}

const BLOCKS = {
  ce: ({ positions, items }) => [{ rows: range(positions.length), items: range(items.length) }],

  // Independent draws: an item may come twice. Each logit is corrected by log(k / C), how often the item is expected.
  sampled({ positions, items }, { n_negatives, seed }) {
    const drawn = Array.from(uniforms(seed, 3, n_negatives), (u) => Math.floor(u * items.length));
    return [{ rows: range(positions.length), items: drawn, offset: Math.log(n_negatives / items.length) }];
  },

  // The other targets of the batch. Corrected for how often an item is in the batch, each counts once.
  in_batch: ({ positions, targets }) => [{ rows: range(positions.length), items: [...new Set(targets)] }],

  sce({ positions, items }, { bucket_size_x, bucket_size_y }, centers) {
    return centers.map((center) => {
      const rowScores = positions.map((x) => dot(center, x)), itemScores = items.map((w) => dot(center, w));
      return { rows: topk(rowScores, bucket_size_x), items: topk(itemScores, bucket_size_y), rowScores, itemScores };
    });
  },

  // One round: both sides are sorted by the direction that suits them best and cut into as many chunks as there are
  // directions; a chunk of positions meets the items of its own number and of both neighbours.
  rece({ positions, items }, _, centers) {
    const chunks = (vectors) => {
      const best = vectors.map((v) => topk(centers.map((center) => dot(center, v)), 1)[0]);
      const order = range(vectors.length).sort((a, b) => best[a] - best[b] || a - b), size = order.length / centers.length;
      return centers.map((_, c) => order.slice(Math.round(c * size), Math.round((c + 1) * size)));
    };
    const rows = chunks(positions), columns = chunks(items);
    return rows.map((r, c) => ({ rows: r, items: columns.slice(Math.max(c - 1, 0), c + 2).flat() }));
  },
};
export const LOSSES = Object.keys(BLOCKS);

// ------------------------------------------------------------------------------------------------- losses, gradients

/** Everything that a loss does with a world. `all` is what scoreAll says of the world. */
export function evaluate(world, settings, all = scoreAll(world)) {
  const { targets, positions, items } = world, N = positions.length, C = items.length, { logits, mass } = all;
  const centers = drawCenters(world, settings), blocks = BLOCKS[settings.loss](world, settings, centers);
  const losses = new Float64Array(N).fill(-Infinity), winner = new Int32Array(N).fill(-1);
  const looked = new Uint8Array(N * C), slots = new Int32Array(N);
  blocks.forEach((block, b) => {
    block.losses = block.rows.map((n) => {
      const target = logits[n * C + targets[n]], wrong = block.items.filter((i) => i !== targets[n]);
      const loss = logSumExp([target, ...wrong.map((i) => logits[n * C + i] - (block.offset ?? 0))]) - target;
      slots[n] += 1;
      for (const i of block.items) looked[n * C + i] = 1;
      looked[n * C + targets[n]] = 1;
      if (loss > losses[n]) [losses[n], winner[n]] = [loss, b];
      return loss;
    });
  });
  const covered = range(N).filter((n) => winner[n] >= 0), gradient = new Float64Array(N * C);
  for (const n of covered) {  // of the mean loss in each logit: the softmax of the winning block, less 1 at the target
    const block = blocks[winner[n]], target = n * C + targets[n];
    const total = losses[n] + logits[target];
    for (const i of block.items) {
      if (i !== targets[n]) gradient[n * C + i] += Math.exp(logits[n * C + i] - (block.offset ?? 0) - total) / covered.length;
    }
    gradient[target] = (Math.exp(-losses[n]) - 1) / covered.length;
  }
  return { world, settings, centers, blocks, losses, winner, covered, slots, looked, gradient, ...all,
    ...readouts(world, { blocks, winner, covered, looked, mass }) };
}

/** coverage, captured mass, computed cells, and of every position its hardest wrong item and whether that was missed. */
function readouts({ targets, positions, items }, { blocks, winner, covered, looked, mass }) {
  const N = positions.length, C = items.length;
  const caught = covered.map((n) => [...new Set(blocks[winner[n]].items)].reduce((sum, i) => sum + mass[n * C + i], 0));
  const hardest = targets.map((target, n) => {
    let best = -1;
    for (let i = 0; i < C; i++) if (i !== target && (best < 0 || mass[n * C + i] > mass[n * C + best])) best = i;
    return best;
  });
  const missed = hardest.map((item, n) => winner[n] < 0 || !blocks[winner[n]].items.includes(item));
  return {
    coverage: covered.length / N,
    captured_mass: covered.length ? caught.reduce((a, b) => a + b, 0) / covered.length : 0,
    cells: blocks.reduce((sum, { rows, items: taken }) => sum + rows.length * taken.length, 0),
    looked_at: looked.reduce((a, b) => a + b, 0),
    hardest, missed, n_missed: missed.filter(Boolean).length,
  };
}

/** Gradients of the mean loss in positions (N x D) and items (C x D), from that in the logits. */
export function backward({ world: { positions, items }, gradient }) {
  const D = positions[0].length, C = items.length;
  const inPositions = new Float64Array(positions.length * D), inItems = new Float64Array(C * D);
  gradient.forEach((g, cell) => {
    if (!g) return;
    const n = Math.floor(cell / C), i = cell % C;
    for (let d = 0; d < D; d++) {
      inPositions[n * D + d] += g * items[i][d];
      inItems[i * D + d] += g * positions[n][d];
    }
  });
  return { inPositions, inItems };
}

/** Cosine of two gradients, positions and items together, and how long the first is of the second. */
export function compare(one, other) {
  const flat = ({ inPositions, inItems }) => [...inPositions, ...inItems], a = flat(one), b = flat(other);
  const length = (v) => Math.sqrt(dot(v, v));
  return { cosine: dot(a, b) / (length(a) * length(b) || 1), length: length(a) / (length(b) || 1) };
}

// ------------------------------------------------------------------------------------------------------------- order

/** Rows and columns in the order that makes rectangles of the blocks; those in no block come last. */
export function arrange({ settings, blocks, centers, world }, plane, bucket = -1) {
  const angle = ([x, y]) => Math.atan2(y, x), directions = centers.map(plane);
  const turn = topk(directions.map((v) => -angle(v)), centers.length), place = [];
  turn.forEach((b, nth) => { place[b] = nth; });
  const inTurn = settings.loss === "sce" || settings.loss === "rece";
  const order = (vectors, side, scores) => {
    const key = vectors.map((v) => [Infinity, angle(plane(v))]);
    blocks.forEach((block, b) => {
      for (const at of block[side]) {
        if (!inTurn) key[at][0] = 0;
        else if (settings.loss === "rece") key[at][0] = Math.min(key[at][0], b);
        else {  // of the buckets that took it, the one whose direction it suits best
          const suits = block[scores][at] / Math.hypot(...centers[b]);
          if (!(key[at][2] >= suits)) [key[at][0], key[at][2]] = [place[b], suits];
        }
      }
    });
    const first = blocks[bucket]?.[side] ?? [], rank = new Map(first.map((at, nth) => [at, nth]));
    const by = (at) => [rank.get(at) ?? first.length, ...key[at]];
    const less = (a, b) => by(a)[0] - by(b)[0] || (by(a)[1] === by(b)[1] ? by(a)[2] - by(b)[2] : by(a)[1] - by(b)[1]);
    return range(vectors.length).sort((a, b) => less(a, b) || a - b);
  };
  return { rows: order(world.positions, "rows", "rowScores"), columns: order(world.items, "items", "itemScores") };
}
