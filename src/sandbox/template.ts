// The host template: this machine's programs as the root of a sandbox, read-only, without its secrets (sandbox.md: "The host template").
// It decides which mounts make the root; runtimes make them, the view adds /workspace. Each sandbox gets overlays of its own, never
// shared binds: a lock or a FIFO in a shared bind would be a signal between sandboxes.
// Invariant: nothing of the host is shown but the rows of the tables; a codebase or data directory inside a shown folder is covered.

import { randomUUID } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { CorralError } from "../api/errors.ts";
import { ensurePrivateDir } from "../base/private-dir.ts";
import type { SystemMount } from "../runtime/runtime.ts";
import type { MountSpec } from "../view/view.ts";
import { procMount, procNames } from "./template-proc.ts";
import { openSkeleton, type Skeleton } from "./template-skeleton.ts";
import { findTools, isUnder, type Tools } from "./template-tools.ts";

export interface HostTemplateOptions {
  /** Corral's data directory: skeletons are kept below it, and it is never shown. */
  readonly dataDir: string;
  /** The caller's PATH, home and environment; a server gives what it was configured with. */
  readonly path: string;
  readonly home: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Inside ids of ordinary commands. */
  readonly uid: number;
  readonly gid: number;
  /** Whether overlays are mounted as the machine's root; options that need that are left out otherwise. */
  readonly trusted: boolean;
}

export interface TemplateRequest {
  /** Host directory that is shown at /workspace. */
  readonly codebaseDir: string;
  readonly memoryBytes: number;
}

export interface TemplatePlan {
  /** In order, beginning with `/`; a view at /workspace comes after them. */
  readonly mounts: readonly (MountSpec | SystemMount)[];
  readonly hostname: string;
  /** Environment that every command starts from. */
  readonly env: Readonly<Record<string, string>>;
  /** Folders of the host outside /usr and /opt that are shown, for the sandbox's info. */
  readonly toolDirs: readonly string[];
  /** Directories of PATH that are not shown, and why. */
  readonly skipped: readonly { readonly dir: string; readonly why: string }[];
  /** What keeps its layers on the disk. */
  readonly hold?: { readonly use: string; release(): void };
}

export interface HostTemplate {
  plan(request: TemplateRequest): TemplatePlan;
}

export const WORKSPACE = "/workspace";
const USER = "user";
const HOSTNAME = "corral";
/** Layouts kept in memory, one per codebase directory. */
const MAX_LAYOUTS = 64;

/** Kinds of file systems that are no part of a distribution's /usr or /opt. */
const FOREIGN_FILE_SYSTEMS: ReadonlySet<string> = new Set([
  "proc",
  "sysfs",
  "devtmpfs",
  "devpts",
  "cgroup",
  "cgroup2",
  "autofs",
  "mqueue",
  "debugfs",
  "tracefs",
  "securityfs",
  "configfs",
  "binfmt_misc",
  "bpf",
  "nsfs",
  "pstore",
  "efivarfs",
  "hugetlbfs",
  "fusectl",
  "rpc_pipefs",
  "ramfs",
]);

/** Variables that point a tool to itself; passed on when the place is shown. */
const POINTERS = ["JAVA_HOME", "GOROOT", "RUSTUP_HOME", "VIRTUAL_ENV", "CONDA_PREFIX", "DOTNET_ROOT"];

/** What does not depend on one sandbox. */
interface Layout {
  readonly roots: readonly MountSpec[];
  readonly tools: Tools;
  readonly env: Readonly<Record<string, string>>;
}

