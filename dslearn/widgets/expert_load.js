// The view of ExpertLoadExplorer: the experts' loads as bars, how even they are, and how that went from step to step.

const BALANCES = [
  ["none", "nothing balances"],
  ["bias", "a bias in the choice"],
  ["aux", "the Switch loss"],
];
const CAPACITIES = [[0, "no limit"], ...[1, 1.2, 1.5, 2].map((factor) => [factor, `${factor} even shares`])];
const OVERFLOWS = [["drop", "dropped"], ["reroute", "sent to the next choice"]];
const SKEWS = [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4];

function routerSettings(model) {
  return {
    experts: model.get("experts"),
    topK: model.get("top_k"),
    skew: model.get("skew"),
    balance: model.get("balance"),
    capacity: model.get("capacity"),
    overflow: model.get("overflow"),
  };
}

function simulationControls(model, write) {
  const get = (name) => () => model.get(name);
  const set = (name) => (value) => write({ [name]: value, ...(name === "experts" ? { top_k: Math.min(model.get("top_k"), value) } : {}) });
  const choices = () => Array.from({ length: Math.min(8, model.get("experts")) }, (_, i) => i + 1);
  const list = [
    chooser("Balanced by", BALANCES, get("balance"), set("balance")),
    chooser("Room of an expert", CAPACITIES, get("capacity"), set("capacity")),
    chooser("Without room, a choice is", OVERFLOWS, get("overflow"), set("overflow")),
    slider("Experts", () => [4, 8, 16, 32, 64], get("experts"), set("experts")),
    slider("Experts a token", choices, get("top_k"), set("top_k")),
    slider("Skew of the router", () => SKEWS, get("skew"), set("skew")),
  ];
  const update = () => list.forEach((control, i) => control.update(i !== 2 || model.get("capacity") > 0));
  return { element: h("div", { class: "controls" }, ...list.map((control) => control.element)), update };
}

function layerControls(model, write) {
  const layers = model.get("real")[0].counts.length;
  const list = layers > 1
    ? [chooser("Layer", Array.from({ length: layers }, (_, i) => [i, `layer ${i + 1}`]), () => model.get("layer"), (layer) => write({ layer }))]
    : [];
  return { element: h("div", { class: "controls" }, ...list.map((control) => control.element)), update: () => list.forEach((c) => c.update()) };
}

/** Play, one step, start again; and where in the steps one is. */
function stepControls(model, write) {
  let timer = 0;
  const last = () => (model.get("real").length || 200);
  const go = (step) => write({ step: Math.max(1, Math.min(last(), step)) });
  const pause = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
  };
  const tick = () => (model.get("step") < last() ? go(model.get("step") + 1) : pause());
  const play = h("button", { type: "button", onclick: () => {
    if (timer) return pause();
    play.textContent = "Pause";
    timer = setInterval(tick, calm() ? 1000 : 200);
  } }, "Play");
  const once = h("button", { type: "button", onclick: () => (pause(), go(model.get("step") + 1)) }, "One step");
  const again = h("button", { type: "button", onclick: () => (pause(), go(1)) }, "Start again");
  const at = slider("Step", () => Array.from({ length: last() }, (_, i) => i + 1), () => model.get("step"), go);
  return { element: h("div", { class: "steps" }, play, once, again, at.element), update: () => at.update(), pause };
}

function barsView() {
  const bars = h("div", { class: "bars", "aria-hidden": "true" });
  const [even, full] = [h("div", { class: "level even" }, h("span", {}, "even")), h("div", { class: "level full" }, h("span", {}, "full"))];
  const element = h("div", {}, h("div", { class: "chart", "aria-hidden": "true" }, bars, even, full),
    h("p", { class: "axis", "aria-hidden": "true" }, "one bar an expert, its height the tokens that it gets"));
  const show = ({ counts, wanted }, limit) => {
    const mean = counts.reduce((a, b) => a + b, 0) / counts.length;
    const top = Math.max(...wanted, ...counts, limit || 0, 1) * 1.1;
    while (bars.children.length > counts.length) bars.lastChild.remove();
    while (bars.children.length < counts.length) bars.append(h("div", { class: "bar" }, h("i", { class: "lost" }), h("i", { class: "kept" })));
    [...bars.children].forEach((bar, i) => {
      bar.children[0].style.height = `${(100 * Math.max(0, wanted[i] - counts[i])) / top}%`;
      bar.children[1].style.height = `${(100 * counts[i]) / top}%`;
    });
    even.style.bottom = `${(100 * mean) / top}%`;
    full.style.bottom = `${(100 * (limit || 0)) / top}%`;
    full.hidden = !limit;
  };
  return { element, show };
}

