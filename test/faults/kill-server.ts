// kill -9 of a server at moments nobody chose, under the load of several clients, again and again: after each the next server must answer for
// every sandbox that a client was told of, and after the last graceful end nothing may be left. Invariant: a run is bounded, and one that
// throws `Broken` has found something that was promised and does not hold.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errorCode } from "../../src/api/errors.ts";
import { SUCCESSOR_WAIT_MS } from "../../src/api/limits.ts";
import { Corral } from "../../src/sdk/corral.ts";
import { type Chance, chanceOf } from "./chance.ts";
import { ClientLoad, endOf, lookInto } from "./client-load.ts";
import { Broken, type Counts, type Known, noCounts, type Pending } from "./ledger.ts";
import { networksOf, remainsOf, spawnersOf } from "./remains.ts";
import { ServerUnderFire } from "./server-under-fire.ts";

export interface TortureOptions {
  readonly seed: number;
  readonly kills: number;
  readonly clients?: number;
  readonly onKill?: (line: string, counts: Counts) => void;
  /** Ends the run before its time, and what it started. */
  readonly signal?: AbortSignal;
}

const CLIENTS = 6;
/** The longest time of load before a kill. */
const LOAD_MS = 1_500;
/** A node that stands still for so long cannot be held to the wait of the spawner. */
const LATE_MS = SUCCESSOR_WAIT_MS - 3_000;
/** A process that was just forked is what it will be by then, ms. */
const BECOMING_MS = 500;
const GONE_MS = 20_000;

