// The service's routes, relative to the page. What goes wrong comes as a problem document.

import { inWords } from "./words.js";

// What the service said no to, or that it said nothing. The message is for people.
export class ServiceError extends Error {
  constructor(problem, status = 0) {
    super(inWords(problem));
    this.status = status; // 0: no answer
  }
}

// Seeds go up to 2**64 - 1, where JSON.parse would lose digits: they are kept as text.
const parse = (text) => JSON.parse(text.replace(/"seed":\s*(\d+)/g, '"seed":"$1"'));

async function ask(path, settings = {}) {
  let response;
  try {
    response = await fetch(path, settings);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError({ title: "The service cannot be reached." });
  }
  if (response.ok) return response;
  const text = await response.text();
  let problem;
  try {
    problem = parse(text);
  } catch {
    problem = { title: `The service answered ${response.status}` };
  }
  throw new ServiceError(problem, response.status);
}

const get = async (path, settings) => parse(await (await ask(path, settings)).text());

export const models = () => get("models");
export const model = (name) => get(`models/${encodeURIComponent(name)}`);
export const recent = (query) => get(`spikes?${new URLSearchParams(query)}`);
export const stored = (id, signal) => get(`spikes/${id}`, { signal });
export const replay = (id, signal) => get(`spikes/${id}?include=all`, { signal });

// Server-sent events of a body: { event, data }, in order.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value = "", done } = await reader.read();
    const blocks = (waiting + value).split(/\r?\n\r?\n/);
    waiting = blocks.pop();
    for (const block of blocks) {
      const lines = block.split(/\r?\n/).map((line) => /^(\w*): ?(.*)$/.exec(line));
      const all = (name) =>
        lines
          .filter((found) => found?.[1] === name)
          .map((found) => found[2])
          .join("\n");
      yield { event: all("event"), data: all("data") };
    }
    if (done) return;
  }
}

// Classifies a picture. `onStep` gets each time step while it is simulated, where the service sends them.
export async function classify(blob, options, onStep, signal) {
  const headers = { Accept: "text/event-stream", "Content-Type": blob.type || "application/octet-stream" };
  const query = new URLSearchParams(options);
  const response = await ask(`classify?${query}`, { method: "POST", body: blob, headers, signal });
  if (!response.headers.get("content-type").startsWith("text/event-stream")) return parse(await response.text());
  for await (const { event, data } of events(response.body)) {
    if (event === "step") onStep(parse(data));
    if (event === "result") return parse(data);
    if (event === "problem") {
      const problem = parse(data);
      throw new ServiceError(problem, problem.status);
    }
  }
  throw new ServiceError({ title: "The service stopped in the middle of its answer." });
}
