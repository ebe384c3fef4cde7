import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { identify } from "../base/process-identity.ts";
import { isRoot, LAB_ID, openLab, snapshot, type Lab } from "../../test/fixtures/delta-lab.ts";
import { verifies } from "../../test/verifies.ts";
import {
  listKept,
  makeKept,
  readCommit,
  readKept,
  readRebased,
  writeCommit,
  writeKept,
  writeRebased,
  type CommitRecord,
  type KeptRecord,
} from "./kept.ts";
import { recoverCommits } from "./recover.ts";

let lab: Lab;
afterEach(() => lab.close());

const STAGE = ".corral-commit-x";

function record(changes: Partial<CommitRecord> = {}): CommitRecord {
  return { stage: STAGE, codebaseDir: lab.base, state: "started", process: null, whole: true, ...changes };
}

verifies("view/forged-staging", "a staging directory that a codebase brought along is not acted on", async () => {
  lab = openLab({ ".corral-commit-evil/go": "forged", ".corral-commit-evil/n/0": "evil" });
  expect(await recoverCommits(lab.tool, lab.deltas)).toEqual({ recovered: [], failed: [] });
  // Even under the name of a commit of ours: somebody else's directory is told, not followed.
  const stage = join(lab.base, STAGE);
  mkdirSync(stage, { mode: 0o755 });
  writeFileSync(join(stage, "go"), "forged");
  writeCommit(lab.deltas, LAB_ID, record());
  const before = snapshot(lab.base);
  expect((await recoverCommits(lab.tool, lab.deltas)).failed).toHaveLength(1);
  chmodSync(stage, 0o700);
  const { failed } = await recoverCommits(lab.tool, lab.deltas);
  expect(String(failed[0]?.error)).toContain("journal");
  chmodSync(stage, 0o755);
  expect(snapshot(lab.base)).toEqual(before);
});

it("a commit that another living process is at is left to it, by its record and by its lock", async () => {
  lab = openLab();
  const other = spawn("sleep", ["60"]);
  try {
    writeCommit(lab.deltas, LAB_ID, record({ process: identify(other.pid ?? 0) ?? null }));
    expect((await recoverCommits(lab.tool, lab.deltas)).recovered.map(({ outcome }) => outcome)).toEqual(["busy"]);
  } finally {
    other.kill("SIGKILL");
    await once(other, "exit");
  }
  mkdirSync(join(lab.base, STAGE), { mode: 0o700 });
  const holder = spawn("python3", [
    "-c",
    "import fcntl,os,sys,time; f=os.open(sys.argv[1],os.O_RDONLY); fcntl.flock(f,fcntl.LOCK_EX); print(flush=True); time.sleep(60)",
    join(lab.base, STAGE),
  ]);
  try {
    await once(holder.stdout, "data");
    expect((await recoverCommits(lab.tool, lab.deltas)).recovered.map(({ outcome }) => outcome)).toEqual(["busy"]);
  } finally {
    holder.kill("SIGKILL");
    await once(holder, "exit");
  }
  expect((await recoverCommits(lab.tool, lab.deltas)).recovered.map(({ outcome }) => outcome)).toEqual(["nothing"]);
  expect([existsSync(join(lab.base, STAGE)), readCommit(lab.deltas, LAB_ID)]).toEqual([false, undefined]);
});

it("a commit that cannot be ended does not keep the others waiting", async () => {
  lab = openLab();
  const gone = "sbgone00000000000000aa";
  mkdirSync(join(lab.deltas, gone));
  writeCommit(lab.deltas, gone, record({ codebaseDir: join(lab.dir, "nowhere") }));
  writeCommit(lab.deltas, LAB_ID, record());
  const { recovered, failed } = await recoverCommits(lab.tool, lab.deltas);
  expect([recovered.map(({ sandboxId }) => sandboxId), failed.map(({ sandboxId }) => sandboxId)]).toEqual([[LAB_ID], [gone]]);
});

const KEPT: KeptRecord = {
  sandboxId: LAB_ID,
  codebaseDir: "/somewhere",
  createdAt: "2026-11-22T00:00:00.000Z",
  cutOff: false,
  policy: { rules: [{ pattern: "**", permission: "read" }] },
  trusted: true,
  kept: true,
};

it("what is written down of a delta is read back; what is damaged or of another id is an error", () => {
  lab = openLab();
  const manifest = join(lab.dir, "manifest");
  writeFileSync(manifest, "walk");
  const dir = makeKept(lab.deltas, KEPT, manifest);
  rmSync(manifest);
  expect([readKept(lab.deltas, LAB_ID), listKept(lab.deltas).length, readFileSync(dir.manifest, "utf8")]).toMatchObject([KEPT, 1, "walk"]);
  const signature = { kind: "file", mode: 0o644, ino: 2 ** 53 - 1, size: 5, mtimeNs: 1_700_000_000_123_456_789n, ctimeNs: -5n } as const;
  const rebased = new Map([
    ["/a\xff", { signature, target: "" }],
    ["/gone", { signature: undefined, target: "" }],
  ]);
  writeRebased(lab.deltas, LAB_ID, rebased);
  expect(readRebased(lab.deltas, LAB_ID)).toEqual(rebased);
  expect(() => readKept(lab.deltas, "../../etc")).toThrow("no kept delta");
  expect(() => readKept(lab.deltas, "sbother000000000000000")).toThrow("no kept delta");
  writeKept(lab.deltas, { ...KEPT, cutOff: true });
  writeFileSync(join(dir.path, "delta.json"), readFileSync(join(dir.path, "delta.json"), "utf8").replace('"version":1', '"version":9'));
  expect(() => readKept(lab.deltas, LAB_ID)).toThrow("this version");
  writeFileSync(join(dir.path, "delta.json"), "{");
  expect(() => readKept(lab.deltas, LAB_ID)).toThrow("damaged");
  expect(readdirSync(dir.path).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});

it("a stage tool that dies in the middle is continued at once", async (context) => {
  if (!isRoot) context.skip("mounting an overlay needs root");
  for (const [step, ends] of [
    [4, "nothing"],
    [12, "applied"],
  ] as const) {
    lab = openLab({ a: "1", b: "1" });
    await lab.start();
    for (const name of ["a", "b", "c", "d"]) writeFileSync(join(lab.merged, name), "2");
    const input = lab.input();
    const dying: typeof input.tool = (argv, stdin) => input.tool(argv[1] === "apply" ? [...argv, "--fail-at", String(step)] : argv, stdin);
    const [{ commitDelta }, { liveTarget }] = await Promise.all([import("./commit.ts"), import("./commit-live.ts")]);
    const commit = { ...input, tool: dying, deltas: lab.deltas, sandboxId: LAB_ID };
    const done = await commitDelta(commit, liveTarget(commit)).then(
      () => "applied",
      ({ code }: { code: string }) => (code === "commit_failed" ? "nothing" : code),
    );
    expect(done).toBe(ends);
    expect(snapshot(lab.base).map((line) => line.split(" ").at(-1))).toEqual(ends === "applied" ? ["2", "2", "2", "2"] : ["1", "1"]);
    expect(readCommit(lab.deltas, LAB_ID)).toBeUndefined();
    lab.close();
  }
});
