// The page: what is looked at goes to the server, frame by frame, and what it is taken for is shown.
import * as api from "./api.js";
import { Camera } from "./camera.js";
import { ClassList } from "./classlist.js";
import { Drawing } from "./drawing.js";
import { showSeen } from "./frame.js";
import { measureOf } from "./measure.js";
import { Pictures } from "./pictures.js";

const VOTES = 15; // frames
const RATE_MS = 2000; // over which frames a second are counted
const QUIET_MS = 700; // before a verdict is read out: it changes with every stroke
const RETRY_MS = 1500;

const $ = (id) => document.getElementById(id);

const page = {
  source: "draw",
  busy: false, // a frame is on its way
  again: false, // and there is a newer one
  failed: false, // the last one was not answered
  recent: [], // class ids, for the vote
  times: [], // of answers
  enrolled: [], // names, shot by shot: for key U
};
let drawing, pictures, camera, classes, measure;

// --- what is seen ------------------------------------------------------------------------------------------------

const sources = () => ({ draw: drawing, pictures, camera });
const frame = () => sources()[page.source].frame();

function look() {
  page.again = true;
  if (!page.busy) recogniseAll();
}

async function recogniseAll() {
  page.busy = true;
  document.body.dataset.busy = "yes"; // for tests
  while (page.again) {
    page.again = false;
    const seen = frame();
    const { source } = page;
    if (seen === null) {
      showNothing();
      continue;
    }
    try {
      const voting = source === "camera" && $("vote").checked;
      const start = performance.now();
      const found = await api.recognise(seen, threshold()?.query ?? null, voting ? page.recent : []);
      if (source === page.source) show(found, performance.now() - start, voting);
      if (page.failed) complain(null);
      page.failed = false;
    } catch (problem) {
      complain(problem);
      page.failed = true;
      await new Promise((go) => setTimeout(go, RETRY_MS));
    }
  }
  page.busy = false;
  delete document.body.dataset.busy;
}

function film() {
  if (page.source !== "camera" || !camera.running) return;
  if (document.visibilityState === "visible") look();
  camera.next(film);
}

const threshold = () => {
  const value = Number($("threshold").value);
  return value === 0 ? null : measure.threshold(value);
};

// --- what it is --------------------------------------------------------------------------------------------------

function show(found, milliseconds, voting) {
  classes.update(found.classes);
  page.recent = [...page.recent, found.class].slice(1 - VOTES);
  showSeen($("seen"), found.seen);
  const shown = measure.shown(found.scores);
  const scores = new Map(found.scores.map((s, i) => [s.class, { ...shown[i], exact: `exactly ${s.exact}` }]));
  const decided = voting ? found.voted : found.class;
  classes.showScores(scores, decided, threshold()?.share ?? null);
  const name = classes.nameOf(decided);
  $("verdict").textContent = name ?? (found.classes.length ? "none of them" : "nothing learned yet");
  $("verdict").classList.toggle("no", name === null);
  $("reason").textContent = reason(found, scores, decided, voting);
  $("threshold-text").textContent = threshold()?.text ?? "nothing";
  $("here").textContent = `${found.milliseconds.toFixed(1)} ms`;
  count(milliseconds);
  tellNext();
  announce(name ?? $("verdict").textContent, QUIET_MS);
}

function reason(found, scores, decided, voting) {
  if (!scores.size) return "";
  if (voting) return `by vote; this frame: ${classes.nameOf(found.class) ?? "none of them"}`;
  const text = (id) => `${classes.nameOf(id)} ${scores.get(id).text}`;
  const ranked = [...found.scores].sort((a, b) => b.score - a.score).map((s) => s.class);
  const next = ranked.find((id) => id !== found.nearest);
  const first = decided === null ? `nearest: ${text(found.nearest)}` : `${measure.name} ${scores.get(decided).text}`;
  return next === undefined ? first : `${first}, next: ${text(next)}`;
}

function showNothing() {
  $("seen").width = $("seen").height = 1;
  classes.showScores(new Map(), null, null);
  $("verdict").textContent = "–";
  $("verdict").classList.add("no");
  $("reason").textContent = "";
  page.recent = [];
  tellNext();
}

function count(milliseconds) {
  const now = performance.now();
  page.times = [...page.times.filter((t) => now - t < RATE_MS), now];
  const streams = page.source !== "pictures" && page.times.length >= 6;
  const spent = (now - page.times[0]) / 1000;
  $("rate").textContent = streams ? `${Math.round((page.times.length - 1) / spent)} frames/s` : `${milliseconds.toFixed(1)} ms`;
  $("rate-note").textContent = streams ? `${milliseconds.toFixed(1)} ms there and back` : "there and back";
}

