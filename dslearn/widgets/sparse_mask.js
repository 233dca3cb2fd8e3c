// SparseMaskExplorer: what each token of a text reads, by five patterns. `choose` and `count` are the library's own
// rules (dslearn.attention.select_blocks, TokenIndexer), in JavaScript, so that the picture lives without a kernel.

const PATTERNS = {
  dense: "dense",
  window: "window",
  flat: "flat blocks",
  tree: "tree",
  token: "token top-k",
};
const HAS_BLOCKS = new Set(["window", "flat", "tree"]);
const FLOAT_BYTES = 4;

// ---- The choice ----------------------------------------------------------------------------------------------------

// (max, min) of the keys in each complete block, and of each complete group of `branching` nodes above.
export function buildTree({ k, rank }, { tokens, blockSize, branching }) {
  const merge = (below, width, size) => {
    const count = Math.floor(below.length / width / size);
    const nodes = new Float32Array(count * 2 * rank);
    for (let node = 0; node < count; node++) {
      for (let feature = 0; feature < rank; feature++) {
        let top = -Infinity;
        let low = Infinity;
        for (let child = node * size; child < (node + 1) * size; child++) {
          top = Math.max(top, below[child * width + feature]);
          low = Math.min(low, below[child * width + (width === rank ? feature : rank + feature)]);
        }
        nodes[node * 2 * rank + feature] = top;
        nodes[node * 2 * rank + rank + feature] = low;
      }
    }
    return nodes;
  };
  const levels = [merge(k.subarray(0, tokens * rank), rank, blockSize)];
  while (levels.at(-1).length / 2 / rank >= branching) levels.push(merge(levels.at(-1), 2 * rank, branching));
  return levels;
}

// q⁺ and q⁻ side by side, averaged over the queries that choose together.
function pooled({ q, rank }, first, end) {
  const made = new Float64Array(2 * rank);
  for (let token = first; token < end; token++) {
    for (let feature = 0; feature < rank; feature++) {
      const value = q[token * rank + feature];
      made[value > 0 ? feature : rank + feature] += value / (end - first);
    }
  }
  return made;
}

function product(a, b, at, length) {
  let sum = 0;
  for (let place = 0; place < length; place++) sum += a[place] * b[at + place];
  return sum;
}

// The numbers of the `many` best candidates, best first.
function best(candidates, scores, many) {
  const order = candidates.map((node, place) => [scores[place], node]);
  order.sort((a, b) => b[0] - a[0]);
  return order.slice(0, many).map(([, node]) => node);
}

// One unit's way down: for each level, coarsest first, the nodes scored, those kept, and the one still being filled.
export function descend(features, levels, settings, unit) {
  const { tokens, blockSize, topK, queryBlock, branching, pattern } = settings;
  const first = unit * queryBlock;
  const query = pooled(features, first, Math.min(first + queryBlock, tokens));
  const width = 2 * features.rank;
  const filling = (level) => Math.floor(first / (blockSize * branching ** level));
  let level = 0;
  if (pattern === "tree") while (filling(level) > 4 * topK * branching) level += 1;
  let scored = Array.from({ length: filling(level) }, (_, node) => node);
  const steps = [];
  for (; ; level--) {
    const nodes = levels[level] ?? new Float32Array(0);
    const scores = scored.map((node) => product(query, nodes, node * width, width));
    const kept = best(scored, scores, level ? topK : topK - 1);
    steps.push({ level, scored, kept, filling: filling(level), count: nodes.length / width });
    if (!level) return steps;
    const before = filling(level - 1);
    scored = [];
    for (const parent of [...kept, filling(level)]) {
      for (let child = parent * branching; child < Math.min((parent + 1) * branching, before); child++) scored.push(child);
    }
  }
}

// The `many` largest of scores[0…last], as marks; of equal ones the earlier.
function largest(scores, last, many, work) {
  if (many > last) return null;
  work.set(scores.subarray(0, last + 1));
  const sorted = work.subarray(0, last + 1).sort();
  const threshold = sorted[last + 1 - many];
  let above = 0;
  for (let place = last; place >= 0 && sorted[place] > threshold; place--) above += 1;
  return { threshold, ties: many - above };
}

