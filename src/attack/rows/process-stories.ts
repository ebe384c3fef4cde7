// Class process, the rows that need more than one call: signals to others, what /proc lists, names of the node, setuid programs.

import { strict as assert } from "node:assert";
import { chmodSync, copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { StoryRow } from "../row.ts";
import { attempt, inside, outside, stillAnswers } from "../say.ts";

const READ_ALL = { rules: [{ pattern: "**", permission: "read" }] } as const;

export const PROCESS_STORIES: readonly StoryRow[] = [
  {
    id: "process/kill-all",
    what: "kill every process that can be signalled",
    async attempt(bed) {
      await using sandbox = await bed.open();
      await using sibling = await bed.open();
      const survivor = await sibling.start({ command: ["/bin/sleep", "60"] });
      await inside(sandbox, "kill -9 -1", { anyExit: true });
      await stillAnswers(sandbox);
      await stillAnswers(sibling);
      const listed = await inside(sibling, "cat /proc/[0-9]*/comm");
      assert.match(listed, /sleep/, "the sibling's command died");
      survivor.signal("SIGKILL");
      await survivor.result;
    },
    control: {
      kind: "plain",
      async prove(bed) {
        const text = await outside(bed, [
          "/bin/sh",
          "-c",
          "sleep 60 & sleep 0.1; kill -9 -1; sleep 0.1; kill -0 $! 2>/dev/null && echo alive || echo gone",
        ]);
        assert.equal(text, "gone");
      },
    },
  },
  {
    id: "process/kill-pid1",
    what: "SIGKILL, SIGSTOP and SIGSEGV to PID 1",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const text = await inside(sandbox, [attempt("calls"), "kill_pid1_stop", "kill_pid1_segv", "kill_pid1"], { anyExit: true });
      for (const line of text.split("\n")) assert.match(line, / (OK|EPERM)$/);
      await stillAnswers(sandbox);
    },
    control: {
      kind: "plain",
      async prove(bed) {
        const text = await outside(bed, ["/bin/sh", "-c", "sleep 60 & kill -9 $!; wait $! 2>/dev/null; echo $?"]);
        assert.equal(text, "137");
      },
    },
  },
  {
    id: "process/kill-outside",
    what: "signal the server and a sibling by pid",
    async attempt(bed) {
      await using sandbox = await bed.open();
      // A pid of the node that is free inside answers ESRCH; one that happens to exist inside is a process of the sandbox itself.
      assert.match(
        await inside(sandbox, [attempt("calls"), `kill:${process.pid}`, `kill:${process.ppid}`]),
        /^kill:\d+ ESRCH\nkill:\d+ ESRCH$/,
      );
    },
    control: {
      kind: "plain",
      prove: async () => {
        // SAFETY: signal 0 sends nothing; it asks whether this process might be signalled.
        process.kill(process.pid, 0);
      },
    },
  },
  {
    id: "process/proc-census",
    what: "processes that /proc lists",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const pids = (await inside(sandbox, "for d in /proc/[0-9]*; do echo ${d#/proc/}; done")).split("\n").map(Number);
      assert.ok(pids.length <= 4 && pids.every((pid) => pid < 1000), `pids listed: ${pids.join(" ")}`);
      const locks = await inside(sandbox, "cat /proc/locks", { anyExit: true });
      assert.equal(locks, "", "locks of the node are listed");
    },
    control: {
      kind: "plain",
      prove: async (bed) => {
        await using sandbox = await bed.open();
        const survivor = await sandbox.start({ command: ["/bin/sleep", "60"] });
        assert.match(await inside(sandbox, "cat /proc/[0-9]*/comm"), /sleep/, "a process of the sandbox itself is listed");
        survivor.signal("SIGKILL");
        await survivor.result;
      },
    },
  },
  {
    id: "process/mountinfo-names",
    what: "names of the node in mount tables and maps",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const told = await inside(sandbox, "cat /proc/self/mountinfo /proc/self/mounts /proc/self/mountstats /proc/self/maps");
      for (const name of [bed.scratch, "/var/lib/corral", "deltas", "masks"])
        assert.ok(!told.includes(name), `the tables tell ${name}:\n${told}`);
    },
    control: {
      kind: "planted",
      async prove(bed) {
        mkdirSync(join(bed.scratch, "a"), { recursive: true });
        mkdirSync(join(bed.scratch, "b"), { recursive: true });
        const told = await outside(bed, ["/bin/sh", "-c", 'mount --bind "$0/a" "$0/b" && cat /proc/self/mountinfo', bed.scratch]);
        assert.ok(told.includes(bed.scratch), "a naive bind does not tell its source");
      },
    },
  },
  {
    id: "process/setuid-binary",
    what: "run a setuid root program of the codebase",
    async attempt(bed) {
      const dir = setuidProject(bed.scratch, bed.program("doors"));
      await using sandbox = await bed.open({ dir, policy: READ_ALL });
      assert.equal(await inside(sandbox, ["/workspace/doors", "euid"]), "1000 1000");
    },
    control: {
      kind: "plain",
      async prove(bed) {
        const dir = setuidProject(bed.scratch, bed.program("doors"));
        assert.match(await outside(bed, [join(dir, "doors"), "euid"], { asUser: true }), /^[1-9]\d* 0$/);
      },
    },
  },
];

function setuidProject(scratch: string, program: string): string {
  const dir = join(scratch, "setuid");
  mkdirSync(dir, { recursive: true });
  chmodSync(scratch, 0o755);
  copyFileSync(program, join(dir, "doors"));
  chmodSync(join(dir, "doors"), 0o4755);
  return dir;
}
