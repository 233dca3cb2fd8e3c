// What dslearn.attention chooses, by the same rules: the same blocks, the same counts. Nothing here draws.
//
// `s` are settings: { pattern, tokens, blockSize, topK, queryBlock, branching }; `q` and `k` hold `rank` numbers a token.

/**
 * Which keys each query reads. `spans(token, visit)` calls `visit(from, to)` for each run of keys that a token reads;
 * `kept` pairs of query and key are read in all, and `scorings` scores were made to choose them.
 */
function choose(q, k, rank, s) {
  if (s.pattern === "dense") return told(s, (token, visit) => visit(0, token + 1), 0);
  if (s.pattern === "token") return chooseTokens(q, k, rank, s);
  const units = Math.ceil(s.tokens / s.queryBlock);
  const blocks = new Int32Array(units * s.topK).fill(-1);
  const spans = (token, visit) => {
    const at = Math.floor(token / s.queryBlock) * s.topK;
    for (let i = at; i < at + s.topK; i++)
      if (blocks[i] >= 0) visit(blocks[i] * s.blockSize, Math.min((blocks[i] + 1) * s.blockSize, token + 1));
  };
  if (s.pattern === "window") {
    chooseNearest(units, s, blocks);
    return told(s, spans, 0);
  }
  const tree = buildTree(k, rank, s);
  const queries = poolQueries(q, rank, s.tokens, s.queryBlock);
  const way = (u, into, visit) => descend(tree, queries, u, u * s.queryBlock, s, into, visit);
  let scorings = 0;
  for (let u = 0; u < units; u++) scorings += way(u, blocks);
  return told(s, spans, scorings, (token, visit) => way(Math.floor(token / s.queryBlock), null, visit));
}

/** `trace(token, visit)` shows the levels of a token's search; without a search, none. */
function told(s, spans, scorings, trace = () => 0) {
  let kept = 0;
  for (let token = 0; token < s.tokens; token++) spans(token, (from, to) => (kept += to - from));
  return { spans, scorings, kept, trace };
}

function chooseNearest(units, s, blocks) {
  for (let u = 0; u < units; u++)
    for (let i = 0; i < s.topK; i++) blocks[u * s.topK + i] = Math.floor((u * s.queryBlock) / s.blockSize) - i;
}

const NUMBER = 4; // bytes of a float32

/** What a choice costs, in multiply-adds and bytes, beside dense attention over the same tokens. */
function costs(result, s, dim, rank) {
  const pairs = (s.tokens * (s.tokens + 1)) / 2;
  const summary = s.pattern === "token" ? rank : 2 * rank; // numbers in a token's, or a node's, index entry
  let entries = s.pattern === "token" ? s.tokens : 0;
  if (s.pattern === "flat" || s.pattern === "tree")
    for (let span = s.blockSize; span <= s.tokens; span *= s.branching) entries += Math.floor(s.tokens / span);
  return {
    pairs,
    dense: pairs * 2 * dim,
    made: result.kept * 2 * dim + result.scorings * summary,
    cache: s.tokens * 2 * dim * NUMBER,
    index: entries * summary * NUMBER,
  };
}

/** The published token indexer's way: every token up to itself gets a score, the best stay. */
function chooseTokens(q, k, rank, s) {
  const budget = Math.min(s.topK * s.blockSize, s.tokens);
  const read = new Int32Array(s.tokens * budget).fill(-1);
  const scores = new Float64Array(s.tokens);
  for (let token = 0; token < s.tokens; token++) {
    for (let key = 0; key <= token; key++) {
      let sum = 0;
      for (let r = 0; r < rank; r++) sum += q[token * rank + r] * k[key * rank + r];
      scores[key] = sum;
    }
    read.set(best(scores, token + 1, budget), token * budget);
  }
  const spans = (token, visit) => {
    for (let i = token * budget; i < (token + 1) * budget && read[i] >= 0; i++) visit(read[i], read[i] + 1);
  };
  return told(s, spans, (s.tokens * (s.tokens + 1)) / 2);
}

