// Which connections and requests a policy and the operator's ceiling carry. Pure; resolves and dials nothing.
// Invariant: what is carried is carried by a rule of the policy and by one of the ceiling; neither widens the other.

import type { Address } from "./address.ts";
import { contains } from "./address.ts";
import type { CompiledPolicy, Grant } from "./compile.ts";
import type { Host } from "./host.ts";
import { pathMatches } from "./paths.ts";

export interface Rules {
  readonly policy: CompiledPolicy;
  readonly ceiling: CompiledPolicy;
}

export interface Target {
  readonly host: Host;
  readonly port: number;
}

/** One request, as it will be sent. */
export interface RequestFacts {
  readonly tls: boolean;
  readonly method: string;
  /** Without query. */
  readonly path: string;
  /** A header asks the server to take it as another method; no rule with methods carries that. */
  readonly hasOverride?: boolean;
}

/** The rules that carry something: at least one of each list. */
export interface Carried {
  readonly policy: readonly Grant[];
  readonly ceiling: readonly Grant[];
}

/** What may pass on a connection to a target. */
export interface Passage {
  /** Any bytes, unread. */
  readonly raw: Carried | undefined;
  /** TLS for the target's host, unread. */
  readonly tunnel: Carried | undefined;
  /** Secrets may go there, so TLS is read even where it could pass unread. */
  readonly hasSecrets: boolean;
  /** Requests over plain http are judged one by one; those over TLS always are. */
  readonly http: boolean;
}

/** http, https, ssh, and what stands in for the first two. */
const USUAL_PORTS = [80, 443, 22, 8080, 8443];
/** As many as the guest listens at for one name. */
const MAX_PORTS_TOLD = 16;

/** Why a target is refused: by the policy, or by the ceiling alone. */
export type Refused = "no-rule" | "ceiling";

/** Rules of a list that name the target. A range names no name: a name is not resolved to see where it lies. */
function naming(list: CompiledPolicy, { host, port }: Target): Grant[] {
  return list.filter(({ target, ports }) => {
    if (ports !== undefined && !ports.has(port)) return false;
    if (target.kind === "open")
      return host.address === undefined || !target.except.some((range) => contains(range, host.address as Address));
    if (target.kind === "range") return host.address !== undefined && contains(target.range, host.address);
    if (host.address !== undefined) return false;
    return target.below ? host.text.endsWith(`.${target.name}`) : host.text === target.name;
  });
}

/** What may pass, or why nothing does. */
export function passageTo(rules: Rules, target: Target): Passage | Refused {
  const policy = naming(rules.policy, target);
  const ceiling = naming(rules.ceiling, target);
  if (policy.length === 0) return "no-rule";
  if (ceiling.length === 0) return "ceiling";
  return {
    raw: carried(policy.filter(isRaw), ceiling.filter(isRaw)),
    tunnel: carried(policy.filter(isUnread), ceiling.filter(isUnread)),
    hasSecrets: policy.some(({ secrets }) => secrets.length > 0),
    http: policy.some(({ tls }) => !tls) && ceiling.some(({ tls }) => !tls),
  };
}

/** All rules that carry one request, or why none does. */
export function carrying(rules: Rules, target: Target, request: RequestFacts): Carried | Refused | "request" {
  const named = naming(rules.policy, target);
  if (named.length === 0) return "no-rule";
  const policy = named.filter((grant) => carries(grant, request));
  if (policy.length === 0) return "request";
  return (
    carried(
      policy,
      naming(rules.ceiling, target).filter((grant) => carries(grant, request)),
    ) ?? "ceiling"
  );
}

function carried(policy: readonly Grant[], ceiling: readonly Grant[]): Carried | undefined {
  return policy.length === 0 || ceiling.length === 0 ? undefined : { policy, ceiling };
}

/** Whether one of the addresses of a name may be dialled: `except` of an open form, and private ranges, are judged by address. */
export function reaches(rules: Rules, target: Target, at: { readonly address: Address; readonly isPrivate: boolean }): boolean {
  return [rules.policy, rules.ceiling].every((list) => {
    const byRange = list.some(({ target: { ...of }, ports }) => {
      return of.kind === "range" && contains(of.range, at.address) && (ports === undefined || ports.has(target.port));
    });
    if (byRange) return true;
    if (at.isPrivate) return false;
    const grants = naming(list, target);
    return grants.some(
      ({ target: of }) => of.kind === "name" || (of.kind === "open" && !of.except.some((range) => contains(range, at.address))),
    );
  });
}

/** Whether a name may be resolved at all, on whatever port. */
export function namesHost(rules: Rules, host: Host): boolean {
  return [rules.policy, rules.ceiling].every((list) => list.some((grant) => isNamed(grant, host)));
}

function isNamed({ target }: Grant, host: Host): boolean {
  if (host.address !== undefined) return false;
  if (target.kind === "name") return target.below ? host.text.endsWith(`.${target.name}`) : host.text === target.name;
  return target.kind === "open";
}

/** Ports at which a name is carried, for who has to listen at each: those that rules name, then, of rules for any port, what programs mostly mean. */
export function portsNamed({ policy, ceiling }: Rules, host: Host): readonly number[] {
  const grants = [...policy, ...ceiling].filter((grant) => isNamed(grant, host));
  const said = grants.flatMap(({ ports = [] }) => [...ports]);
  const isCarried = (port: number): boolean => [policy, ceiling].every((list) => naming(list, { host, port }).length > 0);
  return [...new Set([...said, ...USUAL_PORTS])].filter(isCarried).slice(0, MAX_PORTS_TOLD);
}

/** True when names beyond those of rules may be resolved. */
export function isOpen({ policy, ceiling }: Rules): boolean {
  return [policy, ceiling].every((list) => list.some(({ target }) => target.kind === "open"));
}

function isUnread({ methods, paths }: Grant): boolean {
  return methods === undefined && paths === undefined;
}

function isRaw(grant: Grant): boolean {
  return !grant.tls && isUnread(grant);
}

function carries(grant: Grant, { tls, method, path, hasOverride = false }: RequestFacts): boolean {
  if (grant.tls && !tls) return false;
  if (grant.methods !== undefined && (hasOverride || !grant.methods.has(method))) return false;
  return grant.paths === undefined || grant.paths.some((pattern) => pathMatches(pattern, path));
}
