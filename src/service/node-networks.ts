// What holds for the network of each sandbox of this node: its rules, the operator's ceiling, its secrets with their placeholders. The egress
// proxy asks it when a door opens, and is told when something changes. Not who may ask for what: that is networks.ts's.
// Invariant: the row in the store is what holds; a value goes to the proxy's process and nowhere else.

import { CorralError } from "../api/errors.ts";
import type { NetworkPolicy, NetworkResource, NetworkRule, NetworkVerdict } from "../api/network.ts";
import { cutBy } from "../egress/ceiling.ts";
import { type CompiledPolicy, compileNetwork, secretNames } from "../egress/compile.ts";
import type { EgressDoors } from "../egress/doors.ts";
import type { SandboxNetwork } from "../egress/proxy.ts";
import type { Store } from "../store/store.ts";
import { rateOf } from "./byte-rate.ts";
import type { SecretBox } from "./secret-box.ts";
import { subjectOf } from "./secret-rows.ts";

export interface NodeNetworksParts {
  readonly store: Store;
  readonly nodeId: string;
  readonly box: SecretBox;
  /** Of every sandbox, whatever its rules say. */
  readonly ceiling: NetworkPolicy;
}

/** What a row keeps of it. */
export interface KeptNetwork {
  readonly network?: NetworkPolicy;
  readonly networkVersion?: number;
}

type OpenDoors = (callbacks: {
  readonly networkOf: (sandboxId: string, policy: NetworkPolicy) => Promise<SandboxNetwork>;
  readonly onVerdict: (verdict: NetworkVerdict) => void;
}) => EgressDoors;

export class NodeNetworks implements AsyncDisposable {
  readonly doors: EgressDoors;
  /** Who hears of what was not carried. */
  onVerdict: (verdict: NetworkVerdict) => void = () => undefined;
  readonly #parts: NodeNetworksParts;
  readonly #ceiling: CompiledPolicy;

  /** Throws `network_policy_invalid` for the ceiling. */
  constructor(parts: NodeNetworksParts, open: OpenDoors) {
    this.#parts = parts;
    this.#ceiling = compileNetwork(parts.ceiling);
    this.doors = open({
      networkOf: (id, policy) => this.#networkOf(id, policy),
      onVerdict: (verdict) => {
        if (verdict.outcome !== "allowed") this.onVerdict(verdict);
      },
    });
  }

  /** What is told of rules beside them. */
  factsOf(policy: NetworkPolicy): Pick<NetworkResource, "cut" | "viaProxy"> {
    const compiled = compileNetwork(policy);
    const ranges = compiled.flatMap(({ rule, target }) => (target.kind === "range" && rule !== "open" ? [rule] : []));
    return { cut: cutBy(compiled, this.#ceiling), viaProxy: [...new Set(ranges)] };
  }

  /** Throws `network_policy_invalid`, `secret_not_found`. */
  async demandSound(ownerId: string, policy: NetworkPolicy): Promise<void> {
    const names = [...secretNames(compileNetwork(policy))];
    const { store, nodeId } = this.#parts;
    const known = new Set((await store.secrets.named({ nodeId, ownerId }, names)).map(({ name }) => name));
    const missing = names.find((name) => !known.has(name));
    if (missing !== undefined)
      throw new CorralError(
        "secret_not_found",
        `network: a rule names the secret ${missing}, which is not there; set it first: corral secret set ${missing}`,
      );
  }

  placeholders(sandboxId: string, policy: NetworkPolicy): Readonly<Record<string, string>> {
    const names = [...secretNames(compileNetwork(policy))];
    return Object.fromEntries(names.map((name) => [name, this.#parts.box.placeholder(sandboxId, name)]));
  }

  /** The row of a sandbox changed: its door, if it has one, follows at once. */
  async refresh(sandboxId: string): Promise<void> {
    if (this.doors.ids.includes(sandboxId)) await this.doors.update(sandboxId, await this.#networkOf(sandboxId, "none"));
  }

  /** Secrets of an owner changed. */
  async refreshOwner(ownerId: string): Promise<void> {
    for (const id of (await this.#parts.store.sandboxes.some(this.doors.ids, ownerId)).keys()) await this.refresh(id);
  }

  async #networkOf(sandboxId: string, given: NetworkPolicy): Promise<SandboxNetwork> {
    const { store, nodeId, box, ceiling } = this.#parts;
    const record = await store.sandboxes.get(sandboxId);
    const { network = given, networkVersion: version = 1 } = (record?.request ?? {}) as KeptNetwork;
    const ownerId = record?.ownerId ?? "";
    const rows = await store.secrets.named({ nodeId, ownerId }, [...secretNames(compileNetwork(network))]);
    const secrets = rows.map((row) => ({
      name: row.name,
      placeholder: box.placeholder(sandboxId, row.name),
      value: box.unseal(row.sealed, subjectOf(row)),
    }));
    const policy = withoutSecrets(network, new Set(secrets.map(({ name }) => name)));
    return { version, policy, ceiling, secrets, limits: { bytesPerSecond: rateOf(record?.request) } };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.doors[Symbol.asyncDispose]();
  }
}

/** Of a secret that was deleted the placeholder stands for nothing; the rule holds without it. */
function withoutSecrets(policy: NetworkPolicy, known: ReadonlySet<string>): NetworkPolicy {
  if (policy === "none" || policy.allow === undefined) return policy;
  const allow = policy.allow.map((rule): typeof rule => {
    if (typeof rule === "string" || !("secrets" in rule) || rule.secrets === undefined) return rule;
    return { ...rule, secrets: rule.secrets.filter(({ name }) => known.has(name)) } satisfies NetworkRule;
  });
  return { ...policy, allow };
}
