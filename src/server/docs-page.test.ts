// The page of the API against documents that the test makes.

import { expect, it } from "vitest";
import { renderDocs } from "./docs-page.ts";

it("writes a body in the way people write types", () => {
  const schema = {
    type: "object",
    required: ["a"],
    properties: {
      a: { type: "integer", minimum: 1, maximum: 9_007_199_254_740_991 },
      b: { anyOf: [{ type: "string", maxLength: 5 }, { enum: ["x", "y"] }] },
      c: { type: "array", items: { type: "object", properties: { d: { const: 1 } } } },
      e: { type: "object", additionalProperties: { type: "boolean" } },
    },
  };
  const operation = { tags: ["t"], summary: "s", requestBody: { content: { "application/json": { schema } } } };
  const { html } = renderDocs({ info: { title: "T", version: "1" }, paths: { "/v1/x": { post: operation } } });
  expect(html).toContain(
    [
      "<pre>{",
      "  a: integer (1…)",
      "  b?: string (at most 5 characters) | &quot;x&quot; | &quot;y&quot;",
      "  c?: ({",
      "    d?: 1",
      "  })[]",
      "  e?: { [key]: boolean }",
      "}</pre>",
    ].join("\n"),
  );
});

it("escapes whatever a document holds, and ends with schemas that hold themselves", () => {
  const evil = `<script>alert("1")</script>'`;
  interface Loop {
    readonly properties: Record<string, Loop>;
  }
  const loop: Loop = { properties: {} };
  loop.properties["again"] = loop;
  const operation = {
    tags: [evil],
    summary: evil,
    parameters: [{ name: evil, in: evil, schema: { pattern: evil } }],
    requestBody: { content: { [evil]: { schema: loop } } },
  };
  const { html } = renderDocs({ info: { title: evil, version: evil }, paths: { [evil]: { get: operation } } });
  expect(html).not.toContain("<script");
  expect(html.match(/&lt;script&gt;/g)?.length).toBeGreaterThan(5);
  expect(html).toContain("…");
});