function timeView() {
  const canvas = h("canvas", { class: "time", "aria-hidden": "true" });
  const element = h("div", {}, canvas, h("p", { class: "key" },
    h("span", {}, h("i", { style: "background: var(--read)" }), "use: mean load / highest load"),
    h("span", {}, h("i", { style: "background: var(--own)" }), "share of choices dropped")));
  const show = (reports, root) => {
    const [width, height] = [(canvas.width = 2 * (canvas.clientWidth || 320)), (canvas.height = 200)];
    const context = canvas.getContext("2d");
    const style = getComputedStyle(root);
    context.lineWidth = 1;
    context.strokeStyle = style.getPropertyValue("--rule");
    for (const share of [0, 0.5, 1]) line(context, [[0, 4 + (height - 8) * share], [width, 4 + (height - 8) * share]]);
    context.lineWidth = 4;
    for (const [name, colour, dash] of [["utilisation", "--read", []], ["drop_rate", "--own", [12, 8]]]) {
      context.strokeStyle = style.getPropertyValue(colour);
      context.setLineDash(dash);
      line(context, reports.map((r, i) => [(width * i) / Math.max(1, reports.length - 1), 4 + (height - 8) * (1 - r[name])]));
    }
    context.setLineDash([]);
  };
  return { element, show };
}

function line(context, points) {
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x, y));
  context.stroke();
}

function reportView() {
  const rows = {
    utilisation: "Use (mean / highest load)",
    max_violation: "MaxVio (highest / mean − 1)",
    variation: "Variation (deviation / mean)",
    entropy: "Entropy (1 when even)",
    drop_rate: "Dropped choices",
  };
  const values = Object.fromEntries(Object.keys(rows).map((name) => [name, h("dd")]));
  const element = h("dl", { class: "facts" }, ...Object.entries(rows).map(([name, label]) => h("div", {}, h("dt", {}, label), values[name])));
  const shares = ["utilisation", "drop_rate"];
  const show = (now) => {
    for (const name of Object.keys(rows)) values[name].textContent = shares.includes(name) ? percent(now[name]) : now[name].toFixed(2);
  };
  return { element, show };
}

/** What a training run did, in the form of a simulation's history. */
function realHistory(model) {
  return model.get("real").map(({ step, counts, wanted, dropped }) => {
    const layer = Math.min(model.get("layer"), counts.length - 1);
    return { at: step, counts: counts[layer], wanted: wanted[layer], dropped: dropped[layer], rerouted: 0 };
  });
}

function sentenceOf(now, at, told, isReal) {
  const idle = now.counts.filter((count) => count === 0).length;
  const lost = now.dropped ? ` ${number(now.dropped)} choices are dropped.` : "";
  const sent = now.rerouted ? ` ${number(now.rerouted)} went to a later choice.` : "";
  return `${isReal ? "Training step" : "Step"} ${number(at)}: the experts are used to ${percent(told.utilisation)}, ${number(idle)} of ${number(now.counts.length)} idle.${lost}${sent}`;
}

function render({ model, el }) {
  const root = frame("Expert load explorer");
  el.append(root);
  const say = announcer(root);
  const write = (changes) => {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  };
  const [bars, time, facts, steps] = [barsView(), timeView(), reportView(), stepControls(model, write)];
  const place = h("div");
  const source = h("p", { class: "axis" });
  const sentence = h("p", { class: "sentence" });
  root.append(place, steps.element, source,
    h("div", { class: "views" }, h("div", { class: "beside" }, bars.element, time.element), h("div", { class: "beside" }, sentence, facts.element)));

  let controls, wasReal, cached;
  const history = (isReal) => {
    const asked = JSON.stringify(isReal ? null : routerSettings(model));
    if (isReal) return realHistory(model);
    if (cached?.asked !== asked || cached.steps.length < model.get("step"))
      cached = { asked, steps: simulate(routerSettings(model), model.get("step")) };
    return cached.steps;
  };
  const draw = () => {
    const isReal = model.get("real").length > 0;
    if (isReal !== wasReal) {
      controls = isReal ? layerControls(model, write) : simulationControls(model, write);
      place.replaceChildren(controls.element);
      source.textContent = isReal
        ? "Loads of a real training run."
        : `Simulated: ${TOKENS} tokens a step, scored by chance and by a liking for the experts at the left.`;
      wasReal = isReal;
    }
    controls.update();
    steps.update();
    const until = history(isReal).slice(0, model.get("step"));
    const reports = until.map((one) => report(one.counts, one.dropped));
    const now = until.at(-1);
    const s = routerSettings(model);
    bars.show(now, !isReal && s.capacity ? capacityOf(TOKENS, s) : 0);
    time.show(reports, root);
    facts.show(reports.at(-1));
    sentence.textContent = sentenceOf(now, isReal ? now.at : until.length, reports.at(-1), isReal);
    say(sentence.textContent);
  };
  const later = oncePerFrame(draw);
  let stop = () => {};
  whenShown(root, () => {
    stop = followTheme(root, later);
    draw();
    for (const name of ["experts", "top_k", "skew", "balance", "capacity", "overflow", "step", "layer", "real"])
      model.on(`change:${name}`, later);
  });
  return () => (steps.pause(), stop());
}

export default { render };
