// One sandbox at the proxy: its rules, secrets, pinned names, rates and open connections. Carries no byte itself.
// Invariant: what it answers follows from the one state that holds now; a new state is whole at once, and what it no longer carries is cut.

import type { NetworkPolicy, NetworkVerdict, NetworkWay } from "../api/network.ts";
import type { Clock } from "../base/clock.ts";
import { type Address, parseAddress } from "./address.ts";
import { Bucket, byteBucket } from "../base/bucket.ts";
import { compileNetwork, type Grant } from "./compile.ts";
import type { Host } from "./host.ts";
import { type GateLimits, MAX_PIN_MS, MAX_PINS, MAX_TRIED, MIN_PIN_MS } from "./limits.ts";
import { isNeverName, kindOf } from "./never.ts";
import type { Outside } from "./outside.ts";
import { type Carried, isOpen, namesHost, portsNamed, reaches, type Rules, type Target } from "./rules.ts";
import { type BoundSecret, needlesOf, type Needle, type SandboxSecret } from "./secrets.ts";

/** All that the proxy knows of a sandbox; replaced as a whole. */
export interface GateState {
  readonly version: number;
  readonly policy: NetworkPolicy;
  readonly ceiling: NetworkPolicy;
  readonly secrets: readonly SandboxSecret[];
  readonly limits: GateLimits;
}

/** One connection of a sandbox, as its gate sees it. */
export interface Flow {
  /** The gate's state changed: ends what is no longer carried. */
  recheck(): void;
  /** Ends it when it has been silent for too long. */
  sweep(nowMs: number): void;
  cut(): void;
}

export type Verdict = Omit<NetworkVerdict, "at" | "sandboxId" | "version" | "count">;
export type VerdictSink = (gate: Gate, verdict: Verdict) => void;

export interface GateParts {
  readonly outside: Outside;
  readonly clock: Clock;
  readonly tell: VerdictSink;
}

interface Pin {
  readonly addresses: readonly Address[];
  readonly untilMs: number;
}

interface GateCounters {
  connections: number;
  refused: number;
  limited: number;
  slowedMs: number;
  sentBytes: number;
  receivedBytes: number;
}

export class Gate {
  readonly id: string;
  readonly counters: GateCounters = { connections: 0, refused: 0, limited: 0, slowedMs: 0, sentBytes: 0, receivedBytes: 0 };
  readonly flows = new Set<Flow>();
  readonly parts: GateParts;
  #state: GateState;
  #rules: Rules;
  #bytes: Bucket | undefined;
  #rates = new Map<string, Bucket>();
  readonly #pins = new Map<string, Promise<Pin | Unresolved>>();

  constructor(id: string, state: GateState, parts: GateParts) {
    this.id = id;
    this.parts = parts;
    this.#state = state;
    this.#rules = rulesOf(state);
    this.#bytes = rateOf(state, parts.clock);
  }

