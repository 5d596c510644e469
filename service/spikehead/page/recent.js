// Recent requests: a list, newest or least sure first, that grows by pages; each entry opens its request.

import * as api from "./api.js";

const PAGE = 8;

const when = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

function part(name, className, text) {
  const node = document.createElement(name);
  node.className = className;
  node.textContent = text;
  return node;
}

export class Recent {
  constructor({ list, more, order, digit, note }, onOpen) {
    Object.assign(this, { list, more, order, digit, note, onOpen });
    this.next = null; // cursor of the page that follows
    this.turn = 0; // an answer to an older question is dropped
    more.addEventListener("click", () => this.load(this.next));
    for (const select of [order, digit]) select.addEventListener("change", () => this.load());
  }

  // The first page, or with a cursor one more.
  async load(before = null) {
    this.turn += 1;
    const turn = this.turn;
    const query = { limit: PAGE };
    if (this.order.value !== "newest") query.order = this.order.value;
    if (this.digit.value !== "") query.prediction = this.digit.value;
    if (before !== null) query.before = before;
    try {
      const { requests, next } = await api.recent(query);
      if (turn !== this.turn) return;
      const entries = requests.map((request) => this.entry(request));
      if (before === null) this.list.replaceChildren(...entries);
      else this.list.append(...entries);
      if (before !== null) entries[0]?.firstChild.focus();
      this.next = next;
      this.more.hidden = next === null;
      this.note.textContent = this.list.children.length ? "" : "None yet.";
    } catch (error) {
      if (turn !== this.turn) return;
      this.note.textContent = error.message;
      this.more.hidden = true;
      if (before === null) this.list.replaceChildren();
    }
    this.mark(this.open);
  }

  entry({ id, time, model, prediction, confidence, steps_used: steps }) {
    const sure = `${(100 * confidence).toFixed(1)} %`;
    const spent = steps === 1 ? "1 step" : `${steps} steps`;
    const button = part("button", "entry", "");
    button.type = "button";
    button.dataset.id = id;
    button.append(
      part("span", "read", String(prediction)),
      part("span", "sure", sure),
      part("span", "spent", spent),
      part("span", "when", `${when.format(new Date(time))}, ${model}`),
    );
    button.addEventListener("click", () => this.onOpen(id));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  // Shows which entry is open.
  mark(id) {
    this.open = id;
    for (const button of this.list.querySelectorAll("button")) {
      if (button.dataset.id === id) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }
}
