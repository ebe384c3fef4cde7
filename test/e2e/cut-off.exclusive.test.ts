// Runs that are cut off: Ctrl-C and kill -9 at moments nobody chose, full disks, two runs at once. After each, the census of what the run
// left must be empty, or hold the one thing that is kept on purpose.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { CensusEntry } from "../../src/api/corral.ts";
import { lastObject, run, type Scratch, scratch, start, startOnTerminal } from "./command-line.ts";
import { verifies } from "../verifies.ts";

let place: Scratch;
beforeEach(() => {
  place = scratch();
});
afterEach(() => place[Symbol.dispose]());

/** What is left of the process `pid` and in the data directory. `doctor` is a start, so it reaps first. */
async function leftovers(pid: number | undefined): Promise<readonly string[]> {
  const { stdout, stderr, code } = await run(["doctor", "--census", "--json", ...place.data]);
  if (code !== 0) throw new Error(stderr);
  const entries = JSON.parse(stdout.toString()) as readonly CensusEntry[];
  return entries
    .filter(({ kind, name }) => !["process", "cgroup"].includes(kind) || name.includes(`corral/${pid}-`))
    .map(({ kind, name }) => `${kind} ${name}`);
}

/** The spawner of a killed run needs a moment to see that it is alone. Asks until nothing is left, as long as a test may take. */
async function settled(pid: number | undefined, expected: readonly string[] = []): Promise<readonly string[]> {
  for (let tries = 0; ; tries++) {
    const left = await leftovers(pid);
    if (left.length <= expected.length || tries === 40) return left;
    await sleep(100);
  }
}

/** Moments from the start of the process to well after the command began. */
function moments(count: number): readonly number[] {
  return Array.from({ length: count }, () => Math.round(Math.random() * 1_200));
}

verifies(
  "cli/ctrl-c",
  "Ctrl-C at any moment ends the tree and leaves nothing; the exit code is 130",
  async () => {
    const dir = place.codebase({ a: "" });
    const nap = `sleep 47.${process.pid}`; // no other run's, which may be going on beside this one
    for (const ms of moments(12)) {
      const { child, ended } = start(["run", dir, ...place.data, "--", "sh", "-c", `(setsid ${nap}) & ${nap}`]);
      await sleep(ms);
      child.kill("SIGINT");
      const { code, signal } = await ended;
      // Before the first line of ours runs, the kernel's own answer to SIGINT holds; a shell shows both as 130.
      expect([ms, signal ?? code]).toEqual([ms, signal === null ? 130 : "SIGINT"]);
      expect([ms, await leftovers(child.pid)]).toEqual([ms, []]);
    }
    expect(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })).not.toContain(nap);
  },
  180_000,
);

it("Ctrl-C ends a program that ignores it by the ladder, and a second one at once", async () => {
  const dir = place.codebase({ a: "" });
  const stubborn = ["sh", "-c", "trap '' INT TERM; echo ready; while :; do sleep 0.1; done"];
  const ladder = start(["run", dir, ...place.data, "--json", "--", ...stubborn], { open: true });
  await ladder.said("ready");
  ladder.child.kill("SIGINT");
  const laddered = await ladder.ended;
  expect([laddered.code, lastObject(laddered.stdout)["signal"]]).toEqual([130, "SIGKILL"]);
  const twice = start(["run", dir, ...place.data, "--json", "--", ...stubborn], { open: true });
  await twice.said("ready");
  twice.child.kill("SIGINT");
  await sleep(100);
  twice.child.kill("SIGINT");
  // The sandbox went under the program: it has no result to print.
  const gone = await twice.ended;
  expect([gone.code, gone.stdout.toString()]).toEqual([130, "ready\n"]);
  expect(await leftovers(twice.child.pid)).toEqual([]);
}, 60_000);

it("an interrupted run is not accepted by --yes: what it wrote so far is kept", async () => {
  const dir = place.codebase({ a: "" });
  const { child, said, ended } = start(
    ["run", dir, ...place.data, "--yes", "--", "sh", "-c", "echo half > output/x; echo ready; sleep 47.8"],
    {
      open: true,
    },
  );
  await said("ready");
  child.kill("SIGINT");
  const { code, stderr } = await ended;
  expect([code, stderr]).toEqual([130, expect.stringContaining("corral commit sb")]);
  expect(existsSync(join(dir, "output"))).toBe(false);
});

it("SIGTERM and SIGHUP end a run as they would end the program", async () => {
  const dir = place.codebase({ a: "" });
  for (const [signal, code] of [
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    const { child, said, ended } = start(["run", dir, ...place.data, "--", "sh", "-c", "echo ready; sleep 47.2"], { open: true });
    await said("ready");
    child.kill(signal);
    expect((await ended).code).toBe(code);
    expect(await leftovers(child.pid)).toEqual([]);
  }
});

it("on a terminal Ctrl-C reaches the program in the sandbox, and the run ends with 130", async () => {
  const dir = place.codebase({ a: "" });
  const { child, said, ended } = startOnTerminal(["run", dir, ...place.data, "--", "sh", "-c", "echo ready; sleep 47.3; echo never"]);
  await said("ready");
  child.stdin?.write("\x03");
  const { code, stdout } = await ended;
  expect([code, stdout.toString().includes("never")]).toEqual([130, false]);
});

verifies(
  "cli/killed",
  "after kill -9 at any moment the next start leaves no process, cgroup, mount, socket or journal of the run",
  async () => {
    const dir = place.codebase({ a: "" });
    for (const ms of moments(10)) {
      const { child, ended } = start(["run", dir, ...place.data, "--", "sh", "-c", "(setsid sleep 47.4) & sleep 47.4"]);
      await sleep(ms);
      child.kill("SIGKILL");
      await ended;
      expect([ms, await settled(child.pid)]).toEqual([ms, []]);
    }
    expect(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })).not.toContain("sleep 47.4");
  },
  180_000,
);

