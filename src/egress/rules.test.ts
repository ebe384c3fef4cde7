// Rules of a sandbox and the operator's ceiling: what they carry, and what is told of the cut.

import { expect, it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { errorCode } from "../api/errors.ts";
import type { NetworkPolicy, NetworkRule } from "../api/network.ts";
import { parseAddress } from "./address.ts";
import { cutBy } from "./ceiling.ts";
import { compileNetwork, secretNames } from "./compile.ts";
import { Host } from "./host.ts";
import { parsePathPattern, pathMatches } from "./paths.ts";
import { NETWORK_PRESET_RULES } from "./presets.ts";
import { carrying, isOpen, namesHost, passageTo, reaches, type Rules, type Target } from "./rules.ts";

const EVERYTHING: NetworkPolicy = { open: true, allow: [{ cidr: "0.0.0.0/0", ports: "any" }] };

function rules(policy: NetworkPolicy, ceiling: NetworkPolicy = EVERYTHING): Rules {
  return { policy: compileNetwork(policy), ceiling: compileNetwork(ceiling) };
}

function target(text: string, port = 443): Target {
  const host = Host.parse(text);
  if (host === undefined) throw new Error(`${text} is no host`);
  return { host, port };
}

function passes(policy: NetworkPolicy, text: string, port = 443, ceiling = EVERYTHING): string {
  const found = passageTo(rules(policy, ceiling), target(text, port));
  if (typeof found === "string") return found;
  const { raw, tunnel, hasSecrets, http } = found;
  return [raw && "raw", tunnel && "tunnel", hasSecrets && "secrets", http && "http"].filter(Boolean).join(" ") || "read";
}

const allow = (...list: NetworkRule[]): NetworkPolicy => ({ allow: list });

verifies("egress/allow-list", "a connection is carried where a rule names its host and port, and nowhere else", () => {
  const policy = allow({ host: "example.com" }, { host: "*.wild.org", ports: [443, 8443] }, { host: "db.org", ports: [5432], tls: false });
  expect(passes(policy, "example.com")).toBe("tunnel");
  expect(passes(policy, "db.org", 5432)).toBe("raw tunnel http");
  expect(passes(policy, "a.b.wild.org", 8443)).toBe("tunnel");
  for (const [text, port] of [
    ["example.com", 80],
    ["www.example.com", 443],
    ["wild.org", 443],
    ["evilwild.org", 443],
    ["example.com.evil.org", 443],
    ["192.0.2.1", 443],
  ] as const)
    expect(passes(policy, text, port), text).toBe("no-rule");
  expect(passes("none", "example.com")).toBe("no-rule");
  expect(passes({ allow: [] }, "example.com")).toBe("no-rule");
});

verifies("egress/allow-list", "methods and paths are judged on each request; one rule must carry all of it", () => {
  const some = rules(allow({ host: "a.org", methods: ["GET"], paths: ["/x/**"] }, { host: "a.org", methods: ["POST"], paths: ["/y"] }));
  const judge = (method: string, path: string, tls = true): unknown => carrying(some, target("a.org"), { tls, method, path });
  expect(passes(allow({ host: "a.org", methods: ["GET"] }), "a.org")).toBe("read");
  expect(judge("GET", "/x/1")).toMatchObject({ policy: [{ rule: 0 }] });
  expect(judge("POST", "/y")).toMatchObject({ policy: [{ rule: 1 }] });
  for (const [method, path] of [
    ["POST", "/x/1"],
    ["GET", "/y"],
    ["get", "/x/1"],
    ["GET", "/x"],
  ] as const)
    expect(judge(method, path)).toBe("request");
  expect(judge("GET", "/x/1", false)).toBe("request");
  expect(carrying(some, target("a.org"), { tls: true, method: "GET", path: "/x/1", hasOverride: true })).toBe("request");
});

verifies("egress/ceiling", "what the operator's ceiling does not carry is refused, whatever the sandbox's rules say", () => {
  const ceiling = allow({ host: "*.example.com" }, { host: "api.org", methods: ["GET"] }, { cidr: "10.0.0.0/8", ports: [5432] });
  expect(passes(allow({ host: "a.example.com" }), "a.example.com", 443, ceiling)).toBe("tunnel");
  expect(passes(allow({ host: "a.example.com", tls: false }), "a.example.com", 443, ceiling)).toBe("tunnel");
  expect(passes(allow({ host: "other.org" }), "other.org", 443, ceiling)).toBe("ceiling");
  expect(passes(allow({ host: "api.org" }), "api.org", 443, ceiling)).toBe("read");
  expect(passes({ open: true }, "b.example.com", 443, ceiling)).toBe("tunnel");
  expect(passes({ open: true }, "b.example.com", 80, ceiling)).toBe("ceiling");
  const narrowed = rules(allow({ host: "api.org" }), ceiling);
  expect(carrying(narrowed, target("api.org"), { tls: true, method: "POST", path: "/" })).toBe("ceiling");
});

verifies("egress/ceiling", "the cut is told rule by rule", () => {
  const cut = (policy: NetworkPolicy, ceiling: NetworkPolicy): unknown => cutBy(compileNetwork(policy), compileNetwork(ceiling));
  const ceiling = allow(
    { host: "*.example.com", ports: [443, 80] },
    { cidr: "10.0.0.0/8" },
    { host: "r.org", methods: ["GET"], paths: ["/a"] },
  );
  const policy = allow(
    { host: "a.example.com" },
    { host: "a.example.com", ports: [22, 80] },
    { host: "example.com" },
    { host: "*.b.example.com", tls: false },
    { cidr: "10.1.0.0/16" },
    { cidr: "0.0.0.0/0" },
    { host: "r.org" },
    { host: "r.org", methods: ["GET"], paths: ["/a"] },
    { host: "r.org", methods: ["PUT"] },
  );
  expect(cut(policy, ceiling)).toEqual([
    { rule: 1, left: "part" },
    { rule: 2, left: "none" },
    { rule: 3, left: "part" },
    { rule: 5, left: "part" },
    { rule: 6, left: "part" },
    { rule: 8, left: "none" },
  ]);
  expect(cut({ open: true }, ceiling)).toEqual([{ rule: "open", left: "part" }]);
  expect(cut({ open: true, allow: ["npm"] }, EVERYTHING)).toEqual([]);
  expect(cut({ allow: ["npm", "debian"] }, { allow: ["npm"] })).toEqual([{ rule: 1, left: "none" }]);
  expect(cut(allow({ cidr: "10.0.0.0/8" }, { cidr: "1.0.0.0/8" }), { open: true })).toEqual([{ rule: 0, left: "none" }]);
  expect(cut(allow({ host: "a.org", ports: [1, 2] }), allow({ host: "a.org", ports: [1] }, { host: "a.org", ports: [2] }))).toEqual([]);
});

verifies("egress/private", "a private address needs a cidr in the rules and in the ceiling", () => {
  const at = (text: string, isPrivate: boolean): Parameters<typeof reaches>[2] => {
    const address = parseAddress(text);
    if (address === undefined) throw new Error(`${text} is no address`);
    return { address, isPrivate };
  };
  const named = { host: "db.corp" };
  const inside = { cidr: "10.0.0.0/8" };
  const host = target("db.corp");
  expect(reaches(rules(allow(named)), host, at("192.0.2.1", false))).toBe(true);
  expect(reaches(rules(allow(named)), host, at("10.0.0.1", true))).toBe(false);
  expect(reaches(rules(allow(named, inside)), host, at("10.0.0.1", true))).toBe(true);
  expect(reaches(rules(allow(named, inside), { open: true }), host, at("10.0.0.1", true))).toBe(false);
  expect(reaches(rules(allow(named, { ...inside, ports: [1] })), host, at("10.0.0.1", true))).toBe(false);
  expect(passes(allow(inside), "db.corp"), "a range names no name").toBe("no-rule");
  const except = rules({ open: true, except: ["192.0.2.0/24"], allow: [named] });
  expect(reaches(except, target("x.org"), at("192.0.2.1", false))).toBe(false);
  expect(reaches(except, host, at("192.0.2.1", false)), "a rule beats except").toBe(true);
  expect(passageTo(except, target("192.0.2.1"))).toBe("no-rule");
});

it("knows which names may be resolved", () => {
  const some = rules(allow({ host: "a.org" }, { host: "*.b.org", ports: [80] }, { cidr: "0.0.0.0/0" }));
  const named = (text: string): boolean => namesHost(some, target(text).host);
  expect(["a.org", "x.b.org", "b.org", "x.org", "192.0.2.1"].map(named)).toEqual([true, true, false, false, false]);
  expect([isOpen(some), isOpen(rules({ open: true })), isOpen(rules({ open: true }, { allow: [] }))]).toEqual([false, true, false]);
});

verifies("egress/path-bytes", "a path that some server reads as another one matches no rule", () => {
  const pattern = parsePathPattern("/repos/acme/**");
  if (typeof pattern === "string") throw new Error(pattern);
  const tricks = [
    "/../x",
    "/./x",
    "/%2e%2e/x",
    "/%2E./x",
    "/a%2fb",
    "/a%5cb",
    "/a%00",
    "/a%0d%0ab",
    "//x",
    "/a;b",
    "/a\\b",
    "/a%25",
    "/a b",
    "/a\tb",
    "/é",
    "/a%2",
    "/..",
    "/x/.",
  ];
  for (const trick of tricks) expect(pathMatches(pattern, `/repos/acme${trick}`), trick).toBe(false);
  for (const path of ["/repos/acme/a", "/repos/acme/a/b.c", "/repos/acme/%41", "/repos/acme/..."])
    expect(pathMatches(pattern, path), path).toBe(true);
  for (const path of ["/repos/acme", "/repos/acmex/a", "/Repos/acme/a", "/x/repos/acme/a", "*", ""])
    expect(pathMatches(pattern, path), path).toBe(false);
});

it("matches * within one segment", () => {
  const matches = (text: string, path: string): boolean => {
    const pattern = parsePathPattern(text);
    return typeof pattern !== "string" && pathMatches(pattern, path);
  };
  expect([matches("/a/*/c", "/a/b/c"), matches("/a/*/c", "/a/c"), matches("/a/*", "/a/"), matches("/v*.tgz", "/v1.tgz")]).toEqual([
    true,
    false,
    false,
    true,
  ]);
  expect([matches("/a*b*c", "/aXbYc"), matches("/ab*ba", "/aba"), matches("/**", "/"), matches("/", "/")]).toEqual([
    true,
    false,
    true,
    true,
  ]);
  expect(matches(`/${"*a".repeat(200)}`, `/${"a".repeat(800)}b`), "no blow-up").toBe(false);
});

verifies("egress/malformed-refused", "a policy with one rule that cannot be is refused whole, with its place", () => {
  const wrong: [NetworkPolicy, RegExp][] = [
    [allow({ host: "1.2.3.4" }), /allow\[0\].*cidr/],
    [allow({ host: "a.org" }, { host: "*" }), /allow\[1\]/],
    [allow({ host: "a.*.org" }), /no host/],
    [allow({ host: "localhost" }), /never/],
    [allow({ host: "metadata.google.internal" }), /never/],
    [allow({ cidr: "169.254.0.0/16" }), /never/],
    [allow({ cidr: "10.0.0.1/8" }), /no range/],
    [allow({ host: "a.org", ports: [] }), /ports/],
    [allow({ host: "a.org", ports: [70_000] }), /ports/],
    [allow({ host: "a.org", methods: ["TRACE"] }), /method/],
    [allow({ host: "a.org", methods: ["get"] }), /method/],
    [allow({ host: "a.org", paths: ["/a/../b"] }), /path/],
    [allow({ host: "a.org", paths: ["a"] }), /path/],
    [allow({ host: "a.org", paths: ["/**/a"] }), /path/],
    [allow({ host: "a.org", rate: { requests: 0, perMs: 1 } }), /rate/],
    [allow({ host: "*.a.org", secrets: [{ name: "T" }] }), /secret/],
    [allow({ host: "a.org", tls: false, secrets: [{ name: "T" }] }), /secret/],
    [allow({ host: "a.org", secrets: [{ name: "T", header: "Host" }] }), /header/],
    [allow({ host: "a.org", secrets: [{ name: "a b" }] }), /variable/],
    [{ allow: Array.from({ length: 257 }, () => ({ host: "a.org" })) }, /257 rules/],
    [{ open: true, except: ["x"] }, /except\[0\]/],
  ];
  for (const [policy, message] of wrong) {
    let thrown: unknown;
    try {
      compileNetwork(policy);
    } catch (error) {
      thrown = error;
    }
    expect(errorCode(thrown), JSON.stringify(policy)).toBe("network_policy_invalid");
    expect(String(thrown)).toMatch(message);
  }
});

it("compiles every preset, and tells which secrets are used", () => {
  for (const list of Object.values(NETWORK_PRESET_RULES)) expect(compileNetwork({ allow: list })).toHaveLength(list.length);
  expect(passes({ allow: ["npm"] }, "registry.npmjs.org")).toBe("tunnel");
  expect(passes({ allow: ["debian"] }, "deb.debian.org", 80)).toBe("http");
  const some = compileNetwork(allow({ host: "a.org", secrets: [{ name: "T" }, { name: "U", header: "X-Key" }] }));
  expect([...secretNames(some)]).toEqual(["T", "U"]);
  expect(some[0]?.secrets[1]).toEqual({ name: "U", header: "x-key", format: "plain" });
});
