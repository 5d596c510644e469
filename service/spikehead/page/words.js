// What went wrong, in the page's words: its fields by their labels, without the interface's options and addresses.

const PICTURE = "This file is no picture that can be read: a PNG, JPEG, WebP, BMP or GIF is.";

// Kinds of problems whose own words are for those who write requests.
const WORDS = {
  "internal-error": ({ request_id: id }) => `The service made a mistake. Its log says more, under ${id}.`,
  "malformed-body": () => PICTURE,
  "missing-image": () => PICTURE,
  "not-found": () => "The service does not answer under the page's address.",
  unauthorized: () => "An API key is needed: load the page again, and enter the key as the password.",
  "unknown-request": () => "This request is not remembered, or not any more.",
  "unsupported-media-type": () => PICTURE,
  "wrong-size": () => PICTURE,
};

// The label of the field that sets an option; undefined where the page has none.
function labelOf(option) {
  return document.querySelector(`main [name="${option}"]`)?.labels[0].firstChild.textContent.trim();
}

export function inWords(problem) {
  const { type = "", title, detail, expected, received } = problem;
  const words = WORDS[type.split("/").pop()];
  if (words) return words(problem);
  const option = /^(\w+): (.*)$/s.exec(expected ?? "");
  if (!option) return detail ? `${title}: ${detail}` : title;
  const label = labelOf(option[1]);
  return label ? `${label}: expected ${option[2]}, got ${received}` : title;
}
