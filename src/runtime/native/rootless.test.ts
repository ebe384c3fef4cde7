// The runtime as an ordinary user, for real. Run by root, the user exists only in a mount namespace of the test: passwd and the
// tables of sub-ids are covered there, the machine's own stay as they are.

import { execFile } from "node:child_process";
import { accessSync, chmodSync, chownSync, constants, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished, type TestContext } from "vitest";
import { guestProgram } from "../../../guest/test/build.ts";
import { BWRAP_MISSING } from "../../../test/bwrap.ts";
import { verifies } from "../../../test/verifies.ts";
import type { AttackReport } from "../../api/attack.ts";

const SCRIPT = join(import.meta.dirname, "../../../test/fixtures/native-rootless.ts");
const SNAPSHOTS = join(import.meta.dirname, "../../../test/fixtures/rootless-snapshots.ts");
const ADOPTION = join(import.meta.dirname, "../../../test/fixtures/native-rootless-adoption.ts");
const MAIN = join(import.meta.dirname, "../../main.ts");
const UID = 64_321;

interface World {
  /** Line of /etc/subuid and /etc/subgid; absent: the user has none. */
  readonly range?: string;
  /** Cover the setuid helpers. */
  readonly helpers?: false;
}

function needs(context: TestContext): void {
  if (process.geteuid?.() !== 0) context.skip("covers files of /etc in a mount namespace, which needs root");
  if (!existsSync("/usr/bin/newuidmap")) context.skip("newuidmap is not installed (package uidmap)");
  for (const path of [process.execPath, SCRIPT]) if (!readableByAll(path)) context.skip(`${path} cannot be read by other users`);
}

/** Whether every directory above a file lets other users through, and the file lets them read. */
function readableByAll(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
  } catch {
    return false;
  }
  return true;
}

