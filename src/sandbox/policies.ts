// Policies as a person names them: a preset or a file, with what the command line adds. Reads files; judges no path itself.
// Invariant: an addition that matches nothing because it names the mount point is refused: a `--hide` must not fail open.

import { lstat, open } from "node:fs/promises";
import { join } from "node:path";
import type { PolicyAdditions } from "../api/corral.ts";
import { CorralError } from "../api/errors.ts";
import { MAX_POLICY_BYTES } from "../api/limits.ts";
import type { Policy, PolicyProblem, Rule } from "../api/policy.ts";
import type { ParsedPolicy, PolicyFormat } from "../policy/parse.ts";
import { parsePattern } from "../policy/pattern.ts";
import { extendPreset, hide, isPresetName, PRESET_NAMES, presetDirs } from "../policy/presets.ts";
import { invalidPolicy, readRules } from "../policy/rules.ts";

export async function loadPolicy(nameOrFile: string, additions: PolicyAdditions = {}): Promise<Policy> {
  const hasWorkspaceEntry = await holdsWorkspace(additions.codebaseDir);
  refuseMountPoint("--allow-write", additions.allowWrite ?? [], hasWorkspaceEntry);
  refuseMountPoint("--hide", additions.hide ?? [], hasWorkspaceEntry);
  if (isPresetName(nameOrFile)) {
    const { allowWrite = [], hide: hidden = [] } = additions;
    return { ...extendPreset(nameOrFile, { allowWrite, hide: hidden }), dirs: presetDirs(nameOrFile) };
  }
  // Loaded here alone: the YAML reader takes longer to load than a small sandbox to make, and presets need none.
  const { parsePolicy } = await import("../policy/parse.ts");
  const parsed = parsePolicy(await readPolicyFile(nameOrFile), { ...formatByName(nameOrFile), hasWorkspaceEntry });
  if (parsed.policy === undefined) throw invalidPolicy(parsed.problems.filter(({ severity }) => severity === "error"));
  const policy = parsed.extends === undefined ? parsed.policy : { ...parsed.policy, dirs: presetDirs(parsed.extends) };
  return hide(allow(policy, parsed, additions.allowWrite ?? []), additions.hide);
}

/** Text of a policy file. Throws `preset_unknown` where neither a preset nor a file has the name. */
export async function readPolicyFile(path: string): Promise<string> {
  try {
    await using file = await open(path, "r");
    const { size } = await file.stat();
    if (size > MAX_POLICY_BYTES)
      throw new CorralError("policy_invalid", `${path} is ${size} bytes long; a policy file has at most ${MAX_POLICY_BYTES}`);
    return await file.readFile("utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR") {
      throw new CorralError(
        "preset_unknown",
        `no preset and no file is called ${JSON.stringify(path)}; presets are ${PRESET_NAMES.join(", ")}`,
        { cause: error },
      );
    }
    if (error instanceof CorralError) throw error;
    throw new CorralError("policy_invalid", `the policy file ${path} cannot be read (${code ?? "unknown"})`, { cause: error });
  }
}

/** The format that a file's name tells; without one its first line does. */
export function formatByName(path: string): { readonly format?: PolicyFormat } {
  if (/\.ya?ml$/i.test(path)) return { format: "yaml" };
  return /\.json$/i.test(path) ? { format: "json" } : {};
}

export async function holdsWorkspace(codebaseDir: string | undefined): Promise<boolean> {
  if (codebaseDir === undefined) return false;
  return await lstat(join(codebaseDir, "workspace")).then(
    () => true,
    () => false, // no such entry, or no such directory: creating the sandbox says which
  );
}

function refuseMountPoint(option: string, patterns: readonly string[], hasWorkspaceEntry: boolean): void {
  if (hasWorkspaceEntry) return;
  for (const text of patterns) {
    const read = parsePattern(text);
    if ("problem" in read || !read.pattern.anchored) continue; // malformed ones are told where the rules are read
    const [first] = read.pattern.segments;
    if (first?.kind !== "literal" || first.name !== "workspace") continue;
    const inner = text.slice("/workspace".length) || "/";
    throw new CorralError(
      "policy_invalid",
      `${option} ${text}: /workspace is where the codebase is mounted, not a part of its paths, so this matches nothing; write ${inner}`,
    );
  }
}

/** Puts allowances before what the file's preset hides. A file that extends none has no such place. */
function allow(policy: Policy, { allowAt }: ParsedPolicy, patterns: readonly string[]): Policy {
  if (patterns.length === 0) return policy;
  if (allowAt === undefined) {
    throw new CorralError(
      "request_invalid",
      "--allow-write goes with a preset, or with a policy file that `extends` one: in another file its place among the rules is yours to choose; write the rule there",
    );
  }
  const rules: readonly Rule[] = patterns.map((pattern) => ({ pattern, permission: "write" }));
  const malformed = readRules(rules).problems.map(({ index, offset = 0, message }): PolicyProblem => {
    return { severity: "error", line: index + 1, column: offset + 1, message: `--allow-write ${patterns[index] ?? ""}: ${message}` };
  });
  if (malformed.length > 0) throw invalidPolicy(malformed);
  return { ...policy, rules: [...policy.rules.slice(0, allowAt), ...rules, ...policy.rules.slice(allowAt)] };
}
