// `search_files`: a regular expression over the files of the sandbox, by grep inside it: a hostile file or pattern meets the sandbox's
// limits and nothing of ours. Invariant: what it answers is bounded in matches, in text and in time.

import { z } from "zod";
import { CorralError } from "../../api/errors.ts";
import { MAX_PATH_BYTES, MCP_TEXT_BYTES } from "../../api/limits.ts";
import { outputText } from "../text.ts";
import { insidePath, type Tool } from "../tool.ts";

const MAX_MATCHES = 1_000;
const MAX_LINE = 500;
const SEARCH_MS = 60_000;

const input = z.strictObject({
  pattern: z.string().min(1).max(4_096).describe("Extended regular expression of grep, or with `literal` a text"),
  path: z.string().min(1).max(MAX_PATH_BYTES).default("/workspace").describe("Directory or file"),
  include: z.string().min(1).max(256).optional().describe("Only files whose name fits, such as *.ts"),
  ignoreCase: z.boolean().default(false),
  literal: z.boolean().default(false),
  limit: z.number().int().positive().max(MAX_MATCHES).default(100),
});
const output = z.strictObject({
  matches: z.array(z.strictObject({ path: z.string(), line: z.number(), text: z.string() })),
  truncated: z.boolean().describe("There are more matches"),
});

type Match = z.output<typeof output>["matches"][number];

export const searchFiles: Tool<typeof input, typeof output> = {
  name: "search_files",
  title: "Search in files",
  description:
    "Finds the lines of text files in the sandbox that fit a pattern. Version control's own files and installed packages are left out.",
  input,
  output,
  hints: { readOnly: true },
  run: async (request, { sandbox, signal }) => {
    const flags = ["-rnIHZ", request.literal ? "-F" : "-E", ...(request.ignoreCase ? ["-i"] : [])];
    const only = request.include === undefined ? [] : [`--include=${request.include}`];
    const command = [
      "grep",
      ...flags,
      ...only,
      "--exclude-dir=.git",
      "--exclude-dir=node_modules",
      "-e",
      request.pattern,
      "--",
      insidePath(request.path),
    ];
    const result = await sandbox.exec({ command, timeoutMs: SEARCH_MS, outputBytes: MCP_TEXT_BYTES, signal });
    // 1: nothing was found. A part that could not be read makes it 2, also where other parts have matches.
    if (result.exitCode === 2 && result.stdout.length === 0)
      throw new CorralError("request_invalid", `grep: ${outputText(result.stderr).split("\n", 1)[0] ?? "failed"}`);
    const found = parse(result.stdout);
    return {
      data: { matches: found.slice(0, request.limit), truncated: result.timedOut || result.truncated || found.length > request.limit },
    };
  },
};

/** Lines `path NUL number:text`: a path may hold anything but NUL. */
function parse(stdout: Uint8Array): Match[] {
  const matches: Match[] = [];
  for (const [, path = "", line = "", text = ""] of Buffer.from(stdout)
    .toString()
    .matchAll(/([^\0]+)\0(\d+):(.*)(?:\n|$)/g))
    matches.push({ path, line: Number(line), text: outputText(Buffer.from(text.slice(0, MAX_LINE))) });
  return matches;
}
