// The board of exercises: a table from Python, a button that asks Python to look again.

function render({ model, el }) {
  const body = h("tbody");
  const count = h("p", { role: "status" });
  const again = h("button", { type: "button", onclick: () => model.send({ kind: "look again" }) }, "Look again");
  const heads = ["", "exercise", "minutes", "state", "tries", "failed last at"];
  const table = h("table", {}, h("thead", {}, h("tr", {}, ...heads.map((name) => h("th", { scope: "col" }, name)))), body);
  const root = frame("Progress");
  root.append(count, table, again);
  el.append(root);
  const draw = () => {
    const { told, rows } = model.get("board");
    count.textContent = told;
    body.replaceChildren(...rows.map((row) => h("tr", {}, ...row.map((cell) => h("td", {}, String(cell))))));
  };
  model.on("change:board", draw);
  draw();
  return followTheme(root, () => {});
}

export default { render };