export function openHostTemplate(options: HostTemplateOptions): HostTemplate {
  const templatesDir = ensurePrivateDir(join(options.dataDir, "templates"), process.getuid?.() ?? 0);
  const host = readHost(options);
  const layouts = new Map<string, Layout>();
  const names = procNames();
  return {
    plan: (request) => {
      let layout = layouts.get(request.codebaseDir);
      if (layout === undefined) {
        layout = makeLayout({ options, host, templatesDir, codebaseDir: realpathSync(request.codebaseDir) });
        if (layouts.size >= MAX_LAYOUTS) layouts.clear();
        layouts.set(request.codebaseDir, layout);
      }
      return {
        mounts: [...layout.roots, ...ownMounts(host.home, request.memoryBytes, names)],
        hostname: HOSTNAME,
        env: layout.env,
        toolDirs: layout.tools.dirs,
        skipped: layout.tools.skipped,
      };
    },
  };
}

/** What is read of the host once. */
interface Host {
  /** Directories that are shown whole: /usr, /opt, and /bin and the like where they are no links. */
  readonly sources: readonly string[];
  /** `/bin` → `usr/bin` and the like. */
  readonly links: ReadonlyMap<string, string>;
  readonly homes: readonly string[];
  /** HOME inside. */
  readonly home: string;
  readonly shell: string;
  readonly mountInfo: string;
}

function readHost(options: HostTemplateOptions): Host {
  const links = new Map<string, string>();
  const sources = ["/usr"];
  for (const name of ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt"]) {
    const stats = lstatSync(`/${name}`, { throwIfNoEntry: false });
    if (stats?.isSymbolicLink()) links.set(`/${name}`, readlinkSync(`/${name}`));
    else if (stats?.isDirectory() && readdirSync(`/${name}`).length > 0) sources.push(`/${name}`);
  }
  // A host user of that name may have tools below it, which a home of the sandbox would cover.
  const home = ["/home/user", "/home/sandbox", "/home/corral"].find((dir) => lstatSync(dir, { throwIfNoEntry: false }) === undefined);
  return {
    sources,
    links,
    homes: homes(options.home),
    home: home ?? "/home/corral-user",
    shell: lstatSync("/usr/bin/bash", { throwIfNoEntry: false }) === undefined ? "/bin/sh" : "/bin/bash",
    mountInfo: readFileSync("/proc/self/mountinfo", "latin1"),
  };
}

/** Homes of people: the caller's, root's, and those of /etc/passwd that are no system account's. */
function homes(own: string): string[] {
  const lines = readFileSync("/etc/passwd", "latin1").split("\n");
  const people = lines.map((line) => line.split(":")).filter((fields) => Number(fields[2]) >= 1000 && Number(fields[2]) < 65_000);
  const all = ["/root", own, ...people.map((fields) => fields[5] ?? "")].filter((home) => home.startsWith("/") && home !== "/");
  return [...new Set(all.flatMap((home) => [home, resolved(home)]))];
}

