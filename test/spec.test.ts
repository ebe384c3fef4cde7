// The gate of SPEC.md: a promise is proved by a test or says "test pending", a test proves a promise that stands there.
// It reads sources and runs nothing. Invariant: neither side can name what the other does not hold.

import { describe, expect, it } from "vitest";
import { files, lineAt, read, ROOT } from "./tools/tree.ts";
import { PROMISE_ID, verifies } from "./verifies.ts";
import { existsSync } from "node:fs";
import { join } from "node:path";

const PENDING = "(test pending)";
/** Where promises are proved. */
const PROOFS = ["src/**/*.test.ts", "src/attack/rows/*.ts", "guest/**/*.test.ts", "bench/**/*.test.ts", "test/**/*.ts"];

interface Promised {
  readonly id: string;
  readonly line: number;
  readonly area: string;
  readonly pending: boolean;
  readonly benches: readonly string[];
}

/** The entries of a SPEC.md, and what is wrong with how they are written. */
function parseSpec(text: string): { promises: Promised[]; problems: string[] } {
  const promises: Promised[] = [];
  const problems: string[] = [];
  let area = "";
  for (const [index, line] of text.split("\n").entries()) {
    const where = `SPEC.md:${index + 1}`;
    area = /^## (\S+)$/.exec(line)?.[1] ?? area;
    if (!line.startsWith("- ")) continue;
    const entry = /^- `([^`]+)` — \S.*[.)\]]$/.exec(line);
    const id = entry?.[1];
    if (id === undefined || !PROMISE_ID.test(id)) {
      problems.push(`${where} is no entry: - \`area/id\` — promise.`);
      continue;
    }
    if (!id.startsWith(`${area}/`)) problems.push(`${where} ${id} stands under ${area}`);
    if (promises.some((other) => other.id === id)) problems.push(`${where} ${id} is promised twice`);
    const benches = [...line.matchAll(/\[(bench\/[^\]]+)\]/g)].map((match) => match[1] ?? "");
    promises.push({ id, line: index + 1, area, pending: line.includes(PENDING), benches });
  }
  return { promises, problems };
}

/** Ids that tests prove, with a place; and calls whose id is not written out. */
function proofs(sources: ReadonlyMap<string, string>): { proved: Map<string, string>; problems: string[] } {
  const proved = new Map<string, string>();
  const problems: string[] = [];
  for (const [path, source] of sources) {
    for (const match of source.matchAll(/\bverifies\(\s*(?:"([^"]*)"|(?=[^\s")]))|\bpromise: "([^"]*)"/g)) {
      const id = match[1] ?? match[2];
      const where = `${path}:${lineAt(source, match.index)}`;
      // A loop over rows may hand over `row.promise`: the rows hold the ids.
      if (id !== undefined) proved.set(id, where);
      else if (!/^verifies\(\s*(?:\w+\.)?promise\b/.test(source.slice(match.index)))
        problems.push(`${where} verifies an id that is not written out`);
    }
  }
  return { proved, problems };
}

/** Everything that keeps SPEC.md and the tests apart. */
function gaps(spec: string, sources: ReadonlyMap<string, string>): string[] {
  const { promises, problems } = parseSpec(spec);
  const tests = proofs(sources);
  problems.push(...tests.problems);
  for (const { id, line, pending, benches } of promises) {
    const proof = tests.proved.get(id);
    if (proof === undefined && !pending && benches.length === 0)
      problems.push(`SPEC.md:${line} ${id} has no test; prove it or write ${PENDING}`);
    if (proof !== undefined && pending) problems.push(`SPEC.md:${line} ${id} is proved at ${proof}; take ${PENDING} away`);
    for (const bench of benches) {
      if (!existsSync(join(ROOT, bench))) problems.push(`SPEC.md:${line} ${id} names ${bench}, which is not there`);
    }
  }
  for (const [id, where] of tests.proved) {
    if (!promises.some((promised) => promised.id === id)) problems.push(`${where} verifies ${id}, which SPEC.md does not promise`);
  }
  return problems;
}

describe("SPEC.md and the tests", () => {
  verifies("house/spec-gate", "every promise has its test and every test its promise", () => {
    const sources = new Map(files(...PROOFS).map((path) => [path, read(path)]));
    // Their samples of calls are not calls.
    for (const sample of ["test/verifies.ts", "test/verifies.test.ts", "test/spec.test.ts"]) {
      sources.set(
        sample,
        read(sample)
          .split("\n")
          .filter((line) => line.startsWith("  verifies(") || line.startsWith("verifies("))
          .join("\n"),
      );
    }
    expect(gaps(read("SPEC.md"), sources)).toEqual([]);
  });

  it("sees an unproved promise, a promise proved in spite of its words, a wrong heading, a repeated id and a bench that is gone", () => {
    const spec = [
      "## view",
      "- `view/a` — Is proved.",
      "- `view/b` — Is not.",
      "- `view/c` — Waits. (test pending)",
      "- `view/d` — Waits in vain. (test pending)",
      "- `cli/e` — Stands wrong. (test pending)",
      "- `view/a` — Again.",
      "- `view/f` — Measured. [bench/gone.ts]",
      "- view/g: no entry",
    ].join("\n");
    const sources = new Map([
      ["x.test.ts", 'verifies("view/a", "", f);\nverifies(\n  "view/d",\n);\nverifies("view/z", "", f);\nverifies(id, "", f);\n'],
    ]);
    expect(gaps(spec, sources)).toEqual([
      "SPEC.md:6 cli/e stands under view",
      "SPEC.md:7 view/a is promised twice",
      "SPEC.md:9 is no entry: - `area/id` — promise.",
      "x.test.ts:6 verifies an id that is not written out",
      `SPEC.md:3 view/b has no test; prove it or write ${PENDING}`,
      `SPEC.md:5 view/d is proved at x.test.ts:2; take ${PENDING} away`,
      "SPEC.md:8 view/f names bench/gone.ts, which is not there",
      "x.test.ts:5 verifies view/z, which SPEC.md does not promise",
    ]);
  });
});