/** What the program prints as JSON; `words` are a script for Node.js and its arguments. */
async function asUser(world: World, ...words: readonly string[]): Promise<Record<string, unknown>> {
  const dir = mkdtempSync(join(tmpdir(), "corral-user-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  chownSync(dir, UID, UID);
  guestProgram();
  const table = world.range ?? "";
  const cover = (target: string, content: string, mode = 0o644): string => {
    const file = join(dir, target.replaceAll("/", "_"));
    writeFileSync(file, content);
    chmodSync(file, mode);
    return `mount --bind ${file} ${target}`;
  };
  const lines = [
    cover("/etc/passwd", `root:x:0:0::/root:/bin/sh\nlabuser:x:${UID}:${UID}::${dir}:/bin/sh\n`),
    cover("/etc/group", `root:x:0:\nlabuser:x:${UID}:\n`),
    cover("/etc/subuid", table),
    cover("/etc/subgid", table),
    ...(world.helpers === false ? [cover("/usr/bin/newuidmap", "", 0o644)] : []),
    `exec setpriv --reuid ${UID} --regid ${UID} --clear-groups --inh-caps=-all env -i HOME=${dir} TMPDIR=${dir} PATH=/usr/bin:/bin "$@"`,
  ];
  const { stdout } = await promisify(execFile)("unshare", [
    "-m",
    "--propagation",
    "private",
    "sh",
    "-ec",
    lines.join("\n"),
    "sh",
    process.execPath,
    ...(words.length === 0 ? [SCRIPT] : words),
  ]);
  return JSON.parse(stdout) as Record<string, unknown>;
}

describe("as an ordinary user", () => {
  verifies(
    "runtime/rootless",
    "sandboxes hold as they do as root, inside a user namespace and with ids of /etc/subuid",
    async (context) => {
      needs(context);
      const seen = await asUser({ range: "labuser:1000000:65536\n" });
      expect(seen).toMatchObject({
        mode: "rootless",
        trusted: false,
        uid: UID,
        id: "1000\n1000\n1000\n",
        map: ["0", "1", "65536"],
        baseOwner: "65534\n65534\n",
        net: "lo\n",
        nodes: " 00 00\n",
        mounts: false,
        masked: "lab loadavg\n",
        left: [],
        alive: [],
        pidsHeld: true,
        network: {
          refused: "corral: egress to http://some.test/ is not allowed\n",
          found: expect.stringMatching(/^198\.18\./) as string,
          missing: "none\n",
          carried: "lab machine\n",
          killed: "1\n",
          timedOut: true,
          after: "1\nnone\n0\n",
          heads: expect.arrayContaining(["proxy PID:curl", "name echo.test 7 PID:bash"]) as string[],
        },
        usage: { cpu: { by: "proc" }, memory: { by: "proc" }, pids: { count: 0, by: "proc" }, io: null },
      });
      expect(seen["write"]).not.toBe(0);
      expect(seen["caps"]).toBe(
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map((name) => `${name}:\t0000000000000000\n`).join("") +
          "NoNewPrivs:\t1\nSeccomp:\t2\n",
      );
    },
  );

  verifies(
    "runtime/rootless",
    "sandboxes outlive a server that was killed, and the next one of that user takes them over",
    async (context) => {
      needs(context);
      const seen = await asUser({ range: "labuser:1000000:65536\n" }, ADOPTION);
      expect(seen).toEqual({ adopted: 2, files: ["kept\n1000\n", "kept\n1000\n"], fresh: "new\n", owner: String(UID), alive: [] });
    },
  );

  it("names the walls that are missing without delegated cgroups", async (context) => {
    needs(context);
    const seen = await asUser({ range: `${UID}:2000000:70000\n` });
    expect(seen["weakenings"]).toEqual(expect.arrayContaining(["memory-not-limited", "pids-by-rlimit", "cpu-not-limited"]));
  });

  verifies("snapshot/rootless", "an ordinary user takes snapshots and makes sandboxes from them", async (context) => {
    needs(context);
    const seen = await asUser({ range: "labuser:100000:65536\n" }, SNAPSHOTS);
    const files = "base b\none\nbase src/a\nb\nlib\nnone\n";
    // Where no cgroup is the user's, nothing can freeze: then one that runs gives none.
    expect([files, "runtime_unavailable"]).toContain(seen["running"]);
    expect(seen).toMatchObject({ paused: files, left: [] });
    const [upper, copy] = seen["copied"] as [readonly string[], readonly string[]];
    expect([copy, copy.length]).toEqual([upper, 6]);
    expect(seen["changes"]).toEqual(["modify /b", "delete /gone", "add /lib", "add /lib/a", "delete /src", "delete /src/a"]);
  });

  verifies(
    "security/attempts-held",
    "no attempt of class process gets through as an ordinary user, and what proves nothing there is told",
    async (context) => {
      needs(context);
      const words = ["doctor", "--attack", "--json", "--runtime", "native", "--class", "process"];
      const { failed, open, passed, rows } = (await asUser(
        { range: "labuser:1000000:65536\n" },
        MAIN,
        ...words,
      )) as unknown as AttackReport;
      expect(rows.filter(({ result }) => result === "breached" || result === "open")).toEqual([]);
      expect({ failed, open }).toEqual({ failed: 0, open: 0 });
      expect(passed).toBeGreaterThan(10);
    },
  );

  verifies(
    "egress/rootless",
    "a run has a network on native and on bwrap: what a rule names is carried, the rest refused",
    async (context) => {
      needs(context);
      const hosts = ["yes.example", "no.example"].map((host) => `"$(curl -sS http://${host}/)"`);
      const command = ["sh", "-c", `printf '{"yes":"%s","no":"%s"}' ${hosts.join(" ")}`];
      const said = (runtime: string): Promise<unknown> =>
        asUser(
          { range: "labuser:1000000:65536\n" },
          ...[MAIN, "run", import.meta.dirname, "--runtime", runtime, "--discard", "--allow", "yes.example:80", "--", ...command],
        );
      const runtimes = BWRAP_MISSING === undefined ? ["native", "bwrap"] : ["native"];
      for (const one of await Promise.all(runtimes.map(said)))
        expect(one).toEqual({
          yes: "corral: yes.example:80 cannot be reached: the name has no address.",
          no: "corral: egress to no.example:80 is not allowed: no rule matches. The owner of this sandbox can allow it.",
        });
    },
  );

  verifies("runtime/rootless-reason", "what a user lacks is said with the command that mends it", async (context) => {
    needs(context);
    expect(await asUser({})).toMatchObject({
      code: "runtime_unavailable",
      error: expect.stringContaining("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 labuser") as unknown,
    });
    expect(await asUser({ range: "labuser:1000000:65536\n", helpers: false })).toMatchObject({
      code: "runtime_unavailable",
      error: expect.stringContaining("sudo apt-get install uidmap") as unknown,
    });
    // A range of one id is none: uid 0 inside and a user are two.
    expect(await asUser({ range: "labuser:1000000:1\n" })).toMatchObject({ code: "runtime_unavailable" });
  });
});
