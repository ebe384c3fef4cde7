// The parent of the proxy's process: starts it, gives it rules and secrets, hears its verdicts, and starts it anew with all of that when
// it dies. Carries no byte of a sandbox. Invariant: while no process lives every socket refuses; what a call was told as done is what every
// later process begins with.

import { chmodSync, chownSync, mkdirSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { CorralError } from "../api/errors.ts";
import type { NetworkPolicy, NetworkVerdict } from "../api/network.ts";
import type { Authority } from "./certificate.ts";
import { compileNetwork, secretNames } from "./compile.ts";
import { type GateMetrics, SOCKET_DIR_MODE, SOCKET_NAME } from "./core.ts";
import type { GateState } from "./gate.ts";
import { Figures } from "./figures.ts";
import { DEFAULT_GATE_LIMITS, type GateLimits } from "./limits.ts";
import { isPlaceholder, isSecretValue, type SandboxSecret } from "./secrets.ts";
import { lines, type Order, type Told } from "./wire.ts";

/** A process, as whoever may start one hands it over. */
export interface ProxyProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly pid?: number | undefined;
  kill(signal: "SIGKILL"): boolean;
  once(event: "close", listener: () => void): unknown;
  once(event: "error", listener: (error: Error) => void): unknown;
}

export interface EgressProxyOptions {
  /** Of the sockets, a directory for each sandbox; below one that only this user can enter. Short: a socket's path has 107 bytes. */
  readonly socketsDir: string;
  readonly authority: Authority;
  /** In PEM: authorities of upstreams beside the usual ones. */
  readonly upstreamCa?: readonly string[];
  readonly resolvers?: readonly string[];
  /** Runs main.ts with this working directory. */
  readonly start: (cwd: string) => ProxyProcess;
  /** As root: the id that the process takes, which owns nothing else. */
  readonly id?: number;
  readonly onVerdict: (verdict: NetworkVerdict) => void;
  /** Of the process: that it was lost, and what it said on stderr. */
  readonly onLost?: (said: string) => void;
}

/** All that holds for one sandbox. */
export interface SandboxNetwork {
  /** Told with each verdict. */
  readonly version: number;
  readonly policy: NetworkPolicy;
  readonly ceiling: NetworkPolicy;
  /** Every secret that a rule names, and maybe others. */
  readonly secrets: readonly SandboxSecret[];
  readonly limits?: Partial<GateLimits>;
}

export interface SandboxSocket {
  /** To be mounted, read-only, where the guest looks for it. */
  readonly dir: string;
  /** In it. */
  readonly socket: string;
}

const SANDBOX_ID = /^[a-z0-9][a-z0-9_-]{0,63}$/;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
const GOODBYE_MS = 2_000;
const SAID_LENGTH = 2_000;

export class EgressProxy implements AsyncDisposable {
  readonly #options: EgressProxyOptions;
  readonly #states = new Map<string, GateState>();
  readonly #figures = new Figures();
  #live: Promise<Live> | undefined;
  #pauseMs = FIRST_PAUSE_MS;
  #isClosed = false;

  constructor(options: EgressProxyOptions) {
    this.#options = options;
  }

