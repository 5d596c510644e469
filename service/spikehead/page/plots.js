// Plots over time by plotly: one entry of PLOTS each, which says what it needs, what it draws and what it means.
// `raster` names the layer whose spikes it shows, `tiles` says that it has a tile for each step, `timeless` that it
// has no time steps.
//
// plotly's script is large; it is asked for once, after the page has been shown.

import { best, neuronName, neurons, resetInterval, spikesAt } from "./run.js";

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };

let plotly = null;

// Resolves once plotly is there. Fails where its script cannot be loaded.
export function load() {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "page/plotly.js";
    script.addEventListener("load", () => resolve(globalThis.Plotly));
    script.addEventListener("error", () => {
      plotly = null; // to be tried again
      reject(new Error("The plots cannot be drawn: their script could not be loaded."));
    });
    document.head.append(script);
  });
  return plotly;
}

// The page's colours, which plotly does not take from CSS.
function palette() {
  const style = getComputedStyle(document.documentElement);
  const names = ["panel", "text", "soft", "line", "accent", "second", "track"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;
const digits = Array.from({ length: 10 }, (_, digit) => digit);
const steps = (run) => Array.from({ length: run.steps }, (_, t) => t + 1);
const pair = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

const axes = {
  time: (run) => ({ title: { text: "time step" }, range: [0.5, run.steps + 0.5], dtick: Math.ceil(run.steps / 10) }),
  digit: { title: { text: "digit" }, range: [9.6, -0.6], dtick: 1 },
};

// Ten lines over time. The two best at the end stand out and are named.
function tenLines(run, values, colours, word) {
  const order = [...digits].sort((a, b) => values.at(-1)[b] - values.at(-1)[a]);
  const looks = new Map([
    [order[0], { color: colours.accent, width: 3 }],
    [order[1], { color: colours.second, width: 2 }],
  ]);
  return [...order].reverse().map((digit) => ({
    type: "scatter",
    mode: "lines+markers",
    x: steps(run),
    y: values.map((row) => row[digit]),
    text: values.map((row, t) => `digit ${digit}, step ${t + 1}: ${word(row[digit])}`),
    hovertemplate: "%{text}<extra></extra>",
    line: looks.get(digit) ?? { color: colours.soft, width: 1 },
    marker: { size: looks.has(digit) ? 6 : 4 },
    opacity: looks.has(digit) ? 1 : 0.45,
  }));
}

// Names the two best lines at their right end; two that end together get room.
function endLabels(values, colours, height) {
  const last = values.at(-1);
  const order = [...digits].sort((a, b) => last[b] - last[a]).slice(0, 2);
  return order.map((digit, place) => ({
    x: 1,
    xref: "paper",
    xanchor: "left",
    xshift: 3,
    y: last[digit],
    yshift: place === 1 && last[order[0]] - last[digit] < height / 12 ? -14 : 0,
    text: `<b>${digit}</b>`,
    showarrow: false,
    font: { color: place ? colours.second : colours.accent, size: 13 },
  }));
}

const SPIKE_POINTS = 4; // that `dashes` needs for a spike: two ends, its middle between them, and a gap

// Spikes as short lines, all in one trace: [[x, y, x, y, x, y], ...], first end, middle, last end.
function dashes(places, texts, line) {
  return {
    type: "scatter",
    mode: "lines",
    x: places.flatMap(([x0, , x1, , x2]) => [x0, x1, x2, null]),
    y: places.flatMap(([, y0, , y1, , y2]) => [y0, y1, y2, null]),
    text: texts.flatMap((text) => [text, text, text, ""]),
    hovertemplate: "%{text}<extra></extra>",
    line,
  };
}

const named = (run, layer) => {
  const { shape, events } = run.raster[layer];
  return events.map(([t, index]) => `${neuronName(layer, shape, index)}, step ${t + 1}`);
};

function rasterTrace(run, layer, colours) {
  const places = run.raster[layer].events.map(([t, index]) => [t + 0.62, index, t + 1, index, t + 1.38, index]);
  const crowded = neurons(run.raster[layer].shape) > 1000; // many lines fall on one row of the screen: thin ones add up
  return dashes(places, named(run, layer), { color: colours.accent, width: crowded ? 0.4 : 1 });
}

const rasterLayout = (run, layer, noun) => {
  const count = neurons(run.raster[layer].shape);
  return { xaxis: axes.time(run), yaxis: { title: { text: noun }, range: [count * 1.02, -count * 0.02], nticks: 6 } };
};

function rasterSays(run, layer, t) {
  const { shape, events } = run.raster[layer];
  const now = spikesAt(run, layer, t).length;
  return `Raster of ${layer}: ${now} of ${neurons(shape)} neurons spike at step ${t + 1}, ${pair(events.length, "spike")} in ${run.steps} steps.`;
}

// Layers that have no panel of their own.
export function hiddenLayers(run) {
  return Object.keys(run.raster ?? {}).filter((name) => name !== "input" && name !== "output");
}

// The layer whose raster is shown: the one chosen where this model has it.
export function chosenLayer(run, wanted) {
  const names = hiddenLayers(run);
  return names.includes(wanted) ? wanted : names[0];
}

const decay = ({ shift }) => 1 - 2 ** -shift;

export const PLOTS = [
  {
    id: "classes",
    has: (run) => run.classProbabilities !== null,
    draw: (run, colours) => ({
      data: tenLines(run, run.classProbabilities, colours, percent),
      layout: {
        margin: { r: 28 },
        xaxis: axes.time(run),
        yaxis: { range: [-0.03, 1.05], tickformat: ".0%" },
        annotations: endLabels(run.classProbabilities, colours, 1),
        shapes: run.card
          ? [
              {
                type: "line",
                xref: "paper",
                x0: 0,
                x1: 1,
                y0: run.card.calibration.confidence,
                y1: run.card.calibration.confidence,
                line: { color: colours.soft, width: 1, dash: "dot" },
              },
            ]
          : [],
      },
    }),
    says: (run, t) => {
      const digit = best(run.classProbabilities[t]);
      return `Class probabilities by step. At step ${t + 1} the best is ${digit} with ${percent(run.classProbabilities[t][digit])}.`;
    },
  },
  {
    id: "input",
    raster: () => "input",
    has: (run) => run.raster?.input !== undefined,
    draw: (run, colours) => ({
      data: [rasterTrace(run, "input", colours)],
      layout: rasterLayout(run, "input", "pixel, row by row"),
    }),
    says: (run, t) => rasterSays(run, "input", t),
  },
  {
    id: "filtered",
    has: (run) => run.filtered !== null,
    draw: (run, colours) => {
      const [x, y, text] = [[], [], []];
      const spiked = [...new Set(run.raster.input.events.map(([, index]) => index))];
      for (const index of spiked) {
        const [row, column] = [Math.floor(index / 28), index % 28];
        run.filtered.forEach((frame, t) => {
          x.push(t + 1);
          y.push(frame[row][column]);
          text.push(`pixel at row ${row}, column ${column}, step ${t + 1}: ${frame[row][column].toFixed(2)} spikes`);
        });
        x.push(null); // lifts the pen
        y.push(null);
        text.push("");
      }
      return {
        data: [
          {
            type: "scatter",
            mode: run.steps > 1 ? "lines" : "markers",
            x,
            y,
            text,
            hovertemplate: "%{text}<extra></extra>",
            line: { color: colours.accent, width: 1 },
            marker: { color: colours.accent, size: 5 },
            opacity: 0.5,
          },
        ],
        layout: { xaxis: axes.time(run), yaxis: { title: { text: "filtered train, in spikes" }, rangemode: "tozero" } },
      };
    },
    says: (run, t) => {
      const values = run.filtered[t].flat().filter((value) => value > 0);
      return `Filtered trains of the pixels. At step ${t + 1} ${pair(values.length, "pixel")} above zero, the highest at ${Math.max(0, ...values).toFixed(2)} spikes.`;
    },
  },
  {
    id: "layers",
    tiles: true,
    has: (run) => hiddenLayers(run).length > 0,
    draw: (run, colours) => {
      const names = Object.keys(run.raster);
      const counts = names.map((name) => {
        const row = new Array(run.steps).fill(0);
        for (const [t] of run.raster[name].events) row[t] += 1;
        return row;
      });
      const sizes = names.map((name) => neurons(run.raster[name].shape));
      const normal = (name) => {
        const rate = run.card?.layers.find((layer) => layer.name === name)?.normal_rate;
        return rate == null ? "" : `, usually ${percent(rate)}`;
      };
      return {
        data: [
          {
            type: "heatmap",
            x: steps(run),
            y: names,
            xgap: 2,
            ygap: 1,
            z: counts.map((row, place) => row.map((count) => count / sizes[place])),
            text: counts.map((row, place) =>
              row.map(
                (count, t) =>
                  `${names[place]}, step ${t + 1}: ${count} of ${sizes[place]} neurons spike (${percent(count / sizes[place])}${normal(names[place])})`,
              ),
            ),
            hovertemplate: "%{text}<extra></extra>",
            colorscale: [
              [0, colours.track],
              [1, colours.accent],
            ],
            colorbar: { thickness: 8, outlinewidth: 0, tickformat: ".0%", xpad: 4 },
          },
        ],
        layout: {
          margin: { l: 128 },
          xaxis: axes.time(run),
          yaxis: { autorange: "reversed", dtick: 1, showgrid: false },
        },
      };
    },
    says: (run, t) => {
      const parts = Object.keys(run.raster).map((name) => {
        return `${name} ${percent(spikesAt(run, name, t).length / neurons(run.raster[name].shape))}`;
      });
      return `Share of neurons that spike at step ${t + 1}: ${parts.join(", ")}.`;
    },
  },
  {
    id: "raster",
    raster: (run, wanted) => chosenLayer(run, wanted),
    has: (run) => hiddenLayers(run).length > 0,
    draw: (run, colours, wanted) => {
      const layer = chosenLayer(run, wanted);
      return { data: [rasterTrace(run, layer, colours)], layout: rasterLayout(run, layer, "neuron") };
    },
    says: (run, t, wanted) => rasterSays(run, chosenLayer(run, wanted), t),
  },
  {
    id: "potentials",
    has: (run) => run.potentials !== null,
    draw: (run, colours) => {
      const all = run.potentials.flat();
      return {
        data: tenLines(run, run.potentials, colours, (value) => `${value.toFixed(2)} logits`),
        layout: {
          margin: { r: 28 },
          xaxis: axes.time(run),
          yaxis: { title: { text: "potential u, in logits" } },
          annotations: endLabels(run.potentials, colours, Math.max(...all) - Math.min(...all)),
        },
      };
    },
    says: (run, t) => {
      const digit = best(run.potentials[t]);
      return `Membrane potentials of the ten output neurons. At step ${t + 1} neuron ${digit} is highest with ${run.potentials[t][digit].toFixed(2)} logits.`;
    },
  },
  {
    id: "probabilities",
    tiles: true,
    has: (run) => run.spikeProbabilities !== null,
    draw: (run, colours) => {
      const events = run.raster?.output?.events ?? [];
      return {
        data: [
          {
            type: "heatmap",
            x: steps(run),
            y: digits,
            xgap: 2,
            ygap: 2,
            zmin: 0,
            zmax: 1,
            z: digits.map((digit) => run.spikeProbabilities.map((row) => row[digit])),
            text: digits.map((digit) =>
              run.spikeProbabilities.map(
                (row, t) => `output neuron ${digit}, step ${t + 1}: spikes with ${percent(row[digit])}`,
              ),
            ),
            hovertemplate: "%{text}<extra></extra>",
            colorscale: [
              [0, colours.track],
              [1, colours.accent],
            ],
            colorbar: { thickness: 8, outlinewidth: 0, tickformat: ".0%", xpad: 4 },
          },
          {
            type: "scatter",
            mode: "markers",
            x: events.map(([t]) => t + 1),
            y: events.map(([, digit]) => digit),
            marker: { symbol: "circle", size: 8, color: colours.second, line: { color: colours.panel, width: 1.5 } },
            hoverinfo: "skip",
          },
        ],
        layout: { xaxis: axes.time(run), yaxis: { ...axes.digit, showgrid: false } },
      };
    },
    says: (run, t) => {
      const digit = best(run.spikeProbabilities[t]);
      return `Spike probabilities of the ten output neurons. At step ${t + 1} neuron ${digit} is likeliest with ${percent(run.spikeProbabilities[t][digit])}.`;
    },
  },
  {
    id: "feedback",
    raster: () => "output",
    has: (run) => run.raster?.output !== undefined && run.feedback !== null,
    draw: (run, colours) => {
      const deepest = Math.max(1, ...run.feedback.flat().map(Math.abs));
      const cells = run.feedback
        .flatMap((row, t) => digits.map((digit) => ({ t, digit, value: row[digit] })))
        .filter(({ value }) => value !== 0);
      return {
        data: [
          // upwards; drawn first, so that these are what the arrow keys walk through
          dashes(
            run.raster.output.events.map(([t, digit]) => [
              t + 1,
              digit - 0.4,
              t + 1,
              digit - 0.22,
              t + 1,
              digit - 0.02,
            ]),
            named(run, "output"),
            { color: colours.accent, width: 3 },
          ),
          {
            type: "bar",
            x: cells.map(({ t }) => t + 1),
            base: cells.map(({ digit }) => digit),
            width: 0.9,
            y: cells.map(({ value }) => (0.42 * Math.abs(value)) / deepest),
            text: cells.map(
              ({ t, digit, value }) => `output neuron ${digit}, step ${t + 1}: feedback ${value.toFixed(2)} spikes`,
            ),
            textposition: "none",
            hovertemplate: "%{text}<extra></extra>",
            marker: { color: colours.second, opacity: 0.7 },
          },
        ],
        layout: { barmode: "overlay", xaxis: axes.time(run), yaxis: axes.digit },
      };
    },
    says: (run, t) => {
      const spikes = spikesAt(run, "output", t);
      const held = digits
        .filter((digit) => run.feedback[t][digit] !== 0)
        .map((digit) => `${digit} by ${run.feedback[t][digit].toFixed(2)}`);
      return `Output spikes and their feedback. At step ${t + 1} ${spikes.length ? `neuron ${spikes.join(", ")} spikes` : "no neuron spikes"}; feedback holds back ${held.join(", ") || "none"}.`;
    },
  },
  {
    id: "kernels",
    timeless: true,
    has: (run) => Boolean(run.card?.kernels?.A || run.card?.kernels?.B),
    draw: (run, colours) => {
      const looks = { A: colours.accent, B: colours.second };
      const known = Object.entries(run.card.kernels).filter(([name]) => name in looks);
      const t = Array.from({ length: 9 }, (_, step) => step);
      const fine = Array.from({ length: 81 }, (_, place) => place / 10);
      return {
        data: known.flatMap(([name, kernel]) => [
          {
            type: "scatter",
            mode: "lines",
            x: fine,
            y: fine.map((at) => Math.sign(kernel.unit) * decay(kernel) ** at),
            hoverinfo: "skip",
            line: { color: looks[name], width: 2 },
          },
          {
            type: "scatter",
            mode: "markers",
            x: t,
            y: t.map((at) => Math.sign(kernel.unit) * decay(kernel) ** at),
            text: t.map(
              (at) =>
                `kernel ${name}, ${pair(at, "step")} after the spike: ${(Math.sign(kernel.unit) * decay(kernel) ** at).toFixed(3)}`,
            ),
            hovertemplate: "%{text}<extra></extra>",
            marker: { color: looks[name], size: 6 },
          },
        ]),
        layout: {
          xaxis: { title: { text: "steps after the spike" }, range: [-0.3, 8.3], dtick: 1 },
          yaxis: { title: { text: "height, in spikes" }, range: [-1.1, 1.1] },
          annotations: known.map(([name, kernel]) => ({
            x: 1,
            y: Math.sign(kernel.unit) * decay(kernel),
            xshift: 10,
            xanchor: "left",
            showarrow: false,
            text: `<b>${name}</b>  tau = ${kernel.tau.toFixed(2)} steps`,
            font: { color: looks[name], size: 13 },
          })),
        },
      };
    },
    says: (run) => {
      const known = Object.entries(run.card.kernels).filter(([name]) => name === "A" || name === "B");
      return `Decay kernels. ${known.map(([name, kernel]) => `${name}: ${kernel.use}, ${kernel.unit < 0 ? "negative, " : ""}tau ${kernel.tau.toFixed(2)} steps`).join(". ")}.`;
    },
  },
];

// The step that is shown: a band behind lines, a frame around a column of tiles.
function cursor(plot, t, colours) {
  const look = plot.tiles
    ? { layer: "above", line: { color: colours.text, width: 1.5 } }
    : { layer: "below", line: { width: 0 }, fillcolor: colours.line, opacity: 0.5 };
  const [x0, x1] = span(plot, t);
  return { type: "rect", yref: "paper", x0, x1, y0: 0, y1: 1, ...look };
}

// Where the network's state begins anew: dotted lines between steps.
function resets(run, colours) {
  const every = resetInterval(run);
  return Array.from({ length: Math.ceil(run.steps / every) - 1 }, (_, place) => {
    const x = (place + 1) * every + 0.5;
    return {
      type: "line",
      yref: "paper",
      x0: x,
      x1: x,
      y0: 0,
      y1: 1,
      line: { color: colours.soft, width: 1, dash: "dot" },
    };
  });
}

const span = (plot, t) => (plot.tiles ? [t + 0.5, t + 1.5] : [t + 0.85, t + 1.15]);

// Draws a plot into its box, with the cursor at step t.
export async function draw(box, plot, run, t, layer) {
  const library = await load();
  const colours = palette();
  const { data, layout } = plot.draw(run, colours, layer);
  const axis = {
    gridcolor: colours.line,
    zeroline: false,
    linecolor: colours.line,
    fixedrange: true,
    automargin: false,
  };
  await library.react(
    box,
    data,
    {
      autosize: true,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: colours.soft },
      hoverlabel: {
        bgcolor: colours.panel,
        bordercolor: colours.soft,
        font: { color: colours.text, size: 13 },
        align: "left",
      },
      hovermode: "closest",
      dragmode: false, // a finger that moves over a plot scrolls the page
      showlegend: false,
      ...layout,
      margin: { l: 52, r: 12, t: 8, b: 40, ...layout.margin },
      xaxis: { ...axis, ...layout.xaxis },
      yaxis: { ...axis, ...layout.yaxis },
      shapes: plot.timeless ? [] : [cursor(plot, t, colours), ...resets(run, colours), ...(layout.shapes ?? [])],
    },
    CONFIG,
  );
}

// Moves the cursor of a plot that has been drawn.
export async function point(box, plot, t) {
  if (plot.timeless) return;
  const [x0, x1] = span(plot, t);
  await (await load()).relayout(box, { "shapes[0].x0": x0, "shapes[0].x1": x1 });
}

// Shows the hover label of a raster's spike, as the pointer would; null takes it away.
export async function hover(box, place) {
  const { Fx } = await load();
  if (place === null) Fx.unhover(box);
  else Fx.hover(box, [{ curveNumber: 0, pointNumber: SPIKE_POINTS * place + 1 }]);
}
