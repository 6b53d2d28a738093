"use strict";
// Draws one line over all charts that share the axis of the one under the pointer, with its value.
(() => {
  const boxes = [...document.querySelectorAll("[data-axis]")].map((box) => {
    const line = document.createElement("div");
    line.className = "crosshair";
    line.hidden = true;
    line.setAttribute("aria-hidden", "true");
    box.append(line);
    return { box, line, track: box.querySelector(".track") };
  });
  const valueAt = ({ start, end, log }, share) => {
    const [low, high] = [Number(start), Number(end)];
    return log ? low * (high / low) ** share : low + share * (high - low);
  };
  const show = (of, event) => {
    const under = of.track.getBoundingClientRect();
    const share = (event.clientX - under.left) / under.width;
    for (const { box, line, track } of boxes) {
      line.hidden = !(share >= 0 && share <= 1) || box.dataset.axis !== of.box.dataset.axis;
      if (line.hidden) continue;
      const inner = track.getBoundingClientRect();
      line.style.left = `${inner.left - box.getBoundingClientRect().left + share * inner.width}px`;
      const value = valueAt(box.dataset, share);
      const isName = value >= Number(box.dataset.namesFrom ?? Infinity);
      line.dataset.value = isName ? "" : Number(value.toPrecision(3));
    }
  };
  const hide = () => { for (const { line } of boxes) line.hidden = true; };
  for (const one of boxes) {
    if (!one.track) continue;
    one.box.addEventListener("pointermove", (event) => show(one, event));
    one.box.addEventListener("pointerleave", hide);
  }
})();
