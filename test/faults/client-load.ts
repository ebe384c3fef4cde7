// One client of a fault run: makes sandboxes, writes, runs, pauses, moves their ends and destroys them, one call after the other, until the
// server dies under it. Then it holds at most one call that was told nothing of. Invariant: while the server lives every answer is the one
// that was due, or the run is broken.

import { errorCode } from "../../src/api/errors.ts";
import type { SandboxHandle } from "../../src/api/client.ts";
import type { Corral } from "../../src/sdk/corral.ts";
import type { Chance } from "./chance.ts";
import { Broken, type Counts, type Known, type Pending } from "./ledger.ts";

const MOST_SANDBOXES = 3;
/** Renewed well before, so that an end comes only where it is meant to. */
const LONG_MS = 3_600_000;

export interface LoadParts {
  readonly name: string;
  readonly chance: Chance;
  readonly counts: Counts;
  /** Keys that the server was told to hold. */
  readonly tokens: string[];
}

export class ClientLoad {
  readonly known: Known[] = [];
  /** What was under way when the server died. */
  pending: Pending | undefined;
  readonly #parts: LoadParts;
  #made = 0;

  constructor(parts: LoadParts) {
    this.#parts = parts;
  }

  get living(): readonly Known[] {
    return this.known.filter(({ isOver }) => !isOver);
  }

  /** Until `isDead`; calls that fail then are no news. */
  async run(client: Corral, isDead: () => boolean): Promise<void> {
    while (!isDead()) {
      try {
        await this.#step(client);
        this.pending = undefined;
      } catch (error) {
        if (isDead()) return;
        throw new Broken(`${this.#parts.name}: ${JSON.stringify(this.pending)}: ${errorCode(error) ?? "?"}: ${String(error)}`, {
          cause: error,
        });
      }
    }
  }

  async #step(client: Corral): Promise<void> {
    const { chance } = this.#parts;
    for (const one of this.living) if (await this.#isEnding(client, one)) return;
    const known = chance.pick(this.living);
    const turn = chance.below(100);
    if (known === undefined || (turn < 25 && this.living.length < MOST_SANDBOXES)) return await this.#create(client);
    const handle = client.sandbox(known.id);
    if (turn < 40 || known.mayBePaused) return await this.#look(handle, known);
    if (turn < 70) return await this.#write(handle, known);
    if (turn < 78) return await this.#daemon(handle, known);
    if (turn < 84) return await this.#pause(handle, known);
    if (turn < 89) return await this.#renew(handle, known);
    if (turn < 92) return await this.#token(client);
    await this.#destroy(handle, known);
  }

  /** One whose end is near is waited for and seen gone: nothing else is due of it. */
  async #isEnding(client: Corral, known: Known): Promise<boolean> {
    if (known.endAt === null || known.endAt > Date.now() + 1_500) return false;
    this.pending = { kind: "look", known };
    for (let tries = 0; ; tries++) {
      const code = await client
        .sandbox(known.id)
        .info()
        .then(() => undefined, errorCode);
      if (code === "sandbox_not_found") break;
      if (code !== undefined || tries > 200)
        throw new Error(`a sandbox whose time was ${known.endAt} answers ${code ?? "as alive"} at ${Date.now()}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    known.isOver = true;
    this.#parts.counts.expired += 1;
    return true;
  }

  async #create(client: Corral): Promise<void> {
    const { chance, counts, name } = this.#parts;
    const timeoutMs = chance.of(1, 8) ? 2_500 + chance.below(3_000) : chance.of(1, 3) ? null : LONG_MS;
    const body = { timeoutMs, env: { WHO: `${name}-${this.#made}` } };
    const pending = { kind: "create", key: `${name}-${this.#made++}`, body } as const;
    this.pending = pending;
    const askedAt = Date.now();
    const made = await client.create(body, { idempotencyKey: pending.key });
    // Told from here on, whether or not the next call comes through.
    const known = this.learn(made.id, timeoutMs, askedAt);
    counts.creates += 1;
    this.pending = { kind: "look", known };
    known.endAt = await endOf(made);
  }

  learn(id: string, lifeMs: number | null, now: number): Known {
    const endAt = lifeMs === null ? null : now + lifeMs;
    const known: Known = {
      id,
      isOver: false,
      endAt,
      lifeMs,
      mayBePaused: false,
      files: new Map(),
      daemon: undefined,
      lostProcesses: false,
    };
    this.known.push(known);
    return known;
  }

  async #look(handle: SandboxHandle, known: Known): Promise<void> {
    this.pending = { kind: "look", known };
    await lookInto(handle, known, this.#parts.counts);
  }

  async #write(handle: SandboxHandle, known: Known): Promise<void> {
    const { chance, counts } = this.#parts;
    const file = `f${chance.below(6)}`;
    const content = `${counts.writes}-${chance.below(1e9)}\n`.repeat(chance.of(1, 6) ? 20_000 : 1);
    this.pending = { kind: "write", known, file };
    known.files.delete(file); // until it is told written, it may be anything
    const { exitCode, stderr } = await handle.exec({ command: ["sh", "-c", `cat > ${file}`], stdin: Buffer.from(content) });
    if (exitCode !== 0) throw new Error(`a write ended with ${exitCode}: ${Buffer.from(stderr).toString()}`);
    known.files.set(file, content);
    counts.writes += 1;
  }

  async #daemon(handle: SandboxHandle, known: Known): Promise<void> {
    const { chance } = this.#parts;
    if (known.daemon !== undefined) return;
    this.pending = { kind: "daemon", known };
    const argument = `${100_000 + chance.below(900_000)}`;
    await handle.exec({ command: `setsid sleep ${argument} > /dev/null 2>&1 &` });
    known.daemon = argument;
    known.lostProcesses = false;
  }

