// Fuzzing of the API from its own document: requests with state against a real server, and what must hold of every answer.
// Not a test of what the calls do. Invariant: what is asked follows from the seed and from the ids that the server gave.

import { ERROR_KINDS, type ErrorCode } from "../../src/api/errors.ts";
import { type Chance, chanceOf } from "../faults/chance.ts";
import { type ServerKey, startFuzzed } from "./bed.ts";
import { type Operation, operationsOf } from "./document.ts";
import { type RawAnswer, send } from "./raw.ts";
import { type Made, make } from "./requests.ts";
import { State } from "./state.ts";

export interface FuzzOptions {
  readonly seed: number;
  readonly seconds: number;
}

export interface FuzzCounts {
  readonly requests: number;
  readonly operations: number;
  /** Operations that were refused each time. */
  readonly neverDone: readonly string[];
  readonly byStatus: Readonly<Record<string, number>>;
}

const WORKERS = 4;
/** Of a busy machine; what is not answered then is a finding. */
const HEADERS_MS = 30_000;
/** Of calls that answer when something ends: then the client goes away. */
const WAIT_MS = 500;
/** Answers that go on for as long as somebody reads. */
const BODY_MS = 150;
const LOOK_EVERY = 250;
/** It may have been destroyed, paused or shortened by then. */
const RENEW_EVERY = 100;
const MAX_FINDINGS = 20;

/** Throws with all that it found. */
export async function fuzzApi({ seed, seconds }: FuzzOptions): Promise<FuzzCounts> {
  await using bed = await startFuzzed();
  const operations = operationsOf(await bed.document());
  const run = new Run(bed.port, operations, new State(bed.foreignIds, bed.keyIds));
  const until = performance.now() + seconds * 1_000;
  const isOver = (): boolean => performance.now() >= until || run.findings.length >= MAX_FINDINGS;
  const work = async (chance: Chance): Promise<void> => {
    while (!isOver()) {
      const operation = chance.pick(operations) as Operation;
      await run.once(operation, chance, bed.keyFor(operation.path, chance));
      if (run.requests % LOOK_EVERY === 0) await run.look(() => bed.others());
      if (run.requests % RENEW_EVERY === 0) run.state.lasting = await bed.renewed();
    }
  };
  run.state.lasting = await bed.renewed();
  await Promise.all(Array.from({ length: WORKERS }, (_, n) => work(chanceOf(seed).branch(`worker ${n}`))));
  await run.look(() => bed.others());
  if (run.findings.length > 0) throw new Error(`seed ${seed}, ${run.requests} requests:\n${run.findings.join("\n\n")}`);
  return { requests: run.requests, operations: operations.length, neverDone: run.neverDone(), byStatus: run.byStatus };
}

class Run {
  readonly findings: string[] = [];
  readonly #done = new Set<string>();
  readonly byStatus: Record<string, number> = {};
  readonly state: State;
  readonly #port: number;
  readonly #byName: ReadonlyMap<string, Operation>;
  readonly #seen = new Set<string>();
  requests = 0;

  constructor(port: number, operations: readonly Operation[], state: State) {
    this.#port = port;
    this.state = state;
    this.#byName = new Map(operations.map((operation) => [nameOf(operation), operation]));
  }

  async once(operation: Operation, chance: Chance, { key, isAdmin }: ServerKey): Promise<void> {
    this.requests += 1;
    const made = make(operation, { chance, key, pool: this.state.pool(chance) });
    const headersMs = mayWait(operation) ? WAIT_MS : HEADERS_MS;
    const answer = await send(this.#port, made.bytes, { headersMs, bodyMs: BODY_MS }, made.cut);
    const { status } = answer;
    this.byStatus[status] = (this.byStatus[status] ?? 0) + 1;
    const problem = this.#problem(operation, made, answer, isAdmin);
    if (problem !== undefined) this.#tell(operation, made, answer, problem);
    if (status >= 200 && status < 300) {
      this.#done.add(nameOf(operation));
      this.state.learn(made.method, made.target, answer.body);
    }
  }

  neverDone(): string[] {
    return [...this.#byName.keys()].filter((name) => !this.#done.has(name));
  }

  async look(others: () => Promise<void>): Promise<void> {
    await others().catch((error: unknown) => this.findings.push(`another owner was disturbed: ${String(error)}`));
  }

  #problem(operation: Operation, made: Made, answer: RawAnswer, isAdmin: boolean): string | undefined {
    const { status } = answer;
    if (status === -1 && mayWait(operation)) return undefined;
    if (status <= 0) return made.isBroken ? undefined : status === 0 ? "the connection ended without an answer" : "no answer came";
    if (status >= 400) return made.method === "HEAD" ? undefined : errorProblem(operation, answer);
    if (made.isBroken) return undefined; // what was understood of it may be another request
    if (status >= 300) return "an answer of a kind that is not documented";
    const known = this.#byName.get(`${made.method} ${operation.path}`);
    if (known === operation && !operation.answers.includes(status)) return "a status that is not documented";
    // To revoke what is no key of one's own is to have nothing to do, and is told so.
    const isNothing = answer.body === '{"revoked":false}';
    if (!isAdmin && !isNothing && this.state.isForeign(made.target)) return "another owner's thing was reached";
    return made.hasKey || operation.path === "/v1/ws" ? undefined : "it was done without a key";
  }

  #tell(operation: Operation, { bytes }: Made, { status, body }: RawAnswer, problem: string): void {
    const once = `${status} ${/"code":"\w+"/.exec(body)?.[0] ?? operation.path} ${problem}`;
    if (this.#seen.has(once)) return;
    this.#seen.add(once);
    this.findings.push(
      `${problem}: ${nameOf(operation)} answered ${status}\n  asked ${shown(bytes.toString("latin1"))}\n  got ${shown(body)}`,
    );
  }
}

/** Codes of the kind 5xx that tell of what is inside a sandbox, not of the server. */
const ABOUT_PORTS: readonly string[] = ["port_closed", "port_reply_invalid", "port_timeout"];

function errorProblem({ path }: Operation, { status, contentType, body }: RawAnswer): string | undefined {
  let error: { readonly code?: unknown; readonly message?: unknown; readonly requestId?: unknown } | undefined;
  try {
    ({ error } = JSON.parse(body) as { readonly error?: typeof error });
  } catch {
    return "an error that is no JSON";
  }
  const { code, message, requestId } = error ?? {};
  if (contentType !== "application/json" || typeof message !== "string" || typeof requestId !== "string")
    return "an error of another shape";
  if (!Object.hasOwn(ERROR_KINDS, String(code))) return "an error without a code of the table";
  if (ERROR_KINDS[code as ErrorCode].status !== status) return "an error whose status is not that of its code";
  if (/\n\s+at |node:|\/src\/|corral-fuzz/.test(body)) return "an error that shows the server's inside";
  const isInside = path.includes("/ports/") && ABOUT_PORTS.includes(String(code));
  return status >= 500 && !isInside ? "a failure of the server" : undefined;
}

function mayWait({ path }: Operation): boolean {
  return path.endsWith("/wait");
}

function nameOf({ method, path }: Operation): string {
  return `${method} ${path}`;
}

function shown(text: string): string {
  return JSON.stringify(text.length > 700 ? `${text.slice(0, 700)}… (${text.length})` : text);
}
