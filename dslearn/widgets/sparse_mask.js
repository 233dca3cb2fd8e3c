// The view of SparseMaskExplorer: a mask, the way a query's search goes down, what it costs, and the text it reads.

const PATTERNS = [
  ["dense", "dense: every earlier token"],
  ["window", "window: the nearest blocks"],
  ["flat", "blocks, each of them scored"],
  ["tree", "blocks, found through a tree"],
  ["token", "single tokens, each scored"],
];
const SIDE = 512; // pixels of the mask's picture; longer texts share them

function settings(model) {
  return {
    pattern: model.get("pattern"),
    tokens: model.get("tokens"),
    blockSize: model.get("block_size"),
    topK: model.get("top_k"),
    queryBlock: model.get("query_block"),
    branching: model.get("branching"),
  };
}

/** One head's index features as float64: exact for both ways in which they can arrive, int8 and float32. */
function features(model, name) {
  const view = model.get(name);
  const [, available, rank] = model.get("shape");
  const all = model.get("quantized")
    ? new Int8Array(view.buffer, view.byteOffset, view.byteLength)
    : new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
  const size = available * rank;
  return Float64Array.from(all.subarray(model.get("head") * size, (model.get("head") + 1) * size));
}

function makeControls(model, write) {
  const available = model.get("shape")[1];
  const get = (name) => () => model.get(name);
  const set = (name) => (value) => write({ [name]: value });
  const together = () => (model.get("query_block") === 1 ? 1 : "block");
  const sizes = powersOfTwo(4, 128).filter((size) => size <= available);
  const units = [[1, "each token for itself"], ["block", "a block of queries together"]];
  const list = {
    pattern: chooser("Pattern", PATTERNS, get("pattern"), set("pattern")),
    tokens: slider("Length in tokens", () => powersOfTwo(Math.min(64, available), available), get("tokens"), (tokens) =>
      write({ tokens, position: Math.min(model.get("position"), tokens - 1) })),
    block: slider("Keys a block", () => sizes, get("block_size"), (size) =>
      write({ block_size: size, query_block: together() === 1 ? 1 : size })),
    budget: slider("Budget in blocks", () => powersOfTwo(1, 32), get("top_k"), set("top_k")),
    unit: chooser("Who chooses", units, together, (unit) =>
      write({ query_block: unit === 1 ? 1 : model.get("block_size") })),
  };
  if (model.get("shape")[0] > 1) {
    const heads = Array.from({ length: model.get("shape")[0] }, (_, head) => [head, `head ${head}`]);
    list.head = chooser("Head", heads, get("head"), set("head"));
  }
  const element = h("div", { class: "controls" }, ...Object.values(list).map((control) => control.element));
  const update = () => {
    const blocks = model.get("pattern") !== "dense";
    for (const control of [list.pattern, list.tokens, list.head]) control?.update();
    list.block.update(blocks);
    list.budget.update(blocks);
    list.unit.update(blocks && model.get("pattern") !== "token");
  };
  return { element, update };
}

/** How much of each of the picture's cells is read, 0 to 1, row by row; a cell may stand for several tokens. */
function coverage(result, tokens, side) {
  const share = new Float32Array(side * side);
  const edges = new Float64Array(tokens + 1);
  const cell = Int32Array.from({ length: tokens }, (_, token) => Math.floor((token * side) / tokens));
  for (let token = 0; token < tokens; token++) {
    result.spans(token, (from, to) => (edges[from]++, edges[to]--));
    if (token + 1 < tokens && cell[token + 1] === cell[token]) continue;
    for (let key = 0, open = 0; key < tokens; key++) share[cell[token] * side + cell[key]] += open += edges[key];
    edges.fill(0);
  }
  const members = new Int32Array(side);
  for (const at of cell) members[at]++;
  for (let row = 0; row < side; row++)
    for (let column = 0; column <= row; column++) {
      const all = members[row] * members[column];
      share[row * side + column] /= row === column ? (all + members[row]) / 2 : all;
    }
  return share;
}

