// Draws an answer: probability bars, output raster, facts, and the picture as the network saw it.

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

function html(name, className, text = "") {
  const node = document.createElement(name);
  node.className = className;
  node.textContent = text;
  return node;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;

export function bars(list, probabilities, prediction) {
  list.replaceChildren(
    ...probabilities.map((probability, digit) => {
      const item = html("li", digit === prediction ? "best" : "");
      const track = html("span", "track");
      const picture = element("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", class: "bar" });
      picture.setAttribute("aria-hidden", "true");
      picture.append(element("rect", { width: 100 * probability, height: 10 }));
      track.append(picture);
      item.append(html("span", "", String(digit)), track, html("span", "value", percent(probability)));
      return item;
    }),
  );
}

export function raster(box, { events }, steps) {
  const [left, top, row] = [24, 6, 14];
  const [width, height] = [360, top + 10 * row + 22];
  const column = (width - left - 8) / steps;
  const picture = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const said = events.map(([t, digit]) => `${digit} at step ${t + 1}`).join(", ");
  picture.setAttribute("aria-label", `Output spikes: ${said || "none"}`);
  for (let digit = 0; digit < 10; digit += 1) {
    const y = top + row * (digit + 0.5);
    picture.append(element("line", { x1: left, x2: width - 8, y1: y, y2: y, class: "grid" }));
    picture.append(element("text", { x: 8, y: y + 4 }, String(digit)));
  }
  for (let t = 0; t < steps; t += 1) {
    picture.append(element("text", { x: left + column * (t + 0.5), y: height - 6, "text-anchor": "middle" }, String(t + 1)));
  }
  for (const [t, digit] of events) {
    const [x, y] = [left + column * (t + 0.5), top + row * digit];
    picture.append(element("line", { x1: x, x2: x, y1: y + 2, y2: y + row - 2, class: "spike" }));
  }
  box.replaceChildren(picture);
}

// One square of pixels a time step, left to right, white where a pixel spiked.
export function frames(canvas, { shape, events }, steps) {
  const [height, width] = shape.slice(-2);
  const gap = 2;
  canvas.width = steps * (width + gap) - gap; // setting it clears the canvas
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  for (let t = 0; t < steps; t += 1) context.fillRect(t * (width + gap), 0, width, height);
  context.fillStyle = "#fff";
  for (const [t, index] of events) {
    context.fillRect(t * (width + gap) + (index % width), Math.floor(index / width), 1, 1);
  }
  canvas.style.width = `min(100%, ${7 * steps}rem)`;
  canvas.setAttribute("aria-label", `Input spikes: ${events.length} in ${steps} time steps`);
}

export function facts(list, answer) {
  const times = answer.timings_ms;
  const stop = answer.stopped_by === "confidence" ? "sure enough" : "no more steps";
  const total = Object.values(answer.spike_counts.layers).reduce((sum, count) => sum + count, 0);
  const entries = {
    "Time steps": `${answer.steps_used} of ${answer.max_steps} (${stop})`,
    "Input spikes": answer.spike_counts.input.toLocaleString("en"),
    "Spikes in the network": total.toLocaleString("en"),
    "Synaptic operations": answer.synaptic_operations.toLocaleString("en"),
    "Time": `${times.decode.toFixed(2)} ms decode, ${times.encode.toFixed(2)} ms encode, ${times.simulate.toFixed(2)} ms simulate`,
    "Seed": answer.seed,
    "Model": `${answer.model} ${answer.model_version} on ${answer.engine}`,
    "Id": answer.id,
  };
  list.replaceChildren(
    ...Object.entries(entries).flatMap(([name, value]) => [html("dt", "", name), html("dd", "", value)]),
  );
}

export function pixels(canvas, rows) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(28, 28);
  rows.flat().forEach((value, index) => image.data.set([value, value, value, 255], 4 * index));
  context.putImageData(image, 0, 0);
}