  async #pause(handle: SandboxHandle, known: Known): Promise<void> {
    const { chance, counts } = this.#parts;
    const memory = chance.of(2, 3);
    this.pending = { kind: "pause", known };
    if (!memory) known.lostProcesses = true;
    known.mayBePaused = true;
    await handle.pause({ memory });
    counts.pauses += 1;
    known.endAt = await endOf(handle);
    if (!chance.of(1, 2)) return;
    await handle.resume({ timeoutMs: LONG_MS });
    known.mayBePaused = false;
    known.endAt = await endOf(handle);
  }

  async #renew(handle: SandboxHandle, known: Known): Promise<void> {
    this.pending = { kind: "renew", known };
    const { endAt } = await handle.renew(LONG_MS);
    known.endAt = endAt === null ? null : Date.parse(endAt);
    this.#parts.counts.renewals += 1;
  }

  async #token(client: Corral): Promise<void> {
    this.pending = { kind: "token" };
    const { secret } = await client.tokens.issue({ ownerId: "admin", scope: "user", name: this.#parts.name });
    this.#parts.tokens.push(secret);
    this.#parts.counts.tokens += 1;
  }

  async #destroy(handle: SandboxHandle, known: Known): Promise<void> {
    this.pending = { kind: "destroy", known };
    await handle.destroy();
    known.isOver = true;
    this.#parts.counts.destroys += 1;
  }
}

export async function endOf(handle: SandboxHandle): Promise<number | null> {
  const { endAt } = await handle.info();
  return endAt === null ? null : Date.parse(endAt);
}

/** Demands every file as it was told written, and the process that was told started. */
export async function lookInto(handle: SandboxHandle, known: Known, counts: Counts): Promise<void> {
  // The call resumes it, which gives it its first life again.
  if (known.mayBePaused && known.lifeMs !== null) known.endAt = Date.now() + known.lifeMs;
  const names = [...known.files.keys()];
  const { exitCode, stdout, stderr } = await handle.exec({ command: ["cat", "/dev/null", ...names] });
  if (exitCode !== 0) throw new Broken(`${known.id}: a file that was told written is not there: ${Buffer.from(stderr).toString()}`);
  const due = names.map((name) => known.files.get(name) ?? "").join("");
  if (Buffer.from(stdout).toString() !== due) throw new Broken(`${known.id}: its files are not as they were told written`);
  counts.execs += 1;
  counts.filesRead += names.length;
  if (known.mayBePaused) known.endAt = await endOf(handle);
  known.mayBePaused = false;
  if (known.daemon === undefined || known.lostProcesses) return;
  const seen = await handle.exec({ command: `cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep ${known.daemon} '` });
  if (Buffer.from(seen.stdout).toString() !== "1\n") throw new Broken(`${known.id}: the process that was told started is gone`);
  counts.daemonsSeen += 1;
}
