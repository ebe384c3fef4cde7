import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { guestProgram } from "../../guest/test/build.ts";
import { verifies } from "../../test/verifies.ts";
import type { DoctorFinding } from "../api/corral.ts";
import { isAtLeast, machineFindings, viewRefusal } from "./machine.ts";
import { machineLimits, parseTried, type ProbeOptions, probeMachine } from "./probe.ts";
import { filterArch, seccompProgram } from "./seccomp/filter.ts";

const FINE = new Map([
  ["landlock", "7"],
  ["userns", "ok"],
  ["overlay", "ok"],
  ["overlay-data", "ok"],
  ["proc", "ok"],
]);

/** The guest may have to be built first. */
const BUILD_MS = 180_000;
let guestBinary = "";
beforeAll(() => {
  guestBinary = guestProgram();
}, BUILD_MS);

let dir = "";
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), "corral-probe-")));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** Findings on a made machine: `files` below its root. */
function machine(
  files: Readonly<Record<string, string>>,
  changes: { release?: string; uid?: number; tried?: ReadonlyMap<string, string> } = {},
): ReadonlyMap<string, DoctorFinding> {
  const root = mkdtempSync(join(dir, "m-"));
  for (const [path, content] of Object.entries({ "proc/sys/fs/protected_hardlinks": "1", ...files })) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `${content}\n`);
  }
  const found = machineFindings({ root, release: "6.18.0", uid: 1000, tried: FINE, ...changes });
  return new Map(found.map((finding) => [finding.id, finding]));
}

describe("the probe of a machine", () => {
  it("compares kernel versions as numbers", () => {
    expect([isAtLeast("5.15.0-91-generic", "5.15"), isAtLeast("6.5", "6.5"), isAtLeast("6.10.3", "6.5"), isAtLeast("10.0", "6.5")]).toEqual(
      [true, true, true, true],
    );
    expect([isAtLeast("5.9.16", "5.15"), isAtLeast("6.4.99", "6.5"), isAtLeast("nonsense", "5.15")]).toEqual([false, false, false]);
  });

  verifies(
    "runtime/view-floor",
    "the kernel view is refused by name on kernels that lack data-only layers, there or in a user namespace",
    () => {
      expect(viewRefusal("6.4.12", "root")).toMatch(/kernel view.*6\.5.*6\.4\.12/);
      expect(viewRefusal("6.12.1", "rootless")).toMatch(/rootless kernel view.*6\.16.*6\.12\.1.*root/);
      expect([viewRefusal("6.5.0", "root"), viewRefusal("6.16.0", "rootless")]).toEqual([undefined, undefined]);
      expect(machine({}, { release: "6.1.0", uid: 0 }).get("kernel-view")).toMatchObject({
        state: "missing",
        detail: expect.stringContaining("6.5"),
      });
      expect(machine({}, { release: "6.12.0" }).get("kernel-view")).toMatchObject({ state: "missing" });
    },
  );

  it("says of a machine where all is well that all is well", () => {
    expect([...machine({}).values()].filter(({ state }) => state !== "ok")).toEqual([]);
  });

  verifies("runtime/doctor-mends", "what is missing is named with the command that mends it", () => {
    const refused = new Map([...FINE, ["userns", "errno 1"]]);
    const cases: readonly [string, ReturnType<typeof machine>, RegExp][] = [
      ["userns-most", machine({ "proc/sys/user/max_user_namespaces": "0" }, { tried: refused }), /sysctl -w user\.max_user_namespaces=/],
      ["userns-debian", machine({ "proc/sys/kernel/unprivileged_userns_clone": "0" }, { tried: refused }), /unprivileged_userns_clone=1/],
      [
        "userns-apparmor",
        machine({ "proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1" }, { tried: refused }),
        /apparmor_restrict_unprivileged_userns=0/,
      ],
      ["userns", machine({}, { tried: refused }), /container/],
      ["protected-hardlinks", machine({ "proc/sys/fs/protected_hardlinks": "0" }), /fs\.protected_hardlinks=1/],
      ["kernel", machine({}, { release: "5.10.0" }), /5\.15/],
      ["overlay", machine({}, { tried: new Map([...FINE, ["overlay", "errno 19"]]) }), /modprobe overlay/],
      ["proc", machine({}, { tried: new Map([...FINE, ["proc", "errno 1"]]) }), /systempaths/],
    ];
    for (const [id, found, mend] of cases)
      expect({ id, finding: found.get(id) }).toMatchObject({ id, finding: { state: "missing", mend: expect.stringMatching(mend) } });
  });

  it("takes nothing for granted that could not be tried", () => {
    const found = machine({}, { tried: new Map() });
    for (const id of ["userns", "overlay", "kernel-view", "proc"]) expect(found.get(id)?.state).toBe("missing");
    expect(found.get("landlock")?.state).toBe("weak");
  });

  it("does not blame root for what binds ordinary users alone", () => {
    expect(machine({ "proc/sys/kernel/unprivileged_userns_clone": "0" }, { uid: 0 }).has("userns-debian")).toBe(false);
  });

  it("reads what the guest's tool says", () => {
    expect([...parseTried("landlock 7\nuserns errno 1\nbroken\n")]).toEqual([
      ["landlock", "7"],
      ["userns", "errno 1"],
    ]);
  });

  it("tells how many sandboxes each limit allows", () => {
    const limits = machineLimits();
    expect(limits.find(({ name }) => name === "fs.mount-max")?.sandboxes).toBeNull();
    for (const { name, value, sandboxes } of limits)
      expect({ name, value, ok: sandboxes === null || sandboxes >= 0 }).toEqual({ name, value, ok: true });
    expect(limits.length).toBeGreaterThan(6);
  });

  it("tries this machine and names both runtimes in their order", async () => {
    mkdirSync(join(dir, "run"), { mode: 0o700 });
    const native = {
      guestBinary,
      runDir: join(dir, "run"),
      mode: "auto" as const,
      seccomp: seccompProgram({ arch: filterArch() ?? "x64", pid1Clone3: true }),
    };
    const probe = await probeMachine({ native, bwrap: native, dataDir: dir });
    expect(probe.kernel).toBe(release());
    expect(probe.runtimes.map(({ name }) => name)).toEqual(["native", "bwrap"]);
    for (const runtime of probe.runtimes) expect(runtime.available || runtime.reason.length > 10).toBe(true);
    expect(probe.findings.map(({ id }) => id)).toEqual(
      expect.arrayContaining(["arch", "kernel", "userns", "overlay", "landlock", "runtime-native", "runtime-bwrap", "cgroups", "quota"]),
    );
  });

  it("names a guest that is missing and a bubblewrap that is missing", async () => {
    const options: ProbeOptions["native"] = { guestBinary: join(dir, "none"), runDir: dir, mode: "auto", seccomp: new Uint8Array() };
    const probe = await probeMachine({ native: options, bwrap: { ...options, bwrap: join(dir, "no-bwrap") }, dataDir: dir });
    const finding = (id: string): DoctorFinding | undefined => probe.findings.find((one) => one.id === id);
    expect(finding("guest")).toMatchObject({ state: "missing", mend: expect.stringContaining("make.sh") });
    expect(finding("runtime-native")?.state).toBe("missing");
    expect(finding("runtime-bwrap")).toMatchObject({ state: "weak", mend: expect.stringContaining("bubblewrap") });
    expect(probe.runtimes.every(({ available }) => !available)).toBe(true);
  });
});