/** (max, min) of the keys in each complete block, then of each complete group of blocks: `BlockTree`. */
function buildTree(k, rank, s) {
  const levels = [];
  let [below, stride, family, count] = [k, rank, s.blockSize, Math.floor(s.tokens / s.blockSize)];
  do {
    const nodes = new Float64Array(count * 2 * rank);
    for (let node = 0; node < count; node++)
      for (let r = 0; r < rank; r++) {
        let [top, low] = [-Infinity, Infinity];
        for (let child = node * family; child < (node + 1) * family; child++) {
          top = Math.max(top, below[child * stride + r]);
          low = Math.min(low, below[child * stride + (stride - rank) + r]);
        }
        nodes[node * 2 * rank + r] = top;
        nodes[node * 2 * rank + rank + r] = low;
      }
    levels.push({ nodes, count, width: 2 * rank });
    [below, stride, family, count] = [nodes, 2 * rank, s.branching, Math.floor(count / s.branching)];
  } while (count > 0);
  return levels;
}

/** Positive and negative parts side by side, averaged over the queries that choose together. */
function poolQueries(q, rank, tokens, unit) {
  const units = Math.ceil(tokens / unit);
  const pooled = new Float64Array(units * 2 * rank);
  for (let token = 0; token < tokens; token++) {
    const u = Math.floor(token / unit);
    const members = Math.min(unit, tokens - u * unit);
    for (let r = 0; r < rank; r++) {
      const value = q[token * rank + r];
      pooled[u * 2 * rank + (value > 0 ? r : rank + r)] += value / members;
    }
  }
  return pooled;
}

/** Where a search begins: the finest level on which scoring everything is cheap. */
function firstLevel(token, s) {
  let level = 0;
  const cheap = s.pattern === "flat" ? Infinity : 4 * s.topK * s.branching;
  for (let span = s.blockSize; Math.floor(token / span) > cheap; span *= s.branching) level++;
  return level;
}

/**
 * One unit's way down: writes its blocks into `blocks` (if given), calls `visit` (if given) for each level with the
 * nodes that were scored and those that were followed, and returns how many scores it cost.
 */
function descend(tree, queries, u, token, s, blocks, visit) {
  let level = firstLevel(token, s);
  let span = s.blockSize * s.branching ** level;
  let filling = Math.floor(token / span);
  let scored = Array.from({ length: filling }, (_, node) => node);
  let scorings = 0;
  for (;;) {
    const scores = scoreNodes(tree[level], queries, u, scored);
    scorings += scored.length;
    const keep = level ? s.topK : s.topK - 1; // beside the node that is being filled, which is always followed
    const followed = best(scores, scored.length, keep).map((i) => scored[i]);
    if (visit) visit({ level, nodes: Math.ceil(s.tokens / span), scored, kept: [...followed, filling], filling });
    if (level === 0) {
      if (blocks) [filling, ...followed].forEach((block, i) => (blocks[u * s.topK + i] = block));
      return scorings;
    }
    level -= 1;
    span /= s.branching;
    const parent = filling;
    filling = Math.floor(token / span);
    scored = [];
    for (const node of followed) for (let c = 0; c < s.branching; c++) scored.push(node * s.branching + c);
    for (let child = parent * s.branching; child < filling; child++) scored.push(child);
  }
}

function scoreNodes({ nodes, width }, queries, u, scored) {
  const scores = new Float64Array(scored.length);
  for (let i = 0; i < scored.length; i++) {
    let sum = 0;
    for (let r = 0; r < width; r++) sum += queries[u * width + r] * nodes[scored[i] * width + r];
    scores[i] = sum;
  }
  return scores;
}

/** The places of the `count` first scores' `k` highest; the earlier of equals. */
function best(scores, count, k) {
  if (k >= count) return Array.from({ length: count }, (_, i) => i);
  if (k <= 0) return [];
  const bar = kthHighest(scores.slice(0, count), k);
  const places = [];
  for (let i = 0; i < count; i++) if (scores[i] > bar) places.push(i);
  for (let i = 0; i < count && places.length < k; i++) if (scores[i] === bar) places.push(i);
  return places;
}

/** Hoare's quickselect; reorders `x`. */
function kthHighest(x, k) {
  let [low, high] = [0, x.length - 1];
  while (low < high) {
    const pivot = x[(low + high) >> 1];
    let [i, j] = [low, high];
    while (i <= j) {
      while (x[i] > pivot) i++;
      while (x[j] < pivot) j--;
      if (i <= j) [x[i++], x[j--]] = [x[j], x[i]];
    }
    if (k - 1 <= j) high = j;
    else if (k - 1 >= i) low = i;
    else break;
  }
  return x[k - 1];
}
