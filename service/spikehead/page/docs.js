// Renders openapi.json: each route with its options, bodies, answers and errors, all with examples.

function node(name, text = "", ...children) {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...children);
  return made;
}

const example = (value) => node("pre", typeof value === "string" ? value : JSON.stringify(value, null, 1));

// Rows of numbers on one line each: a picture stays readable.
function compact(value) {
  const text = JSON.stringify(value, null, 1);
  return text.replace(/\[[\s\d.,-]+\]/g, (row) => row.replace(/\s+/g, " "));
}

function examples(content) {
  return Object.entries(content).map(([type, { example: one, examples: many }]) => {
    const shown = many ? Object.values(many) : [{ summary: "", value: one }];
    const parts = shown.map(({ summary, value }) =>
      node("div", "", node("p", summary), example(typeof value === "string" ? value : compact(value))),
    );
    return node("details", "", node("summary", type), ...parts);
  });
}

function parameters(list) {
  const head = node("tr", "", node("th", "name"), node("th", "in"), node("th", "meaning"));
  const rows = list.map(({ name, in: where, description = "" }) =>
    node("tr", "", node("td", "", node("code", name)), node("td", where), node("td", description.replaceAll("`", ""))),
  );
  const box = node("div", "", node("table", "", head, ...rows));
  box.className = "scroll";
  return box;
}

function route(method, path, operation) {
  const section = node("section");
  section.className = "route";
  const badge = node("span", method.toUpperCase());
  badge.className = "method";
  section.append(node("h2", "", badge, node("code", path), node("span", operation.summary)));
  section.append(node("p", (operation.description ?? "").replaceAll("`", "")));
  if (operation.parameters?.length) section.append(node("h3", "Options"), parameters(operation.parameters));
  if (operation.requestBody) section.append(node("h3", "Body"), ...examples(operation.requestBody.content));
  section.append(node("h3", "Answers"));
  for (const [status, { description, content = {} }] of Object.entries(operation.responses)) {
    section.append(node("p", `${status}: ${description}`), ...examples(content));
  }
  return section;
}

const response = await fetch("openapi.json");
const { paths, servers = [{ url: "" }] } = await response.json();
const sections = Object.entries(paths).flatMap(([path, operations]) =>
  Object.entries(operations).map(([method, operation]) => route(method, servers[0].url + path, operation)),
);
document.getElementById("routes").replaceChildren(...sections);
