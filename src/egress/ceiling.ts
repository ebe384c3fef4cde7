// What an operator's ceiling leaves of each rule, for people to see. Decides nothing: rules.ts asks both lists at every connection.
// Invariant: a rule that is told as whole loses nothing to the ceiling; what cannot be told apart is told as `part`.

import type { NetworkCut } from "../api/network.ts";
import { contains, overlaps, type Range } from "./address.ts";
import type { CompiledPolicy, Grant, GrantTarget } from "./compile.ts";
import { holdsPrivate, isPrivateRange } from "./never.ts";
import type { PathPattern } from "./paths.ts";

type Share = "all" | "part" | "none";

/** One entry for each rule that the ceiling does not leave whole, in the order of the rules. */
export function cutBy(policy: CompiledPolicy, ceiling: CompiledPolicy): NetworkCut[] {
  const shares = new Map<Grant["rule"], Share[]>();
  for (const grant of policy) shares.set(grant.rule, [...(shares.get(grant.rule) ?? []), leftOf(grant, ceiling)]);
  return [...shares].flatMap(([rule, some]) => {
    const left = some.every((share) => share === "none") ? "none" : some.every((share) => share === "all") ? undefined : "part";
    return left === undefined ? [] : [{ rule, left } as const];
  });
}

function leftOf(grant: Grant, ceiling: CompiledPolicy): Share {
  const parts = ceiling.map((above) => ({ above, but: leastOf(butPorts(grant, above)), ports: setShare(grant.ports, above.ports) }));
  if (parts.some(({ but, ports }) => but === "all" && ports === "all")) return "all";
  if (grant.ports !== undefined) {
    const open = new Set(parts.filter(({ but }) => but === "all").flatMap(({ above }) => [...(above.ports ?? [])]));
    if ([...grant.ports].every((port) => open.has(port))) return "all";
  }
  return parts.some(({ but, ports }) => but !== "none" && ports !== "none") ? "part" : "none";
}

function butPorts(grant: Grant, above: Grant): Share[] {
  return [
    targetShare(grant.target, above.target),
    above.tls && !grant.tls ? "part" : "all",
    setShare(grant.methods, above.methods),
    pathShare(grant.paths, above.paths),
  ];
}

function leastOf(shares: readonly Share[]): Share {
  return shares.includes("none") ? "none" : shares.includes("part") ? "part" : "all";
}

function targetShare(target: GrantTarget, above: GrantTarget): Share {
  if (target.kind === "name") return nameShare(target, above);
  if (target.kind === "range") return rangeShare(target.range, above);
  if (above.kind !== "open") return "part";
  return above.except.every((range) => target.except.some((some) => contains(some, range))) ? "all" : "part";
}

function nameShare(target: Extract<GrantTarget, { kind: "name" }>, above: GrantTarget): Share {
  if (above.kind === "open") return "all";
  if (above.kind === "range") return "none";
  if (target.name === above.name && target.below === above.below) return "all";
  if (above.below && target.name.endsWith(`.${above.name}`)) return "all";
  return target.below && above.name.endsWith(`.${target.name}`) ? "part" : "none";
}

function rangeShare(range: Range, above: GrantTarget): Share {
  if (above.kind === "name") return "none";
  if (above.kind === "range") return contains(above.range, range) ? "all" : overlaps(above.range, range) ? "part" : "none";
  if (isPrivateRange(range) || above.except.some((some) => contains(some, range))) return "none";
  return holdsPrivate(range) || above.except.some((some) => contains(range, some)) ? "part" : "all";
}

function setShare<T>(some: ReadonlySet<T> | undefined, above: ReadonlySet<T> | undefined): Share {
  if (above === undefined) return "all";
  if (some === undefined) return "part";
  const kept = [...some].filter((item) => above.has(item)).length;
  return kept === some.size ? "all" : kept === 0 ? "none" : "part";
}

function pathShare(some: readonly PathPattern[] | undefined, above: readonly PathPattern[] | undefined): Share {
  if (above === undefined) return "all";
  const known = new Set(above.map((pattern) => pattern.join("/")));
  return some !== undefined && some.every((pattern) => known.has(pattern.join("/"))) ? "all" : "part";
}
