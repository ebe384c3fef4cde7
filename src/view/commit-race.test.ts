// Another process exchanges parts of the codebase while commits run: nothing may land outside of it, and what that process wrote stays.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { openLab, type Lab } from "../../test/fixtures/delta-lab.ts";
import { verifies } from "../../test/verifies.ts";
import { apply, recover, type ApplyOutcome, type Operation } from "./apply.ts";
import { probe } from "./stage.ts";

let lab: Lab;
let racer: ChildProcess | undefined;
afterEach(() => {
  racer?.kill("SIGKILL");
  racer = undefined;
  lab.close();
});

const STAGE = ".corral-commit-race";

async function startRacer(script: string, ...args: string[]): Promise<ChildProcess> {
  racer = spawn("python3", ["-c", script, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  await once(racer.stdout as NonNullable<ChildProcess["stdout"]>, "data");
  return racer;
}

/** What will put the delta's file `new` at `path`, over what stands there at this moment. */
async function putting(path: string): Promise<Operation> {
  const [signature] = await probe(lab.tool, lab.upper, ["/new"]);
  const [before] = await probe(lab.tool, lab.base, [path]);
  return {
    kind: "F",
    path,
    mode: 0o644,
    source: { root: "upper", path: "/new" },
    ...(signature === undefined ? {} : { signature }),
    ...(before === undefined ? {} : { before }),
  };
}

async function run(operation: Operation): Promise<ApplyOutcome> {
  const outcome = await apply({
    tool: lab.tool,
    base: lab.base,
    upper: lab.upper,
    stage: STAGE,
    rootIno: lstatSync(lab.base).ino,
    operations: [operation],
  });
  await recover(lab.tool, lab.base, STAGE, { clean: true });
  return outcome;
}

const SWAP = `
import os, sys
d, aside, outside = sys.argv[1:]
print(flush=True)
while True:
    os.rename(d, aside); os.symlink(outside, d); os.unlink(d); os.rename(aside, d)
`;

verifies(
  "view/commit-race",
  "a directory that is exchanged for a link out of the codebase never takes a commit outside",
  async () => {
    lab = openLab({ "d/s/": "" });
    const outside = join(lab.dir, "outside");
    mkdirSync(join(outside, "s"), { recursive: true });
    writeFileSync(join(lab.upper, "new"), "from the sandbox");
    const operation = await putting("/d/s/f");
    await startRacer(SWAP, join(lab.base, "d"), join(lab.base, "aside"), outside);
    const seen = new Map<string, number>();
    for (let round = 0; round < 100; round++) {
      const { outcome, errno } = await run(operation);
      seen.set(`${outcome} ${errno}`, (seen.get(`${outcome} ${errno}`) ?? 0) + 1);
      expect(readdirSync(join(outside, "s"))).toEqual([]);
      for (const dir of ["d", "aside"]) rmSync(join(lab.base, dir, "s/f"), { force: true });
    }
    // The race was a race: some commits came through, some met the link or nothing.
    expect(seen.size).toBeGreaterThan(1);
  },
  120_000,
);

const REPLACE = `
import os, sys
target, draft = sys.argv[1:]
print(flush=True)
for line in sys.stdin:
    open(draft, "w").write("from the host")
    os.rename(draft, target)
    print(flush=True)
`;

it("a file that another process replaces while it is committed ends as that process left it", async () => {
  lab = openLab({ f: "" });
  writeFileSync(join(lab.upper, "new"), "from the sandbox");
  const child = await startRacer(REPLACE, join(lab.base, "f"), join(lab.base, "draft"));
  for (let round = 0; round < 40; round++) {
    writeFileSync(join(lab.base, "f"), `round ${round}`);
    const operation = await putting("/f");
    const answered = once(child.stdout as NonNullable<ChildProcess["stdout"]>, "data");
    const committing = run(operation);
    // Spread over the time that a commit takes.
    for (let spins = 0; spins < round * 30_000; spins++) Math.sqrt(spins);
    child.stdin?.write("\n");
    const [{ outcome }] = await Promise.all([committing, answered]);
    expect(["applied", "nothing"]).toContain(outcome);
    expect(readFileSync(join(lab.base, "f"), "utf8")).toBe("from the host");
  }
}, 120_000);
