import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  utimesSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { errorCode } from "../api/errors.ts";
import { type HostTemplateOptions, openHostTemplate, type TemplatePlan } from "./template.ts";
import { PROC_KEPT, PROC_READ_ONLY, PROC_REPLACED, procMount, procNames } from "./template-proc.ts";

let dir = "";
let options: HostTemplateOptions;

beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), "corral-template-")));
  mkdirSync(join(dir, "project"));
  options = { dataDir: join(dir, "data"), path: "/usr/bin:/bin", home: join(dir, "home"), env: {}, uid: 1000, gid: 1000, trusted: true };
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const plan = (codebaseDir = join(dir, "project"), memoryBytes = 1024 ** 3): TemplatePlan =>
  openHostTemplate(options).plan({ codebaseDir, memoryBytes });

/** Directories that make up the root, topmost first. */
function layersOf(made: TemplatePlan): readonly string[] {
  const root = made.mounts[0];
  if (root?.kind !== "overlay") throw new Error("the first mount is no overlay");
  return root.lowers;
}

function rootOf(made: TemplatePlan): string {
  return layersOf(made)[0] ?? "";
}

/** Names below /etc of the root. */
function etcNames(made: TemplatePlan): string[] {
  return layersOf(made).flatMap((layer) => readdirSync(join(layer, "etc"), { recursive: true }).map(String));
}

