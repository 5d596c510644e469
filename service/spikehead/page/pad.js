// The drawing pad: strokes by pointer or keyboard, dark on white.

const PEN = 0.055; // of the pad's side
const STEP = 0.03; // that one arrow key moves
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
  // `onPen(down, place)` tells where the keyboard's pen is; `onStroke(done)` that a pointer's stroke began or ended.
  constructor(canvas, nib, { onPen, onStroke }) {
    Object.assign(this, { canvas, nib, onPen, onStroke });
    this.context = canvas.getContext("2d");
    this.down = false;
    this.active = null; // the pointer that draws
    this.last = null;
    this.held = new Set(); // arrow keys: two of them move the pen aslant
    this.clear();
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.end(event));
    canvas.addEventListener("keyup", ({ key }) => this.held.delete(key));
    canvas.addEventListener("blur", () => {
      this.held.clear();
      this.lift();
    });
  }

  clear() {
    const { width, height } = this.canvas;
    this.context.fillStyle = "#fff";
    this.context.fillRect(0, 0, width, height);
    this.empty = true;
    this.position = { x: 0.5, y: 0.25 }; // of the keyboard's pen: room for a stroke downwards
    this.lift();
    this.showNib();
  }

  blob() {
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
  }

  // Shows a picture, fitted into the pad.
  show(bitmap) {
    this.clear();
    const side = this.canvas.width;
    const scale = side / Math.max(bitmap.width, bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    this.context.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
    this.empty = false;
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  begin(event) {
    if (this.active !== null || event.button !== 0) return;
    this.active = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.onStroke(false);
    this.last = this.place(event);
    this.line(this.last, this.last);
  }

  move(event) {
    if (event.pointerId !== this.active) return;
    const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const one of events.length ? events : [event]) {
      const next = this.place(one);
      this.line(this.last, next);
      this.last = next;
    }
  }

  end(event) {
    if (event.pointerId !== this.active) return;
    this.active = null;
    this.onStroke(true);
  }

  line(from, to) {
    const side = this.canvas.width;
    this.context.strokeStyle = "#111";
    this.context.lineWidth = PEN * side;
    this.context.lineCap = "round";
    this.context.lineJoin = "round";
    this.context.beginPath();
    this.context.moveTo(from.x * side, from.y * side);
    this.context.lineTo(to.x * side, to.y * side);
    this.context.stroke();
    this.empty = false;
  }

  lift() {
    if (this.down) {
      this.down = false;
      this.showNib();
      this.onPen(false, this.position);
    }
  }

  toggle() {
    this.down = !this.down;
    if (this.down) this.line(this.position, this.position);
    this.showNib();
    this.onPen(this.down, this.position);
  }

  // An arrow key has been pressed, perhaps while another one is held.
  arrow(key) {
    this.held.add(key);
    const [dx, dy] = [...this.held].map((name) => ARROWS[name]).reduce(([x, y], [u, v]) => [x + u, y + v]);
    const inside = (value) => Math.min(0.97, Math.max(0.03, value));
    const next = { x: inside(this.position.x + dx * STEP), y: inside(this.position.y + dy * STEP) };
    if (this.down) this.line(this.position, next);
    this.position = next;
    this.showNib();
    this.onPen(this.down, next);
  }

  showNib() {
    this.nib.style.left = `${100 * this.position.x}%`;
    this.nib.style.top = `${100 * this.position.y}%`;
    this.nib.classList.toggle("down", this.down);
  }
}

export const isArrow = (key) => key in ARROWS;
