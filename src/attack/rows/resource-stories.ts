// Class resource: exhaustion. Each attempt stays inside its sandbox's limits; the control asks for more than those in a sandbox with twice as
// much, or outside with a bound, and shows that it would have gone on.

import { strict as assert } from "node:assert";
import type { LimitHit } from "../../api/limit-hit.ts";
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

/**
 * On a busy machine a process that was killed is listed as one that runs until it is given the processor to die: seconds later it is gone. One
 * that was not killed pauses for ever.
 */
const STUBBORN_GONE =
  "i=0; while cat /proc/[0-9]*/stat 2>/dev/null | grep -q '(resource) [^ZX]'; do [ $i -lt 100 ] || exit 1; i=$((i+1)); sleep 0.1; done; echo gone";

/** Bytes that stand on the way to a reader who takes none: pipe, guest, socket and this process, with room. The program has more. */
const ON_THE_WAY = 8 * MIB;
const OFFERED = 64 * MIB;
/** How many bytes the only `head` of a sandbox wrote, once it stands still; `ended` when it is gone. */
const WRITTEN =
  "f() { grep -l '^head$' /proc/[0-9]*/comm 2>/dev/null; }; o=; while p=$(f); do n=$(grep wchar ${p%/comm}/io); grep -q ') S ' ${p%/comm}/stat && [ \"$n\" = \"$o\" ] && echo ${n#wchar: } && exit; o=$n; sleep 0.1; done; echo ended";

/** What is more than the delta may hold, then waits for its end. */
function killedFor(limit: LimitHit, commands: readonly string[]): StoryRow["attempt"] {
  return async (bed) => {
    const killed = async (command: string): Promise<void> => {
      await using sandbox = await bed.open({ limits: { diskBytes: 4 * MIB, inodes: 200 } });
      const result = await sandbox.exec({ command: `cd /workspace/output; ${command}; sleep 50`, timeoutMs: 50_000 });
      assert.equal(result.limitHit, limit, `${command}: ${stdout(result)}`);
      assert.equal(result.signal, "SIGKILL", command);
      await stillAnswers(sandbox);
    };
    // A sandbox each, at once: the watcher kills for what is more than when the command began, and looks once a second.
    await Promise.all(commands.map(killed));
  };
}

/** The same where there is room for it. */
const inRoom = (command: string): StoryRow["control"] => ({
  kind: "twin",
  async prove(bed) {
    await using sandbox = await bed.open({ limits: { diskBytes: 64 * MIB, inodes: 4000 } });
    // Longer than two looks of the watcher.
    const result = await sandbox.exec({ command: `cd /workspace/output; ${command}; sleep 2`, timeoutMs: 60_000 });
    assert.equal(result.limitHit, null);
    assert.equal(result.exitCode, 0);
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
      assert.equal(await inside(sandbox, STUBBORN_GONE), "gone", "a child that left the session lives on");
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
  {
    id: "resource/disk-fill",
    what: "write, allocate and spread more than the delta may hold; a file of 16 TiB that is all holes",
    attempt: async (bed) => {
      await killedFor("disk", [
        `${attempt("resource")} fill big 16`,
        "fallocate -l 16M whole",
        "dd if=/dev/urandom of=spread bs=64k count=256 conv=fsync 2>/dev/null",
      ])(bed);
      await using sandbox = await bed.open();
      const holes = await inside(sandbox, "cd /workspace/output; : > holes; truncate -s 16T holes 2>&1; du -k holes | cut -f1", {
        anyExit: true,
      });
      assert.match(holes, /(^|\n)0$/, "holes take room");
    },
    control: inRoom(`${attempt("resource")} fill big 16 && fallocate -l 16M whole`),
  },
  {
    id: "resource/inode-fill",
    what: "files, long names, levels and hard links, more than the delta may have",
    attempt: killedFor("inodes", [
      `${attempt("resource")} inodes . 1000`,
      "n=$(printf %0240d 0); i=0; while [ $i -lt 500 ]; do : > $n-$i; i=$((i+1)); done",
      "i=0; while [ $i -lt 400 ]; do mkdir d; cd d; i=$((i+1)); done",
      // Links alone take nothing of the disk, and are looked for every half minute: a few files beside them have the watcher look at once.
      ": > one; i=0; while [ $i -lt 400 ]; do ln one l$i; [ $i -ge 120 ] || : > f$i; i=$((i+1)); done",
    ]),
    control: inRoom(`${attempt("resource")} inodes . 1000`),
  },
  {
    id: "resource/slow-reader",
    what: "a client that takes no output, and one that sends no input",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const { promise: taken, resolve: take } = Promise.withResolvers<void>();
      const ends = new AbortController();
      const unread = sandbox.exec({
        command: ["/usr/bin/head", "-c", String(OFFERED), "/dev/zero"],
        outputBytes: Infinity,
        onStdout: () => taken,
        signal: ends.signal,
      });
      const unsent = sandbox.exec({ command: ["/bin/cat"], stdin: never(), signal: ends.signal });
      try {
        const written = await inside(sandbox, WRITTEN, { timeoutMs: 60_000 });
        assert.ok(Number(written) <= ON_THE_WAY, `the program is at ${written} bytes, and nobody took one`);
        await stillAnswers(sandbox);
      } finally {
        ends.abort();
        take();
        await Promise.allSettled([unread, unsent]);
      }
      await stillAnswers(sandbox);
    },
    control: {
      kind: "accept",
      async prove(bed) {
        await using sandbox = await bed.open();
        let read = 0;
        const onStdout = (chunk: Uint8Array): void => void (read += chunk.length);
        await sandbox.exec({ command: ["/usr/bin/head", "-c", String(OFFERED), "/dev/zero"], outputBytes: Infinity, onStdout });
        assert.equal(read, OFFERED, "a reader who reads does not get all");
      },
    },
  },
];

/** Input that does not come. */
async function* never(): AsyncGenerator<Uint8Array> {
  await new Promise<never>(() => undefined);
  yield new Uint8Array();
}