verifies(
  "cli/killed-spawner",
  "when the spawner is killed with the process, its sandboxes die and the next start clears the rest",
  async () => {
    const dir = place.codebase({ a: "" });
    const { child, said, ended } = start(["run", dir, ...place.data, "--", "sh", "-c", "echo ready; sleep 47.5"], { open: true });
    await said("ready");
    const spawner = Number(execFileSync("pgrep", ["-P", String(child.pid), "-f", "corral-guest spawner"], { encoding: "utf8" }).trim());
    process.kill(spawner, "SIGKILL");
    child.kill("SIGKILL");
    await ended;
    expect(await settled(child.pid)).toEqual([]);
    expect(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })).not.toContain("sleep 47.5");
  },
);

it("when the spawner alone is killed the run says that its sandbox is lost, with 125, and keeps what was written", async () => {
  const dir = place.codebase({ a: "" });
  const { child, said, ended } = start(["run", dir, ...place.data, "--", "sh", "-c", "echo kept > output/x; echo ready; sleep 47.6"], {
    open: true,
  });
  await said("ready");
  process.kill(
    Number(execFileSync("pgrep", ["-P", String(child.pid), "-f", "corral-guest spawner"], { encoding: "utf8" }).trim()),
    "SIGKILL",
  );
  const { code, stderr } = await ended;
  expect([code, stderr]).toEqual([125, expect.stringContaining("sandbox_lost")]);
  expect((await run(["diff", ...place.data])).stdout.toString()).toContain("(cut off)");
});

verifies("cli/cut-off-delta", "what a cut-off run wrote is kept, named at the next start, and can be accepted", async () => {
  const dir = place.codebase({ a: "" });
  const { child, said, ended } = start(
    ["run", dir, ...place.data, "--", "sh", "-c", "echo precious > output/work; echo ready; sleep 47.7"],
    { open: true },
  );
  await said("ready");
  child.kill("SIGKILL");
  await ended;
  let stderr = "";
  for (let tries = 0; tries < 40 && !stderr.includes("was cut off"); tries++) {
    stderr = (await run(["run", dir, ...place.data, "--", "true"])).stderr;
    await sleep(100);
  }
  const id = /corral diff (sb[a-z0-9]{20})/.exec(stderr)?.[1] ?? "";
  expect(stderr).toContain("kept for a day");
  expect((await run(["run", dir, ...place.data, "--", "true"])).stderr).not.toContain("was cut off");
  expect((await run(["diff", "--stat", id, ...place.data])).stdout.toString()).toContain("A /output/work");
  expect((await run(["commit", id, ...place.data])).code).toBe(0);
  expect(readFileSync(join(dir, "output", "work"), "utf8")).toBe("precious\n");
});

verifies(
  "sandbox/no-mutual-reaping",
  "two runs at once over one data directory never reap each other",
  async () => {
    const dir = place.codebase({ a: "" });
    const long = start(["run", dir, ...place.data, "--json", "--", "sh", "-c", "echo ready; cat > output/mine"], { open: true });
    await long.said("ready");
    const others = await Promise.all(
      Array.from({ length: 4 }, () => run(["run", dir, ...place.data, "--", "sh", "-c", "echo x > output/y"])),
    );
    expect(others.map(({ code, stderr }) => [code, stderr.includes("cleared"), stderr.includes("cut off")])).toEqual(
      others.map(() => [0, false, false]),
    );
    long.child.stdin?.end("written late");
    const { code, stdout } = await long.ended;
    expect([code, lastObject(stdout)["changes"]]).toEqual([0, [{ path: "/output/mine", kind: "add", type: "file" }]]);
  },
  60_000,
);

verifies(
  "cli/disk-full",
  "a full disk under the deltas is ENOSPC to the program, a code to the next create, and recovers without a restart",
  async (context) => {
    if (process.getuid?.() !== 0) return context.skip("mounting a small disk needs root");
    const dir = place.codebase({ a: "" });
    const data = join(place.dir, "data");
    mkdirSync(data, { mode: 0o700 });
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m,mode=700", "small", data]);
    try {
      const full = await run(["run", dir, ...place.data, "--keep", "--json", "--", "sh", "-c", "cat /dev/zero > output/fill"]);
      expect(full.stderr).toContain("No space left on device");
      expect(lastObject(full.stdout)).toMatchObject({ exitCode: 1, limitHit: "disk" });
      const refused = await run(["run", dir, ...place.data, "--", "true"]);
      expect([refused.code, refused.stderr]).toEqual([125, expect.stringContaining("disk_full")]);
      const id = /corral discard (sb[a-z0-9]{20})/.exec(full.stderr)?.[1] ?? "";
      expect((await run(["discard", id, ...place.data])).code).toBe(0);
      expect((await run(["run", dir, ...place.data, "--", "true"])).code).toBe(0);
      expect(existsSync(join(dir, "output"))).toBe(false);
    } finally {
      execFileSync("umount", [data]);
    }
  },
  60_000,
);
