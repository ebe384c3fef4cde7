// A network policy made ready to judge: presets unfolded, names and ranges parsed, bounds kept. Decides about no connection.
// Invariant: a policy with one rule that cannot be is refused whole, with the place of that rule; nothing is repaired.

import { CorralError } from "../api/errors.ts";
import { MAX_NETWORK_ITEMS, MAX_NETWORK_RATE_MS, MAX_NETWORK_RULES } from "../api/limits.ts";
import { NETWORK_PRESETS, SECRET_FORMATS } from "../api/network.ts";
import type {
  CidrRule,
  HostRule,
  NetworkPolicy,
  NetworkPorts,
  NetworkPreset,
  NetworkRate,
  NetworkRule,
  SecretUse,
} from "../api/network.ts";
import { parseRange, type Range } from "./address.ts";
import { Host } from "./host.ts";
import { isNeverName, isNeverRange } from "./never.ts";
import { parsePathPattern, type PathPattern } from "./paths.ts";
import { NETWORK_PRESET_RULES } from "./presets.ts";

/** One rule, ready to be asked. */
export interface Grant {
  /** Index into `allow`; `open` for the open form. */
  readonly rule: number | "open";
  readonly target: GrantTarget;
  /** Absent: every port. */
  readonly ports?: ReadonlySet<number>;
  /** TLS is demanded. */
  readonly tls: boolean;
  readonly methods?: ReadonlySet<string>;
  readonly paths?: readonly PathPattern[];
  readonly rate?: NetworkRate;
  readonly secrets: readonly Required<SecretUse>[];
}

export type GrantTarget =
  | { readonly kind: "name"; readonly name: string; readonly below: boolean }
  | { readonly kind: "range"; readonly range: Range }
  | { readonly kind: "open"; readonly except: readonly Range[] };

export type CompiledPolicy = readonly Grant[];

const DEFAULT_PORTS: NetworkPorts = [443];
/** SAFETY: TRACE mirrors a request with its secrets; CONNECT is a tunnel, and a request within one has none. */
const NO_METHODS = ["TRACE", "TRACK", "CONNECT"];
/** SAFETY: a secret in one of these would be read by the proxy's own parser or by a hop on the way. */
const NO_SECRET_HEADERS = new Set(
  "connection content-length expect host keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade accept-encoding".split(
    " ",
  ),
);
const SECRET_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
const HEADER_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$/;

/** Throws `network_policy_invalid`. */
export function compileNetwork(policy: NetworkPolicy): CompiledPolicy {
  if (policy === "none") return [];
  const listed = (policy.allow ?? []).flatMap((item, index) => unfolded(item, index));
  if (listed.length > MAX_NETWORK_RULES) throw invalid(`it has ${listed.length} rules; at most ${MAX_NETWORK_RULES} are judged`);
  const grants = listed.map(({ rule, index }) => compileRule(rule, `allow[${index}]`, index));
  if (!("open" in policy)) return grants;
  demandFew(policy.except ?? [], "except");
  const except = (policy.except ?? []).map((text, index) => rangeOf(text, `except[${index}]`));
  return [...grants, { rule: "open", target: { kind: "open", except }, tls: false, secrets: [] }];
}

/** Names of secrets that a policy uses. Takes a policy that `compileNetwork` took. */
export function secretNames(policy: CompiledPolicy): ReadonlySet<string> {
  return new Set(policy.flatMap(({ secrets }) => secrets.map(({ name }) => name)));
}

function unfolded(item: NetworkRule | NetworkPreset, index: number): { readonly rule: NetworkRule; readonly index: number }[] {
  if (typeof item !== "string") return [{ rule: item, index }];
  if (!NETWORK_PRESETS.includes(item))
    throw invalid(`allow[${index}]: there is no preset ${quoted(item)}; there are ${NETWORK_PRESETS.join(", ")}`);
  return NETWORK_PRESET_RULES[item].map((rule) => ({ rule, index }));
}

function compileRule(rule: NetworkRule, place: string, index: number): Grant {
  const { rate } = rule;
  if (rate !== undefined) demandRate(rate, place);
  const ports = portsOf(rule.ports ?? DEFAULT_PORTS, place);
  const common = { rule: index, ...(ports === undefined ? {} : { ports }), ...(rate === undefined ? {} : { rate }) };
  return "cidr" in rule ? compileCidr(rule, place, common) : compileHost(rule, place, common);
}

