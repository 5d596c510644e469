// Shows a run: what the whole of it says, and each of its stages at one time step.

import { explain, paint, tokenOf } from "./pictures.js";
import * as plots from "./plots.js";
import { best, classesAt, neuronName, neurons, resetInterval, spikesAt, sureAt } from "./run.js";

const by = (id) => document.getElementById(id);
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const steps = (count) => (count === 1 ? "1 step" : `${count} steps`);

function html(name, className, text = "") {
  const node = document.createElement(name);
  node.className = className;
  node.textContent = text;
  return node;
}

export class Stage {
  constructor() {
    this.run = null;
    this.t = 0;
    this.layer = ""; // whose raster is wanted
    this.look = 0; // grows when everything has to be drawn anew
    this.drawn = new Map(); // plot -> what it shows: { run, steps, layer, look, t }
    this.near = new Set(); // plots in sight or nearly; others are not drawn
    this.drawing = false;
    this.due = false; // something has changed while plots were being drawn
    this.walks = new Map(); // plot -> which spike of the step the arrow keys have come to
    this.bars = this.makeBars();
    const sight = new IntersectionObserver((entries) => this.see(entries), { rootMargin: "400px" });
    for (const plot of plots.PLOTS) {
      const box = by(plot.id);
      sight.observe(box);
      if (plot.raster) box.addEventListener("keydown", (event) => this.walk(event, plot));
      if (plot.raster) box.addEventListener("blur", () => this.leave(plot));
    }
    by("layer").addEventListener("change", ({ target }) => this.choose(target.value));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.look += 1;
      this.draw();
    });
  }

  // Shows a run, or more of the one that is shown.
  show(run, t) {
    this.run = run;
    by("answer").hidden = classesAt(run, t) === null;
    by("watch").hidden = run.steps === 0 && run.pixels === null;
    by("time").hidden = run.steps === 0;
    for (const plot of plots.PLOTS) by(`${plot.id}-panel`).hidden = !this.shows(plot);
    if (run.steps) this.fillLayers();
    if (run.answer) this.facts(run);
    this.at(t);
  }

  clear() {
    this.run = null;
    by("answer").hidden = true;
    by("watch").hidden = true;
  }

  // Another time step of the same run.
  at(t) {
    const { run } = this;
    if (!run) return;
    this.t = t;
    this.walks.clear();
    this.classes();
    this.pictures();
    this.attention();
    for (const plot of plots.PLOTS) if (this.shows(plot)) this.describe(plot);
    this.draw();
  }

  shows(plot) {
    return Boolean(this.run?.steps) && plot.has(this.run);
  }

  see(entries) {
    for (const { target, isIntersecting } of entries) {
      const plot = plots.PLOTS.find(({ id }) => id === target.id);
      if (isIntersecting) this.near.add(plot);
      else this.near.delete(plot);
    }
    this.draw();
  }

  // Brings the plots in sight up to date, one after the other; what changes meanwhile is drawn afterwards.
  async draw() {
    this.due = true;
    if (this.drawing) return;
    this.drawing = true;
    try {
      while (this.due) {
        this.due = false;
        for (const plot of plots.PLOTS) {
          if (this.near.has(plot) && this.shows(plot)) await this.drawOne(plot);
        }
      }
      by("plot-error").textContent = "";
    } catch (error) {
      by("plot-error").textContent = error.message;
    } finally {
      this.drawing = false;
    }
  }

  async drawOne(plot) {
    const { run, layer, look, t } = this;
    const had = this.drawn.get(plot);
    const same = had && had.run === run && had.steps === run.steps && had.layer === layer && had.look === look;
    if (same && had.t === t) return;
    this.drawn.set(plot, { run, steps: run.steps, layer, look, t });
    if (same) {
      await plots.point(by(plot.id), plot, t);
    } else {
      await plots.draw(by(plot.id), plot, run, t, layer);
      this.listen(plot);
    }
    await new Promise(requestAnimationFrame); // lets the page answer in between
  }

  describe(plot) {
    by(plot.id).setAttribute("aria-label", plot.says(this.run, this.t, this.layer));
  }

  // A spike under the pointer is named below its raster too; a layer that is clicked on shows its raster.
  listen(plot) {
    const box = by(plot.id);
    if (box.dataset.listens) return;
    box.dataset.listens = "yes";
    const said = by(`${plot.id}-said`);
    if (said) {
      box.on("plotly_hover", ({ points }) => {
        said.textContent = points[0].text;
      });
      box.on("plotly_unhover", () => {
        said.textContent = "";
      });
    }
    if (plot.id === "layers") box.on("plotly_click", ({ points }) => this.choose(points[0].y));
  }

  // Up and down go through the spikes of the step.
  walk(event, plot) {
    const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const layer = plot.raster(this.run, this.layer);
    const { shape, events } = this.run.raster[layer];
    const places = events.flatMap(([t], place) => (t === this.t ? [place] : []));
    const said = by(`${plot.id}-said`);
    if (!places.length) {
      said.textContent = `No spike at step ${this.t + 1}.`;
      return;
    }
    const last = this.walks.get(plot) ?? (way > 0 ? -1 : places.length);
    const next = (last + way + places.length) % places.length;
    this.walks.set(plot, next);
    plots.hover(by(plot.id), places[next]).catch(() => {});
    said.textContent = `${neuronName(layer, shape, events[places[next]][1])}, step ${this.t + 1} (${next + 1} of ${places.length})`;
  }

  leave(plot) {
    this.walks.delete(plot);
    by(`${plot.id}-said`).textContent = "";
    if (by(plot.id).dataset.listens) plots.hover(by(plot.id), null).catch(() => {});
  }

  choose(layer) {
    if (layer === "input" || layer === "output") return; // these have their own panels
    this.layer = layer;
    this.fillLayers();
    const plot = plots.PLOTS.find(({ id }) => id === "raster");
    this.describe(plot);
    this.draw();
  }

  fillLayers() {
    const { run } = this;
    const names = plots.hiddenLayers(run);
    const select = by("layer");
    if (names.join() !== [...select.options].map(({ value }) => value).join()) {
      select.replaceChildren(...names.map((name) => new Option(name)));
    }
    if (names.length) select.value = plots.chosenLayer(run, this.layer);
  }

  makeBars() {
    const items = Array.from({ length: 10 }, (_, digit) => {
      const item = html("li", "");
      const track = html("span", "track");
      const bar = html("span", "bar");
      const value = html("span", "value");
      track.append(bar);
      item.append(html("span", "", String(digit)), track, value);
      return { item, bar, value };
    });
    by("bars").replaceChildren(...items.map(({ item }) => item));
    return items;
  }

  classes() {
    const values = classesAt(this.run, this.t);
    if (!values) return;
    const digit = best(values);
    by("digit").textContent = digit;
    this.bars.forEach(({ item, bar, value }, place) => {
      item.classList.toggle("best", place === digit);
      bar.style.width = percent(values[place]).replace(" ", "");
      value.textContent = percent(values[place]);
    });
  }

  pictures() {
    const { run, t } = this;
    const said = by("pictures-said");
    const flat = (rows) => rows.flat();
    const parts = {
      pixels: run.pixels && { values: flat(run.pixels), top: 255, word: (value) => `${value} of 255` },
      contrast: run.contrast && { values: flat(run.contrast), top: 255, word: (value) => `contrast ${value} of 255` },
      spikes: this.inputSpikes(),
      traces: run.filtered?.[t] && {
        values: flat(run.filtered[t]),
        top: Math.max(1, ...run.filtered.map((frame) => Math.max(...flat(frame)))),
        word: (value) => `filtered train at ${value.toFixed(2)} spikes`,
      },
    };
    for (const [id, part] of Object.entries(parts)) {
      by(id).parentElement.hidden = !part;
      if (!part) continue;
      paint(
        by(id),
        part.values.map((value) => value / part.top),
      );
      explain(by(id), said, (row, column) => part.word(part.values[28 * row + column]));
    }
    by("pictures-panel").hidden = !Object.values(parts).some(Boolean);
  }

  inputSpikes() {
    const { run, t } = this;
    if (!run.raster?.input) return null;
    const values = new Array(784).fill(0);
    const indices = spikesAt(run, "input", t);
    for (const index of indices) values[index] = 1;
    by("spikes").setAttribute(
      "aria-label",
      `Input spikes at step ${t + 1}: ${indices.length} of ${neurons(run.raster.input.shape)} pixels`,
    );
    return { values, top: 1, word: (value) => (value ? `spikes at step ${t + 1}` : `silent at step ${t + 1}`) };
  }

  attention() {
    const { run, t } = this;
    const maps = Object.entries(run.attention ?? {}).flatMap(([block, values]) =>
      values[t].map((heat, head) => ({
        name: `${block}, head ${head + 1}`,
        heat,
        top: Math.max(1, ...values.map((step) => Math.max(...step[head]))),
      })),
    );
    by("attention-panel").hidden = maps.length === 0;
    if (!maps.length) return;
    const box = by("attention");
    if (box.children.length !== maps.length) {
      box.replaceChildren(
        ...maps.map(() => {
          const figure = html("figure", "");
          const canvas = html("canvas", "picture");
          canvas.width = canvas.height = 28;
          canvas.setAttribute("role", "img");
          figure.append(canvas, html("figcaption", ""));
          return figure;
        }),
      );
    }
    const grey = run.pixels.flat().map((value) => (0.75 * value) / 255);
    maps.forEach(({ name, heat, top }, place) => {
      const [canvas, caption] = box.children[place].children;
      const side = Math.sqrt(heat.length);
      const total = heat.reduce((sum, value) => sum + value, 0);
      const most = best(heat);
      paint(
        canvas,
        grey,
        heat.map((value) => value / top),
      );
      explain(
        canvas,
        by("attention-said"),
        (row, column) => `${name}, ${heat[tokenOf(row, column, side)]} coincidences at step ${t + 1}`,
      );
      caption.textContent = `${name}: ${total}`;
      const where = total ? `, most at token row ${Math.floor(most / side)}, column ${most % side}` : "";
      canvas.setAttribute("aria-label", `${name} at step ${t + 1}: ${total} coincidences${where}`);
    });
  }

  facts(run) {
    const { answer } = run;
    const times = answer.timings_ms;
    const total = Object.values(answer.spike_counts.layers).reduce((sum, count) => sum + count, 0);
    const stop = answer.stopped_by === "confidence" ? "sure enough" : "no more steps allowed";
    const sure = sureAt(run);
    const entries = {
      "Time steps": `${answer.steps_used} of ${answer.max_steps} (${stop})`,
      "Sure enough": sure < 0 ? "" : `after ${steps(sure + 1)}, at ${percent(run.card.calibration.confidence)}`,
      State: answer.steps_used > resetInterval(run) ? `begins anew every ${steps(resetInterval(run))}` : "",
      "Input spikes": answer.spike_counts.input.toLocaleString("en"),
      "Inner spikes": total.toLocaleString("en"),
      "Synaptic operations": answer.synaptic_operations.toLocaleString("en"),
      Computing: `${(times.decode + times.encode + times.simulate).toFixed(2)} ms`,
      Seed: `${answer.seed}, ${answer.encoder}`,
      Model: `${answer.model} ${answer.model_version} on ${answer.engine}`,
      Note: run.card?.kind === "ann" ? "a conventional network: its spikes are values other than 0" : "",
      Id: answer.id,
      Replay: this.verdict(run),
    };
    by("facts").replaceChildren(
      ...Object.entries(entries)
        .filter(([, value]) => value !== "")
        .flatMap(([name, value]) => [html("dt", "", name), html("dd", "", value)]),
    );
  }

  verdict({ answer, replay }) {
    if (replay) return replay.equal ? "equal to what was recorded" : `differs: ${replay.differences.join("; ")}`;
    return answer.recorded === false ? "not recorded, so it cannot be replayed" : "";
  }
}