function maskView(model, write) {
  const canvas = h("canvas", {
    class: "mask", tabindex: 0, role: "slider", "aria-label": "Query position", "aria-valuemin": 0,
    onkeydown: (event) => keyed(event),
    onpointerdown: (event) => pointed(event),
    onpointermove: (event) => event.pointerType === "mouse" && pointed(event),
  });
  const line = h("div", { class: "line" });
  const element = h("div", { class: "plane" },
    h("div", { class: "frame" }, canvas, line),
    h("p", { class: "axis", "aria-hidden": "true" }, "across: keys, first to last · down: queries"));
  const moveTo = (position) => write({ position: Math.max(0, Math.min(model.get("tokens") - 1, position)) });
  const pointed = (event) => {
    const box = canvas.getBoundingClientRect();
    moveTo(Math.floor(((event.clientY - box.top) / box.height) * model.get("tokens")));
  };
  const keyed = (event) => {
    const [here, block] = [model.get("position"), model.get("block_size")];
    const to = {
      ArrowDown: here + 1, ArrowRight: here + 1, ArrowUp: here - 1, ArrowLeft: here - 1,
      PageDown: here + block, PageUp: here - block, Home: 0, End: Infinity,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    moveTo(to);
  };
  const draw = (result, tokens, root) => {
    const side = (canvas.width = canvas.height = Math.min(tokens, SIDE));
    const [future, unread, read] = colours(root, "future", "unread", "read");
    const share = coverage(result, tokens, side);
    const image = new ImageData(side, side);
    const pixels = new Uint32Array(image.data.buffer);
    const scale = shades(unread, read);
    const [later] = shades(future, future);
    for (let row = 0, at = 0; row < side; row++)
      for (let column = 0; column < side; column++, at++)
        pixels[at] = column > row ? later : scale[Math.round(255 * Math.min(1, share[at]))];
    canvas.getContext("2d").putImageData(image, 0, 0);
  };
  const mark = (position, tokens, sentence) => {
    line.style.top = `${(100 * (position + 0.5)) / tokens}%`;
    canvas.setAttribute("aria-valuemax", tokens - 1);
    canvas.setAttribute("aria-valuenow", position);
    canvas.setAttribute("aria-valuetext", sentence);
  };
  return { element, draw, mark };
}

/**
 * The levels of one search, coarsest above: what was scored, what was followed; they appear one after another. Every
 * level that some token needs has its place, or the page would jump under the pointer.
 */
function ladderView() {
  const element = h("div", { class: "ladder" });
  let timers = [];
  const show = (levels, s, root) => {
    timers.forEach(clearTimeout);
    const searched = s.pattern === "flat" || s.pattern === "tree";
    const unused = [];
    for (let level = searched ? firstLevel(s.tokens - 1, s) : -1; level > (levels[0]?.level ?? -1); level--)
      unused.push({ level, nodes: Math.ceil(s.tokens / (s.blockSize * s.branching ** level)), scored: [], kept: [] });
    element.replaceChildren(...[...unused, ...levels].map((level) => rung(level, root)));
    const delay = calm() ? 0 : 140;
    timers = [...element.children].map((row, i) => setTimeout(() => row.classList.add("shown"), i * delay));
  };
  return { element, show };
}

function rung({ level, nodes, scored, kept, filling }, root) {
  const canvas = h("canvas", { "aria-hidden": "true", width: Math.max(nodes, 1), height: 1 });
  const [unread, looked, read, own, future] = colours(root, "unread", "looked", "read", "own", "future");
  const image = new ImageData(nodes, 1);
  const paint = (node, colour) => image.data.set([...colour, 255], 4 * node);
  for (let node = 0; node < nodes; node++) paint(node, node > filling ? future : unread);
  scored.forEach((node) => paint(node, looked));
  kept.forEach((node) => paint(node, node === filling ? own : read));
  canvas.getContext("2d").putImageData(image, 0, 0);
  const name = level ? `${number(nodes)} groups` : `${number(nodes)} blocks`;
  const what = level ? "followed" : "read";
  const words = kept.length ? `${number(scored.length)} scored, ${number(kept.length)} ${what}` : "not needed yet";
  return h("div", { class: "rung" }, h("p", {}, `${name}: ${words}`), canvas);
}

function key() {
  const names = { read: "read", own: "its own block", looked: "scored, not read", unread: "neither" };
  const entries = Object.entries(names).map(([colour, name]) =>
    h("span", {}, h("i", { style: `background: var(--${colour})` }), name));
  return h("p", { class: "key" }, ...entries);
}

function textView(model, write) {
  const labels = model.get("labels");
  if (!labels.length) return { element: "", show: () => {} };
  const box = h("div", { class: "text", tabindex: 0, role: "region", "aria-label": "The text, and what the token reads" });
  const pieces = [];
  const fit = (tokens) => {
    while (pieces.length > tokens) pieces.pop().remove();
    for (let token = pieces.length; token < tokens; token++) {
      pieces.push(h("span", { "data-token": token }, labels[token].replaceAll("\n", "↵\n")));
      box.append(pieces[token]);
    }
  };
  const pointed = (event) => {
    const token = event.target.dataset.token;
    if (token !== undefined) write({ position: +token });
  };
  box.addEventListener("pointerover", (event) => event.pointerType === "mouse" && pointed(event));
  box.addEventListener("click", pointed);
  const show = (reads, position, weights) => {
    fit(reads.length);
    pieces.forEach((piece, token) => {
      const now = token === position ? "query" : token > position ? "later" : reads[token] ? "read" : "";
      if (piece.className !== now) piece.className = now;
      if (!weights) return;
      const weight = token <= position ? Math.round(4 * Math.sqrt(weights[token] / 255)) : 0;
      piece.style.boxShadow = weight ? `inset 0 -${weight}px var(--weight)` : "";
    });
    if (!box.matches(":hover")) {
      const piece = pieces[position];
      box.scrollTop = piece.offsetTop - box.clientHeight / 2;
    }
  };
  const words = "Marked: what the token reads." + (model.get("attention").byteLength ? " Underlined: where its dense attention looks." : "");
  return { element: h("div", {}, h("p", { class: "axis caption" }, words), box), show };
}

function factsView() {
  const names = ["Pairs read", "Scores made to choose", "Multiply-adds", "Kept in memory", "Read for this token"];
  const values = names.map(() => h("dd"));
  const element = h("dl", { class: "facts" }, ...names.map((name, i) => h("div", {}, h("dt", {}, name), values[i])));
  const show = (result, s, dim, rank, read) => {
    const cost = costs(result, s, dim, rank);
    const told = [
      `${number(result.kept)} of ${number(cost.pairs)} (${percent(result.kept / cost.pairs)})`,
      number(result.scorings),
      `${number(cost.made)}, dense ${number(cost.dense)} (${percent(cost.made / cost.dense)})`,
      `${bytesOf(cost.cache)} of keys and values, dense the same; ${bytesOf(cost.index)} to choose by`,
      `${bytesOf(read * 2 * dim * NUMBER)} of keys and values`,
    ];
    told.forEach((words, i) => (values[i].textContent = words));
  };
  return { element, show };
}

/** How strongly dense attention looks from `position` at each token, 0 to 255; null where it is not given. */
function denseWeights(model, position) {
  const view = model.get("attention");
  if (!view || !view.byteLength) return null;
  const available = model.get("shape")[1];
  const row = (model.get("head") * available + position) * available;
  return new Uint8Array(view.buffer, view.byteOffset + row, available);
}

function sentenceFor(position, read, levels) {
  const found = levels.length ? ` Finding them took ${number(levels.reduce((n, l) => n + l.scored.length, 0))} scores.` : "";
  return `Token ${number(position)} reads ${number(read)} of ${number(position + 1)} tokens up to itself.${found}`;
}

function render({ model, el }) {
  const root = frame("Sparse mask explorer");
  el.append(root);
  const say = announcer(root);
  const write = (changes) => {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  };
  const [controls, mask, ladder, text, facts] = [
    makeControls(model, write), maskView(model, write), ladderView(), textView(model, write), factsView(),
  ];
  const sentence = h("p", { class: "sentence" });
  const beside = h("div", { class: "beside" }, sentence, ladder.element, key(), facts.element);
  root.append(controls.element, h("div", { class: "views" }, mask.element, beside), text.element);

  let s, result, position, reads;
  const markText = oncePerFrame(() => text.show(reads, position, denseWeights(model, position)));
  const point = () => {
    const levels = [];
    position = Math.min(model.get("position"), s.tokens - 1);
    reads = new Uint8Array(s.tokens);
    result.spans(position, (from, to) => reads.fill(1, from, to));
    result.trace(position, (level) => levels.push(level));
    const read = reads.reduce((sum, one) => sum + one, 0);
    sentence.textContent = sentenceFor(position, read, levels);
    mask.mark(position, s.tokens, sentence.textContent);
    ladder.show(levels, s, root);
    facts.show(result, s, model.get("dim"), model.get("index_rank"), read);
    markText(); // in the next frame: a long text takes its time, and the mask need not wait for it
  };
  const compute = () => {
    s = settings(model);
    controls.update();
    result = choose(features(model, "index_q"), features(model, "index_k"), model.get("shape")[2], s);
    mask.draw(result, s.tokens, root);
    point();
    const { pairs } = costs(result, s, 1, 1);
    say(`${PATTERNS.find(([name]) => name === s.pattern)[1]}: ${percent(result.kept / pairs)} of all pairs are read.`);
  };
  const [later, pointLater] = [oncePerFrame(compute), oncePerFrame(point)];
  let stop = () => {};
  whenShown(root, () => {
    stop = followTheme(root, later);
    compute();
    for (const name of ["pattern", "tokens", "block_size", "top_k", "query_block", "branching", "head"])
      model.on(`change:${name}`, later);
    model.on("change:position", pointLater);
  });
  return () => stop();
}

export default { render };
