// One run of the network: what is known of it, from its steps as they come or from its replay.
//
// Steps count from 0 here and from 1 where people read them. A part that the model does not have, or that the
// service did not send, is null.

export function liveRun(card) {
  return { ...nothing(card), raster: {} };
}

function nothing(card) {
  return {
    card, // null where the model is no longer there
    answer: null, // until the result comes
    steps: 0,
    pixels: null, // [28][28]
    contrast: null, // [28][28]
    raster: null, // layer -> { shape, events: [[t, index], ...] }
    filtered: null, // [T][28][28]
    potentials: null, // [T][10]
    spikeProbabilities: null, // [T][10]
    classProbabilities: null, // [T][10]
    feedback: null, // [T][10]
    attention: null, // block -> [T][heads][49]
    replay: null, // { equal, differences }
  };
}

// Adds a step that was sent while it was simulated.
export function addStep(run, step) {
  const t = run.steps;
  const grown = (values, value) => (value === undefined ? values : [...(values ?? []), value]);
  run.potentials = grown(run.potentials, step.potentials);
  run.spikeProbabilities = grown(run.spikeProbabilities, step.spike_probabilities);
  run.classProbabilities = grown(run.classProbabilities, step.class_probabilities);
  run.feedback = grown(run.feedback, step.feedback ?? undefined);
  for (const [layer, indices] of Object.entries(step.spikes ?? {})) {
    run.raster[layer] ??= { shape: shapeOf(run.card, layer), events: [] };
    run.raster[layer].events.push(...indices.map((index) => [t, index]));
  }
  run.steps += 1;
}

function shapeOf(card, layer) {
  return card?.layers.find(({ name }) => name === layer)?.shape ?? [];
}

// A stored request, replayed or (where it could not be) as it was answered.
export function storedRun(card, document) {
  const { answer, probabilities } = document;
  const part = (name) => document[name] ?? null;
  const classProbabilities = probabilities?.class ?? null;
  return {
    ...nothing(card),
    answer,
    steps: classProbabilities?.length ?? 0,
    pixels: part("pixels"),
    contrast: part("contrast"),
    raster: part("raster"),
    filtered: part("filtered"),
    potentials: part("potentials"),
    spikeProbabilities: probabilities?.spike ?? null,
    classProbabilities,
    feedback: part("feedback"),
    attention: part("attention"),
    replay: part("replay"),
  };
}

// Class probabilities after a step, or those of the answer where no step is known.
export function classesAt(run, t) {
  return run.classProbabilities?.[t] ?? run.answer?.class_probabilities ?? null;
}

export function best(values) {
  return values.indexOf(Math.max(...values));
}

// The first step after which the model would stop by itself, or -1.
export function sureAt(run) {
  const wanted = run.card?.calibration.confidence ?? 2;
  return (run.classProbabilities ?? []).findIndex((values) => Math.max(...values) >= wanted);
}

// After so many steps the state of the network that ran began anew; Infinity: never, or the card is of another version.
export function resetInterval({ card, answer }) {
  const known = card && (answer === null || answer.model_version === card.version);
  return (known ? card.reset_interval : null) ?? Infinity;
}

// Indices of the neurons of a layer that spike at a step.
export function spikesAt(run, layer, t) {
  return run.raster[layer].events.filter(([at]) => at === t).map(([, index]) => index);
}

export const neurons = (shape) => shape.reduce((product, size) => product * size, 1);

// What a neuron is called. Rows, columns and channels count from 0.
export function neuronName(layer, shape, index) {
  if (layer === "output") return `output neuron ${index}`;
  if (shape.length === 3) {
    const [, height, width] = shape;
    const place = `row ${Math.floor(index / width) % height}, column ${index % width}`;
    if (layer === "input") return `pixel at ${place}`;
    return `${layer}, channel ${Math.floor(index / (height * width))}, ${place}`;
  }
  if (shape.length === 2) {
    const [token, channel] = [Math.floor(index / shape[1]), index % shape[1]];
    const side = Math.sqrt(shape[0]);
    const place = Number.isInteger(side) ? `row ${Math.floor(token / side)}, column ${token % side}` : `${token}`;
    return `${layer}, token at ${place}, channel ${channel}`;
  }
  return `${layer}, neuron ${index}`;
}