// What each token reads: `ranges(t)` calls back with the key ranges [from, to) of token t. And how much was scored.
export function choose(features, settings) {
  const { tokens, blockSize, topK, queryBlock, pattern } = settings;
  if (pattern === "dense") return { scored: 0, ranges: (token, tell) => tell(0, token + 1) };
  if (pattern === "token") return chooseTokens(features, tokens, topK * blockSize);
  const units = Math.ceil(tokens / queryBlock);
  const chosen = new Int32Array(units * topK).fill(-1);
  const levels = pattern === "window" ? null : buildTree(features, settings);
  let scored = 0;
  for (let unit = 0; unit < units; unit++) {
    const own = Math.floor((unit * queryBlock) / blockSize);
    let others = [];
    if (pattern === "window") {
      for (let block = own - 1; block > Math.max(-1, own - topK); block--) others.push(block);
    } else {
      const steps = descend(features, levels, settings, unit);
      for (const step of steps) scored += step.scored.length;
      others = steps.at(-1).kept;
    }
    chosen.set([own, ...others], unit * topK);
  }
  const ranges = (token, tell) => {
    const unit = Math.floor(token / queryBlock);
    for (let place = unit * topK; place < (unit + 1) * topK; place++) {
      const start = chosen[place] * blockSize;
      if (chosen[place] >= 0 && start <= token) tell(start, Math.min(start + blockSize, token + 1));
    }
  };
  return { scored, ranges, levels };
}

function chooseTokens({ q, k, rank }, tokens, budget) {
  const marks = new Uint8Array(tokens * tokens);
  const scores = new Float32Array(tokens);
  const work = new Float32Array(tokens);
  for (let token = 0; token < tokens; token++) {
    const query = q.subarray(token * rank, (token + 1) * rank);
    for (let key = 0; key <= token; key++) scores[key] = product(query, k, key * rank, rank);
    const limit = largest(scores, token, budget, work);
    let ties = limit?.ties ?? 0;
    for (let key = 0; key <= token; key++) {
      if (!limit || scores[key] > limit.threshold || (scores[key] === limit.threshold && ties-- > 0)) {
        marks[token * tokens + key] = 1;
      }
    }
  }
  const ranges = (token, tell) => {
    for (let key = 0; key <= token; key++) if (marks[token * tokens + key]) tell(key, key + 1);
  };
  return { scored: (tokens * (tokens + 1)) / 2, ranges };
}

// Pairs read, scores of the choice, and the multiply-adds of both.
export function count(reading, { tokens, pattern, dim, indexRank }) {
  let pairs = 0;
  for (let token = 0; token < tokens; token++) reading.ranges(token, (from, to) => (pairs += to - from));
  const aScore = pattern === "token" ? indexRank : 2 * indexRank;
  return { pairs, scored: reading.scored, multiplyAdds: 2 * dim * pairs + aScore * reading.scored };
}

export function countOfToken(reading, token) {
  let keys = 0;
  reading.ranges(token, (from, to) => (keys += to - from));
  return keys;
}

// ---- The picture ---------------------------------------------------------------------------------------------------

// The share of each cell's past pairs that are read, in a picture of at most `most` cells a side.
function shares(reading, tokens, most) {
  const side = Math.min(tokens, most);
  const cell = Uint16Array.from({ length: tokens }, (_, token) => Math.floor((token * side) / tokens));
  const read = new Float32Array(side * side);
  const past = new Float32Array(side * side);
  const ends = Uint16Array.from({ length: side }, (_, column) => Math.ceil(((column + 1) * tokens) / side));
  for (let token = 0; token < tokens; token++) {
    const row = cell[token] * side;
    reading.ranges(token, (from, to) => {
      for (let key = from; key < to; key++) read[row + cell[key]] += 1;
    });
    for (let column = 0, start = 0; column < side && start <= token; start = ends[column++]) {
      past[row + column] += Math.min(ends[column], token + 1) - start;
    }
  }
  return { side, read, past };
}

