// The architecture as data: who may import whom, which room may use which package, and that no file imports itself by a detour.
// Reads every import of src/. Invariant: what no row allows is a violation, named by file, line and import.

import { dirname, join, normalize } from "node:path";
import { describe, expect, it } from "vitest";
import { importsOf } from "./tools/imports.ts";
import { files, lineAt, read } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

/** Rooms of src/ and the rooms that each may import. Imports within a room are free. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  api: [],
  base: [],
  policy: ["api", "base"],
  store: ["api", "base"],
  view: ["api", "base", "policy"],
  codebases: ["api", "base", "policy", "view"],
  runtime: ["api", "base", "policy", "view"],
  sandbox: ["api", "base", "policy", "view", "runtime", "egress"],
  egress: ["api", "base"],
  attack: ["api", "base", "egress", "runtime", "sandbox"],
  config: ["api", "base"],
  loom: ["api", "base", "store"],
  service: ["api", "base", "policy", "store", "codebases", "sandbox", "egress"],
  server: ["api", "base", "policy", "config", "store", "service"],
  sdk: ["api"],
  mcp: ["api", "base"],
  cli: ["api", "base", "sdk"],
};

/** Packages and parts of Node.js that a room may use; `node:*` is all of Node.js but what `ONLY` keeps back. */
const MAY_USE: Readonly<Record<string, readonly string[]>> = {
  api: [],
  base: ["node:*"],
  policy: ["yaml"],
  store: ["node:*", "kysely", "pg"],
  view: ["node:*"],
  codebases: ["node:*"],
  runtime: ["node:*"],
  sandbox: ["node:*"],
  egress: ["node:*"],
  attack: ["node:*"],
  config: ["node:*", "yaml", "zod"],
  loom: ["node:*", "yaml", "@ai-sdk/anthropic", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/provider", "ai-sdk-ollama"],
  service: ["node:*"],
  server: [
    "node:*",
    "fastify",
    "@fastify/swagger",
    "fastify-type-provider-zod",
    "pino",
    "pino-pretty",
    "prom-client",
    "rate-limiter-flexible",
    "ws",
    "zod",
  ],
  sdk: [],
  mcp: ["node:*", "@modelcontextprotocol/server", "@modelcontextprotocol/node", "zod"],
  cli: ["node:*", "commander", "@clack/prompts"],
};

/** What one room alone may use. */
const ONLY: Readonly<Record<string, string>> = { "node:child_process": "runtime" };

type Sources = ReadonlyMap<string, string>;

/** The room of a file of src/, or its own name for a file that lies in none (main.ts). */
function roomOf(path: string): string {
  const [, room = ""] = path.split("/");
  return room;
}

function allowsPackage(room: string, name: string): boolean {
  const allowed = MAY_USE[room] ?? [];
  if (ONLY[name] !== undefined && ONLY[name] !== room) return false;
  return allowed.includes(name) || (name.startsWith("node:") && allowed.includes("node:*"));
}

/** What is wrong with one import, or `undefined`. */
function judge(path: string, target: string | undefined): string | undefined {
  const room = roomOf(path);
  if (target === undefined) return "imports a name that is computed";
  if (!target.startsWith(".")) {
    const name = target.startsWith("@") ? target.split("/").slice(0, 2).join("/") : (target.split("/")[0] ?? "");
    return allowsPackage(room, name) ? undefined : `imports ${target}, which ${room}/ may not use`;
  }
  const place = normalize(join(dirname(path), target));
  if (!place.startsWith("src/")) return `imports ${target}, which lies outside src/`;
  const other = roomOf(place);
  return other === room || MAY_IMPORT[room]?.includes(other) ? undefined : `imports ${target}, but ${room}/ may not see ${other}/`;
}

function violations(sources: Sources): string[] {
  const found: string[] = [];
  for (const [path, source] of sources) {
    const room = roomOf(path);
    if (room === "main.ts") continue; // the composition root sees everything
    if (MAY_IMPORT[room] === undefined) found.push(`${path}: ${room} has no row in the import table`);
    for (const { target, index } of importsOf(source)) {
      const problem = judge(path, target);
      if (problem !== undefined) found.push(`${path}:${lineAt(source, index)} ${problem}`);
    }
  }
  return found;
}

/** Every import cycle once, as the chain of files that closes it. Type imports count: they couple as firmly as others. */
function cycles(sources: Sources): string[] {
  const state = new Map<string, "open" | "done">();
  const found: string[] = [];
  const visit = (path: string, chain: readonly string[]): void => {
    if (state.get(path) === "open") found.push([...chain.slice(chain.indexOf(path)), path].join(" -> "));
    if (state.has(path)) return;
    state.set(path, "open");
    for (const { target } of importsOf(sources.get(path) ?? "")) {
      const place = target?.startsWith(".") ? normalize(join(dirname(path), target)) : undefined;
      if (place !== undefined && sources.has(place)) visit(place, [...chain, path]);
    }
    state.set(path, "done");
  };
  for (const path of sources.keys()) visit(path, []);
  return found;
}

/** Tests may reach for what they need; the rule is for what ships. */
function shipped(): Sources {
  return new Map(
    files("src/**/*.ts")
      .filter((path) => !path.endsWith(".test.ts"))
      .map((path) => [path, read(path)]),
  );
}

describe("who may import whom", () => {
  verifies("house/import-table", "every import of src/ stands in the table", () => {
    expect(violations(shipped())).toEqual([]);
  });

  verifies("house/no-cycles", "no file of src/ imports itself by a detour", () => {
    expect(cycles(shipped())).toEqual([]);
  });

  it("names file, line and import of a planted violation, however it is written", () => {
    const planted = new Map([
      ["src/policy/a.ts", 'import x from "../api/x.ts";\nimport {\n  type B,\n} from "../runtime/b.ts";\n'],
      ["src/api/c.ts", 'export type { P } from "../policy/p.ts";\n'],
      ["src/view/d.ts", '// import "../cli/no.ts"\nconst s = "import(\'../cli/no.ts\')";\nconst m = await import("../sandbox/s.ts");\n'],
      ["src/cli/e.ts", "let t: import('../runtime/r.ts').R;\nconst n = await import(name);\n"],
      ["src/view/f.ts", 'import { spawn } from "node:child_process";\nimport "leftpad/deep";\n'],
      ["src/utils/g.ts", "export {};\n"],
      ["src/base/h.ts", 'import "../../test/verifies.ts";\n'],
    ]);
    expect(violations(planted)).toEqual([
      "src/policy/a.ts:2 imports ../runtime/b.ts, but policy/ may not see runtime/",
      "src/api/c.ts:1 imports ../policy/p.ts, but api/ may not see policy/",
      "src/view/d.ts:3 imports ../sandbox/s.ts, but view/ may not see sandbox/",
      "src/cli/e.ts:1 imports ../runtime/r.ts, but cli/ may not see runtime/",
      "src/cli/e.ts:2 imports a name that is computed",
      "src/view/f.ts:1 imports node:child_process, which view/ may not use",
      "src/view/f.ts:2 imports leftpad/deep, which view/ may not use",
      "src/utils/g.ts: utils has no row in the import table",
      "src/base/h.ts:1 imports ../../test/verifies.ts, which lies outside src/",
    ]);
  });

  it("finds a planted cycle of three files, one link of it a type", () => {
    const planted = new Map([
      ["src/view/a.ts", 'import { b } from "./b.ts";'],
      ["src/view/b.ts", 'export * from "./deep/c.ts";'],
      ["src/view/deep/c.ts", 'import type { A } from "../a.ts";'],
    ]);
    expect(cycles(planted)).toEqual(["src/view/a.ts -> src/view/b.ts -> src/view/deep/c.ts -> src/view/a.ts"]);
  });
});
