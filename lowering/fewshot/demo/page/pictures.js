// Picture files, as the browser decodes them: upright, what is transparent on white.
import { Problem } from "./api.js";
import { frameOf } from "./frame.js";

const LONGEST = 1024; // pixels of a side; larger ones are sent smaller
const MOST = 60;

export class Pictures {
  // changed() is called when there is something else to see.
  constructor({ list, changed }) {
    Object.assign(this, { list, changed });
    this.all = []; // { name, frame, button, caption }
    this.shown = null;
  }

  // Raises a Problem for files that are none, when the others are there.
  async add(files) {
    const refused = [];
    for (const file of files) {
      if (this.all.length >= MOST) throw new Problem(`${MOST} pictures are enough for one page`, "remove them first");
      try {
        this.#append(file.name, await createImageBitmap(file));
      } catch {
        refused.push(file.name);
      }
    }
    if (refused.length) throw new Problem(`no picture that this browser reads: ${refused.join(", ")}`);
  }

  #append(name, bitmap) {
    const canvas = document.createElement("canvas");
    const shrink = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
    canvas.width = Math.max(1, Math.round(bitmap.width * shrink));
    canvas.height = Math.max(1, Math.round(bitmap.height * shrink));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    const button = document.createElement("button");
    button.type = "button";
    const caption = document.createElement("span");
    caption.textContent = name;
    canvas.setAttribute("aria-hidden", "true");
    button.append(canvas, caption);
    button.title = name;
    const picture = { name, frame: frameOf(context), button, caption };
    button.addEventListener("click", () => this.show(picture));
    const item = document.createElement("li");
    item.append(button);
    this.list.append(item);
    this.all.push(picture);
    this.show(picture);
  }

  show(picture) {
    this.shown = picture;
    for (const each of this.all) each.button.setAttribute("aria-pressed", String(each === picture));
    this.changed();
  }

  clear() {
    this.all = [];
    this.shown = null;
    this.list.replaceChildren();
    this.changed();
  }

  frame() {
    return this.shown?.frame ?? null;
  }

  frames() {
    return this.all.map((picture) => picture.frame);
  }
}
