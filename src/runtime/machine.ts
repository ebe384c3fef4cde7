// What this machine's kernel allows, read from /proc, /sys and /etc, each finding with the command that mends it. No process is started
// here: what must be tried is tried by the guest's tool (probe.ts) and comes in as `tried`.
// Invariant: a file that is missing means that the kernel does not have the feature, never that it is fine by default without saying so.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { DoctorFinding } from "../api/corral.ts";

export interface MachineFacts {
  /** Where /proc, /etc and /sys begin; `/` but in tests. */
  readonly root: string;
  readonly release: string;
  readonly uid: number;
  /** Lines of `corral-guest tool machine`; empty when it could not be run. */
  readonly tried: ReadonlyMap<string, string>;
}

/** What the runtimes need at all: mount API, clone3, pidfd, overlay in a user namespace, idmapped mounts, cgroup.kill. */
export const KERNEL_FLOOR = "5.15";
/** What the kernel view needs: data-only layers, and in a user namespace that marks lead to them there too (docs/decisions/2026-11-22-whole-mask.md). */
export const VIEW_FLOOR = { root: "6.5", rootless: "6.16" } as const;

/** Kernel `release` is `floor` or newer. */
export function isAtLeast(release: string, floor: string): boolean {
  const have = numbers(release);
  const want = numbers(floor);
  return have[0] !== want[0] ? have[0] > want[0] : have[1] >= want[1];
}

