// The page of the API as a server serves it.

import { createHash } from "node:crypto";
import { afterAll, beforeAll, expect } from "vitest";
import { type ServerHere, startServerHere } from "../fixtures/server-here.ts";
import { verifies } from "../verifies.ts";

let server: ServerHere;
beforeAll(async () => {
  server = await startServerHere();
});
afterAll(() => server[Symbol.asyncDispose]());

verifies("server/docs-page", "the page tells every route of the document, holds no script and asks for nothing else", async () => {
  const response = await fetch(`${server.url}/docs`);
  const html = await response.text();
  const openapi = await fetch(`${server.url}/v1/openapi.json`, { headers: { authorization: `Bearer ${server.key}` } });
  const { paths } = (await openapi.json()) as { paths: Record<string, Record<string, { summary?: string }>> };
  expect(Object.keys(paths).length).toBeGreaterThan(10);
  for (const [path, methods] of Object.entries(paths))
    for (const [method, { summary = "" }] of Object.entries(methods)) {
      if (method === "head" || method === "options") continue;
      expect(summary, `${method} ${path}`).not.toBe("");
      expect(html).toContain(`<span class="method">${method.toUpperCase()}</span><code>${path}</code>`);
    }
  expect(html).not.toMatch(/<script|<link|<img|<iframe|<object|\ssrc=|href="(?!#)|@import|\son[a-z]+="|\sstyle="/i);
  const style = /<style>(.*)<\/style>/s.exec(html)?.[1] ?? "";
  const hash = createHash("sha256").update(style).digest("base64");
  expect(response.headers.get("content-security-policy")).toBe(
    `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  );
  expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
  for (const id of html.matchAll(/href="#([^"]*)"/g)) expect(html).toContain(`id="${id[1]}"`);
});
