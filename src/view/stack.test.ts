// Deltas of several layers against the same acts in one: what is listed, shown and committed must not tell how often a sandbox was frozen.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, describe, expect, type TestContext } from "vitest";
import { snapshot } from "../../test/fixtures/delta-lab.ts";
import { type LabMode, openLab, type ViewLab } from "../../test/fixtures/view-lab.ts";
import { verifies } from "../../test/verifies.ts";
import type { Policy } from "../api/policy.ts";
import { compilePolicy } from "../policy/compile.ts";
import { type DeltaInput, readChanges, toChange } from "./changes.ts";
import { readManifest } from "./codebase.ts";
import { commitDelta } from "./commit.ts";
import { liveTarget } from "./commit-live.ts";
import { shownMode } from "./plan.ts";
import { deltaText } from "./text.ts";

const POLICY: Policy = { rules: [{ pattern: "**", permission: "write" }] };
const BASE = `mkdir -p a/b/c d; for f in a/one a/b/two a/b/c/three d/four; do echo "content of $f" > $f; done; ln -s one a/link`;

/** Each story: what is done in each layer, in order. */
const STORIES: Readonly<Record<string, readonly string[]>> = {
  "a directory is moved, then written to, then moved again": [
    "mv a z",
    "echo new > z/new; echo more >> z/b/two",
    "mv z y; rm y/one",
    "mv y/b w",
  ],
  "what is below a moved directory is moved out of it": ["mv a z", "mv z/b/c d/c; mv z/one one", "echo again > d/c/three"],
  "a mode changes, then the name, then the mode, then the content": [
    "chmod 600 a/one",
    "mv a/one d/moved",
    "chmod 755 d/moved",
    "echo x >> d/moved",
  ],
  "a file is moved from layer to layer": ["mv a/one d/moved", "mv d/moved a/b/moved", "mv a/b z; mv z/moved back", "chmod 600 back"],
  "a file is removed and made again": ["rm a/one", "echo back > a/one", "rm a/one", "mkdir a/one; echo in > a/one/in"],
  "a directory is removed and made again": ["rm -r a/b", "mkdir a/b; echo only > a/b/two", "rm -r a/b; mv d a/b", "echo more > a/b/five"],
  "a directory is exchanged with another": ["mv a t; mv d a; mv t d", "rm a/four; echo new > d/b/new", "mv d t; mv a d; mv t a"],
  "names of one file": ["ln a/one a/other", "echo more >> a/other", "rm a/one", "chmod 700 a/other"],
  "what a sandbox made goes away": ["mkdir -p n/m; echo x > n/m/x", "mv n/m n/k; rm n/k/x", "rm -r n", "echo file > n"],
};

const labs = new Map<LabMode, ViewLab>();
afterAll(() => {
  for (const lab of labs.values()) lab[Symbol.dispose]();
});

function labFor(context: TestContext, mode: LabMode): ViewLab {
  if (process.getuid?.() !== 0) context.skip("mounting a view needs root here");
  const lab = labs.get(mode) ?? openLab(mode);
  labs.set(mode, lab);
  return lab;
}

let runs = 0;

/** What the acts made of the delta, and of the codebase once it is committed. */
async function told(lab: ViewLab, acts: readonly string[], freezes: boolean): Promise<unknown> {
  const base = lab.codebase(BASE, `base-${++runs}`);
  const view = await lab.engine.prepare({ base, policy: POLICY });
  const delta = lab.delta(view);
  try {
    acts.forEach((act, index) => {
      if (freezes && index > 0) delta.freeze();
      const { status, stderr } = delta.run(["/bin/sh", "-euc", act]);
      expect([act, status, stderr]).toEqual([act, 0, ""]);
    });
    const input: DeltaInput = {
      tool: lab.tool,
      ...(freezes ? { upper: join(delta.upper, ".."), parts: delta.parts() } : { upper: delta.upper }),
      base,
      manifest: () => readManifest(view.manifestFile ?? ""),
      policy: compilePolicy(POLICY),
      trusted: lab.ids.trusted,
      shownMode,
    };
    const delta1 = await readChanges(input);
    const chunks: Uint8Array[] = [];
    for await (const chunk of deltaText(input, delta1)) chunks.push(chunk);
    const commit = { ...input, deltas: join(lab.dir, "deltas"), sandboxId: `sbstack${String(runs).padStart(15, "0")}` };
    execFileSync("mkdir", ["-p", join(commit.deltas, commit.sandboxId)]);
    const { conflicts, refused } = await commitDelta(commit, liveTarget(commit), { acceptFlagged: true });
    return {
      changes: delta1.changes.map((change) => toChange(change, undefined)),
      text: Buffer.concat(chunks).toString("latin1"),
      conflicts,
      refused,
      after: snapshot(base),
    };
  } finally {
    view.release();
  }
}

describe.each(["root", "rootless"] as const)("layers, %s", (mode) => {
  for (const [story, acts] of Object.entries(STORIES)) {
    verifies("view/layers-story", story, async (context) => {
      const lab = labFor(context, mode);
      // Where the kernel moves no directories, tools copy: the acts are the same.
      expect(await told(lab, acts, true)).toEqual(await told(lab, acts, false));
    });
  }
});
