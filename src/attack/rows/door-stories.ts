// Class door: what a process is born with inside. Every way in must give the same: exec, a PTY, and contexts, which are forked.

import { strict as assert } from "node:assert";
import { readFileSync, readlinkSync } from "node:fs";
import type { Sandbox } from "../../api/sandbox.ts";
import type { StoryRow } from "../row.ts";
import { attempt, inside, outside, stdout } from "../say.ts";

const NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] as const;
const CAP_LINES = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] as const;
/** Variables that a program may find without anybody having sent them. */
const DOCUMENTED = ["PATH", "HOME", "LANG", "TERM", "USER", "LOGNAME", "SHELL", "PWD", "TMPDIR", "SHLVL", "_"];

function statusOf(text: string): Record<string, string> {
  return Object.fromEntries(
    text
      .split("\n")
      .flatMap((line) =>
        line.includes(":") ? [[line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()] as const] : [],
      ),
  );
}

/** The same read through each door: plain exec, and exec on a terminal. */
async function throughDoors(sandbox: Sandbox, command: readonly string[]): Promise<string[]> {
  const plain = await inside(sandbox, command);
  const terminal = await sandbox.exec({ command, pty: { rows: 24, cols: 80 }, timeoutMs: 30_000 });
  return [plain, stdout(terminal).replaceAll("\r\n", "\n")];
}

function demandConfined(text: string): void {
  const status = statusOf(text);
  for (const line of CAP_LINES) assert.equal(status[line], "0000000000000000", line);
  assert.equal(status["NoNewPrivs"], "1", "NoNewPrivs");
  assert.equal(status["Seccomp"], "2", "Seccomp");
  assert.equal(status["Groups"], "", "Groups");
}

export const DOOR_STORIES: readonly StoryRow[] = [
  {
    id: "door/status-lines",
    what: "capabilities, no_new_privs, filter and groups of a command",
    async attempt(bed) {
      await using sandbox = await bed.open();
      for (const text of await throughDoors(sandbox, ["/bin/cat", "/proc/self/status"])) demandConfined(text);
      for (const language of ["python", "bash"] as const) {
        const code = language === "bash" ? "cat /proc/self/status" : "print(open('/proc/self/status').read())";
        demandConfined(new TextDecoder().decode((await sandbox.contexts.runAlone({ language, code })).stdout));
      }
    },
    control: {
      kind: "plain",
      async prove(bed) {
        const status = statusOf(await outside(bed, ["/bin/cat", "/proc/self/status"]));
        assert.notEqual(status["CapEff"], "0000000000000000");
        assert.equal(status["Seccomp"], "0");
      },
    },
  },
  {
    id: "door/filter-missing",
    what: "a sandbox without the filter is told from one with it",
    runtimes: ["native"],
    async attempt(bed) {
      await using sandbox = await bed.open();
      assert.equal(statusOf(await inside(sandbox, ["/bin/cat", "/proc/self/status"]))["Seccomp"], "2");
      assert.equal(await inside(sandbox, [attempt("calls"), "unshare_user"]), "unshare_user EPERM");
    },
    control: {
      kind: "weak:22",
      async prove(bed) {
        await using sandbox = await bed.open({ weaken: [22] });
        assert.equal(statusOf(await inside(sandbox, ["/bin/cat", "/proc/self/status"]))["Seccomp"], "0");
        assert.equal(await inside(sandbox, [attempt("calls"), "unshare_user"]), "unshare_user OK");
      },
    },
  },
  {
    id: "door/same-namespaces",
    what: "namespaces and cgroup of a command",
    async attempt(bed) {
      await using sandbox = await bed.open();
      for (const name of NAMESPACES) {
        const [plain, terminal] = await throughDoors(sandbox, ["/bin/readlink", `/proc/self/ns/${name}`]);
        assert.notEqual(plain, readlinkSync(`/proc/self/ns/${name}`), name);
        assert.equal(terminal?.trim(), plain, name);
      }
      for (const line of (await inside(sandbox, ["/bin/cat", "/proc/self/cgroup"])).split("\n"))
        assert.match(line, /:\/(work\/\d+)?$/, `cgroup tells a path of the node: ${line}`);
    },
    control: {
      kind: "plain",
      prove: async () => {
        assert.match(readlinkSync("/proc/self/ns/pid"), /^pid:\[\d+\]$/);
        assert.notEqual(readFileSync("/proc/self/cgroup", "utf8"), "");
      },
    },
  },
  {
    id: "door/inherited-fds",
    what: "descriptors at the first instruction",
    async attempt(bed) {
      await using sandbox = await bed.open();
      for (const text of await throughDoors(sandbox, [attempt("doors"), "fds"])) assert.deepEqual(text.trim().split("\n"), ["0", "1", "2"]);
    },
    control: {
      kind: "planted",
      async prove(bed) {
        const found = await outside(bed, ["/bin/sh", "-c", 'exec 7</dev/null; exec "$0" fds', bed.program("doors")]);
        assert.ok(found.split("\n").includes("7"), "the planted descriptor was not found");
      },
    },
  },
  {
    id: "door/clean-environment",
    what: "the environment of a command",
    async attempt(bed) {
      process.env["CORRAL_TEST_MARKER"] = "planted-in-the-server";
      try {
        await using sandbox = await bed.open();
        const shown = sandbox.info().toolDirs;
        const extra = (await inside(sandbox, ["/usr/bin/env"])).split("\n").filter((line) => {
          const at = line.indexOf("=");
          // A tool's home, like PYENV_ROOT, names a directory that the template shows and tells.
          return (
            !DOCUMENTED.includes(line.slice(0, at)) && !shown.some((dir) => dir.startsWith(line.slice(at + 1)) && line[at + 1] === "/")
          );
        });
        assert.deepEqual(extra, []);
      } finally {
        delete process.env["CORRAL_TEST_MARKER"];
      }
    },
    control: {
      kind: "plain",
      async prove(bed) {
        const text = await outside(bed, ["/bin/sh", "-c", "CORRAL_TEST_MARKER=x env"]);
        assert.match(text, /CORRAL_TEST_MARKER/);
      },
    },
  },
  {
    id: "door/spawner-heap",
    what: "paths of the node in a command's memory and in command lines",
    async attempt(bed) {
      await using sandbox = await bed.open();
      assert.equal(await inside(sandbox, [attempt("doors"), "memory", bed.scratch]), "0", "a path of the node stands in memory");
      const lines = await inside(sandbox, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'", { anyExit: true });
      assert.ok(!lines.includes(bed.scratch), "a path of the node stands in a command line");
    },
    control: {
      kind: "planted",
      async prove(bed) {
        const found = await outside(bed, ["/bin/sh", "-c", 'PLANTED="$1" exec "$0" memory "$1"', bed.program("doors"), bed.scratch]);
        assert.ok(Number(found) > 0, "the planted path was not found in memory");
      },
    },
  },
];