function resolved(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

interface LayoutRequest {
  readonly options: HostTemplateOptions;
  readonly host: Host;
  readonly templatesDir: string;
  readonly codebaseDir: string;
}

function makeLayout({ options, host, templatesDir, codebaseDir }: LayoutRequest): Layout {
  const dataDir = realpathSync(options.dataDir);
  const system = host.sources.find((source) => source !== "/opt" && isUnder(source, [codebaseDir]));
  if (system !== undefined) {
    // SAFETY: every sandbox is shown the system's programs, so a policy over them would promise what nothing keeps.
    throw new CorralError(
      "codebase_unreadable",
      `${codebaseDir} holds ${system}, which every sandbox of the host template shows; name a directory of your own`,
    );
  }
  const tools = findTools({
    path: options.path,
    homes: host.homes,
    shown: host.sources,
    codebaseDir,
    workspace: WORKSPACE,
    own: ["/tmp", "/run", "/dev", "/proc", "/sys", "/etc", "/var/tmp", "/var/run", "/var/lock", WORKSPACE, host.home, dataDir],
  });
  const sources = [...host.sources, ...tools.dirs];
  const shown = [...sources, ...submounts(sources, host.mountInfo)].sort();
  const covered = [codebaseDir, dataDir].filter((dir) => isUnder(dir, shown));
  const skeleton = openSkeleton(templatesDir, {
    etcDir: "/etc",
    user: { name: USER, uid: options.uid, gid: options.gid, home: host.home, shell: host.shell, hostname: HOSTNAME },
    dirs: sources,
    links: new Map([...host.links, ...tools.links]),
    copies: tools.copies,
  });
  return { roots: rootMounts(skeleton, shown, covered, options.trusted), tools, env: environment(options, host, tools, sources) };
}

/** Mounts of the host below a shown folder: an overlay does not cross them, so each is shown by one of its own. */
function submounts(sources: readonly string[], mountInfo: string): string[] {
  const found = new Set<string>();
  for (const line of mountInfo.split("\n")) {
    const [front, back] = line.split(" - ");
    const target = unescapeOctal(front?.split(" ")[4] ?? "");
    const kind = back?.split(" ")[0] ?? "";
    if (sources.includes(target) || !isUnder(target, sources) || FOREIGN_FILE_SYSTEMS.has(kind) || kind.startsWith("fuse.gvfs")) continue;
    if (lstatSync(target, { throwIfNoEntry: false })?.isDirectory()) found.add(target);
  }
  return [...found];
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

function rootMounts(skeleton: Skeleton, shown: readonly string[], covered: readonly string[], trusted: boolean): MountSpec[] {
  // Layers of the host may carry overlay's own attributes; following them would show what lies elsewhere.
  const options = trusted ? ["metacopy=off", "redirect_dir=nofollow", "index=off"] : [];
  const overlay = (target: string, lowers: readonly string[], exec: boolean): MountSpec => ({
    kind: "overlay",
    target,
    lowers,
    options,
    exec,
  });
  // SAFETY: without the cover a codebase below /opt would be readable there past every rule of its policy.
  const cover = (target: string): MountSpec => ({ kind: "tmpfs", target, sizeBytes: 4096, inodes: 1, mode: 0o555, own: false });
  const inner = shown.filter((source) => !isUnder(source, covered));
  return [
    overlay("/", skeleton.layers, false),
    ...inner.map((source) => overlay(source, [source, skeleton.emptyDir], true)),
    ...covered.map(cover),
  ];
}

/** What is the sandbox's own. The sizes together are half of the memory limit: a full /tmp must not starve the next command. */
export function ownMounts(home: string, memoryBytes: number, names: readonly string[]): (MountSpec | SystemMount)[] {
  const tmpfs = (target: string, parts: number, mode: number, own: boolean): MountSpec => {
    const sizeBytes = Math.max(4096, Math.floor((memoryBytes * parts) / 32 / 4096) * 4096);
    // The kernel keeps about 1 KiB for each inode, which the limit counts too.
    return { kind: "tmpfs", target, sizeBytes, inodes: Math.max(64, Math.floor(sizeBytes / 8192)), mode, own };
  };
  return [
    procMount({ memoryBytes }, names),
    { kind: "dev", target: "/dev" },
    { kind: "devpts", target: "/dev/pts" },
    tmpfs("/dev/shm", 1, 0o1777, false),
    tmpfs("/run", 1, 0o755, true),
    tmpfs("/tmp", 8, 0o1777, false),
    tmpfs(home, 6, 0o700, true),
    { kind: "file", target: "/etc/machine-id", mode: 0o444, content: `${randomUUID().replaceAll("-", "")}\n` },
  ];
}

function environment(options: HostTemplateOptions, host: Host, tools: Tools, shown: readonly string[]): Record<string, string> {
  const pointers = POINTERS.flatMap((name) => {
    const value = options.env[name];
    return value !== undefined && isUnder(value, shown) ? [[name, value] as const] : [];
  });
  return {
    PATH: tools.path.join(":"),
    HOME: host.home,
    USER,
    LOGNAME: USER,
    SHELL: host.shell,
    LANG: "C.UTF-8",
    TERM: "xterm-256color",
    ...Object.fromEntries(pointers),
    ...tools.env,
  };
}
