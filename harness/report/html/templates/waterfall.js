"use strict";
// Without this every workflow can be unfolded; it adds choosing one, and telling of one call.
(() => {
  const box = document.getElementById("chooser");
  if (!box) return;
  const all = [...document.querySelectorAll("details.workflow")];
  const label = document.createElement("label");
  label.htmlFor = "workflow";
  label.textContent = "Workflow";
  const choice = document.createElement("select");
  choice.id = "workflow";
  const groups = new Map();
  for (const one of all) {
    const kind = one.dataset.kind;
    if (!groups.has(kind)) {
      const group = document.createElement("optgroup");
      group.label = kind;
      groups.set(kind, group);
      choice.append(group);
    }
    const option = new Option(one.querySelector("summary").textContent, one.id);
    groups.get(kind).append(option);
  }
  const show = () => {
    for (const one of all) {
      one.hidden = one.id !== choice.value;
      one.open = !one.hidden;
    }
    back.disabled = choice.selectedIndex === 0;
    on.disabled = choice.selectedIndex === choice.options.length - 1;
  };
  const step = (text, by) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", () => { choice.selectedIndex += by; show(); });
    return button;
  };
  const back = step("Previous", -1), on = step("Next", 1);
  choice.addEventListener("change", show);
  box.append(label, choice, back, on);
  box.hidden = false;
  const named = decodeURIComponent(location.hash.slice(1));
  if (all.some((one) => one.id === named)) choice.value = named;
  show();

  for (const one of all) {
    const told = one.querySelector(".told");
    const rows = [...one.querySelectorAll(".row[data-words]")];
    for (const row of rows) {
      const button = document.createElement("button");
      const text = row.querySelector(".label");
      button.type = "button";
      button.append(...text.childNodes);
      text.append(button);
      const tell = () => {
        for (const other of rows) other.classList.toggle("told-of", other === row);
        told.textContent = row.dataset.words;
      };
      button.addEventListener("focus", tell);
      row.addEventListener("click", tell);
      row.addEventListener("mouseenter", tell);
    }
  }
})();
