// The rule of `engine: "auto"`, by policies that need the fuse engine and policies that look as if.

import { equal, ok } from "node:assert/strict";
import { verifies } from "../../test/verifies.ts";
import type { Policy } from "../api/policy.ts";
import { engineNeeds } from "./auto-engine.ts";
import { parsePolicy } from "./parse.ts";
import { extendPreset, PRESET_NAMES } from "./presets.ts";

function lines(...text: string[]): Policy {
  const { policy, problems } = parsePolicy(text.join("\n"), { format: "lines" });
  if (policy === undefined) throw new Error(JSON.stringify(problems));
  return policy;
}

verifies(
  "policy/auto-engine",
  "fuse is needed exactly for live, audit, and a wildcard that grants write in a directory of a lower level",
  () => {
    for (const name of PRESET_NAMES) equal(engineNeeds(extendPreset(name)).engine, "kernel", name);
    const kernel = [
      extendPreset("agent-safe", { allowWrite: ["/src/**", "docs", "/a/*/b", "/output/*.md"], hide: ["*.secret"] }),
      lines("write **", "none *.key"),
      lines("read **", "write /src", "none *.lock", "write /src/a/*.md"),
      lines("write **", "write *.md"),
      lines("write **", "write *.md", "read /docs"),
      lines("read **", "write /out/**/"),
      lines("none **", "read *.md"),
      lines("write **", "read /docs", "write /src/*.md"),
      lines("read **", "write *.md", "read **"),
      lines(),
    ];
    for (const policy of kernel) equal(engineNeeds(policy).engine, "kernel", JSON.stringify(policy.rules.slice(-3)));
    const fuse = [
      { ...lines("read **"), live: true },
      { ...lines("read **"), audit: true },
      lines("read **", "write *.md"),
      lines("read **", "write /src/*"),
      lines("read **", "write /src/*/"),
      lines("write *"),
      lines("write **", "read /docs", "write *.md"),
      lines("write **", "none secrets/", "write /a/**/*.md"),
      lines("read **", "write /src", "write /sr?/*.md"),
      extendPreset("agent-safe", { allowWrite: ["*.md"] }),
    ];
    for (const policy of fuse) {
      const { engine, why } = engineNeeds(policy);
      equal(engine, "fuse", JSON.stringify(policy.rules));
      ok(why.length > 20);
    }
    ok(engineNeeds(lines("read **", "write *.md")).why.includes("rule 2"));
  },
);
