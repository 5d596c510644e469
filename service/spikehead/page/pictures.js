// Pictures of 28 x 28: pixels, contrast, spikes, filtered trains, and where a head looks.

const SIDE = 28;
const HEAT = [255, 150, 20]; // of attention, over a grey digit

const texts = new WeakMap(); // canvas -> (row, column) => what is there

// Paints values [28 * 28] from 0 (black) to 1 (white). `heat` [tokens], 0 to 1, is laid over it.
export function paint(canvas, values, heat = null) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  const side = heat ? Math.sqrt(heat.length) : 1;
  for (let index = 0; index < SIDE * SIDE; index += 1) {
    const grey = 255 * values[index];
    const glow = heat ? 0.85 * heat[tokenOf(Math.floor(index / SIDE), index % SIDE, side)] : 0;
    for (let part = 0; part < 3; part += 1) image.data[4 * index + part] = grey * (1 - glow) + HEAT[part] * glow;
    image.data[4 * index + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

// Which of side * side tokens a pixel belongs to.
export function tokenOf(row, column, side) {
  return Math.floor((row * side) / SIDE) * side + Math.floor((column * side) / SIDE);
}

// Says in `readout` what is under the pointer; `describe` may change with every step.
export function explain(canvas, readout, describe) {
  if (!texts.has(canvas)) {
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const inside = (value) => Math.min(SIDE - 1, Math.max(0, Math.floor(SIDE * value)));
      const row = inside((event.clientY - box.top) / box.height);
      const column = inside((event.clientX - box.left) / box.width);
      readout.textContent = `Row ${row}, column ${column}: ${texts.get(canvas)(row, column)}`;
    });
    canvas.addEventListener("pointerleave", () => {
      readout.textContent = "";
    });
  }
  texts.set(canvas, describe);
}
