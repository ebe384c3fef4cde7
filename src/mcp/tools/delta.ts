// `sandbox_diff` and, where the operator lets a client, `sandbox_commit`: what the sandbox changed in its codebase, and making it real.
// Invariant: nothing that would run on the machine afterwards (a hook, a script of npm) is made real without being named.

import { z } from "zod";
import { MAX_PATH_BYTES, MCP_TEXT_BYTES } from "../../api/limits.ts";
import { outputText } from "../text.ts";
import type { Tool } from "../tool.ts";

const MAX_TOLD = 200;

const paths = z.array(z.string().min(1).max(MAX_PATH_BYTES)).max(1_000).optional().describe("Only these paths of the codebase");
const change = z.strictObject({
  path: z.string(),
  kind: z.string(),
  flag: z.string().optional().describe("Why a person should look twice"),
});
const refusal = z.strictObject({ path: z.string(), reason: z.string() });

const diffInput = z.strictObject({ paths });
const diffOutput = z.strictObject({
  changes: z.array(change),
  refused: z.array(refusal).describe("What a commit would refuse"),
  counts: z.strictObject({ changes: z.number(), refused: z.number() }),
  text: z.string().describe("Unified diff"),
  truncated: z.boolean(),
});

export const sandboxDiff: Tool<typeof diffInput, typeof diffOutput> = {
  name: "sandbox_diff",
  title: "Show what changed",
  description: "Shows what the sandbox changed in its codebase, as a list and as a unified diff. The codebase itself is as it was.",
  input: diffInput,
  output: diffOutput,
  hints: { readOnly: true },
  run: async ({ paths: only }, { sandbox, signal }) => {
    const report = await sandbox.delta.changes({ signal });
    const { text, isWhole } = await firstOf(sandbox.delta.text({ signal, ...(only === undefined ? {} : { paths: only }) }));
    return {
      data: {
        changes: report.changes.slice(0, MAX_TOLD).map(toldChange),
        refused: report.refused.slice(0, MAX_TOLD).map(({ path, reason }) => ({ path, reason })),
        counts: { changes: report.counts.changes, refused: report.counts.refused },
        text,
        truncated: !isWhole || report.counts.changes > MAX_TOLD,
      },
    };
  },
};

function toldChange({
  path,
  kind,
  flag,
}: {
  readonly path: string;
  readonly kind: string;
  readonly flag?: string;
}): z.input<typeof change> {
  return { path, kind, ...(flag === undefined ? {} : { flag }) };
}

async function firstOf(chunks: AsyncIterable<Uint8Array>): Promise<{ readonly text: string; readonly isWhole: boolean }> {
  const seen: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    seen.push(chunk);
    bytes += chunk.length;
    if (bytes > MCP_TEXT_BYTES) break;
  }
  return { text: outputText(Buffer.concat(seen)), isWhole: bytes <= MCP_TEXT_BYTES };
}

const commitInput = z.strictObject({
  paths,
  partial: z.boolean().default(false).describe("Leave out what is refused or in conflict, rather than nothing being made real"),
});
const commitOutput = z.strictObject({
  committed: z.array(change),
  refused: z.array(refusal),
  conflicts: z.array(refusal),
  counts: z.strictObject({ committed: z.number(), refused: z.number(), conflicts: z.number() }),
});

export const sandboxCommit: Tool<typeof commitInput, typeof commitOutput> = {
  name: "sandbox_commit",
  title: "Make the changes real",
  description:
    "Writes what the sandbox changed into the codebase itself, all of it or nothing. What would run on the machine (hooks, scripts) is never " +
    "written this way: a person accepts it.",
  input: commitInput,
  output: commitOutput,
  hints: { readOnly: false, destructive: true },
  run: async ({ paths: only, partial }, { sandbox, signal }) => {
    // SAFETY: `acceptFlagged` stays off: a model cannot accept for a person what will run outside of the sandbox.
    const { committed, refused, conflicts, counts } = await sandbox.delta.commit({
      partial,
      signal,
      ...(only === undefined ? {} : { paths: only }),
    });
    return {
      data: {
        committed: committed.slice(0, MAX_TOLD).map(toldChange),
        refused: refused.slice(0, MAX_TOLD).map(({ path, reason }) => ({ path, reason })),
        conflicts: conflicts.slice(0, MAX_TOLD).map(({ path, reason }) => ({ path, reason })),
        counts: { committed: counts.committed, refused: counts.refused, conflicts: counts.conflicts },
      },
    };
  },
};