describe("the host template", () => {
  verifies("runtime/template-etc", "the sandbox's /etc names its own user and holds no secret of the host", () => {
    const etc = join(rootOf(plan()), "etc");
    expect(readFileSync(join(etc, "passwd"), "utf8")).toMatch(/^root:x:0:0:.*\nuser:x:1000:1000::\/home\/\w+:\/bin\/(ba)?sh\nnobody:/);
    expect(readFileSync(join(etc, "gitconfig"), "utf8")).toBe(
      "[safe]\n\tdirectory = *\n[core]\n\tcheckStat = minimal\n\ttrustctime = false\n",
    );
    expect(readFileSync(join(etc, "resolv.conf"), "utf8")).toBe("");
    expect(readFileSync(join(etc, "machine-id"), "utf8")).toBe("");
    const names = etcNames(plan());
    expect(names.filter((name) => /shadow|ssh|private|\.key$|sudoers|npmrc|pip\.conf|wgetrc|subuid/.test(name))).toEqual([]);
    if (existsSync("/etc/ld.so.cache")) expect(names).toContain("ld.so.cache");
    if (existsSync("/etc/ssl/certs")) expect(names.filter((name) => name.startsWith("ssl/certs/")).length).toBeGreaterThan(10);
  });

  it("copies nothing of /etc that an ordinary user of the host cannot read", () => {
    const copied = join(layersOf(plan())[1] ?? "", "etc");
    for (const name of readdirSync(copied, { recursive: true }).map(String)) {
      const source = statSync(join("/etc", name), { throwIfNoEntry: false });
      if (source?.isFile()) expect({ name, readable: (source.mode & 0o004) !== 0 }).toEqual({ name, readable: true });
    }
  });

  it("opens every directory of the root to the sandbox's user, whatever the caller's umask", () => {
    const before = process.umask(0o077);
    try {
      const root = rootOf(plan());
      for (const name of ["", "etc", "home", "usr", "dev", "workspace"]) expect(statSync(join(root, name)).mode & 0o777).toBe(0o755);
      expect(statSync(join(root, "etc/passwd")).mode & 0o777).toBe(0o444);
    } finally {
      process.umask(before);
    }
  });

  it("keeps one skeleton for the same content and makes another when the content changes", () => {
    const first = rootOf(plan());
    expect(rootOf(plan())).toBe(first);
    options = { ...options, uid: 1234 };
    expect(rootOf(plan())).not.toBe(first);
    expect(existsSync(join(first, "etc/passwd"))).toBe(true);
  });

  it("removes skeletons that were not used for a month, when another is built", () => {
    const first = join(rootOf(plan()), "..");
    utimesSync(first, new Date(0), new Date(0));
    options = { ...options, uid: 1234 };
    plan();
    expect(existsSync(first)).toBe(false);
  });

  it("gives its own writable folders half of the memory limit together", () => {
    for (const memoryBytes of [16 * 1024 ** 2, 1024 ** 3, 3_000_000_001]) {
      const sizes = plan(join(dir, "project"), memoryBytes).mounts.flatMap((mount) => (mount.kind === "tmpfs" ? [mount.sizeBytes] : []));
      expect(sizes.length).toBe(4);
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(memoryBytes / 2);
    }
  });

  verifies(
    "runtime/template-covers-codebase",
    "a codebase inside a folder that is shown is covered there, so that only its policy shows it",
    () => {
      const inside = ["/usr/local", "/usr/share", "/usr/lib"].find((path) => existsSync(path)) ?? "/usr";
      const made = plan(inside);
      const cover = made.mounts.findIndex((mount) => mount.target === inside);
      expect(made.mounts[cover]).toMatchObject({ kind: "tmpfs", sizeBytes: 4096, inodes: 1, mode: 0o555, own: false });
      expect(made.mounts.findIndex((mount) => mount.target === "/usr")).toBeLessThan(cover);
    },
  );

  it("refuses a codebase that holds the system's programs", () => {
    for (const codebaseDir of ["/", "/usr"]) {
      let code: string | undefined;
      try {
        plan(codebaseDir);
      } catch (error) {
        code = errorCode(error);
      }
      expect(code).toBe("codebase_unreadable");
    }
  });

  it("takes nothing of the caller's environment but pointers into what is shown", () => {
    options = {
      ...options,
      env: { JAVA_HOME: "/usr/lib/jvm/x", GOROOT: join(dir, "home/go"), SECRET: "s", LD_PRELOAD: "/x.so", NODE_OPTIONS: "--x" },
    };
    const { env } = plan();
    expect(Object.keys(env).sort()).toEqual(["HOME", "JAVA_HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "USER"]);
  });

  it("gives every sandbox its own machine-id and boot id", () => {
    const template = openHostTemplate(options);
    const ids = [1, 2].map(() => {
      const { mounts } = template.plan({ codebaseDir: join(dir, "project"), memoryBytes: 1024 ** 3 });
      const machine = mounts.find((mount) => mount.kind === "file" && mount.target === "/etc/machine-id");
      const proc = mounts.find((mount) => mount.kind === "proc");
      return [machine?.kind === "file" && machine.content, proc?.kind === "proc" && proc.files["sys/kernel/random/boot_id"]];
    });
    expect(new Set(ids.flat()).size).toBe(4);
  });

  it("builds beside another process without a half made skeleton being seen", async () => {
    const templates = await Promise.all([1, 2, 3].map(async () => rootOf(plan())));
    expect(new Set(templates).size).toBe(1);
    expect(readdirSync(join(options.dataDir, "templates")).filter((name) => name.startsWith("new-"))).toEqual([]);
  });

  it("refuses a data directory that others can write", () => {
    mkdirSync(join(dir, "data"));
    chmodSync(join(dir, "data"), 0o777);
    expect(() => plan()).toThrow(/written by others|can be written|mode/);
  });
});

describe("/proc of a sandbox", () => {
  verifies("runtime/proc-audit", "every top-level name of this kernel's /proc is kept, replaced, read-only or covered", () => {
    const proc = procMount({ memoryBytes: 1024 ** 3 });
    if (proc.kind !== "proc") throw new Error("no proc mount");
    const judged = new Set([...proc.hide, ...proc.readOnly, ...Object.keys(proc.files), ...PROC_KEPT]);
    expect(procNames().filter((name) => !judged.has(name))).toEqual([]);
    expect(procNames().length).toBeGreaterThan(20);
  });

  it("covers what would tell of the node, and a name that nobody judged", () => {
    const names = [
      "kcore",
      "keys",
      "kallsyms",
      "kmsg",
      "timer_list",
      "sysrq-trigger",
      "kpageflags",
      "iomem",
      "config.gz",
      "pressure",
      "interrupts",
      "locks",
      "cmdline",
      "brand-new",
    ];
    const proc = procMount({ memoryBytes: 1024 ** 3 }, [...names, "cpuinfo", "sys"]);
    expect(proc).toMatchObject({
      hide: names,
      readOnly: ["sys"],
      files: { "sys/kernel/random/boot_id": expect.stringMatching(/^[0-9a-f-]{36}\n$/) },
    });
  });

  it("keeps no list twice", () => {
    const all = [...PROC_KEPT, ...PROC_READ_ONLY, ...PROC_REPLACED];
    expect(new Set(all).size).toBe(all.length);
  });

  it("tells the sandbox's own memory", () => {
    const proc = procMount({ memoryBytes: 512 * 1024 ** 2 }, ["meminfo", "stat"]);
    if (proc.kind !== "proc") throw new Error("no proc mount");
    expect(proc.files["meminfo"]).toMatch(/^MemTotal: +524288 kB\n/);
    expect(proc.files["stat"]).toMatch(/^cpu {2}0.*\ncpu0 /);
  });
});
