"use strict";
document.documentElement.classList.add("js");

// Rows of layers: a button opens what is known of one. Without scripts, and on paper, all are open.
const buttons = [...document.querySelectorAll(".layers .row button")];
const inside = (button) => document.getElementById(button.getAttribute("aria-controls"));
const show = (button, open) => {
  button.setAttribute("aria-expanded", String(open));
  inside(button).hidden = !open;
};
for (const button of buttons) {
  show(button, false);
  button.addEventListener("click", () => show(button, button.getAttribute("aria-expanded") !== "true"));
}
const all = document.querySelector(".all");
all.hidden = false;
all.addEventListener("click", (event) => {
  const what = event.target.dataset.rows;
  if (what) buttons.forEach((button) => show(button, what === "open"));
});
const openNamed = () => {
  const row = document.querySelector("tr.row:target");
  if (!row) return;
  const button = row.querySelector("button");
  show(button, true);
  row.scrollIntoView();
  button.focus({ preventScroll: true });
};
addEventListener("hashchange", openNamed);
for (const node of document.querySelectorAll("a.node")) {
  node.addEventListener("click", () => {
    if (location.hash === node.getAttribute("href")) openNamed(); // chosen again: the address does not change
  });
}
openNamed();

// The drawing of the network: its size is changed, and the frame scrolls.
const frame = document.querySelector(".graph");
const drawing = document.getElementById("graph");
const natural = { width: drawing.width.baseVal.value, height: drawing.height.baseVal.value };
let zoom = 1;
const fit = () => Math.min((frame.clientWidth - 4) / natural.width, (frame.clientHeight - 4) / natural.height);
const resize = (wanted, at) => {
  const before = zoom;
  zoom = Math.min(4, Math.max(Math.min(fit(), 0.1), wanted));
  const [x, y] = at || [frame.clientWidth / 2, frame.clientHeight / 2];
  const [left, top] = [frame.scrollLeft + x, frame.scrollTop + y];
  drawing.style.width = `${natural.width * zoom}px`;
  drawing.style.height = `${natural.height * zoom}px`;
  frame.scrollTo(left * (zoom / before) - x, top * (zoom / before) - y);
};
const steps = { in: () => zoom * 1.3, out: () => zoom / 1.3, fit, one: () => 1 };
const zooming = document.querySelector(".zoom");
zooming.hidden = false;
zooming.addEventListener("click", (event) => {
  const step = steps[event.target.dataset.zoom];
  if (step) resize(step());
});
frame.addEventListener("keydown", (event) => {
  const step = { "+": "in", "=": "in", "-": "out", "0": "one", f: "fit" }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  resize(steps[step]());
});
frame.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return; // pinching is a wheel with it; without it, the frame scrolls
  event.preventDefault();
  const box = frame.getBoundingClientRect();
  resize(zoom * Math.exp(-event.deltaY / 300), [event.clientX - box.left, event.clientY - box.top]);
}, { passive: false });
resize(Math.min(1, Math.max(0.55, (frame.clientWidth - 4) / natural.width)));
frame.scrollTo((drawing.clientWidth - frame.clientWidth) / 2, 0);

const link = document.getElementById("download");
const data = document.getElementById("report-data").textContent;
link.href = URL.createObjectURL(new Blob([data], { type: "application/json" }));
link.hidden = false;
