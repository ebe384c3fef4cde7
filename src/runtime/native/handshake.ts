// READY of a guest: parsed and compared with what a contained PID 1 must report. Nothing hostile has run when it is sent, so this
// one answer can be believed; everything a guest says later cannot. Invariant: what is not understood is a failed comparison.

import { readlinkSync } from "node:fs";
import { CorralError } from "../../api/errors.ts";

export interface Handshake {
  readonly fields: ReadonlyMap<string, string>;
  /** Inode numbers by name (`mnt`, `pid`, …). */
  readonly namespaces: ReadonlyMap<string, string>;
}

export interface Expectation {
  /** Steps left out on purpose (negative controls). */
  readonly weaken: readonly number[];
  /** uid 0 inside is offered: PID 1 keeps eight capabilities in its bounding set. */
  readonly rootOffered: boolean;
  /** Namespaces of this process. */
  readonly outside: ReadonlyMap<string, string>;
}

const NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] as const;

/** CAP_KILL, CAP_SETGID, CAP_SETUID: what PID 1 needs to start commands as the sandbox's user and to end them. */
const PID1_CAPS = (1n << 5n) | (1n << 6n) | (1n << 7n);
/** CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE. */
const ROOT_CAPS = 0xfbn | (1n << 10n);
/** Needed to empty the bounding set in the child of an ordinary command. */
const SETPCAP = 1n << 8n;

export function ownNamespaces(): ReadonlyMap<string, string> {
  return new Map(NAMESPACES.map((name) => [name, readlinkSync(`/proc/self/ns/${name}`).replace(/[^0-9]/g, "")]));
}

export function parseReady(list: readonly string[]): Handshake {
  const fields = new Map<string, string>();
  const namespaces = new Map<string, string>();
  for (let i = 0; i < list.length; ) {
    const verb = list[i] ?? "";
    if (verb === "ns") {
      namespaces.set(list[i + 1] ?? "", list[i + 2] ?? "");
      i += 3;
    } else {
      fields.set(verb, list[i + 1] ?? "");
      i += 2;
    }
  }
  return { fields, namespaces };
}

/** Throws `create_failed` naming the wall that does not stand. */
export function compareReady(ready: Handshake, expected: Expectation): void {
  const left = (step: number): boolean => expected.weaken.includes(step);
  const problems: string[] = [];
  if (!left(18)) problems.push(...capabilityProblems(ready, expected.rootOffered));
  if (!left(20) && !left(22) && ready.fields.get("nnp") !== "1") problems.push(`no_new_privs is ${ready.fields.get("nnp")}`);
  if (!left(22) && ready.fields.get("seccomp") !== "2") problems.push(`seccomp mode is ${ready.fields.get("seccomp")}`);
  if (!left(17) && ready.fields.get("dumpable") !== "0") problems.push("PID 1 can be traced (dumpable)");
  if (!left(5) && !left(7) && !isRootOfCgroups(ready.fields.get("cgroup")))
    problems.push(`its cgroup reads ${JSON.stringify(ready.fields.get("cgroup"))}`);
  for (const name of NAMESPACES) {
    if (left(7) && name !== "user" && name !== "mnt" && name !== "pid") continue;
    if (left(6) && name === "net") continue;
    const inside = ready.namespaces.get(name);
    if (inside === undefined || inside === expected.outside.get(name))
      problems.push(`its ${name} namespace is ${inside === undefined ? "unknown" : "ours"}`);
  }
  if (problems.length > 0)
    throw new CorralError("create_failed", `the sandbox is not contained: ${problems.join("; ")}; it is destroyed. Please report this`, {
      details: { step: 23, problems },
    });
}

function capabilityProblems(ready: Handshake, rootOffered: boolean): string[] {
  const allowed = rootOffered ? ROOT_CAPS | SETPCAP : PID1_CAPS;
  const limits: readonly (readonly [string, bigint])[] = [
    ["cap-eff", allowed],
    ["cap-prm", allowed],
    ["cap-inh", 0n],
    ["cap-amb", 0n],
    ["cap-bnd", rootOffered ? ROOT_CAPS : 0n],
  ];
  return limits.flatMap(([name, most]) => {
    const text = ready.fields.get(name) ?? "";
    const value = /^[0-9a-f]{1,16}$/.test(text) ? BigInt(`0x${text}`) : undefined;
    return value !== undefined && (value & ~most) === 0n ? [] : [`${name} is ${JSON.stringify(text)}`];
  });
}

/** One line per hierarchy, each `N:controllers:/`. */
function isRootOfCgroups(text: string | undefined): boolean {
  return text !== undefined && text.split("\n").every((line) => /^\d+:[^:]*:\/$/.test(line));
}
