// The API as a page that a person reads: rendered once, from the OpenAPI document that the routes themselves make. Pure.
// Not a second description. Invariant: the page holds no script and asks for nothing else, so its policy forbids both; every text from the
// document is escaped.

import { createHash } from "node:crypto";
import { ERROR_KINDS } from "../api/errors.ts";

/** As much of a JSON schema as is shown. */
interface Schema {
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly additionalProperties?: Schema | boolean;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly format?: string;
}

interface Operation {
  readonly tags?: readonly string[];
  readonly summary?: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean; readonly schema?: Schema }[];
  readonly requestBody?: { readonly content?: Readonly<Record<string, { readonly schema?: Schema }>> };
}

export interface ApiDocument {
  readonly info: { readonly title: string; readonly version: string };
  readonly paths?: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

export interface DocsPage {
  readonly html: string;
  /** The only thing that the page may use is its own style. */
  readonly policy: string;
}

const METHODS = ["get", "post", "put", "patch", "delete"];
const MAX_DEPTH = 6;
/** Beyond it a bound says nothing that a reader wants to know. */
const LARGE = 1e12;

const STYLE = `
:root { color-scheme: light dark; --line: light-dark(#d8dce2, #333a44); --soft: light-dark(#5a6472, #9aa5b4); --code: light-dark(#f4f6f8, #1b2027); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1.5rem; }
nav ul { columns: 3 14rem; padding-left: 1.2rem; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--code); padding: .8rem; border-radius: 6px; overflow-x: auto; }
.method { display: inline-block; min-width: 4.2rem; font-weight: 600; }
.what { color: var(--soft); margin-left: .6rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-top: 1px solid var(--line); }
`;

export function renderDocs({ info, paths = {} }: ApiDocument): DocsPage {
  const groups = new Map<string, string[]>();
  for (const [path, methods] of Object.entries(paths))
    for (const method of METHODS) {
      const operation = methods[method];
      if (operation === undefined) continue;
      const [tag = "other"] = operation.tags ?? [];
      groups.set(tag, [...(groups.get(tag) ?? []), operationHtml(method, path, operation)]);
    }
  const tags = [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
  const title = `${info.title} ${info.version}: the API`;
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title><style>${STYLE}</style></head><body>
<h1>${escaped(title)}</h1>
${INTRO}
<nav><ul>${tags.map(([tag]) => `<li><a href="#${escaped(tag)}">${escaped(tag)}</a></li>`).join("")}<li><a href="#errors">errors</a></li></ul></nav>
${tags.map(([tag, operations]) => `<h2 id="${escaped(tag)}">${escaped(tag)}</h2>\n${operations.join("\n")}`).join("\n")}
<h2 id="errors">errors</h2>
<table><tr><th>code</th><th>status</th><th>again?</th><th>meaning</th></tr>
${Object.entries(ERROR_KINDS)
  .map(
    ([code, { status, retry, meaning }]) =>
      `<tr><td><code>${code}</code></td><td>${status}</td><td>${retry}</td><td>${escaped(meaning)}</td></tr>`,
  )
  .join("\n")}
</table>
</body></html>
`;
  const hash = createHash("sha256").update(STYLE).digest("base64");
  return { html, policy: `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'` };
}

const INTRO = `<p>Every request below <code>/v1</code> carries <code>Authorization: Bearer KEY</code>. Bodies are JSON in lowerCamelCase, times are ISO 8601,
lists are <code>{items, next?}</code>, and <code>next</code> is the <code>cursor</code> of the next page. An <code>Idempotency-Key</code> on a create makes
a repeated one answer with the first one's result. What is wrong is told as <code>{"error": {code, message, requestId, retryAfterMs?}}</code>. The same as a
document: <code>/v1/openapi.json</code>.</p>`;

function operationHtml(method: string, path: string, { summary = "", parameters = [], requestBody }: Operation): string {
  const rows = parameters.map(
    ({ name, in: place, required, schema = {} }) =>
      `<tr><td><code>${escaped(name)}</code></td><td>${escaped(place)}${required === true ? ", required" : ""}</td><td><code>${escaped(typeOf(schema, 0))}</code></td></tr>`,
  );
  const table = rows.length === 0 ? "" : `<table><tr><th>name</th><th>in</th><th>type</th></tr>${rows.join("")}</table>`;
  const bodies = Object.entries(requestBody?.content ?? {}).map(
    ([type, { schema = {} }]) => `<p>Body, <code>${escaped(type)}</code>:</p><pre>${escaped(typeOf(schema, 0))}</pre>`,
  );
  const head = `<span class="method">${method.toUpperCase()}</span><code>${escaped(path)}</code><span class="what">${escaped(summary)}</span>`;
  return `<details><summary>${head}</summary>${table}${bodies.join("")}</details>`;
}

/** A schema in the way people write types, indented by its depth. */
function typeOf(schema: Schema, depth: number): string {
  if (depth > MAX_DEPTH) return "…";
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return choices.map((one) => typeOf(one, depth)).join(" | ");
  if (schema.properties !== undefined) return objectOf(schema, schema.properties, depth);
  if (typeof schema.additionalProperties === "object") return `{ [key]: ${typeOf(schema.additionalProperties, depth + 1)} }`;
  if (schema.items !== undefined) return `(${typeOf(schema.items, depth)})[]`;
  const type = schema.type === undefined ? "anything" : [schema.type].flat().join(" | ");
  return `${type}${boundsOf(schema)}`;
}

function objectOf({ required = [] }: Schema, properties: Readonly<Record<string, Schema>>, depth: number): string {
  const indent = "  ".repeat(depth + 1);
  const lines = Object.entries(properties).map(
    ([name, inner]) => `${indent}${name}${required.includes(name) ? "" : "?"}: ${typeOf(inner, depth + 1)}`,
  );
  return lines.length === 0 ? "{}" : `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`;
}

function boundsOf({ minimum, maximum, maxLength, pattern, format }: Schema): string {
  const low = minimum === undefined || minimum < -LARGE ? "" : String(minimum);
  const high = maximum === undefined || maximum > LARGE ? "" : String(maximum);
  const parts = [
    low === "" && high === "" ? "" : `${low}…${high}`,
    maxLength === undefined ? "" : `at most ${maxLength} characters`,
    pattern === undefined ? "" : pattern,
    format ?? "",
  ].filter((part) => part !== "");
  return parts.length === 0 ? "" : ` (${parts.join(", ")})`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;").replaceAll("'", "&#39;");
}