// --- what is learned ---------------------------------------------------------------------------------------------

// Does one request after another, and shows what each has changed, whatever becomes of the next. Returns null, or the
// problem of the one that failed.
async function act(requests, done) {
  let count = 0;
  let failed = null;
  try {
    for (const request of requests) {
      classes.update((await request()).classes);
      count += 1;
      done?.();
    }
  } catch (problem) {
    failed = problem;
  }
  page.failed = false; // what is said from here on is no frame's: the next one that is answered does not take it away
  const some = requests.length > 1 ? `${count} of ${requests.length} enrolled: ` : "";
  complain(failed && new api.Problem(some + failed.message, failed.hint));
  page.recent = [];
  tellNext();
  look();
  caption();
  return failed;
}

async function enrol(name) {
  const all = page.source === "pictures" && $("all").checked;
  const frames = all ? pictures.frames() : [frame()].filter((seen) => seen !== null);
  if (!frames.length) {
    complain(new api.Problem("there is nothing to enrol", HINTS[page.source]));
    return false;
  }
  const requests = frames.map((seen) => () => api.enrol(name, seen));
  const learned = (await act(requests, () => page.enrolled.push(name))) === null;
  if (learned) {
    if (page.source === "draw") drawing.finish();
    const shots = classes.classes.find((c) => c.name === name)?.shots;
    announce(`${name} enrolled, ${shots} ${shots === 1 ? "shot" : "shots"}`, 0);
  }
  return learned;
}

const NOT_THERE = "PEF1123"; // what was to be forgotten

const forgetShot = async (name) => {
  const at = page.enrolled.lastIndexOf(name);
  if (at >= 0) page.enrolled.splice(at, 1); // at once: key U may be pressed again before the answer
  const problem = await act([() => api.forgetShot(name)]);
  if (problem === null) announce(`last shot of ${name} forgotten`, 0);
  else if (at >= 0 && problem.code !== NOT_THERE) page.enrolled.splice(at, 0, name); // to be tried again
};
const forgetClass = async (name) => {
  if ((await act([() => api.forgetClass(name)])) !== null) return;
  page.enrolled = page.enrolled.filter((other) => other !== name);
  announce(`${name} forgotten`, 0);
};

// What each picture is taken for, below it; a later call takes over.
async function caption() {
  const turn = (page.captions = (page.captions ?? 0) + 1);
  for (const picture of pictures.all) {
    try {
      const found = await api.recognise(picture.frame, threshold()?.query ?? null, []);
      if (turn !== page.captions) return;
      const name = classes.nameOf(found.class) ?? (found.classes.length ? "none of them" : null);
      picture.caption.textContent = name ?? picture.name;
      picture.button.setAttribute("aria-label", name === null ? picture.name : `${picture.name}: ${name}`);
    } catch {
      return; // the one that is shown says it
    }
  }
}

// --- what is said ------------------------------------------------------------------------------------------------

const HINTS = {
  draw: "draw something on the paper first",
  pictures: "choose pictures first, or drop them here",
  camera: "start the camera first",
};

const FIRST = {
  draw: "Draw something on the paper, give it a name, and press Enrol.",
  pictures: "Choose or drop a picture, give it a name, and press Enrol.",
  camera: "Start the camera, show it something, give that a name, and press Enrol.",
};

function tellNext() {
  const known = classes.classes;
  const thing = { draw: "Draw", pictures: "Choose", camera: "Show" }[page.source];
  let text = `${thing} one of them again: it is recognised. A key, 1 to 9, adds a shot and makes it surer.`;
  if (!known.length) text = FIRST[page.source];
  else if (known.length === 1) text = `Now ${thing.toLowerCase()} something else, and enrol it under another name.`;
  if ($("hint").textContent !== text) $("hint").textContent = text;
  $("none").hidden = known.length > 0;
}

function complain(problem) {
  $("problem").hidden = problem === null;
  $("problem").textContent = problem?.message ?? "";
  if (problem?.hint) {
    const hint = document.createElement("small");
    hint.textContent = problem.hint;
    $("problem").append(hint);
  }
}

let announcing, said;
function announce(text, wait) {
  if (text === said) return;
  said = text;
  clearTimeout(announcing);
  announcing = setTimeout(() => ($("announce").textContent = text), wait);
}

// --- what the user does ------------------------------------------------------------------------------------------

function choose(source) {
  if (page.source === "camera" && source !== "camera") stopCamera();
  page.source = source;
  page.times = [];
  for (const name of Object.keys(sources())) $(name).hidden = name !== source;
  document.querySelector(`[name="source"][value="${source}"]`).checked = true;
  complain(null);
  tellNext();
  look();
}

