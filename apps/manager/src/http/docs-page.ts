import { ERRORS } from "@farpool/contract";
import type { OpenApiDocument, Operation } from "./openapi.ts";

/** The API as one page without anything from elsewhere: it is read where there is no internet, too. */

type Schema = Record<string, unknown>;

interface Listed {
  readonly method: string;
  readonly path: string;
  readonly operation: Operation;
}

export const FILTER_SCRIPT = `
const field = document.querySelector("#filter");
const items = [...document.querySelectorAll("[data-words]")];
field.addEventListener("input", () => {
  const words = field.value.toLowerCase().split(/\\s+/);
  for (const item of items) item.hidden = !words.every((word) => item.dataset.words.includes(word));
  for (const part of document.querySelectorAll("section")) {
    const listed = [...part.querySelectorAll("[data-words]")];
    part.hidden = listed.length > 0 && listed.every((item) => item.hidden);
  }
});
`;

const STYLE = `
:root { color-scheme: light dark; --line: light-dark(#d8dde3, #3a4048); --soft: light-dark(#f4f6f8, #1d2126);
  --text: light-dark(#1c2127, #e3e7eb); --dim: light-dark(#5b6570, #9aa4ae); --get: light-dark(#0b6b3a, #5ec48f);
  --post: light-dark(#8a4b00, #e7a95c); --link: light-dark(#0a58b8, #7db3f5); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 6rem; color: var(--text); background: light-dark(#fff, #15181c);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; } h2 { margin: 2.2rem 0 .6rem; font-size: 1.15rem; }
h3 { margin: 1rem 0 .3rem; font-size: .85rem; color: var(--dim); font-weight: 600; }
p { margin: .4rem 0 .8rem; } a { color: var(--link); }
code, pre { font: .87rem/1.5 ui-monospace, monospace; }
pre { margin: 0; padding: .7rem .9rem; overflow-x: auto; background: var(--soft); border-radius: .4rem; }
#filter { width: 100%; margin: 1rem 0 0; padding: .55rem .8rem; font: inherit; color: inherit; background: transparent;
  border: 1px solid var(--line); border-radius: .4rem; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .4rem 0; }
summary { display: grid; grid-template-columns: 3.4rem minmax(0, 22rem) 1fr; gap: .7rem; padding: .5rem .9rem; cursor: pointer;
  align-items: baseline; list-style: none; }
summary::-webkit-details-marker { display: none; }
summary code { overflow-wrap: anywhere; } summary span { color: var(--dim); }
details > div { padding: 0 .9rem 1rem; border-top: 1px solid var(--line); }
.get { color: var(--get); font-weight: 700; } .post { color: var(--post); font-weight: 700; }
.put, .patch, .delete { color: var(--link); font-weight: 700; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 600; }
@media (max-width: 45rem) { summary { grid-template-columns: 3.4rem 1fr; } summary span { grid-column: 1 / -1; } }
`;

export function docsPage(document: OpenApiDocument): string {
  const listed = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): Listed => ({ method, path, operation })),
  );
  const tags = [...new Set(listed.flatMap(({ operation }) => operation.tags))];
  const sections = tags.map((tag) => {
    const items = listed.filter(({ operation }) => operation.tags.includes(tag));
    return `<section><h2>${escape(heading(tag))}</h2>${items.map((each) => item(each, document.components.schemas)).join("")}</section>`;
  });
  const schemas = Object.entries(document.components.schemas).map(
    ([name, schema]) =>
      `<details id="${escape(name)}" data-words="${escape(name.toLowerCase())}"><summary><b></b><code>${escape(name)}</code><span></span></summary><div>${shape(schema)}</div></details>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(document.info.title)}: API</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${escape(document.info.title)} <small>${escape(document.info.version)}</small></h1>
<p>${escape(document.info.description)}</p>
<p>For programs: <a href="/openapi.json">openapi.json</a>. Over TCP a request carries the token:</p>
<pre>curl -H "Authorization: Bearer $(cat api-token)" http://HOST:PORT/v1/status</pre>
<input id="filter" type="search" placeholder="filter: session end" aria-label="filter requests and schemas" autocomplete="off">
${sections.join("\n")}
<section><h2>Schemas</h2>${schemas.join("")}</section>
<section><h2>Failures</h2>${errorTable()}</section>
<script>${FILTER_SCRIPT}</script>
</body>
</html>
`;
}