function parseColour(text) {
  const digits = text.replace("#", "");
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}

function maskImage({ side, read, past }, palette) {
  const [unread, full] = [palette.unread, palette.read].map(parseColour);
  const image = new ImageData(side, side);
  for (let cell = 0; cell < side * side; cell++) {
    if (!past[cell]) continue;
    const share = read[cell] / past[cell];
    const mix = share ? 0.25 + 0.75 * share : 0;
    for (let part = 0; part < 3; part++) image.data[4 * cell + part] = unread[part] + mix * (full[part] - unread[part]);
    image.data[4 * cell + 3] = 255;
  }
  const made = element("canvas", { width: side, height: side });
  made.getContext("2d").putImageData(image, 0, 0);
  return made;
}

function drawMask(context, width, { image, tokens, position, blockSize, pattern }, palette) {
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, width, width);
  const size = (blockSize * width) / tokens;
  if (HAS_BLOCKS.has(pattern) && size >= 8) {
    context.strokeStyle = palette.card;
    context.lineWidth = 1;
    context.beginPath();
    for (let at = size; at < width - 0.5; at += size) {
      context.moveTo(at, at);
      context.lineTo(at, width);
      context.moveTo(0, at);
      context.lineTo(at, at);
    }
    context.stroke();
  }
  const row = ((position + 0.5) * width) / tokens;
  context.strokeStyle = palette.here;
  context.lineWidth = Math.max(1.5, width / tokens);
  context.globalAlpha = 0.45;
  context.beginPath();
  context.moveTo(0, row);
  context.lineTo(width, row);
  context.stroke();
  context.globalAlpha = 1;
}

const LEVEL_HEIGHT = 34;

// The way down to the query's blocks, level under level; `progress` from 0 to 1 lets one level after the other appear.
function drawDescent(context, width, rows, progress, palette) {
  rows.forEach(({ told, count: nodes, scored, kept, filling }, place) => {
    const shown = Math.min(1, Math.max(0, progress * rows.length - place));
    const top = place * LEVEL_HEIGHT + 14;
    const cell = width / nodes;
    const gap = cell >= 4 ? 1 : 0;
    context.fillStyle = palette.quiet;
    context.font = "11px system-ui, sans-serif";
    context.fillText(told, 0, top - 3, width);
    const box = (node, colour) => {
      context.fillStyle = colour;
      context.fillRect(node * cell, top, Math.max(cell - gap, 0.6), 14);
    };
    context.fillStyle = palette.unread;
    if (gap) for (let node = 0; node < nodes; node++) box(node, palette.unread);
    else context.fillRect(0, top, width, 14);
    context.globalAlpha = shown;
    for (const node of scored) box(node, palette.scored);
    for (const node of kept) box(node, palette.read);
    if (filling < nodes) box(filling, palette.here);
    context.globalAlpha = 1;
  });
}

// The rows that drawDescent draws: levels for a tree, else the one row that the pattern looks at.
function descentRows(reading, settings, features) {
  const { tokens, blockSize, queryBlock, branching, pattern, position } = settings;
  if (pattern === "flat" || pattern === "tree") {
    const steps = descend(features, reading.levels, settings, Math.floor(position / queryBlock));
    return steps.map((step) => {
      const span = blockSize * branching ** step.level;
      const what = step.level ? `groups of ${span} tokens` : `blocks of ${blockSize}`;
      const told = `${what}: ${step.scored.length} scored, ${step.kept.length} kept, and the query's own`;
      return { ...step, told, count: Math.ceil(tokens / span) };
    });
  }
  const kept = [];
  const unit = pattern === "window" ? blockSize : 1;
  reading.ranges(position, (from, to) => {
    for (let key = from; key < to; key += unit) kept.push(Math.floor(key / unit));
  });
  const scored = pattern === "token" ? Array.from({ length: position + 1 }, (_, key) => key) : [];
  const what = pattern === "window" ? `blocks of ${blockSize}` : "tokens";
  const told = `${what}: ${grouped(scored.length)} scored, ${grouped(kept.length)} read`;
  return [{ told, count: Math.ceil(tokens / unit), scored, kept, filling: Math.floor(position / unit) }];
}

