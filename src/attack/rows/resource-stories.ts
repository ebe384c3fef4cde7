// Class resource: exhaustion. Each attempt stays inside its sandbox's limits; the control asks for more than those in a sandbox with twice as
// much, or outside with a bound, and shows that it would have gone on.

import { strict as assert } from "node:assert";
import type { StoryRow } from "../row.ts";
import { attempt, inside, outside, stdout, stillAnswers } from "../say.ts";

const MIB = 1024 ** 2;
const SMALL = { memoryBytes: 64 * MIB, pids: 64 } as const;
/** Twice of it: in there a control cannot harm a node in use either. */
const TWICE = { memoryBytes: 2 * SMALL.memoryBytes, pids: 2 * SMALL.pids } as const;

/** What is refused in SMALL succeeds in TWICE. */
const inTwice = (what: string, amount: string): StoryRow["control"] => ({
  kind: "twin",
  async prove(bed) {
    await using sandbox = await bed.open({ limits: TWICE });
    assert.equal(await inside(sandbox, [attempt("resource"), what, amount]), `${amount} OK`);
  },
});

export const RESOURCE_STORIES: readonly StoryRow[] = [
  {
    id: "resource/fork-bomb",
    what: "fork and clone without end",
    openedBy: ["pids-by-rlimit"],
    async attempt(bed) {
      await using sandbox = await bed.open({ limits: SMALL });
      for (const kind of ["fork", "threads"]) {
        const result = await sandbox.exec({ command: [attempt("resource"), kind, "5000"], timeoutMs: 20_000 });
        assert.match(stdout(result), /EAGAIN/, kind);
        assert.equal(result.limitHit, "pids", kind);
      }
      const bomb = await sandbox.exec({ command: "f() { f | f & }; f; sleep 2", timeoutMs: 1500 });
      assert.ok(bomb.timedOut || bomb.limitHit === "pids");
      await stillAnswers(sandbox);
    },
    control: inTwice("fork", "96"),
  },
  {
    id: "resource/memory-touch",
    what: "touch twice the memory limit",
    openedBy: ["memory-not-limited"],
    async attempt(bed) {
      await using sandbox = await bed.open({ limits: SMALL });
      const result = await sandbox.exec({ command: [attempt("resource"), "touch", "128"], timeoutMs: 20_000 });
      assert.equal(result.signal, "SIGKILL");
      assert.equal(result.limitHit, "memory");
      await stillAnswers(sandbox);
    },
    control: inTwice("touch", "96"),
  },
  {
    id: "resource/memory-elsewhere",
    what: "the same by memfd, pipes and /dev/shm",
    openedBy: ["memory-not-limited"],
    async attempt(bed) {
      await using sandbox = await bed.open({ limits: SMALL });
      for (const command of [
        [attempt("resource"), "memfd", "128"],
        [attempt("resource"), "pipes", "400"],
        [attempt("resource"), "fill", "/dev/shm/big", "128"],
      ]) {
        const result = await sandbox.exec({ command, timeoutMs: 20_000 });
        assert.ok(
          result.signal === "SIGKILL" || /ENOSPC|ENOMEM|EMFILE|EPERM/.test(stdout(result)),
          `${command.join(" ")}: ${stdout(result)}`,
        );
        await inside(sandbox, "rm -f /dev/shm/big");
      }
      await stillAnswers(sandbox);
    },
    control: inTwice("memfd", "96"),
  },
  {
    id: "resource/tmpfs-fill",
    what: "fill every tmpfs, then go on working",
    async attempt(bed) {
      await using sandbox = await bed.open({ limits: SMALL });
      for (const place of ["/tmp", "/dev/shm", "/run", "/home/user"]) {
        const result = await sandbox.exec({ command: [attempt("resource"), "fill", `${place}/big`, "512"], timeoutMs: 20_000 });
        assert.match(stdout(result), /ENOSPC|EACCES|EBADF/, place);
      }
      await stillAnswers(sandbox);
    },
    control: {
      kind: "accept",
      async prove(bed) {
        await using sandbox = await bed.open();
        assert.equal(await inside(sandbox, [attempt("resource"), "fill", "/tmp/some", "8"]), "8 OK");
      },
    },
  },
  {
    id: "resource/zombie-flood",
    what: "zombies and daemons by the thousand",
    async attempt(bed) {
      const sandbox = await bed.open({ limits: { pids: 4096 } });
      try {
        await inside(sandbox, [attempt("resource"), "zombies", "2000"], { timeoutMs: 60_000 });
        await inside(sandbox, [attempt("resource"), "daemons", "200"], { timeoutMs: 60_000 });
        await stillAnswers(sandbox);
      } finally {
        await sandbox.destroy();
      }
      const left = (await outside(bed, ["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"])).includes("daemons 200");
      assert.ok(!left, "a daemon outlived its sandbox");
    },
    control: {
      kind: "planted",
      async prove(bed) {
        assert.match(
          await outside(bed, ["/bin/sh", "-c", '"$0" daemons 3; cat /proc/[0-9]*/cmdline | tr "\\0" " "', bed.program("resource")]),
          /daemons 3/,
        );
      },
    },
  },
  {
    id: "resource/ignore-term",
    what: "ignore INT and TERM, leave the session, then time out",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const result = await sandbox.exec({ command: [attempt("resource"), "stubborn", "60"], timeoutMs: 500 });
      assert.ok(result.timedOut);
      assert.equal(result.exitCode, 124);
      assert.match(stdout(result), /^begun/, "partial output is lost");
      assert.equal(
        // Without those that are dead and not yet taken note of.
        await inside(sandbox, "cat /proc/[0-9]*/stat | grep -c '(resource) [^ZX]'", { anyExit: true }),
        "0",
        "a child that left the session lives on",
      );
    },
    control: {
      kind: "accept",
      async prove(bed) {
        await using sandbox = await bed.open();
        const result = await sandbox.exec({ command: ["/bin/sleep", "60"], timeoutMs: 300 });
        assert.ok(result.timedOut && result.durationMs < 2000, "a polite program does not end at SIGINT");
      },
    },
  },
  {
    id: "resource/output-flood",
    what: "output without end and without lines",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const result = await sandbox.exec({
        command: ["/usr/bin/head", "-c", "200000000", "/dev/zero"],
        outputBytes: MIB,
        timeoutMs: 60_000,
      });
      assert.equal(result.exitCode, 0);
      assert.ok(result.truncated);
      assert.equal(result.limitHit, "output");
      assert.equal(result.stdout.length, MIB);
    },
    control: {
      kind: "accept",
      async prove(bed) {
        await using sandbox = await bed.open();
        const result = await sandbox.exec({ command: ["/usr/bin/head", "-c", String(MIB), "/dev/zero"] });
        assert.ok(!result.truncated && result.stdout.length === MIB);
      },
    },
  },
  {
    id: "resource/core-bomb",
    what: "crash a hundred times",
    async attempt(bed) {
      await using sandbox = await bed.open();
      assert.equal(await inside(sandbox, [attempt("resource"), "crash", "100"]), "100 OK");
    },
    control: {
      kind: "plain",
      async prove(bed) {
        assert.match(
          await outside(bed, ["/bin/sh", "-c", 'cd /tmp && ulimit -c unlimited; "$0" crash 1; rm -f core core.*', bed.program("resource")]),
          /EEXIST/,
        );
      },
    },
  },
  {
    id: "resource/cgroup-write",
    what: "find and write cgroup files",
    async attempt(bed) {
      await using sandbox = await bed.open();
      assert.equal(
        await inside(
          sandbox,
          "find / -xdev -name 'cgroup.procs' -o -xdev -name release_agent -o -xdev -name devices.allow 2>/dev/null | head -3",
          { anyExit: true },
        ),
        "",
      );
      assert.match(await inside(sandbox, [attempt("calls"), "write:/sys/fs/cgroup/cgroup.procs"]), /ENOENT/);
    },
    control: {
      kind: "plain",
      async prove(bed) {
        assert.match(
          await outside(bed, ["/bin/sh", "-c", "find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs | head -1"]),
          /cgroup\.procs/,
        );
      },
    },
  },
  {
    id: "resource/kernel-objects",
    what: "exhaust descriptors",
    async attempt(bed) {
      await using sandbox = await bed.open({ limits: { openFiles: 256 } });
      assert.match(await inside(sandbox, [attempt("resource"), "descriptors", "5000"]), /^25\d EMFILE$/);
      await stillAnswers(sandbox);
    },
    control: {
      kind: "plain",
      async prove(bed) {
        assert.equal(await outside(bed, ["/bin/sh", "-c", 'ulimit -n 4096; "$0" descriptors 1000', bed.program("resource")]), "1000 OK");
      },
    },
  },
  {
    id: "resource/cpu-spin",
    what: "spin for two seconds under half a core",
    openedBy: ["cpu-not-limited"],
    async attempt(bed) {
      await using sandbox = await bed.open({ limits: { cpus: 0.5 } });
      const used = Number((await inside(sandbox, [attempt("resource"), "spin", "2"])).split(" ")[0]);
      // Half of two seconds, and one more period of slack: this is the quota's own arithmetic, not a speed.
      assert.ok(used <= 1600, `${used} ms of CPU in about 2 s`);
    },
    control: {
      kind: "plain",
      async prove(bed) {
        await using sandbox = await bed.open();
        const used = Number((await inside(sandbox, [attempt("resource"), "spin", "2"])).split(" ")[0]);
        assert.ok(used > 0, "nothing was measured");
      },
    },
  },
];