function item({ method, path, operation }: Listed, schemas: Schema): string {
  const words = `${method} ${path} ${operation.summary} ${operation.operationId}`.toLowerCase();
  const parameters = (operation.parameters ?? []).map(
    (each) =>
      `<tr><td><code>${escape(each.name)}</code></td><td>${each.in}${each.required ? "" : ", optional"}</td><td>${shape(each.schema)}</td></tr>`,
  );
  const body = operation.requestBody?.content["application/json"]?.schema;
  const [content] = Object.values(operation.responses["200"]?.content ?? {});
  return `<details data-words="${escape(words)}"><summary><b class="${method}">${method.toUpperCase()}</b><code>${escape(path)}</code><span>${escape(operation.summary)}</span></summary><div>
${operation.security === undefined ? "" : "<p>Needs no token.</p>"}
${parameters.length === 0 ? "" : `<h3>Parameters</h3><table>${parameters.join("")}</table>`}
${body === undefined ? "" : `<h3>Request</h3>${shape(opened(body, schemas))}`}
<h3>Answer</h3>${content === undefined ? "" : shape(opened(content.schema, schemas))}
</div></details>`;
}

function errorTable(): string {
  const rows = Object.entries(ERRORS).map(
    ([code, { httpStatus, hint }]) =>
      `<tr><td><code>${code}</code></td><td>${httpStatus}</td><td>${escape(hint ?? "")}</td></tr>`,
  );
  return `<table><tr><th>code</th><th>status</th><th>hint</th></tr>${rows.join("")}</table>`;
}

const heading = (tag: string): string =>
  tag === "gpus" ? "GPUs" : tag.charAt(0).toUpperCase() + tag.slice(1);

/** What a request or an answer is, not only what it is called. */
function opened(schema: unknown, schemas: Schema): unknown {
  const reference = asSchema(schema)["$ref"];
  return typeof reference === "string" ? schemas[reference.split("/").at(-1) ?? ""] : schema;
}

/** A schema as a person writes an example of it. */
function shape(schema: unknown): string {
  return `<pre>${describe(schema, "")}</pre>`;
}

function describe(given: unknown, indent: string): string {
  const schema = asSchema(given);
  const reference = schema["$ref"];
  if (typeof reference === "string") {
    const name = reference.split("/").at(-1) ?? "";
    return `<a href="#${escape(name)}">${escape(name)}</a>`;
  }
  const choices = listOf(schema["anyOf"] ?? schema["oneOf"]);
  if (choices.length > 0) return choices.map((each) => describe(each, indent)).join(" | ");
  const allowed = listOf(schema["enum"]);
  if (allowed.length > 0) return allowed.map((each) => escape(JSON.stringify(each))).join(" | ");
  if ("const" in schema) return escape(JSON.stringify(schema["const"]));
  if (schema["type"] === "array") return `[${describe(schema["items"], indent)}, …]`;
  if (schema["type"] === "object") return object(schema, indent);
  return scalar(schema);
}

function object(schema: Schema, indent: string): string {
  const properties = Object.entries(asSchema(schema["properties"]));
  if (properties.length === 0) return "{}";
  const required = listOf(schema["required"]);
  const inner = `${indent}  `;
  const lines = properties.map(([name, each]) => {
    const mark = required.includes(name) ? "" : "?";
    return `${inner}${escape(name)}${mark}: ${describe(each, inner)}`;
  });
  return `{\n${lines.join("\n")}\n${indent}}`;
}

function scalar(schema: Schema): string {
  const type = [schema["type"]].flat().join(" | ");
  const facts = [
    schema["format"],
    bound(schema, "minLength", "maxLength", " characters"),
    bound(schema, "minimum", "maximum", ""),
    "default" in schema ? `default ${JSON.stringify(schema["default"])}` : undefined,
    schema["pattern"],
  ].filter((fact) => fact !== undefined && fact !== "");
  const text = type === "" ? "any" : type;
  return escape(facts.length === 0 ? text : `${text} (${facts.join(", ")})`);
}

// oxlint-disable-next-line eslint/max-params -- a pair of names, and what they count
function bound(schema: Schema, least: string, most: string, unit: string): string | undefined {
  const [from, to] = [numberOf(schema[least]), numberOf(schema[most])];
  if (from === undefined) return to === undefined ? undefined : `up to ${to}${unit}`;
  return to === undefined ? `from ${from}${unit}` : `${from} to ${to}${unit}`;
}

const numberOf = (value: unknown): number | undefined => (typeof value === "number" ? value : undefined);
const asSchema = (value: unknown): Schema =>
  typeof value === "object" && value !== null ? (value as Schema) : {};
const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escape = (text: string): string => text.replaceAll(/[&<>"]/g, (found) => ENTITIES[found] ?? "");