// ---- The widget ----------------------------------------------------------------------------------------------------

const TRAITS = { tokens: "tokens", blockSize: "block_size", topK: "top_k", queryBlock: "query_block" };
const MOST_CELLS = 512;
const powers = (from, to) => {
  const made = [];
  for (let value = from; value <= to; value *= 2) made.push(value);
  return made;
};

function readSettings(model) {
  const settings = { pattern: model.get("pattern"), position: model.get("position"), branching: model.get("branching") };
  for (const [name, trait] of Object.entries(TRAITS)) settings[name] = model.get(trait);
  return { ...settings, dim: model.get("dim"), indexRank: model.get("index_rank") };
}

function readFeatures(model) {
  const rank = model.get("rank");
  const small = model.get("small_features");
  const bytes = (name) => model.get(name);
  const read = (view) => (small ? new Int8Array(view.buffer, view.byteOffset, view.byteLength) : floats(view));
  const head = model.get("head");
  const size = model.get("most_tokens") * rank;
  const [q, k] = ["q", "k"].map((name) => read(bytes(name)).subarray(head * size, (head + 1) * size));
  return { q, k, rank };
}

function summary(settings, counts, dense) {
  const share = (100 * counts.pairs) / dense.pairs;
  const budget = settings.pattern === "dense" ? "" : `, ${settings.topK} blocks of ${settings.blockSize}`;
  return (
    `${PATTERNS[settings.pattern]}${budget}: of ${grouped(dense.pairs)} pairs of tokens ` +
    `${grouped(counts.pairs)} are read, ${share.toPrecision(3)} percent. Token ${grouped(settings.position)} ` +
    `reads ${grouped(counts.keys)} keys.`
  );
}

function numbersTable(node, settings, counts, dense) {
  const bytes = (keys) => 2 * settings.dim * FLOAT_BYTES * keys;
  const rows = [
    ["pairs read", counts.pairs, dense.pairs, ""],
    ["scores to choose", counts.scored, 0, ""],
    ["multiply-adds", counts.multiplyAdds, dense.multiplyAdds, ""],
    [`fetched by token ${grouped(settings.position)}`, bytes(counts.keys), bytes(settings.position + 1), "B"],
  ];
  node.replaceChildren(
    ...rows.map(([what, ours, theirs, unit]) => {
      const share = theirs ? `${((100 * ours) / theirs).toPrecision(3)} %` : "";
      const exact = unit ? short(ours, unit) : grouped(ours);
      const cells = [exact, unit ? short(theirs, unit) : grouped(theirs), share];
      return element(
        "tr",
        {},
        element("th", { scope: "row", textContent: what }),
        ...cells.map((textContent) => element("td", { textContent })),
      );
    }),
  );
}

// The text, a span for each token; returns how to mark what one of them reads.
function textBox(labels, attention, onPick) {
  const node = element("div", { className: "dsl-text", tabIndex: 0 });
  node.setAttribute("role", "group");
  node.setAttribute("aria-label", "The text. Move over a token to see what it reads.");
  const spans = labels.map((label, place) => {
    const span = element("span", { textContent: label });
    span.dataset.place = place;
    return span;
  });
  node.append(...spans);
  const pick = (event) => {
    const place = event.target.dataset?.place;
    if (place !== undefined) onPick(Number(place));
  };
  node.addEventListener("pointerover", pick);
  node.addEventListener("pointerdown", pick);
  const mark = (reading, position) => {
    const weights = attention.subarray(position * labels.length, (position + 1) * labels.length);
    const most = Math.max(...weights.subarray(0, position + 1), 1e-9);
    for (const span of spans) {
      span.className = "";
      span.style.opacity = "";
    }
    reading.ranges(position, (from, to) => {
      for (let key = from; key < to; key++) {
        spans[key].className = "dsl-reads";
        if (weights.length) spans[key].style.opacity = 0.4 + (0.6 * weights[key]) / most;
      }
    });
    spans[position].className = "dsl-here";
    spans[position].style.opacity = "";
  };
  return { node, mark };
}

