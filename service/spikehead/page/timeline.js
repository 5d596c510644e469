// The time step that is shown: a slider, a button that plays and pauses, and a label.

const PACE = 600; // milliseconds a step while playing,
const LONGEST = 6000; // or less, so that all of it takes no longer than that

export class Timeline {
  constructor({ slider, play, label }, onStep) {
    Object.assign(this, { slider, play, label, onStep });
    this.total = 0;
    this.step = 0; // from 0
    this.complete = true; // false while steps still come
    this.timer = null;
    slider.addEventListener("input", () => {
      this.pause();
      this.set(Number(slider.value) - 1);
    });
    // Who takes hold of the slider wants it to stay, and where its value stays no "input" comes.
    slider.addEventListener("pointerdown", () => this.pause());
    slider.addEventListener("keydown", ({ key }) => {
      if (/^(Arrow|Page|Home$|End$)/.test(key)) this.pause();
    });
    play.addEventListener("click", () => (this.playing ? this.pause() : this.start()));
  }

  get playing() {
    return this.timer !== null;
  }

  // How many steps there are, and whether these are all.
  resize(total, complete) {
    this.total = total;
    this.complete = complete;
    this.slider.max = String(Math.max(1, total));
    this.play.disabled = total < 2;
    this.set(Math.min(this.step, Math.max(0, total - 1)), false);
  }

  set(step, tell = true) {
    this.step = step;
    const text = `Step ${step + 1} of ${this.total}`;
    this.slider.value = String(step + 1);
    this.slider.setAttribute("aria-valuetext", text);
    this.label.textContent = text;
    if (tell) this.onStep(step);
  }

  start(from = this.step + 1 < this.total ? this.step : 0) {
    this.pause();
    this.set(from);
    this.wait();
    this.face();
  }

  wait() {
    this.timer = setTimeout(
      () => {
        if (this.step + 1 < this.total) this.set(this.step + 1);
        if (this.step + 1 >= this.total && this.complete) this.pause();
        else this.wait();
      },
      Math.min(PACE, LONGEST / this.total),
    );
  }

  pause() {
    clearTimeout(this.timer);
    this.timer = null;
    this.face();
  }

  face() {
    this.play.textContent = this.playing ? "Pause" : "Play";
  }
}
