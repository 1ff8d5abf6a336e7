// The classes: a button each that enrols, with the score of what is seen; and what forgets.

const SURE_MS = 4000; // in which a second press forgets a class

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

export class ClassList {
  // act: { enrol(name), forgetShot(name), forgetClass(name) }
  constructor(list, act) {
    Object.assign(this, { list, act });
    this.rows = new Map(); // by class id; elements stay, and with them the focus
    this.classes = [];
  }

  update(classes) {
    this.classes = classes;
    const there = new Set(classes.map((c) => c.id));
    for (const [id, row] of this.rows) {
      if (there.has(id)) continue;
      const focused = row.item.contains(document.activeElement);
      const neighbour = row.item.nextElementSibling ?? row.item.previousElementSibling;
      row.item.remove();
      this.rows.delete(id);
      if (focused) (neighbour?.querySelector("button") ?? document.getElementById("name")).focus();
    }
    classes.forEach((c, i) => {
      const row = this.rows.get(c.id) ?? this.#add(c);
      row.key.textContent = i < 9 ? String(i + 1) : "";
      row.key.hidden = i >= 9;
      row.shots.textContent = c.shots === 1 ? "1 shot" : `${c.shots} shots`;
      row.button.setAttribute("aria-label", `Enrol what is seen as ${c.name}, ${row.shots.textContent}`);
      if (row.undo === document.activeElement && !c.undoable) row.button.focus();
      row.undo.hidden = !c.undoable;
    });
  }

  #add(c) {
    const item = element("li", "");
    const button = element("button", "enrol");
    const name = element("span", "name", c.name);
    const shots = element("span", "shots");
    name.append(" ", shots);
    const key = element("kbd", "");
    const score = element("span", "score");
    const bar = element("span", "bar");
    const fill = element("i", "");
    const mark = element("b", "");
    mark.hidden = true;
    bar.append(fill, mark);
    button.append(key, name, score, bar);
    button.addEventListener("click", () => this.act.enrol(c.name));
    const undo = element("button", "act", "Undo");
    undo.setAttribute("aria-label", `Forget the last shot of ${c.name}`);
    undo.addEventListener("click", () => this.act.forgetShot(c.name));
    const forget = element("button", "act", "Forget");
    forget.setAttribute("aria-label", `Forget ${c.name}`);
    forget.addEventListener("click", () => this.#forget(forget, c.name));
    for (const each of [button, undo, forget]) each.type = "button";
    item.append(button, undo, forget);
    this.list.append(item);
    const row = { item, button, key, shots, score, fill, mark, undo };
    this.rows.set(c.id, row);
    return row;
  }

  #forget(button, name) {
    if (button.classList.contains("sure")) {
      this.act.forgetClass(name);
      return;
    }
    const say = (text, label, sure) => {
      button.textContent = text;
      button.setAttribute("aria-label", label);
      button.classList.toggle("sure", sure);
    };
    say("Sure?", `Press again to forget ${name}`, true);
    setTimeout(() => say("Forget", `Forget ${name}`, false), SURE_MS);
  }

  // scores: Map of class id to { share 0 to 1, text, exact }; best: an id or null; mark: share of the threshold or null
  showScores(scores, best, mark) {
    for (const [id, row] of this.rows) {
      const score = scores.get(id);
      row.score.textContent = score?.text ?? "";
      row.score.title = score?.exact ?? "";
      row.fill.style.width = `${100 * (score?.share ?? 0)}%`;
      row.item.classList.toggle("best", id === best);
      row.mark.hidden = mark === null || !score;
      row.mark.style.left = `${100 * (mark ?? 0)}%`;
    }
  }

  buttonOf(name) {
    return this.rows.get(this.classes.find((c) => c.name === name)?.id)?.button;
  }

  nameOf(id) {
    return this.classes.find((c) => c.id === id)?.name ?? null;
  }
}