function numbers(version: string): [number, number] {
  const match = /^(\d+)\.(\d+)/.exec(version);
  return [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
}

/** Why the kernel view is refused on this kernel, or undefined. Fail closed: the name of the wall is said. */
export function viewRefusal(release: string, who: keyof typeof VIEW_FLOOR): string | undefined {
  if (isAtLeast(release, VIEW_FLOOR[who])) return undefined;
  if (who === "root" || !isAtLeast(release, VIEW_FLOOR.root))
    return `the kernel view needs data-only overlay layers, which came with Linux ${VIEW_FLOOR.root}; this is ${release}. Boot a newer kernel`;
  return `the rootless kernel view needs data-only overlay layers in a user namespace, which came with Linux ${VIEW_FLOOR.rootless}; this is ${release}. Run Corral as root (sudo), or boot a newer kernel`;
}

/** Reads a file below `root`; undefined when it is not there or not ours to read. */
function read(facts: MachineFacts, path: string): string | undefined {
  try {
    return readFileSync(join(facts.root, path), "latin1").trim();
  } catch {
    return undefined;
  }
}

export function machineFindings(facts: MachineFacts): DoctorFinding[] {
  return [kernel(facts), ...userNamespaces(facts), overlay(facts), view(facts), proc(facts), landlock(facts), ...walls(facts)];
}

function kernel({ release }: MachineFacts): DoctorFinding {
  const ok = isAtLeast(release, KERNEL_FLOOR);
  const detail = ok ? `Linux ${release}` : `Linux ${release} is older than ${KERNEL_FLOOR}, the oldest that the runtimes work on`;
  return { id: "kernel", state: ok ? "ok" : "missing", detail, ...(ok ? {} : { mend: `boot Linux ${KERNEL_FLOOR} or newer` }) };
}

/** The three switches by which distributions take user namespaces away, then whether one can really be made. */
function userNamespaces(facts: MachineFacts): DoctorFinding[] {
  const switches: readonly { path: string; bad: string; id: string; mend: string }[] = [
    { id: "userns-most", path: "proc/sys/user/max_user_namespaces", bad: "0", mend: "sudo sysctl -w user.max_user_namespaces=28633" },
    {
      id: "userns-debian",
      path: "proc/sys/kernel/unprivileged_userns_clone",
      bad: "0",
      mend: "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    },
    {
      id: "userns-apparmor",
      path: "proc/sys/kernel/apparmor_restrict_unprivileged_userns",
      bad: "1",
      mend: "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    },
  ];
  const found: DoctorFinding[] = [];
  for (const { id, path, bad, mend } of switches) {
    // The last two bind ordinary users alone.
    if (read(facts, path) !== bad || (facts.uid === 0 && id !== "userns-most")) continue;
    found.push({
      id,
      state: "missing",
      detail: `${path.slice("proc/sys/".length).replaceAll("/", ".")} is ${bad}: no user namespace for a sandbox`,
      mend,
    });
  }
  const tried = facts.tried.get("userns");
  if (tried === "ok") found.push({ id: "userns", state: "ok", detail: "a user namespace can be made" });
  else if (found.length === 0) {
    const detail =
      tried === undefined ? "it could not be tried whether a user namespace can be made" : `no user namespace can be made (${tried})`;
    found.push({
      id: "userns",
      state: "missing",
      detail,
      mend: "inside a container, allow user namespaces: a seccomp profile or the host's settings refuse them",
    });
  }
  return found;
}

function overlay(facts: MachineFacts): DoctorFinding {
  const tried = facts.tried.get("overlay") ?? "not tried";
  if (tried === "ok") return { id: "overlay", state: "ok", detail: "overlay can be mounted" };
  return { id: "overlay", state: "missing", detail: `overlay cannot be mounted (${tried})`, mend: "sudo modprobe overlay" };
}

function view(facts: MachineFacts): DoctorFinding {
  const refusal = viewRefusal(facts.release, facts.uid === 0 ? "root" : "rootless");
  const tried = facts.tried.get("overlay-data") ?? "not tried";
  if (refusal === undefined && tried === "ok") return { id: "kernel-view", state: "ok", detail: "data-only overlay layers work" };
  return {
    id: "kernel-view",
    state: "missing",
    detail: refusal ?? `data-only overlay layers cannot be mounted (${tried})`,
    mend: facts.uid === 0 ? "boot a newer kernel" : "run Corral as root, or boot a newer kernel",
  };
}

function proc(facts: MachineFacts): DoctorFinding {
  const tried = facts.tried.get("proc") ?? "not tried";
  if (tried === "ok") return { id: "proc", state: "ok", detail: "a fresh /proc can be mounted" };
  const mend = "inside a container, give it an unmasked /proc (docker: --security-opt systempaths=unconfined)";
  return {
    id: "proc",
    state: "missing",
    detail: `no fresh /proc can be mounted (${tried}): where parts of /proc are covered the kernel refuses one`,
    mend,
  };
}

function landlock(facts: MachineFacts): DoctorFinding {
  const abi = Number(facts.tried.get("landlock") ?? 0);
  if (abi >= 2) return { id: "landlock", state: "ok", detail: `Landlock ABI ${abi}, the second wall` };
  const detail = abi === 1 ? "Landlock ABI 1 would make every rename fail; it is left out" : "this kernel has no Landlock";
  return { id: "landlock", state: "weak", detail, mend: "boot Linux 5.19 or newer with landlock in the lsm= parameter" };
}

/** Settings of the node that a wall leans on, or that stand beside one. */
function walls(facts: MachineFacts): DoctorFinding[] {
  const links = read(facts, "proc/sys/fs/protected_hardlinks");
  const injection = read(facts, "proc/sys/dev/tty/legacy_tiocsti");
  const ring = read(facts, "proc/sys/kernel/io_uring_disabled");
  return [
    links === "1"
      ? { id: "protected-hardlinks", state: "ok", detail: "fs.protected_hardlinks is on: the kernel engine leans on it" }
      : {
          id: "protected-hardlinks",
          state: "missing",
          detail: `fs.protected_hardlinks is ${links ?? "unknown"}: the kernel engine is refused`,
          mend: "sudo sysctl -w fs.protected_hardlinks=1",
        },
    {
      id: "tiocsti",
      state: "ok",
      detail:
        injection === "0"
          ? "typing into terminals is off in the kernel too"
          : "typing into terminals is refused by the filter; the kernel would allow it (dev.tty.legacy_tiocsti)",
    },
    {
      id: "io-uring",
      state: "ok",
      detail:
        ring === "2"
          ? "io_uring is off in the kernel too"
          : "io_uring is refused by the filter; the kernel would allow it (kernel.io_uring_disabled)",
    },
  ];
}
