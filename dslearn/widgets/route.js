// A router's choices as dslearn.moe makes them, over simulated scores: the same counts. Nothing here draws.
//
// `s` are settings: { experts, topK, skew, balance, capacity, overflow }; a capacity of 0 is none.

const TOKENS = 256; // of a batch
const RATES = { bias: 0.01, aux: 4 }; // a step's move of a bias; the learning rate of the Switch loss

/** Uniform numbers from 0 to 1 by seed: mulberry32, the same everywhere. */
function uniforms(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Logits of a step's batch, a row a token: chance, and a liking for the experts at the left. */
function simulatedLogits(s, step) {
  const draw = uniforms(step);
  const logits = new Float64Array(TOKENS * s.experts);
  for (let at = 0; at < logits.length; at++) {
    const liking = s.skew * (0.5 - (at % s.experts) / (s.experts - 1));
    logits[at] = liking + (draw() + draw() + draw() + draw() - 2) * Math.sqrt(3); // of variance 1, nearly normal
  }
  return logits;
}

/** What is learned between steps, at its beginning: `bias` counts in the choice, `offset` in the scores. */
const untrained = (experts) => ({ bias: new Float64Array(experts), offset: new Float64Array(experts) });

/** One batch: who wanted, who got, what was dropped or sent elsewhere; and the memory after it. */
function route(logits, s, memory) {
  const tokens = logits.length / s.experts;
  const scores = logits.map((logit, at) => 1 / (1 + Math.exp(-(logit + memory.offset[at % s.experts]))));
  const preference = scores.map((score, at) => score + memory.bias[at % s.experts]);
  const order = Array.from({ length: tokens }, (_, token) => ranked(preference, token, s.experts));
  const wanted = new Int32Array(s.experts);
  for (const row of order) for (const expert of row.slice(0, s.topK)) wanted[expert]++;
  const served = serve(order, s, tokens);
  return { wanted, ...served, next: learned(scores, wanted, s, memory, tokens) };
}

function ranked(preference, token, experts) {
  const mine = preference.subarray(token * experts, (token + 1) * experts);
  return Array.from(mine.keys()).sort((a, b) => mine[b] - mine[a]);
}

/** First come, first served; with "reroute", a choice without room asks the token's next ones, one round after another. */
function serve(order, s, tokens) {
  const room = new Int32Array(s.experts).fill(s.capacity ? capacityOf(tokens, s) : 2 ** 30);
  const counts = new Int32Array(s.experts);
  const take = (expert) => room[expert] > 0 && (room[expert]--, counts[expert]++, true);
  let waiting = order.map((row) => row.slice(0, s.topK).filter((expert) => !take(expert)).length);
  const asked = waiting.reduce((sum, slots) => sum + slots, 0);
  for (let rank = s.topK; s.overflow === "reroute" && rank < s.experts; rank++)
    waiting = waiting.map((slots, token) => (slots && take(order[token][rank]) ? slots - 1 : slots));
  const dropped = waiting.reduce((sum, slots) => sum + slots, 0);
  return { counts, dropped, rerouted: asked - dropped };
}

const capacityOf = (tokens, s) => Math.ceil((s.capacity * tokens * s.topK) / s.experts);

/** The bias moves by the sign of what is missing; the offset by the gradient of the Switch loss. */
function learned(scores, wanted, s, memory, tokens) {
  if (s.balance === "none") return memory;
  const mean = (tokens * s.topK) / s.experts;
  if (s.balance === "bias")
    return { ...memory, bias: memory.bias.map((b, i) => b + RATES.bias * Math.sign(mean - wanted[i])) };
  const gradient = switchGradient(scores, wanted, s, tokens);
  return { ...memory, offset: memory.offset.map((o, i) => o - RATES.aux * gradient[i]) };
}

/** d/d offset of N · Σ f P, with f the share of choices and P the mean share of the scores. */
function switchGradient(scores, wanted, s, tokens) {
  const f = Array.from(wanted, (count) => count / (tokens * s.topK));
  const gradient = new Float64Array(s.experts);
  for (let token = 0; token < tokens; token++) {
    const mine = scores.subarray(token * s.experts, (token + 1) * s.experts);
    const sum = mine.reduce((a, b) => a + b, 0);
    const expected = mine.reduce((a, score, i) => a + (f[i] * score) / sum, 0);
    mine.forEach((score, i) => (gradient[i] += (s.experts * (score / sum) * (1 - score) * (f[i] - expected)) / tokens));
  }
  return gradient;
}

/** All steps up to the given one, from the untrained router: one route each. */
function simulate(s, steps) {
  const history = [];
  for (let step = 0, memory = untrained(s.experts); step < steps; step++) {
    history.push(route(simulatedLogits(s, step), s, memory));
    memory = history[step].next;
  }
  return history;
}

/** The numbers of dslearn.moe.load_report. */
function report(counts, dropped) {
  const total = counts.reduce((a, b) => a + b, 0);
  const [mean, top] = [total / counts.length, Math.max(...counts)];
  const variance = counts.reduce((a, count) => a + (count - mean) ** 2, 0) / counts.length;
  const entropy = counts.reduce((a, count) => (count ? a - (count / total) * Math.log(count / total) : a), 0);
  return {
    utilisation: mean / top,
    max_violation: top / mean - 1,
    variation: Math.sqrt(variance) / mean,
    entropy: counts.length > 1 ? entropy / Math.log(counts.length) : 1,
    drop_rate: dropped / (total + dropped),
  };
}