async function add(files) {
  if (!files.length) return;
  choose("pictures");
  try {
    await pictures.add(files);
  } catch (problem) {
    complain(problem);
  }
  $("many").hidden = pictures.all.length < 1;
  caption();
}

async function startCamera() {
  if (camera.starting) return;
  try {
    await camera.start();
    if (page.source !== "camera") return camera.stop(); // left while the browser asked
    complain(null);
    $("start").textContent = "Stop the camera";
    film();
  } catch (problem) {
    if (page.source === "camera") complain(problem);
  }
}

function stopCamera() {
  camera.stop();
  $("start").textContent = "Start the camera";
  look();
}

function onKey(event) {
  const typing = event.target.matches?.('input[type="text"]');
  if (typing || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const digit = /^[1-9]$/.test(event.key) ? classes.classes[Number(event.key) - 1] : undefined;
  const key = event.key.toLowerCase();
  if (digit) enrol(digit.name);
  else if (key === "n") $("name").focus();
  else if (key === "c" && page.source === "draw") drawing.clear();
  else if (key === "u" && page.enrolled.length) forgetShot(page.enrolled.at(-1));
  else return;
  event.preventDefault();
}

function listen() {
  for (const radio of document.querySelectorAll('[name="source"]')) {
    radio.addEventListener("change", () => choose(radio.value));
  }
  $("clear").addEventListener("click", () => drawing.clear());
  $("chosen").addEventListener("change", async (event) => {
    await add([...event.target.files]);
    event.target.value = "";
  });
  $("remove").addEventListener("click", () => {
    pictures.clear();
    $("many").hidden = true;
    $("chosen").focus();
  });
  $("start").addEventListener("click", () => (camera.running && !camera.starting ? stopCamera() : startCamera()));
  $("vote").addEventListener("change", () => (page.recent = []));
  $("threshold").addEventListener("input", () => {
    page.recent = [];
    $("threshold-text").textContent = threshold()?.text ?? "nothing";
    look();
    caption();
  });
  $("adding").addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = $("name").value.trim();
    if (!name) complain(new api.Problem("the class has no name", "type one beside the button"));
    else if (await enrol(name)) {
      $("name").value = "";
      // Away from the field, where the keys of the classes would be letters.
      (page.source === "draw" ? $("paper") : classes.buttonOf(name))?.focus({ preventScroll: true });
    }
  });
  document.addEventListener("keydown", onKey);
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault(); // else the browser opens the file
      document.body.classList.toggle("dragging", kind === "dragover");
      if (kind === "drop") add([...event.dataTransfer.files]);
    });
  }
}

function introduce(system) {
  $("about").textContent = `${system.name}, ${system.height} × ${system.width} pixels to ${system.features} features`;
  $("measure").textContent = `${measure.about} Here: ${system.ncm}.`;
  $("keeping").textContent = system.state
    ? `Every change is saved in ${system.state}.`
    : "What is learned is forgotten when the demo ends: --state FILE keeps it.";
  const { board } = system;
  if (!board) return;
  $("board").hidden = false;
  $("board-name").textContent = `Modelled on ${board.name}`;
  const pictures = board.batch === 1 ? "" : ` for ${board.batch} pictures`;
  const cycles = `${board.modelled_cycles.toLocaleString("en")} cycles${pictures}`;
  const known = board.modelled_milliseconds !== null;
  $("board-time").textContent = known ? `${board.modelled_milliseconds.toFixed(2)} ms` : cycles;
  $("board-note").textContent = known
    ? `${cycles} at ${board.clock_mhz} MHz (${board.clock_of})`
    : "--clock-mhz makes milliseconds of them";
}

async function begin() {
  let opened;
  try {
    opened = await api.system();
  } catch (problem) {
    complain(problem);
    return;
  }
  const { system } = opened;
  measure = measureOf(system.kind);
  const ratio = system.width / system.height;
  classes = new ClassList($("classes"), { enrol, forgetShot, forgetClass });
  const changed = () => {
    if (!drawing) return;
    complain(null);
    look();
  };
  pictures = new Pictures({ list: $("thumbs"), changed });
  camera = new Camera({ video: $("film") });
  $("film").style.aspectRatio = ratio;
  drawing = new Drawing({
    canvas: $("paper"), invitation: $("here-draw"), pen: $("pen"), brush: $("brush"), ratio, changed,
  });
  classes.update(opened.classes);
  introduce(system);
  listen();
  showNothing();
  document.body.dataset.ready = "yes";
}

begin();