  /** Throws, and changes nothing, when the policy cannot be. */
  replace(state: GateState): void {
    const rules = rulesOf(state);
    this.#rules = rules;
    if (state.limits.bytesPerSecond !== this.#state.limits.bytesPerSecond) this.#bytes = rateOf(state, this.parts.clock);
    this.#state = state;
    this.#rates = new Map();
    for (const flow of this.flows) flow.recheck();
  }

  get rules(): Rules {
    return this.#rules;
  }

  get version(): number {
    return this.#state.version;
  }

  get limits(): GateLimits {
    return this.#state.limits;
  }

  /** Whether a name is answered inside at all. */
  async knows(host: Host): Promise<boolean> {
    if (isNeverName(host.text) || !namesHost(this.#rules, host)) return false;
    if (!isOpen(this.#rules) || this.#named(host)) return true;
    return Array.isArray(await this.#addressesOf(host));
  }

  /** Of a name that is known. */
  portsOf(host: Host): readonly number[] {
    return portsNamed(this.#rules, host);
  }

  #named({ text }: Host): boolean {
    return this.#rules.policy.some(
      ({ target }) => target.kind === "name" && (target.below ? text.endsWith(`.${target.name}`) : text === target.name),
    );
  }

  /** The addresses to dial, in order; or why there are none. */
  async addresses(target: Target): Promise<readonly Address[] | "dns" | "address"> {
    const { host } = target;
    if (isNeverName(host.text)) return "address";
    const found = host.address === undefined ? await this.#addressesOf(host) : [host.address];
    if (!Array.isArray(found)) return found;
    const own = this.parts.outside.own();
    const kinds = found.map((address) => ({ address, kind: kindOf(address, own) }));
    // SAFETY: one forbidden answer refuses the name: whoever mixes them in means to be dialled there sooner or later.
    const areReached = kinds.every(
      ({ address, kind }) => kind !== "never" && reaches(this.#rules, target, { address, isPrivate: kind === "private" }),
    );
    return areReached ? found.toSorted((a, b) => a.family - b.family).slice(0, MAX_TRIED) : "address";
  }

  /** Whether an address that was dialled may still be spoken to. */
  stillReaches(target: Target, address: Address): boolean {
    const kind = kindOf(address, this.parts.outside.own());
    return kind !== "never" && reaches(this.#rules, target, { address, isPrivate: kind === "private" });
  }

  async #addressesOf({ text }: Host): Promise<Address[] | "dns" | "address"> {
    const known = await this.#pins.get(text);
    const now = this.parts.clock.monotonicMs();
    if (known !== undefined && "addresses" in known && now < known.untilMs) return [...known.addresses];
    const asking = this.#resolve(text);
    this.#pins.delete(text);
    this.#pins.set(text, asking);
    const [oldest] = this.#pins.keys();
    if (this.#pins.size > MAX_PINS && oldest !== undefined) this.#pins.delete(oldest);
    const pin = await asking;
    if ("addresses" in pin) return [...pin.addresses];
    if (this.#pins.get(text) === asking) this.#pins.delete(text);
    return pin.reason;
  }

  async #resolve(name: string): Promise<Pin | Unresolved> {
    const { outside, clock } = this.parts;
    try {
      const { addresses, ttlMs } = await outside.resolve(name);
      const parsed = addresses.map((text) => parseAddress(text));
      if (parsed.length === 0) return { reason: "dns" };
      // SAFETY: an answer that is not understood is not dialled around.
      if (!parsed.every((address) => address !== undefined)) return { reason: "address" };
      return { addresses: parsed, untilMs: clock.monotonicMs() + Math.min(MAX_PIN_MS, Math.max(MIN_PIN_MS, ttlMs)) };
    } catch {
      return { reason: "dns" };
    }
  }

  /** The rules whose rate lets one more through, or how long to wait, ms. */
  admit({ policy, ceiling }: Carried): readonly Grant[] | number {
    const above = this.#within(ceiling, "ceiling");
    return typeof above === "number" ? above : this.#within(policy, "policy");
  }

  #within(grants: readonly Grant[], list: string): readonly Grant[] | number {
    const waits = grants.map((grant) => ({ grant, wait: this.#waitFor(grant, list) }));
    const free = waits.filter(({ wait }) => wait === 0).map(({ grant }) => grant);
    return free.length > 0 ? free : Math.min(...waits.map(({ wait }) => wait));
  }

  #waitFor({ rule, rate }: Grant, list: string): number {
    if (rate === undefined) return 0;
    const key = `${list} ${rule}`;
    const bucket = this.#rates.get(key) ?? new Bucket(this.parts.clock, { size: rate.requests, perMs: rate.requests / rate.perMs });
    this.#rates.set(key, bucket);
    return bucket.tryOne();
  }

  /** Secrets that admitted rules bind to a host. */
  bound(grants: readonly Grant[]): BoundSecret[] {
    const uses = grants.flatMap(({ secrets }) => secrets);
    return uses.flatMap(({ name, header, format }) =>
      this.#state.secrets.filter((some) => some.name === name).map((some) => ({ ...some, header, format })),
    );
  }

  /** What to turn back in answers of a host: every secret that any rule sends there. */
  needles({ text }: Host): Needle[] {
    const names = this.#rules.policy.flatMap(({ target, secrets }) =>
      target.kind === "name" && target.name === text ? secrets.map(({ name }) => name) : [],
    );
    return needlesOf(this.#state.secrets.filter(({ name }) => names.includes(name)));
  }

  holdsPlaceholder(text: string): boolean {
    return this.#state.secrets.some(({ placeholder }) => text.includes(placeholder));
  }

  /** Counts bytes, and answers how long to wait before more, ms. */
  moved(direction: "sent" | "received", bytes: number): number {
    this.counters[direction === "sent" ? "sentBytes" : "receivedBytes"] += bytes;
    const wait = this.#bytes?.take(bytes) ?? 0;
    this.counters.slowedMs += wait;
    return wait;
  }

  tell(way: NetworkWay, verdict: Omit<Verdict, "way">): void {
    if (verdict.outcome === "refused") this.counters.refused += 1;
    if (verdict.outcome === "limited") this.counters.limited += 1;
    this.parts.tell(this, { way, ...verdict });
  }
}

interface Unresolved {
  readonly reason: "dns" | "address";
}

function rulesOf({ policy, ceiling }: GateState): Rules {
  return { policy: compileNetwork(policy), ceiling: compileNetwork(ceiling) };
}

function rateOf({ limits: { bytesPerSecond } }: GateState, clock: Clock): Bucket | undefined {
  return bytesPerSecond === undefined ? undefined : byteBucket(clock, bytesPerSecond);
}
