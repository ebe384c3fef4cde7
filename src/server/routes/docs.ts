// `GET /docs`: the API as a page, for whoever sees the server: it tells what the source tells, and nothing of this server.

import type { RateLimits } from "../rate-limits.ts";
import { type ApiDocument, type DocsPage, renderDocs } from "../docs-page.ts";
import type { ZodApp } from "../shapes.ts";

export function docsRoute(app: ZodApp, limits: RateLimits): void {
  let page: DocsPage | undefined;
  app.get("/docs", { schema: { hide: true }, onRequest: (request) => limits.countStranger(request.ip) }, async (_request, reply) => {
    page ??= renderDocs(app.swagger() as ApiDocument); // when all routes are there
    return reply
      .type("text/html; charset=utf-8")
      .header("content-security-policy", page.policy)
      .header("x-content-type-options", "nosniff")
      .header("referrer-policy", "no-referrer")
      .send(page.html);
  });
}
