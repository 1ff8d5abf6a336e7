// The paper: dark ink on light paper in any colour scheme, for that is what backbones of drawings are trained on.
import { frameOf } from "./frame.js";

const HEIGHT = 256;
const PAPER = "#f1eee6";
const INK = "#1b2230";
const STEP = 8; // pixels of an arrow key; with Shift a quarter
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Drawing {
  // changed() is called when there is something else to see.
  constructor({ canvas, invitation, pen, brush, ratio, changed }) {
    Object.assign(this, { canvas, invitation, pen, brush, changed });
    canvas.height = HEIGHT;
    canvas.width = Math.round(HEIGHT * ratio);
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.at = [canvas.width / 2, HEIGHT / 2]; // of the keys' pen
    this.clear();
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (this.last = null));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("focus", () => this.#showPen());
    canvas.addEventListener("blur", () => this.#showPen());
  }

  clear() {
    this.context.fillStyle = PAPER;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.empty = true;
    this.invitation.hidden = false;
    this.enrolled = false;
    this.last = null; // of the stroke that is being drawn
    this.isDown = false; // the keys' pen
    this.#showPen();
    this.changed();
  }

  frame() {
    return this.empty ? null : frameOf(this.context);
  }

  // The next stroke begins another drawing.
  finish() {
    this.enrolled = true;
    this.isDown = false;
    this.#showPen();
  }

  #line(from, to) {
    if (this.enrolled) this.clear();
    const { context } = this;
    context.lineWidth = (HEIGHT * this.brush.value) / 1000;
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = INK;
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
    this.empty = false;
    this.invitation.hidden = true;
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  #down(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    const place = this.#place(event);
    this.#line(place, place);
    this.last = place;
    this.changed();
  }

  #move(event) {
    if (this.last === null) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) {
      const place = this.#place(each);
      this.#line(this.last, place);
      this.last = place;
    }
    this.changed();
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === " ") {
      const down = !this.isDown;
      if (down) this.#line(this.at, this.at); // may clear the paper, which lifts the pen
      this.isDown = down;
    } else if (event.key in MOVES) {
      const step = event.shiftKey ? STEP / 4 : STEP;
      const limits = [this.canvas.width, this.canvas.height];
      const to = MOVES[event.key].map((d, i) => Math.min(Math.max(this.at[i] + d * step, 0), limits[i]));
      if (this.isDown) this.#line(this.at, to);
      this.at = to;
    } else return;
    event.preventDefault();
    this.#showPen();
    if (!this.empty) this.changed();
  }

  #showPen() {
    this.pen.hidden = document.activeElement !== this.canvas || !this.canvas.matches(":focus-visible");
    this.pen.classList.toggle("down", this.isDown);
    this.pen.style.left = `${(100 * this.at[0]) / this.canvas.width}%`;
    this.pen.style.top = `${(100 * this.at[1]) / this.canvas.height}%`;
  }
}
