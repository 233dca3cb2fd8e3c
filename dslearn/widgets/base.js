// What every explorer of the course shares: elements, controls, themes, words for screen readers. No framework.

/** An element: `h("p", { class: "note" }, "text", child)`; properties that begin with "on" are listeners. */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  // JupyterLab's shortcuts take the arrow keys of whatever has the focus and does not say this.
  if (element.matches("input, select, button, [tabindex]")) element.setAttribute("data-lm-suppress-shortcuts", "true");
  return element;
}

/** The frame of a widget; `label` is what a screen reader calls it. */
const frame = (label) => h("section", { class: "dslearn-explorer", "aria-label": label });

let controls = 0; // of the page: an id is unique in its document

/** A labelled choice among `options`, [value, label] each; `get` and `set` are the model's side. */
function chooser(label, options, get, set) {
  const id = `dslearn-control-${controls++}`;
  const select = h("select", { id, onchange: () => set(options[select.selectedIndex][0]) });
  select.append(...options.map(([, name]) => h("option", {}, name)));
  return {
    element: h("div", { class: "control choice" }, h("label", { for: id }, label), select),
    update: (enabled = true) => {
      select.selectedIndex = options.findIndex(([value]) => value === get());
      select.disabled = !enabled;
    },
  };
}

/** A labelled slider over the ascending `values()`. */
function slider(label, values, get, set) {
  const id = `dslearn-control-${controls++}`;
  const range = h("input", { id, type: "range", min: 0, oninput: () => set(values()[range.valueAsNumber]) });
  const shown = h("output", { for: id });
  return {
    element: h("div", { class: "control" }, h("label", { for: id }, label, " ", shown), range),
    update: (enabled = true) => {
      range.max = values().length - 1;
      range.value = nearest(values(), get());
      range.disabled = !enabled;
      shown.textContent = number(get());
      range.setAttribute("aria-valuetext", number(get()));
    },
  };
}

function nearest(values, wanted) {
  let at = 0;
  while (at + 1 < values.length && values[at + 1] <= wanted) at++;
  return at;
}

function powersOfTwo(from, to) {
  const values = [];
  for (let value = from; value < to; value *= 2) values.push(value);
  return [...values, to];
}

const number = (value) => value.toLocaleString("en");
const percent = (share) => `${(100 * share).toLocaleString("en", { maximumSignificantDigits: 3 })} %`;

function bytesOf(size) {
  const units = ["bytes", "KB", "MB", "GB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) [size, unit] = [size / 1000, unit + 1];
  return `${size.toLocaleString("en", { maximumSignificantDigits: 3 })} ${units[unit]}`;
}

/** Run `work` before the next picture, once, however often it is asked for. */
function oncePerFrame(work) {
  let asked = 0;
  return () => {
    if (!asked) asked = requestAnimationFrame(() => ((asked = 0), work()));
  };
}

/** Run `work` once `root` is on the page, where it has colours and a size: JupyterLab renders first and attaches later. */
function whenShown(root, work) {
  if (root.isConnected) return work();
  new ResizeObserver((_, observer) => (observer.disconnect(), work())).observe(root);
}

/** Follow the page's theme, JupyterLab's or the book's, else the system's; `changed` runs when it turns. */
function followTheme(root, changed) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => {
    const lab = document.body.dataset.jpThemeLight;
    const book = document.documentElement.dataset.theme;
    return lab ? lab === "false" : book ? book === "dark" : system.matches;
  };
  const apply = () => {
    const turned = root.classList.contains("dark") !== isDark();
    root.classList.toggle("dark", isDark());
    if (turned) changed();
  };
  const watch = new MutationObserver(apply);
  watch.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  watch.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  system.addEventListener("change", apply);
  apply();
  return () => {
    watch.disconnect();
    system.removeEventListener("change", apply);
  };
}

/** Colours by their names in base.css, as [red, green, blue]. */
function colours(root, ...names) {
  const style = getComputedStyle(root);
  return names.map((name) => {
    const hex = style.getPropertyValue(`--${name}`).trim();
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  });
}

/** 256 pixels from one colour to another, as canvas keeps them. */
function shades(from, to) {
  const bytes = new Uint8ClampedArray(4 * 256);
  for (let step = 0; step < 256; step++)
    bytes.set([...from.map((start, c) => start + ((to[c] - start) * step) / 255), 255], 4 * step);
  return new Uint32Array(bytes.buffer);
}

/** Sentences for a screen reader: only the last one of a quick series is read. */
function announcer(root) {
  const region = h("p", { class: "spoken", role: "status", "aria-live": "polite" });
  root.append(region);
  let waiting = 0;
  return (sentence) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => (region.textContent = sentence), 400);
  };
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
