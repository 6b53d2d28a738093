"use strict";
// The page reads without this: it adds a switch of the colour scheme and sorting of tables.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("scheme");
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.style.colorScheme || (preferred.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = isDark() ? "Light colours" : "Dark colours"; };
  button.addEventListener("click", () => {
    root.style.colorScheme = isDark() ? "light" : "dark";
    label();
  });
  preferred.addEventListener("change", label);
  label();
  button.hidden = false;

  const rank = (row, at) => {
    const text = row.cells[at].dataset.rank;
    const number = Number(text);
    return text !== "" && !Number.isNaN(number) ? number : text;
  };
  const compare = (one, other) => {
    if (one === "" || other === "") return one === other ? 0 : one === "" ? 1 : -1;
    if (typeof one === typeof other) return one < other ? -1 : one > other ? 1 : 0;
    return typeof one === "number" ? -1 : 1;
  };
  const sort = (table, head, at) => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => [rank(row, at), row]);
    rows.sort(([one], [other]) => {
      const order = compare(one, other);
      return up || one === "" || other === "" ? order : -order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table")) {
    if (table.tBodies[0].rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((head, at) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.textContent = head.textContent;
      sorter.addEventListener("click", () => sort(table, head, at));
      head.replaceChildren(sorter);
    });
  }
})();