export async function torture({ seed, kills, clients = CLIENTS, onKill, signal }: TortureOptions): Promise<Counts> {
  const dir = mkdtempSync("/tmp/corral-torture-");
  const run = new Run(join(dir, "data"), seed, clients);
  try {
    await run.begin();
    for (let n = 1; n <= kills; n++) {
      signal?.throwIfAborted();
      const told = await run.kill();
      onKill?.(`kill ${n} of ${kills}: ${told}`, run.counts);
    }
    await run.end();
    return run.counts;
  } catch (error) {
    await run.abandon();
    throw error;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

class Run {
  readonly counts = noCounts();
  readonly #data: string;
  readonly #chance: Chance;
  readonly #loads: readonly ClientLoad[];
  readonly #tokens: string[] = [];
  readonly #spawners = new Set<number>();
  /** Of sandboxes that were seen alive; cleared with each look, since the kernel gives their numbers again. */
  #networks = new Set<string>();
  #server: ServerUnderFire;
  #url = "";
  #key = "";

  constructor(data: string, seed: number, clients: number) {
    this.#data = data;
    this.#chance = chanceOf(seed);
    this.#loads = Array.from({ length: clients }, (_, n) => {
      const name = `c${n}`;
      return new ClientLoad({ name, chance: this.#chance.branch(name), counts: this.counts, tokens: this.#tokens });
    });
    this.#server = new ServerUnderFire(data);
  }

  async begin(): Promise<void> {
    this.#key = (await this.#server.answers()).key ?? "";
    await this.#server.end();
    // Clients that ask as fast as they can are what this is about.
    writeFileSync(join(this.#data, "corral.yaml"), "rateLimits:\n  perToken:\n    requests: null\n");
    await this.#start();
  }

  async #start(): Promise<void> {
    this.#server = new ServerUnderFire(this.#data);
    this.#url = (await this.#server.answers()).url;
  }

  get #client(): Corral {
    return new Corral({ url: this.#url, key: this.#key });
  }

  /** Load, kill, the next server, and every answer that is due. Returns what to tell of it. */
  async kill(): Promise<string> {
    const loadMs = 50 + this.#chance.below(LOAD_MS);
    let isDead = false;
    const running = Promise.all(this.#loads.map((load) => load.run(this.#client, () => isDead)));
    await Promise.race([sleep(loadMs), running]);
    // On a slow machine the first sandbox takes longer than that; a kill before it would ask nothing.
    for (let waited = 0; this.counts.creates === 0 && waited < GONE_MS; waited += 50) await sleep(50);
    for (const pid of spawnersOf(this.#data)) this.#spawners.add(pid);
    isDead = true;
    this.#server.kill(this.#chance.of(1, 2) ? "group" : "process");
    const killedAt = Date.now();
    await Promise.all([this.#server.gone(), running]);
    this.counts.kills += 1;
    await this.#comeBack();
    const downMs = Date.now() - killedAt;
    this.counts.longestDownMs = Math.max(this.counts.longestDownMs, downMs);
    const { stood, adopted } = this.counts;
    await this.#demandAll(downMs > LATE_MS);
    const cut = this.#loads.flatMap(({ pending }) => (pending === undefined ? [] : [pending.kind]));
    await this.#resolve();
    await this.#demandNoOthers();
    const lookMs = Date.now() - killedAt - downMs;
    return `after ${loadMs} ms of load, down ${downMs} ms, looked ${lookMs} ms, ${this.counts.adopted - adopted} of ${this.counts.stood - stood} adopted, cut: ${cut.join(" ") || "nothing"}`;
  }

  /** Some starts are killed too, at whatever they are. */
  async #comeBack(): Promise<void> {
    await sleep(this.#chance.below(300));
    while (this.#chance.of(1, 5)) {
      const server = new ServerUnderFire(this.#data);
      await sleep(this.#chance.below(1_500));
      server.kill("group");
      await server.gone();
      this.counts.restartsKilled += 1;
    }
    await this.#start();
  }

  /** Every sandbox that a client was told of, but those with a destroy under way. */
  async #demandAll(isLate: boolean): Promise<void> {
    const doubtful = new Map(
      this.#loads.flatMap(({ pending }) => (pending !== undefined && "known" in pending ? [[pending.known, pending.kind]] : [])),
    );
    const known = this.#loads.flatMap(({ living }) => living);
    await Promise.all(known.map((one) => this.#demandOne(one, doubtful.get(one), isLate)));
    for (const network of networksOf([...this.#spawners])) this.#networks.add(network);
  }

  async #demandOne(known: Known, doubt: Pending["kind"] | undefined, isLate: boolean): Promise<void> {
    const handle = this.#client.sandbox(known.id);
    const state = await handle.info().then(({ state: told }) => told, errorCode);
    // Where what was under way may have moved its end, the server's word counts from here on.
    if (doubt !== undefined && state !== "sandbox_not_found") known.endAt = await endOf(handle).catch(() => known.endAt);
    const isNear = known.endAt !== null && known.endAt < Date.now() + 500;
    if (state === "sandbox_not_found" && (doubt === "destroy" || isNear)) {
      known.isOver = true;
      return;
    }
    if (isNear) return; // its client waits for its end
    this.counts.stood += 1;
    if (isLate && state === "failed") {
      known.isOver = true;
      return;
    }
    if (state !== "running" && state !== "paused")
      throw new Broken(
        `${known.id} was alive before the kill (${doubt ?? "nothing under way"}) and is ${state} after it; ${JSON.stringify({ ...known, files: known.files.size, now: Date.now() })}; ${this.#told(known.id)}`,
      );
    await lookInto(handle, known, this.counts);
    this.counts.adopted += 1;
  }

  /** What was under way is asked again, as a client would. */
  async #resolve(): Promise<void> {
    for (const load of this.#loads) {
      const { pending } = load;
      load.pending = undefined;
      if (pending === undefined) continue;
      this.counts.cut[pending.kind] += 1;
      if (pending.kind === "create") await this.#repeat(load, pending);
      if (pending.kind !== "destroy" || pending.known.isOver) continue;
      await this.#client.sandbox(pending.known.id).destroy();
      pending.known.isOver = true;
    }
  }

  /** The same key again: the sandbox that the first try made, or the truth that it failed, or one that is made now. */
  async #repeat(load: ClientLoad, { key, body }: Pending & { readonly kind: "create" }): Promise<void> {
    const made = await this.#client.create(body, { idempotencyKey: key });
    const told = await made.info().catch((error: unknown) => {
      if (errorCode(error) === "sandbox_not_found" && body.timeoutMs !== null) return undefined; // its time came meanwhile
      throw error;
    });
    if (told === undefined) return;
    if (told.state === "failed") {
      this.counts.cutCreatesFailed += 1;
      return;
    }
    if (told.state !== "running") throw new Broken(`${made.id}, whose create was cut, is ${told.state}`);
    this.counts.cutCreatesRunning += 1;
    const known = load.learn(made.id, body.timeoutMs, Date.parse(told.createdAt));
    await lookInto(made, known, this.counts);
  }

  /** Nothing runs that no client was told of, and one spawner holds all. */
  async #demandNoOthers(): Promise<void> {
    const known = new Set(this.#loads.flatMap(({ living }) => living.map(({ id }) => id)));
    let page = await this.#client.list();
    for (;;) {
      const other = page.items.find(({ id }) => !known.has(id));
      if (other !== undefined) throw new Broken(`${other.id} is ${other.state}, and no client was told of it`);
      if (page.next === undefined) break;
      page = await this.#client.list({ cursor: page.next });
    }
    const seen = spawnersOf(this.#data);
    // What one look took for a spawner while it was becoming something else is that a moment later.
    if (seen.length > 1) await sleep(BECOMING_MS);
    const spawners = seen.length > 1 ? spawnersOf(this.#data).filter((pid) => seen.includes(pid)) : seen;
    if (spawners.length > 1) throw new Broken(`the spawners ${spawners.join(", ")} live at once`);
    const secret = this.#chance.pick(this.#tokens);
    if (secret !== undefined) await new Corral({ url: this.#url, key: secret }).list();
  }

  async end(): Promise<void> {
    for (const known of this.#loads.flatMap(({ living }) => living)) {
      const handle = this.#client.sandbox(known.id);
      if (known.endAt === null || known.endAt > Date.now() + 2_000) await lookInto(handle, known, this.counts); // resumes what is paused
    }
    const code = await this.#server.end();
    if (code !== 0) throw new Broken(`the graceful end exits with ${code}: ${this.#server.stderr}`);
    this.#demandRows();
    const ids = new Set(this.#loads.flatMap(({ known }) => known.map(({ id }) => id)));
    const remains = (): readonly string[] => remainsOf(this.#data, ids, [...this.#spawners], this.#networks);
    for (let waited = 0; remains().length > 0; waited += 100) {
      if (waited >= GONE_MS) throw new Broken(`after the graceful end there is left: ${remains().slice(0, 20).join("; ")}`);
      await sleep(100);
    }
  }

  /** What the database says of a sandbox. */
  #told(id: string): string {
    using database = new DatabaseSync(join(this.#data, "corral.db"), { readOnly: true, timeout: 10_000 });
    const row = database.prepare("select * from sandboxes where id = ?").get(id);
    return JSON.stringify([row, database.prepare("select * from events where subject_id = ?").all(id)]);
  }

  /** Every row that a client was told of. */
  #demandRows(): void {
    using database = new DatabaseSync(join(this.#data, "corral.db"), { readOnly: true, timeout: 10_000 });
    const rows = database.prepare("select id, state from sandboxes").all() as { readonly id: string; readonly state: string }[];
    const states = new Map(rows.map(({ id, state }) => [id, state]));
    for (const { id } of this.#loads.flatMap(({ known }) => known))
      if (states.get(id) !== "destroyed" && states.get(id) !== "failed")
        throw new Broken(`the row of ${id} is ${states.get(id) ?? "lost"} at the end`);
    const { count } = database.prepare("select count(*) as count from tokens").get() as { readonly count: number };
    if (count < this.#tokens.length) throw new Broken(`${this.#tokens.length} keys were told, ${count} are there`);
  }

  async abandon(): Promise<void> {
    this.#server.kill("group");
    await this.#server.gone();
    for (const pid of spawnersOf(this.#data)) process.kill(pid, "SIGTERM");
    for (let waited = 0; spawnersOf(this.#data).length > 0 && waited < GONE_MS; waited += 100) await sleep(100);
  }
}
