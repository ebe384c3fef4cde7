// Codebases that benches run over: made anew in the bench's own directory, of a stated shape. Not a fixture of tests.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { CreateRequest } from "../src/api/sandbox.ts";

/** A small project: 20 files in 4 directories, the case of `corral run` on a fresh checkout. */
export function smallProject(dir: string): string {
  return tree(dir, { files: 20, perDirectory: 5 });
}

/** `files` files of 1 KiB, `perDirectory` in each directory, directories nested ten wide; some names that agent-safe hides. */
export function tree(dir: string, shape: { readonly files: number; readonly perDirectory: number }): string {
  mkdirSync(dir, { recursive: true });
  const body = "// a line of source\n".repeat(51).slice(0, 1024);
  let made = 0;
  for (let d = 0; made < shape.files; d++) {
    const path = join(dir, `area-${d % 10}`, `part-${Math.floor(d / 10) % 100}`, `unit-${Math.floor(d / 1000)}`);
    mkdirSync(path, { recursive: true });
    for (let f = 0; f < shape.perDirectory && made < shape.files; f++, made++) writeFileSync(join(path, `file-${f}.ts`), body);
    if (d % 50 === 0) writeFileSync(join(path, ".env"), "TOKEN=none\n");
  }
  return dir;
}

/** The request that most benches make: everything readable and writable unless a bench is about the policy. */
export function request(codebaseDir: string, more: Partial<CreateRequest> = {}): CreateRequest {
  return {
    codebaseDir,
    policy: {
      rules: [
        { pattern: "**", permission: "read" },
        { pattern: "/output/**", permission: "write" },
      ],
    },
    ...more,
  };
}

export const TRUE = ["/bin/true"] as const;