  /** The process, for those who watch it; starts it where it is not there. */
  async pid(): Promise<number | undefined> {
    return (await this.#process()).pid;
  }

  /** Before the sandbox starts; again after a restart of the server, for one that lived on. Throws `network_policy_invalid`, `egress_unavailable`. */
  async open(sandboxId: string, network: SandboxNetwork): Promise<SandboxSocket> {
    if (!SANDBOX_ID.test(sandboxId) || this.#states.has(sandboxId)) throw new Error(`egress: ${sandboxId} is open already, or no id`);
    const state = checked(network);
    const dir = join(this.#options.socketsDir, sandboxId);
    makeSocketsDir(this.#options.socketsDir);
    mkdirSync(dir, { recursive: true, mode: SOCKET_DIR_MODE });
    chmodSync(dir, SOCKET_DIR_MODE);
    const { id } = this.#options;
    // SAFETY: the process's own, in which it makes the socket; the sandbox's user has another id and may only connect.
    if (id !== undefined) chownSync(dir, id, id);
    try {
      await this.#change({ do: "open", sandbox: sandboxId, state });
    } catch (error) {
      this.#states.delete(sandboxId);
      rmSync(dir, { recursive: true, force: true });
      throw error;
    }
    return { dir, socket: join(dir, SOCKET_NAME) };
  }

  /** Replaces all of it at once; when it is done, what is no longer carried is cut. Throws as `open`. */
  async update(sandboxId: string, network: SandboxNetwork): Promise<void> {
    this.#demandOpen(sandboxId);
    await this.#change({ do: "update", sandbox: sandboxId, state: checked(network) });
  }

  /** After the sandbox ended. */
  async close(sandboxId: string): Promise<void> {
    this.#demandOpen(sandboxId);
    this.#states.delete(sandboxId);
    try {
      // A process that dies meanwhile knows it no more.
      await (await this.#live)?.ask({ do: "close", sandbox: sandboxId }).catch(() => undefined);
    } finally {
      this.#figures.forget(sandboxId);
      rmSync(join(this.#options.socketsDir, sandboxId), { recursive: true, force: true });
    }
  }

  /** Of each open sandbox; where the process died, of it as it was a second before. */
  async metrics(): Promise<readonly GateMetrics[]> {
    try {
      const told = this.#states.size === 0 ? undefined : await (await this.#process()).ask({ do: "metrics" });
      this.#hear(told?.metrics ?? []);
    } catch {
      // What was told before stands.
    }
    return [...this.#states.keys()].map((id) => this.#figures.of(id));
  }

  #demandOpen(sandboxId: string): void {
    if (!this.#states.has(sandboxId)) throw new Error(`egress: ${sandboxId} is not open`);
  }

  async #change(order: Extract<Order, { state: GateState }>): Promise<void> {
    const live = await this.#process();
    this.#states.set(order.sandbox, order.state);
    try {
      await live.ask(order);
    } catch (error) {
      if (!(error instanceof LostError)) throw unavailable(error);
      // The next process begins with it.
      await this.#process();
    }
  }

  #process(): Promise<Live> {
    if (this.#isClosed) throw new CorralError("egress_unavailable", "the egress proxy is shut down; sandboxes reach nothing");
    this.#live ??= this.#begin();
    return this.#live;
  }

  async #begin(): Promise<Live> {
    const { socketsDir, authority, upstreamCa = [], resolvers, id, onVerdict } = this.#options;
    makeSocketsDir(socketsDir);
    const live = new Live(this.#options.start(socketsDir), { onVerdict, onNews: (news) => this.#hear(news) });
    void live.lost.then((said) => this.#onLost(said));
    try {
      await live.ask({
        do: "start",
        authority,
        upstreamCa,
        ...(resolvers === undefined ? {} : { resolvers }),
        ...(id === undefined ? {} : { id }),
      });
      for (const [sandbox, state] of this.#states) await live.ask({ do: "open", sandbox, state });
      this.#pauseMs = FIRST_PAUSE_MS;
      return live;
    } catch (error) {
      live.kill();
      throw unavailable(error);
    }
  }

  #hear(told: readonly GateMetrics[]): void {
    this.#figures.hear(told.filter(({ id }) => this.#states.has(id)));
  }

  #onLost(said: string): void {
    if (this.#isClosed) return;
    this.#figures.lost();
    this.#options.onLost?.(said);
    const pause = this.#pauseMs;
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * pause);
    const next = delay(pause).then(() => this.#begin());
    this.#live = next;
    // Whoever asks is told; nobody has to ask.
    next.catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const live = await this.#live?.catch(() => undefined);
    await live?.goodbye();
    try {
      rmdirSync(this.#options.socketsDir);
    } catch {
      // Never made, or what lives on has its own in it.
    }
  }
}

function makeSocketsDir(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o711 });
  // SAFETY: the process passes it and can put nothing into it, so that what a sandbox is given to mount is always its own directory.
  chmodSync(dir, 0o711);
}

class LostError extends Error {
  override readonly name = "LostError";
}

interface Ears {
  readonly onVerdict: (verdict: NetworkVerdict) => void;
  readonly onNews: (news: readonly GateMetrics[]) => void;
}

/** One process and what it was asked. */
class Live {
  readonly #process: ProxyProcess;
  readonly #asked = new Map<number, PromiseWithResolvers<Extract<Told, { done: number }>>>();
  /** Resolves with the end of what it said on stderr. */
  readonly lost: Promise<string>;
  #isLost = false;
  #seq = 0;

  constructor(child: ProxyProcess, ears: Ears) {
    this.#process = child;
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (piece: string) => (said = `${said}${piece}`.slice(-SAID_LENGTH)));
    child.stdin.on("error", () => undefined);
    this.lost = new Promise((resolve) => {
      const onEnd = (): void => {
        this.#isLost = true;
        for (const { reject } of this.#asked.values()) reject(new LostError("the egress proxy ended"));
        resolve(said);
      };
      child.once("close", onEnd);
      child.once("error", (error) => {
        said = error.message;
        onEnd();
      });
    });
    // A process that says what it must not is ended, and so is what it carried.
    this.#listen(ears).catch(() => this.kill());
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  async #listen({ onVerdict, onNews }: Ears): Promise<void> {
    for await (const line of lines(this.#process.stdout)) {
      const told = JSON.parse(line) as Told;
      if ("verdict" in told) onVerdict(told.verdict);
      else if ("news" in told) onNews(told.news);
      else this.#asked.get(told.done)?.resolve(told);
    }
  }

  async ask(order: Order): Promise<Extract<Told, { done: number }>> {
    if (this.#isLost) throw new LostError("the egress proxy ended");
    const seq = ++this.#seq;
    const answer = Promise.withResolvers<Extract<Told, { done: number }>>();
    this.#asked.set(seq, answer);
    this.#process.stdin.write(`${JSON.stringify({ ...order, seq })}\n`);
    try {
      const told = await answer.promise;
      if (told.error !== undefined) throw new Error(told.error);
      return told;
    } finally {
      this.#asked.delete(seq);
    }
  }

  /** SAFETY: our own child, by its handle. */
  kill(): void {
    this.#process.kill("SIGKILL");
  }

  async goodbye(): Promise<void> {
    this.#process.stdin.end();
    const late = setTimeout(() => this.kill(), GOODBYE_MS);
    await this.lost;
    clearTimeout(late);
  }
}

/** Throws `network_policy_invalid`, `request_invalid`. */
function checked({ version, policy, ceiling, secrets, limits = {} }: SandboxNetwork): GateState {
  compileNetwork(ceiling);
  for (const name of secretNames(compileNetwork(policy)))
    if (!secrets.some((secret) => secret.name === name))
      throw new CorralError(
        "network_policy_invalid",
        `network policy: the secret ${name} is not there; set it, or leave it out of the rules`,
      );
  for (const { name, placeholder, value } of secrets)
    if (!isSecretValue(value) || !isPlaceholder(placeholder))
      throw new CorralError(
        "request_invalid",
        `secret ${name}: its value must be 8 to 8,192 printable ASCII characters without spaces at its ends`,
      );
  return { version, policy, ceiling, secrets, limits: { ...DEFAULT_GATE_LIMITS, ...limits } };
}

function unavailable(error: unknown): CorralError {
  if (error instanceof CorralError) return error;
  return new CorralError("egress_unavailable", `the egress proxy cannot serve: ${(error as Error).message}; sandboxes reach nothing`, {
    cause: error,
  });
}
