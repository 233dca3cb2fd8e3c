// What every widget of the course shares: elements, controls, colours, a canvas that fits its screen, and one
// description in words. Prepended to each widget's own file; no framework, nothing fetched.

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A slider over the entries of `values`, with its label and the chosen entry in words.
export function slider({ label, values, value, words = String, onInput }) {
  const input = element("input", { type: "range", min: 0, max: values.length - 1, step: 1 });
  const told = element("output", {});
  const made = element("label", { className: "dsl-slider" }, element("span", { textContent: label }), input, told);
  const control = { node: made, values };
  const show = (chosen) => {
    told.textContent = words(chosen);
    input.setAttribute("aria-valuetext", words(chosen));
  };
  control.set = (chosen) => {
    const nearest = control.values.reduce((a, b) => (Math.abs(b - chosen) < Math.abs(a - chosen) ? b : a));
    input.max = control.values.length - 1;
    input.value = control.values.indexOf(nearest);
    show(nearest);
    return nearest;
  };
  control.enable = (enabled) => {
    input.disabled = !enabled;
    made.classList.toggle("dsl-off", !enabled);
  };
  input.addEventListener("input", () => {
    const chosen = control.values[input.value];
    show(chosen);
    onInput(chosen);
  });
  control.set(value);
  return control;
}

// Radio buttons in a row.
export function choice({ label, options, value, onInput }) {
  const name = `dsl-${Math.random().toString(36).slice(2)}`;
  const inputs = new Map();
  const made = element("fieldset", { className: "dsl-choice" }, element("legend", { textContent: label }));
  for (const [key, words] of Object.entries(options)) {
    const input = element("input", { type: "radio", name, value: key, checked: key === value });
    input.addEventListener("input", () => onInput(key));
    inputs.set(key, input);
    made.append(element("label", {}, input, element("span", { textContent: words })));
  }
  return {
    node: made,
    set: (key) => {
      inputs.get(key).checked = true;
    },
  };
}

// A canvas of `height(width)` CSS pixels that is drawn sharply at any pixel density, and again when its width changes.
export function canvas({ label, height, draw }) {
  const node = element("canvas", { className: "dsl-canvas" });
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", label);
  const surface = { node, width: 0, height: 0 };
  surface.draw = () => {
    if (!surface.width) return;
    const context = node.getContext("2d");
    const density = window.devicePixelRatio || 1;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, surface.width, surface.height);
    draw(context, surface.width, surface.height);
  };
  surface.fit = (width) => {
    if (!width) return;
    const density = window.devicePixelRatio || 1;
    surface.width = width;
    surface.height = height(width);
    node.width = Math.round(width * density);
    node.height = Math.round(surface.height * density);
    node.style.height = `${surface.height}px`;
    surface.draw();
  };
  surface.fitAgain = () => surface.fit(node.clientWidth);
  return surface;
}

// Run `work` once before the next picture, however often it is asked for.
export function beforeNextPicture(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

export function prefersStillness() {
  return window.matchMedia("(prefers-reduced-motion: reduce)").matches;
}

// The colours of the page that the widget stands in, by the names in base.css.
export function colours(node) {
  const style = getComputedStyle(node);
  return new Proxy({}, { get: (_, name) => style.getPropertyValue(`--dsl-${name}`).trim() });
}

// JupyterLab, the book and the system say in their own ways whether a page is dark.
export function isDark() {
  const { dataset } = document.documentElement;
  if (dataset.theme) return dataset.theme === "dark";
  const lab = document.body.dataset.jpThemeLight;
  if (lab) return lab === "false";
  return window.matchMedia("(prefers-color-scheme: dark)").matches;
}

// Follow the page's theme: mark the widget as dark, and call `changed` whenever that changes. Returns how to stop.
export function followTheme(root, changed) {
  const update = () => {
    root.classList.toggle("dsl-dark", isDark());
    changed();
  };
  const observer = new MutationObserver(update);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", update);
  root.classList.toggle("dsl-dark", isDark());
  return () => {
    observer.disconnect();
    system.removeEventListener("change", update);
  };
}

// 32-bit floats that Python sent as bytes.
export function floats(view) {
  if (!view || !view.byteLength) return new Float32Array(0);
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

export function grouped(number) {
  return Math.round(number).toLocaleString("en-US");
}

// A number with three figures and its unit: 1,234 → "1.23 k".
export function short(number, unit = "") {
  const steps = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [size, prefix] = steps.find(([least]) => number >= least) ?? [1, ""];
  const told = size === 1 && Number.isInteger(number) ? String(number) : Number((number / size).toPrecision(3));
  return `${told} ${prefix}${unit}`.trim();
}
