// Every act that can break a wall says what would break without it: mounts, namespaces, identities, capabilities, filters, signals.
// Looks for the acts by name and for a `SAFETY:` comment in reach; it cannot judge whether the comment is right.
// Invariant: an act without a reason beside it is named by file and line.

import { describe, expect, it } from "vitest";
import { files, lineAt, read } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

/** Calls of the guest that change what contains a process. */
const GUEST_ACTS =
  /\b(?:sys_)?(?:mount|umount2|move_mount|mount_setattr|pivot_root|chroot|unshare|setns|clone3|clone|capset|setgroups|setresuid|setresgid|kill|pidfd_send_signal)\((?!void)|\bprctl\(PR_(?:SET_(?:NO_NEW_PRIVS|DUMPABLE|PDEATHSIG)|CAPBSET_DROP|CAP_AMBIENT, PR_CAP_AMBIENT_(?:RAISE|CLEAR_ALL))/g;
/** Signals sent from TypeScript. */
const SIGNALS = /\bprocess\.kill\(/g;
/** How many lines above the act its reason may stand; a reason in the comment above a function covers the function. */
const REACH_LINES = 20;

/** Acts of one source without a reason in the function, or in the lines right above it. */
function unreasoned(path: string, source: string, acts: RegExp): string[] {
  const lines = source.split("\n");
  const found: string[] = [];
  for (const match of source.matchAll(acts)) {
    const line = lineAt(source, match.index);
    const text = lines[line - 1] ?? "";
    // Declarations, wrappers of one line and words in comments are not acts.
    if (/^(?:static |inline |extern )*(?:int|long|void|pid_t)\b/.test(text) || /^\s*(?:\/?\*|\/\/)/.test(text)) continue;
    let first = line - 1;
    while (first > 0 && line - first < REACH_LINES && !lines[first - 1]?.startsWith("}")) first -= 1;
    if (!lines.slice(first, line).some((candidate) => candidate.includes("SAFETY:"))) found.push(`${path}:${line} ${match[0]}`);
  }
  return found;
}

describe("safety comments", () => {
  verifies("house/safety-comments", "every mount, identity change, capability and signal has its reason beside it", () => {
    const found = [
      ...files("guest/*.{c,h}").flatMap((path) => unreasoned(path, read(path), GUEST_ACTS)),
      ...files("src/**/*.ts")
        .filter((path) => !path.endsWith(".test.ts"))
        .flatMap((path) => unreasoned(path, read(path), SIGNALS)),
    ];
    expect(found).toEqual([]);
  });

  it("sees an act whose reason is missing, too far, or another function's", () => {
    const source = [
      "/* SAFETY: the first one's. */",
      "static int a(void) {",
      "    return kill(1, 9);",
      "}",
      "static int b(void) {",
      "    return sys_mount(x, y);",
      "}",
      "static int kill(int pid, int signal) {",
    ].join("\n");
    expect(unreasoned("guest/x.c", source, GUEST_ACTS)).toEqual(["guest/x.c:6 sys_mount("]);
    expect(unreasoned("src/x.ts", `// SAFETY: far\n${"\n".repeat(REACH_LINES)}process.kill(pid, 9);`, SIGNALS)).toEqual([
      `src/x.ts:${REACH_LINES + 2} process.kill(`,
    ]);
  });
});
