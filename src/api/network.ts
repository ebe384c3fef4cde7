// What a sandbox may reach outside, and the record of what it tried. Types and names alone: rules are judged in egress/, nowhere else.
// Invariant: a policy only allows; what no rule names is refused, and some addresses are refused whatever any rule says.

import type { CallOptions, ListOf, PageOptions } from "./calls.ts";

/** `"none"`: no network. `allow`: what a rule names. `open`: every public address but `except`. */
export type NetworkPolicy = "none" | AllowedNetwork | OpenNetwork;

export interface AllowedNetwork {
  /** At most `MAX_NETWORK_RULES`, presets unfolded; their order means nothing. */
  readonly allow: readonly (NetworkRule | NetworkPreset)[];
}

export interface OpenNetwork {
  readonly open: true;
  /** Ranges such as `203.0.113.0/24` that are not open. */
  readonly except?: readonly string[];
  /** Beats `except`; binds secrets, and opens private ranges. */
  readonly allow?: readonly (NetworkRule | NetworkPreset)[];
}

export type NetworkRule = HostRule | CidrRule;

export interface HostRule {
  /** A name such as `api.github.com`, or `*.github.com`: one or more labels before it, not the name itself. */
  readonly host: string;
  /** Default `[443]`. */
  readonly ports?: NetworkPorts;
  /** Default true: TLS is demanded, for exactly this host. `false`: any bytes may pass (ssh, databases, plain http). */
  readonly tls?: boolean;
  /** Upper case. With it, requests are read: TLS ends at the proxy, whose certificate the sandbox trusts. */
  readonly methods?: readonly string[];
  /** Of requests, without query: `*` is one segment or a part of it, `**` at the end is all below. With it, requests are read. */
  readonly paths?: readonly string[];
  readonly rate?: NetworkRate;
  /** Exact hosts with TLS alone. With it, requests are read. */
  readonly secrets?: readonly SecretUse[];
}

export interface CidrRule {
  /** A range such as `10.1.0.0/16` or `2001:db8::/32`, or one address. The only way to a private range. */
  readonly cidr: string;
  /** Default `[443]`. Any bytes may pass. */
  readonly ports?: NetworkPorts;
  readonly rate?: NetworkRate;
}

export type NetworkPorts = readonly number[] | "any";

/** So many requests, or connections where requests are not read, in so many ms; a burst of as many is let through. */
export interface NetworkRate {
  readonly requests: number;
  readonly perMs: number;
}

/** Where a secret of the sandbox goes. Inside, the variable `name` holds a placeholder; the value is put in on its way to the rule's host. */
export interface SecretUse {
  /** Name of a secret; that of the variable too. */
  readonly name: string;
  /** The one header in which the placeholder is replaced; default `authorization`. */
  readonly header?: string;
  /** `plain` (default): the placeholder stands in the header's value. `basic`: it is user or password of `Basic` credentials. */
  readonly format?: SecretFormat;
}

export type SecretFormat = "plain" | "basic";
export const SECRET_FORMATS: readonly SecretFormat[] = ["plain", "basic"];

/** Names of rule lists that stand for what a tool needs: package indexes, code on GitHub, models. */
export type NetworkPreset = "npm" | "pypi" | "debian" | "github" | "llm";
export const NETWORK_PRESETS: readonly NetworkPreset[] = ["npm", "pypi", "debian", "github", "llm"];

/** What an operator's ceiling leaves of one rule of a sandbox. */
export interface NetworkCut {
  /** Index into `allow`; `open` for the open form itself. */
  readonly rule: number | "open";
  /** `part`: less than the rule says. `none`: nothing. */
  readonly left: "part" | "none";
}

/** How a program came to the proxy: by the proxy variables, by a name that the stub answered, by an address, or by asking for a name. */
export type NetworkWay = "proxy" | "name" | "address" | "resolve";

/** `limited`: a limit of the sandbox or a rule's rate. `failed`: it was allowed, and the other side did not answer as it must. */
export type NetworkOutcome = "allowed" | "refused" | "limited" | "failed";

/** Why something was refused, limited or failed. */
export type NetworkReason =
  | "no-rule" // no rule matches host and port
  | "request" // rules match host and port, none the method and path
  | "ceiling" // a rule matches, the operator's ceiling does not
  | "address" // a name or address that is never reached, or a private one without `cidr`
  | "malformed" // not what a strict parser takes
  | "tls" // TLS was demanded and did not come
  | "sni" // TLS for another host, for none, or for an encrypted one
  | "secret" // a placeholder in a request that goes over plain http
  | "withdrawn" // a rule that carried it is gone
  | "rate" // too many requests or connections
  | "idle" // nothing moved for too long, or a head did not come whole in time
  | "dns" // the name has no address, or the resolver did not answer
  | "connect" // the address did not answer, or refused
  | "certificate" // its certificate does not hold for the host
  | "answer"; // what it answered is no HTTP, or it was cut off

/** One verdict, or several alike. Holds no query, no header, no body and no secret. */
export interface NetworkVerdict {
  /** When it ended, ISO. */
  readonly at: string;
  readonly sandboxId: string;
  /** Of the sandbox's network policy. */
  readonly version: number;
  readonly way: NetworkWay;
  readonly outcome: NetworkOutcome;
  readonly reason?: NetworkReason;
  /** Canonical name or address; absent when none could be read. */
  readonly host?: string;
  /** The address that was dialled. */
  readonly address?: string;
  readonly port?: number;
  readonly method?: string;
  /** Without query; bytes beyond printable ASCII are `?`. */
  readonly path?: string;
  /** Index into `allow` of the rule that allowed it; `open` for the open form. */
  readonly rule?: number | "open";
  /** The program, as the sandbox tells it: hostile. */
  readonly process?: string;
  /** Bytes that the sandbox sent and got. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Verdicts alike of one second; 1 when it stands alone. */
  readonly count: number;
}

export interface NetworkResource {
  readonly policy: NetworkPolicy;
  /** Counts up with each change. */
  readonly version: number;
  /** What the operator's ceiling takes away of it. */
  readonly cut: readonly NetworkCut[];
  /** Places of rules by `cidr`. A program reaches what they allow through the proxy alone: an address itself has no route inside. */
  readonly viaProxy: readonly number[];
  /** Variables inside by the names of secrets, with their placeholders: a command that began before a rule named one has not got it. */
  readonly placeholders: Readonly<Record<string, string>>;
}

/** Something that was not carried. */
export interface EgressResource extends NetworkVerdict {
  /** Of digits; where to go on from. */
  readonly id: string;
  /** A rule that would carry it; absent: none can, or the ceiling would not let it. */
  readonly allow?: NetworkRule;
  /** Verdicts before this one that were too many to be kept. */
  readonly missed?: number;
}

export interface NetworkCalls {
  get(options?: CallOptions): Promise<NetworkResource>;
  /**
   * Replaces all of it; holds for the next request, and what it no longer carries is cut. Throws `network_policy_invalid`, `secret_not_found`,
   * `forbidden` with a key for one sandbox, `sandbox_state` where it was made with `none`.
   */
  set(policy: NetworkPolicy, options?: CallOptions): Promise<NetworkResource>;
  /** What was refused, limited or failed, oldest first, as long as events are kept. */
  egress(options?: PageOptions): Promise<ListOf<EgressResource>>;
}
