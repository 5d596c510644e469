// The page: what is drawn or chosen goes to the service; what comes back goes on the stage.

import * as api from "./api.js";
import { isArrow, Pad } from "./pad.js";
import { load as loadPlots } from "./plots.js";
import { Recent } from "./recent.js";
import { addStep, liveRun, storedRun } from "./run.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";

const REST = 800; // milliseconds that the pen rests before the drawing is classified

const by = (id) => document.getElementById(id);
const form = by("options");
const hint = by("pen").textContent;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const cards = new Map(); // model -> card
let picture = null; // a chosen file; null where the pad is drawn on
let resting = 0; // timer of the pen
let work = new AbortController(); // what is under way; a newer request ends it

const stage = new Stage();
const timeline = new Timeline({ slider: by("slider"), play: by("play"), label: by("step") }, (t) => stage.at(t));
const recent = new Recent(
  { list: by("list"), more: by("more"), order: by("order"), digit: by("read"), note: by("note") },
  open,
);
const pad = new Pad(by("pad"), by("nib"), {
  onPen: (down, { x, y }) => {
    const place = `${Math.round(100 * x)} % from the left, ${Math.round(100 * y)} % from the top`;
    by("pen").textContent = down ? `Pen down, ${place}. Space lifts it.` : `Pen up, ${place}. ${hint}`;
  },
  onStroke: (done) => {
    clearTimeout(resting);
    if (done) resting = setTimeout(classify, REST);
  },
});

function say(text, error = false) {
  by("status").textContent = text;
  by("status").classList.toggle("error", error);
}

function options() {
  const given = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
  return by("all").checked ? { ...given, confidence: "1" } : given;
}

// A model's card; null where the service no longer has it.
async function card(name) {
  if (!cards.has(name)) {
    try {
      cards.set(name, (await api.model(name)).card);
    } catch {
      return null;
    }
  }
  return cards.get(name);
}

// One thing is done at a time: a newer one ends it. Errors are said in words.
async function doing(text, job) {
  clearTimeout(resting);
  work.abort();
  const mine = new AbortController();
  work = mine;
  by("classify").disabled = true;
  say(text);
  try {
    await job(mine.signal);
  } catch (error) {
    if (mine.signal.aborted) return;
    if (!(error instanceof api.ServiceError)) console.error(error);
    stage.clear(); // what it shows belongs to another picture
    timeline.pause();
    say(error.message, true);
  } finally {
    if (mine === work) by("classify").disabled = false;
  }
}

function classify() {
  if (pad.empty && !picture) return say("Draw a digit first, or choose a picture.", true);
  return doing("Classifying …", async (signal) => {
    const given = options();
    const run = liveRun(await card(given.model));
    const blob = picture ?? (await pad.blob());
    timeline.pause();
    const answer = await api.classify(
      blob,
      given,
      (step) => {
        addStep(run, step);
        if (signal.aborted) return;
        if (run.steps === 1) timeline.set(0, false);
        timeline.resize(run.steps, false);
        if (!calm.matches && !timeline.playing) timeline.start(0);
        stage.show(run, timeline.step);
      },
      signal,
    );
    signal.throwIfAborted();
    run.answer = answer;
    present(...(await withReplay(run, signal)));
    recent.load().then(() => recent.mark(answer.id));
  });
}

// The run with all that its replay shows, or as it is and why there is no replay.
async function withReplay(run, signal) {
  if (run.answer.recorded === false) return [run, ""]; // the facts say so
  try {
    const { document, trouble } = await replayed(run.answer.id, signal);
    return document.potentials || !run.steps ? [storedRun(run.card, document), trouble] : [run, trouble];
  } catch (error) {
    if (!(error instanceof api.ServiceError)) throw error;
    return [run, `${error.message}.`];
  } finally {
    signal.throwIfAborted();
  }
}

// A stored request with all that its replay shows; as it was answered, and why, where it cannot be replayed.
async function replayed(id, signal) {
  try {
    return { document: await api.replay(id, signal), trouble: "" };
  } catch (error) {
    if (!(error instanceof api.ServiceError) || [0, 404, 503].includes(error.status)) throw error;
    return { document: await api.stored(id, signal), trouble: `${error.message}.` };
  }
}

function open(id) {
  return doing("Opening …", async (signal) => {
    timeline.pause();
    const { document, trouble } = await replayed(id, signal);
    const run = storedRun(await card(document.answer.model), document);
    signal.throwIfAborted();
    recent.mark(id);
    timeline.set(0, false);
    present(run, trouble);
  });
}

// Shows a run that is complete, from its first step on; without motion, its last step.
function present(run, trouble = "") {
  const { answer } = run;
  const spent = answer.steps_used === 1 ? "1 step" : `${answer.steps_used} steps`;
  say(
    `This is a ${answer.prediction}, with a probability of ${(100 * answer.confidence).toFixed(1)} % after ${spent}. ${trouble}`.trim(),
  );
  history.replaceState(null, "", `${location.pathname}#${answer.id}`);
  timeline.resize(run.steps, true);
  if (calm.matches) timeline.set(Math.max(0, run.steps - 1), false);
  else if (!timeline.playing && run.steps > 1) timeline.start(0);
  stage.show(run, timeline.step);
}

function clear() {
  clearTimeout(resting);
  work.abort();
  by("classify").disabled = false;
  timeline.pause();
  pad.clear();
  picture = null;
  by("file").value = "";
  by("pen").textContent = hint;
  stage.clear();
  recent.mark(null);
  history.replaceState(null, "", location.pathname);
  say("Nothing classified yet.");
}

async function choose(file) {
  if (!file) return;
  clear();
  picture = file;
  try {
    pad.show(await createImageBitmap(file));
  } catch {
    // the browser cannot show it; the service says why if it cannot read it either
  }
  await classify();
}

async function fillModels() {
  const known = await api.models();
  const select = form.elements.model;
  select.replaceChildren(
    ...known.models.map(({ name }) => new Option(name, name, name === known.default, name === known.default)),
  );
  const defaults = () => {
    const model = known.models.find(({ name }) => name === select.value);
    form.elements.max_steps.max = model.max_steps;
    form.elements.max_steps.placeholder = model.max_steps;
    form.elements.confidence.placeholder = model.confidence;
    form.elements.confidence.disabled = by("all").checked;
  };
  form.addEventListener("change", defaults);
  defaults();
}

const KEYS = { " ": () => pad.toggle(), Enter: classify, Delete: clear, Backspace: clear };

by("pad").addEventListener(
  "pointerdown",
  () => {
    if (picture) clear();
  },
  { capture: true },
);
by("pad").addEventListener("keydown", (event) => {
  const { key } = event;
  if (!(isArrow(key) || key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (picture && key !== "Enter") clear();
  if (isArrow(key)) pad.arrow(key);
  else KEYS[key]();
});
by("classify").addEventListener("click", classify);
by("clear").addEventListener("click", clear);
by("file").addEventListener("change", (event) => choose(event.target.files[0]));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  classify();
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  choose(event.dataTransfer.files[0]);
});

// An address that ends in #id opens that request.
function openLinked() {
  if (/^#[0-9a-f]{24}$/.test(location.hash)) open(location.hash.slice(1));
}

addEventListener("hashchange", openLinked);
fillModels().catch((error) => say(error.message, true));
recent.load();
openLinked();
loadPlots().catch(() => {}); // asked for again, and said, when a plot is drawn
