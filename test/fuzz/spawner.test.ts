// The spawner as a whole: random sequences of create, run, pause and destroy, several at once, while their processes are killed from outside. Knows nothing of what a call should answer beyond its table of errors. Invariant: every call ends, once all are destroyed nothing
// of them is left in the kernel, and the next sandbox is made and answers.

import { strict as assert } from "node:assert";
import { errorCode } from "../../src/api/errors.ts";
import type { CensusEntry } from "../../src/api/corral.ts";
import type { Sandbox } from "../../src/api/sandbox.ts";
import { type OpenBed, openBed } from "../../src/attack/bed.ts";
import { processesIn } from "../../src/attack/memory.ts";
import { expect } from "vitest";
import { type Chance, chanceOf } from "../faults/chance.ts";
import { ROOT } from "../tools/tree.ts";
import { verifies } from "../verifies.ts";
import { fuzzSeconds, fuzzSeed, LONGER_MS, tellFigures } from "./budget.ts";
import { join } from "node:path";

const SECONDS = 2;
const STEPS = 8;
const AT_ONCE = 3;
const LONGEST_CALL_MS = 60_000;
const RULES = [
  { pattern: "**", permission: "read" },
  { pattern: "/output/**", permission: "write" },
] as const;
const LIMITS = { memoryBytes: 128 * 1024 ** 2, pids: 32 } as const;
/** What a command, a connection or a destroy may end with when processes die under it. */
const EXPECTED = [
  "sandbox_lost",
  "sandbox_not_found",
  "sandbox_state",
  "port_closed",
  "stream_cut",
  "limit_reached",
  "runtime_unavailable",
  "canceled",
];
const COMMANDS = [
  "true",
  "sleep 1000 &",
  "setsid sleep 1000 & setsid setsid sleep 1000 &",
  "echo x >/workspace/output/file",
  "head -c 1000000 /dev/zero",
  "kill -9 -1",
];

interface Figures {
  sandboxes: number;
  calls: number;
  killed: number;
  failed: number;
}

interface Live {
  readonly sandbox: Sandbox;
  /** Its pid namespace. */
  readonly space: string;
}

class Round {
  readonly #bed: OpenBed;
  readonly #chance: Chance;
  readonly #figures: Figures;
  readonly made: Live[] = [];
  readonly #running: Promise<void>[] = [];

  constructor(bed: OpenBed, chance: Chance, figures: Figures) {
    this.#bed = bed;
    this.#chance = chance;
    this.#figures = figures;
  }

  async run(): Promise<void> {
    await this.#create();
    for (let step = 0; step < STEPS; step++) {
      const one = this.#chance.pick(this.made);
      if (one === undefined || (this.made.length < AT_ONCE && this.#chance.of(1, 4))) await this.#create();
      else this.#step(one);
      // Some steps begin while the one before is under way.
      if (this.#chance.of(1, 2)) await this.#settled();
    }
    for (const { sandbox } of this.made) this.#call("destroy", sandbox.destroy());
    await this.#settled();
  }

  async #settled(): Promise<void> {
    await Promise.all(this.#running.splice(0));
  }

  async #create(): Promise<void> {
    const sandbox = await this.#bed.corral.create({ policy: { rules: RULES }, runtime: "native", limits: LIMITS });
    this.#figures.sandboxes += 1;
    const { stdout } = await sandbox.exec({ command: ["/bin/readlink", "/proc/self/ns/pid"], cwd: "/" });
    this.made.push({ sandbox, space: Buffer.from(stdout).toString().trim() });
  }

  #step({ sandbox, space }: Live): void {
    const steps = [
      (): void => this.#call("exec", sandbox.exec({ command: this.#chance.pick(COMMANDS) ?? "true", timeoutMs: 1_000 })),
      (): void => this.#call("start", this.#started(sandbox)),
      (): void => this.#kill(space),
      (): void => this.#kill(space),
      (): void => this.#call("connect", this.#connected(sandbox)),
      (): void => this.#call("pause", this.#paused(sandbox)),
      (): void => this.#call("destroy", sandbox.destroy()),
    ];
    this.#chance.pick(steps)?.();
  }

  async #started(sandbox: Sandbox): Promise<void> {
    const running = await sandbox.start({ command: "sleep 1000", timeoutMs: 2_000 });
    if (this.#chance.of(1, 2)) running.signal("SIGKILL");
    await running.result;
  }

  async #connected(sandbox: Sandbox): Promise<void> {
    const { readable } = await sandbox.connect(8080);
    await readable.cancel();
  }

  async #paused(sandbox: Sandbox): Promise<void> {
    await sandbox.pause(true);
    await sandbox.resume();
  }

  /** SAFETY: a process of the namespace of one of our own sandboxes, looked up just before. */
  #kill(space: string): void {
    const pid = this.#chance.pick(processesIn(space));
    if (pid === undefined) return;
    try {
      process.kill(Number(pid), "SIGKILL");
      this.#figures.killed += 1;
    } catch {
      // It ended meanwhile.
    }
  }

  #call(name: string, act: Promise<unknown>): void {
    this.#figures.calls += 1;
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new Error(`${name} has no end`)), LONGEST_CALL_MS);
    this.#running.push(
      Promise.race([act, late.promise]).then(
        () => clearTimeout(timer),
        (error: unknown) => {
          clearTimeout(timer);
          this.#figures.failed += 1;
          if (!EXPECTED.includes(errorCode(error) ?? "none")) throw error;
        },
      ),
    );
  }
}

async function fuzz(seconds: number, first: number): Promise<Figures> {
  const figures: Figures = { sandboxes: 0, calls: 0, killed: 0, failed: 0 };
  await using bed = await openBed({ buildDir: join(ROOT, "guest", "build"), env: process.env, uid: process.getuid?.() ?? 0 });
  const until = performance.now() + seconds * 1_000;
  for (let seed = first; seed === first || performance.now() < until; seed++) {
    const round = new Round(bed, chanceOf(seed), figures);
    try {
      await round.run();
      const ids = new Set(round.made.map(({ sandbox }) => sandbox.id));
      // What was written in one that was lost is kept, and a record says so.
      const isKept = ({ kind, owned }: CensusEntry): boolean => kind === "delta" && owned;
      const left = (await bed.corral.census()).filter((entry) => ids.has(entry.sandboxId ?? "") && !isKept(entry));
      assert.deepEqual([...left, ...round.made.flatMap(({ space }) => processesIn(space))], [], "something is left");
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
  return figures;
}

verifies(
  "runtime/spawner-sequences",
  "whatever is asked of the spawner while processes of sandboxes are killed, every call ends and nothing is left",
  async (context) => {
    if (process.getuid?.() !== 0) return context.skip("only root signals processes of sandboxes from outside");
    const figures = await fuzz(fuzzSeconds(SECONDS), fuzzSeed(1));
    tellFigures({ ...figures });
    expect(figures.calls).toBeGreaterThan(0);
  },
  120_000 + LONGER_MS,
);
