// The page: pad and file on one side, the answer on the other.

import * as api from "./api.js";
import { Pad } from "./pad.js";
import * as show from "./show.js";

const by = (id) => document.getElementById(id);
const hint = by("pen").textContent;
let picture = null; // a chosen file; null where the pad is drawn on

const pad = new Pad(by("pad"), (down, { x, y }) => {
  const place = `${Math.round(100 * x)} % from the left, ${Math.round(100 * y)} % from the top`;
  by("pen").textContent = down ? `Pen down, ${place}. Space lifts it.` : `Pen up, ${place}. ${hint}`;
});

function say(text, error = false) {
  by("status").textContent = text;
  by("status").classList.toggle("error", error);
}

function options() {
  const given = [...new FormData(by("options"))].filter(([, value]) => value !== "");
  return Object.fromEntries(given);
}

async function classify() {
  if (pad.empty && !picture) return say("Draw a digit first, or choose a picture.", true);
  by("classify").disabled = true;
  say("Classifying …");
  try {
    await present(await api.classify(picture ?? (await pad.blob()), options()));
  } catch (error) {
    by("answer").hidden = true; // it belongs to another picture
    say(error.message, true);
  } finally {
    by("classify").disabled = false;
  }
}

async function present(answer) {
  say(`This is a ${answer.prediction}, with a probability of ${(100 * answer.confidence).toFixed(1)} %.`);
  by("digit").textContent = answer.prediction;
  show.bars(by("bars"), answer.class_probabilities, answer.prediction);
  show.raster(by("raster"), answer.raster.output, answer.steps_used);
  show.frames(by("input"), answer.raster.input, answer.steps_used);
  show.facts(by("facts"), answer);
  by("answer").hidden = false;
  by("seen").parentElement.hidden = true;
  try {
    show.pixels(by("seen"), (await api.stored(answer.id)).pixels);
    by("seen").parentElement.hidden = false;
  } catch {
    // the request is no longer stored: the answer stands without the picture
  }
}

function clear() {
  pad.clear();
  picture = null;
  by("file").value = "";
  by("pen").textContent = hint;
  by("answer").hidden = true;
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
  const select = by("options").elements.model;
  select.replaceChildren(...known.models.map(({ name }) => new Option(name, name, name === known.default, name === known.default)));
  const defaults = () => {
    const model = known.models.find(({ name }) => name === select.value);
    by("options").elements.max_steps.max = model.max_steps;
    by("options").elements.max_steps.placeholder = model.max_steps;
    by("options").elements.confidence.placeholder = model.confidence;
  };
  select.addEventListener("change", defaults);
  defaults();
}

const KEYS = {
  ArrowLeft: () => pad.step(-1, 0),
  ArrowRight: () => pad.step(1, 0),
  ArrowUp: () => pad.step(0, -1),
  ArrowDown: () => pad.step(0, 1),
  " ": () => pad.toggle(),
  Enter: classify,
  Delete: clear,
  Backspace: clear,
};

by("pad").addEventListener("pointerdown", () => { if (picture) clear(); }, { capture: true });
by("pad").addEventListener("keydown", (event) => {
  if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (picture && event.key !== "Enter") clear();
  KEYS[event.key]();
});
by("classify").addEventListener("click", classify);
by("clear").addEventListener("click", clear);
by("file").addEventListener("change", (event) => choose(event.target.files[0]));
by("options").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  choose(event.dataTransfer.files[0]);
});
fillModels().catch((error) => say(error.message, true));