function render({ model, el }) {
  let settings = readSettings(model);
  let features = readFeatures(model);
  let reading;
  let image;
  let counts;
  let dense;
  let rows = [];
  let appeared = 1;
  const labels = model.get("labels");
  const attention = floats(model.get("attention"));

  const root = element("div", { className: "dsl" });
  const heard = element("div", { className: "dsl-heard" });
  heard.setAttribute("aria-live", "polite");
  const palette = colours(root);

  const set = (changes) => {
    Object.assign(settings, changes);
    for (const [name, value] of Object.entries(changes)) model.set(TRAITS[name] ?? name, value);
    model.set("counts", {});
    save();
    changed(!("position" in changes && Object.keys(changes).length === 1));
  };
  const save = debounced(() => model.save_changes(), 120);
  const say = debounced(() => {
    heard.textContent = mask.node.getAttribute("aria-label");
  }, 500);

  const controls = {
    pattern: choice({ label: "Pattern", options: PATTERNS, value: settings.pattern, onInput: (pattern) => set({ pattern }) }),
    tokens: slider({
      label: "length",
      values: lengths(model.get("most_tokens"), settings.tokens),
      value: settings.tokens,
      words: (tokens) => `${grouped(tokens)} tokens`,
      onInput: (tokens) => set({ tokens, position: Math.min(settings.position, tokens - 1) }),
    }),
    blockSize: slider({
      label: "block",
      values: powers(4, 256),
      value: settings.blockSize,
      words: (size) => `${size} tokens`,
      onInput: (blockSize) => set({ blockSize, queryBlock: Math.min(settings.queryBlock, blockSize) }),
    }),
    topK: slider({
      label: "budget",
      values: Array.from({ length: 32 }, (_, place) => place + 1),
      value: settings.topK,
      words: (blocks) => `${blocks} block${blocks > 1 ? "s" : ""}, ${grouped(blocks * settings.blockSize)}`,
      onInput: (topK) => set({ topK }),
    }),
    queryBlock: slider({
      label: "choose together",
      values: powers(1, settings.blockSize),
      value: settings.queryBlock,
      words: (size) => (size === 1 ? "each token alone" : `${size} tokens`),
      onInput: (queryBlock) => set({ queryBlock }),
    }),
    position: slider({
      label: "query",
      values: Array.from({ length: settings.tokens }, (_, token) => token),
      value: settings.position,
      words: (token) => `token ${grouped(token)}`,
      onInput: (position) => set({ position }),
    }),
  };

  const mask = canvas({
    label: "",
    height: (width) => width,
    draw: (context, width) => image && drawMask(context, width, { ...settings, image }, palette),
  });
  const descent = canvas({
    label: "What the query scores and keeps, level by level",
    height: () => Math.max(1, rows.length) * LEVEL_HEIGHT,
    draw: (context, width) => drawDescent(context, width, rows, appeared, palette),
  });
  const pick = (event) => {
    if (event.type === "pointermove" && event.pointerType !== "mouse") return;
    const row = Math.floor((event.offsetY / mask.height) * settings.tokens);
    const position = Math.min(settings.tokens - 1, Math.max(0, row));
    if (position !== settings.position) set({ position });
  };
  mask.node.addEventListener("pointermove", pick);
  mask.node.addEventListener("pointerdown", pick);

  const body = element("tbody");
  const table = element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...["one head", "this pattern", "dense", ""].map(heading))),
    body,
  );
  const text = labels.length ? textBox(labels, attention, (position) => set({ position })) : null;
  const held = element("p", { className: "dsl-note" });
  const note = element("p", { className: "dsl-note", textContent: NOTE });

  const show = () => {
    controls.topK.set(settings.topK);
    controls.queryBlock.values = powers(1, settings.blockSize);
    controls.queryBlock.set(settings.queryBlock);
    if (controls.position.values.length !== settings.tokens) {
      controls.position.values = Array.from({ length: settings.tokens }, (_, token) => token);
    }
    controls.position.set(settings.position);
    controls.blockSize.enable(settings.pattern !== "dense");
    controls.topK.enable(settings.pattern !== "dense");
    controls.queryBlock.enable(settings.pattern === "flat" || settings.pattern === "tree");
    counts.keys = countOfToken(reading, settings.position);
    numbersTable(body, settings, counts, dense);
    if (attention.length) held.textContent = attentionHeld(reading, attention, settings);
    text?.mark(reading, settings.position);
    mask.node.setAttribute("aria-label", summary(settings, counts, dense));
    say();
  };

  let anew = true;
  const picture = beforeNextPicture(() => {
    if (anew) {
      reading = choose(features, settings);
      counts = count(reading, settings);
      dense = count(choose(features, { ...settings, pattern: "dense" }), { ...settings, pattern: "dense" });
      image = maskImage(shares(reading, settings.tokens, MOST_CELLS), palette);
      model.set("counts", { pairs: counts.pairs, scored: counts.scored, multiply_adds: counts.multiplyAdds });
      save();
      anew = false;
    }
    const before = rows.length;
    rows = descentRows(reading, settings, features);
    show();
    mask.draw();
    if (rows.length === before) descent.draw();
    else descent.fitAgain();
    settle();
  });
  const changed = (everything) => {
    anew ||= everything;
    appeared = 1;
    picture();
  };
  const settle = debounced(() => {
    if (prefersStillness() || rows.length < 2) return;
    const started = performance.now();
    const step = (now) => {
      appeared = Math.min(1, (now - started) / (250 * rows.length));
      descent.draw();
      if (appeared < 1 && root.isConnected) animation = requestAnimationFrame(step);
    };
    cancelAnimationFrame(animation);
    animation = requestAnimationFrame(step);
  }, 250);
  let animation = 0;

  const { pattern, ...sliders } = controls;
  root.append(
    element("p", { className: "dsl-title", textContent: model.get("title") }),
    pattern.node,
    element(
      "div",
      { className: "dsl-columns" },
      element("div", {}, mask.node),
      element("div", {}, ...Object.values(sliders).map((control) => control.node), table, held, descent.node),
    ),
    ...(text ? [text.node] : []),
    note,
    heard,
  );
  el.append(root);

  const fromPython = () => {
    settings = readSettings(model);
    features = readFeatures(model);
    controls.pattern.set(settings.pattern);
    controls.tokens.set(settings.tokens);
    controls.blockSize.set(settings.blockSize);
    changed(true);
  };
  const watched = ["pattern", "position", "head", "q", "k", ...Object.values(TRAITS)];
  for (const name of watched) model.on(`change:${name}`, fromPython);
  const sized = new ResizeObserver(() => {
    mask.fitAgain();
    descent.fitAgain();
  });
  sized.observe(mask.node);
  const unfollow = followTheme(root, () => changed(true));
  changed(true);
  return () => {
    sized.disconnect();
    unfollow();
    cancelAnimationFrame(animation);
    for (const name of watched) model.off(`change:${name}`, fromPython);
  };
}

const NOTE =
  "Blue is read, grey is past and not read. Each row is a token that asks, each column one that may be read. Move over " +
  "the picture, or the slider “query”, to see one token's choice: light blue was scored, blue kept, orange is its own.";

function attentionHeld(reading, attention, { tokens, position }) {
  let sum = 0;
  reading.ranges(position, (from, to) => {
    for (let key = from; key < to; key++) sum += attention[position * tokens + key];
  });
  return `What token ${grouped(position)} reads holds ${(100 * sum).toPrecision(3)} % of its dense attention.`;
}

function heading(textContent) {
  return element("th", { scope: "col", textContent });
}

function lengths(most, now) {
  const values = powers(64, most);
  if (!values.includes(most)) values.push(most);
  if (!values.includes(now)) values.push(now);
  return values.sort((a, b) => a - b);
}

function debounced(work, milliseconds) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  };
}

export default { render };
