// The service's routes. Errors are problem documents; their detail becomes the message.

async function answered(response) {
  const document = await response.json();
  if (!response.ok) throw new Error(`${document.title}: ${document.detail}`);
  return document;
}

export async function models() {
  return answered(await fetch("/models"));
}

// Text of numbers above 2**53 would lose digits in JSON.parse, so the seed is taken from the text.
export async function classify(blob, options) {
  const query = new URLSearchParams({ raster: "input,output", ...options });
  const headers = { "Content-Type": blob.type || "application/octet-stream" };
  const response = await fetch(`/classify?${query}`, { method: "POST", body: blob, headers });
  const text = await response.clone().text();
  const answer = await answered(response);
  return { ...answer, seed: /"seed":(\d+)/.exec(text)[1] };
}

export async function stored(id) {
  return answered(await fetch(`/spikes/${id}`));
}