type Common = Pick<Grant, "rule" | "ports" | "rate">;

function compileCidr(rule: CidrRule, place: string, common: Common): Grant {
  const range = rangeOf(rule.cidr, place);
  if (isNeverRange(range)) throw invalid(`${place}: ${range.text} is never reached, whatever a rule says; leave the rule out`);
  return { ...common, target: { kind: "range", range }, tls: false, secrets: [] };
}

function compileHost(rule: HostRule, place: string, common: Common): Grant {
  const { tls = true, methods, paths, secrets = [] } = rule;
  const below = rule.host.startsWith("*.");
  const host = Host.parse(below ? rule.host.slice(2) : rule.host);
  if (host === undefined) throw invalid(`${place}: ${quoted(rule.host)} is no host; write a name such as example.com or *.example.com`);
  if (host.address !== undefined) throw invalid(`${place}: ${host.text} is an address; write cidr instead of host`);
  if (isNeverName(host.text)) throw invalid(`${place}: ${host.text} is never reached, whatever a rule says; leave the rule out`);
  if (secrets.length > 0 && (below || !tls)) throw invalid(`${place}: a secret needs one exact host and TLS`);
  for (const list of [methods, paths, secrets]) demandFew(list ?? [], place);
  return {
    ...common,
    target: { kind: "name", name: host.text, below },
    tls,
    ...(methods === undefined ? {} : { methods: methodsOf(methods, place) }),
    ...(paths === undefined ? {} : { paths: paths.map((path) => pathOf(path, place)) }),
    secrets: secrets.map((use) => secretOf(use, place)),
  };
}

function portsOf(ports: NetworkPorts, place: string): ReadonlySet<number> | undefined {
  if (ports === "any") return undefined;
  demandFew(ports, place);
  if (ports.length === 0 || !ports.every((port) => Number.isInteger(port) && port >= 1 && port <= 65_535))
    throw invalid(`${place}: ports are numbers from 1 to 65535, at least one, or "any"`);
  return new Set(ports);
}

function demandRate({ requests, perMs }: NetworkRate, place: string): void {
  const fits = Number.isInteger(requests) && requests >= 1 && Number.isInteger(perMs) && perMs >= 1 && perMs <= MAX_NETWORK_RATE_MS;
  if (!fits) throw invalid(`${place}: a rate is a number of requests in 1 to ${MAX_NETWORK_RATE_MS} ms, both whole and above 0`);
}

function methodsOf(methods: readonly string[], place: string): ReadonlySet<string> {
  const wrong = methods.find((method) => !/^[A-Z]{1,32}$/.test(method) || NO_METHODS.includes(method));
  if (wrong !== undefined) throw invalid(`${place}: ${quoted(wrong)} is no method of a rule; write upper-case names such as GET`);
  return new Set(methods);
}

function pathOf(path: string, place: string): PathPattern {
  const pattern = parsePathPattern(path);
  if (typeof pattern === "string") throw invalid(`${place}: path ${quoted(path)} ${pattern}`);
  return pattern;
}

function secretOf({ name, header = "authorization", format = "plain" }: SecretUse, place: string): Required<SecretUse> {
  const lower = header.toLowerCase();
  if (!SECRET_NAME.test(name)) throw invalid(`${place}: ${quoted(name)} is no name of a variable, and so of no secret`);
  if (!HEADER_NAME.test(lower) || NO_SECRET_HEADERS.has(lower)) throw invalid(`${place}: no secret can go in the header ${quoted(header)}`);
  if (!SECRET_FORMATS.includes(format)) throw invalid(`${place}: a secret's format is one of ${SECRET_FORMATS.join(", ")}`);
  return { name, header: lower, format };
}

function rangeOf(text: string, place: string): Range {
  const parsed = parseRange(text);
  if (parsed === undefined)
    throw invalid(`${place}: ${quoted(text)} is no range; write one such as 10.1.0.0/16, with no bit behind the prefix`);
  return parsed;
}

function demandFew(list: readonly unknown[] | string, place: string): void {
  if (list.length > MAX_NETWORK_ITEMS)
    throw invalid(`${place}: a list holds ${list.length} items; at most ${MAX_NETWORK_ITEMS} are judged`);
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

function invalid(message: string): CorralError {
  return new CorralError("network_policy_invalid", `network policy: ${message}`);
}
