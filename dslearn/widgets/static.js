// Makes the explorers of a page without a kernel live: their state and script stand in the page, and a model of a few
// lines takes the kernel's place.

function standIn(state) {
  const listeners = [];
  const decode = (value) =>
    value && value.base64 !== undefined
      ? new DataView(Uint8Array.from(atob(value.base64), (character) => character.charCodeAt(0)).buffer)
      : value;
  const values = Object.fromEntries(Object.entries(state).map(([name, value]) => [name, decode(value)]));
  return {
    get: (name) => values[name],
    set: (name, value) => {
      if (values[name] === value) return;
      values[name] = value;
      for (const [event, listener] of listeners) if (event === `change:${name}`) listener();
    },
    save_changes: () => {},
    on: (event, listener) => listeners.push([event, listener]),
    off: () => {},
  };
}

for (const place of document.querySelectorAll(".dslearn-static")) {
  if ("alive" in place.dataset) continue; // every explorer brings this script, and they wait for each other below
  place.dataset.alive = "";
  const [state, script] = place.querySelectorAll('script[type="application/json"]');
  const address = URL.createObjectURL(new Blob([JSON.parse(script.textContent)], { type: "text/javascript" }));
  const { default: widget } = await import(address);
  URL.revokeObjectURL(address);
  const el = place.appendChild(document.createElement("div"));
  widget.render({ model: standIn(JSON.parse(state.textContent)), el });
  place.querySelector(".dslearn-picture").remove();
}
