// Builds the root directory of the host template: mount points and the made /etc. Once per content, then shared by all sandboxes.
// It mounts nothing. A skeleton is never changed: other content makes another directory, and running sandboxes keep theirs.
// Invariant: a skeleton under its final name is complete; what a crash left half made has another name.

import { createHash, randomUUID } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  type Dirent,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  type Stats,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { ETC_NEVER, ETC_PATTERNS, ETC_ROWS, type EtcUser, MAX_ETC_BYTES, madeEtc } from "./template-etc.ts";

/** Changes when the code below makes something else of the same plan. */
const FORMAT = 2;
/** A skeleton that nobody opened for so long is removed when another is built. */
const KEEP_UNUSED_MS = 30 * 24 * 60 * 60 * 1000;

export interface SkeletonPlan {
  /** The host's /etc. */
  readonly etcDir: string;
  readonly user: EtcUser;
  /** Directories to make, as mount points. */
  readonly dirs: readonly string[];
  /** Links to make: place to target. */
  readonly links: ReadonlyMap<string, string>;
  /** Host files to copy to the same place. */
  readonly copies: readonly string[];
}

export interface Skeleton {
  /** Lowers of the root, topmost first: what belongs to this plan, and the host's /etc, which many plans share. */
  readonly layers: readonly [string, string];
  /** An overlay without an upper wants two lowers. */
  readonly emptyDir: string;
}

const DIRS = ["/dev", "/etc", "/home", "/proc", "/root", "/run", "/tmp", "/usr", "/var/cache", "/var/lib", "/var/log", "/workspace"];
const MOUNT_POINTS = ["/dev", "/home", "/proc", "/run", "/tmp", "/workspace"];
const LINKS: readonly (readonly [string, string])[] = [
  ["/var/tmp", "../tmp"],
  ["/var/run", "../run"],
  ["/var/lock", "../run"],
  ["/etc/mtab", "/proc/self/mounts"],
];

/** Opens the skeleton of `plan` below `templatesDir`, building what is not there. */
export function openSkeleton(templatesDir: string, plan: SkeletonPlan): Skeleton {
  const etc = etcEntries(plan.etcDir);
  const signatures = etc.map(({ name, stats }) => signature(name, stats));
  const base = openPart(templatesDir, ["etc", FORMAT, signatures], (place) => {
    makeDir(join(place, "empty"));
    makeDir(join(place, "root/etc"));
    copyEtc(plan.etcDir, join(place, "root/etc"), etc);
  });
  const copies = plan.copies.map((path) => signature(path, lstatSync(path)));
  const own = openPart(templatesDir, ["root", FORMAT, plan.user, plan.dirs, [...plan.links], copies], (place) =>
    buildRoot(join(place, "root"), plan),
  );
  return { layers: [join(own, "root"), join(base, "root")], emptyDir: join(base, "empty") };
}

export interface StoredSkeletonPlan {
  readonly home: string;
  /** Name below /etc to content. */
  readonly files: ReadonlyMap<string, string>;
}

/** What lies above a stored root: mount points and files of /etc. Opens it, building what is not there. */
export function openStoredSkeleton(templatesDir: string, { home, files }: StoredSkeletonPlan): string {
  const place = openPart(templatesDir, ["stored", FORMAT, home, [...files]], (fresh) => {
    for (const dir of [...MOUNT_POINTS, home]) makeDir(join(fresh, "root", dir));
    for (const [name, content] of files) makeFile(join(fresh, "root/etc", name), content);
  });
  return join(place, "root");
}

/** The directory whose content `key` names; `build` fills it under another name first. */
function openPart(templatesDir: string, key: readonly unknown[], build: (place: string) => void): string {
  const place = join(templatesDir, createHash("sha256").update(JSON.stringify(key)).digest("hex").slice(0, 24));
  if (!existsSync(place)) {
    const fresh = join(templatesDir, `new-${randomUUID()}`);
    try {
      build(fresh);
      openForAll(fresh);
      renameSync(fresh, place);
    } catch (error) {
      rmSync(fresh, { recursive: true, force: true });
      // Another process built the same one first.
      if (!existsSync(place)) throw error;
    }
    removeUnused(templatesDir);
  }
  utimesSync(place, new Date(), new Date());
  return place;
}

/** A place below /etc that a row selects, or a directory within one. */
interface EtcEntry {
  readonly name: string;
  readonly stats: Stats;
  readonly except: readonly string[];
}

/** A directory's own time tells when an entry came or went, and packages replace files by renaming: files in it need no look. */
function signature(name: string, stats: Stats): readonly (string | number)[] {
  return stats.isDirectory() ? [name, stats.mtimeMs] : [name, stats.mtimeMs, stats.size, stats.ino];
}

/** What the rows of /etc select on this host, with every directory below. */
function etcEntries(etcDir: string): EtcEntry[] {
  const versioned = list(etcDir).filter((entry) => ETC_PATTERNS.some((pattern) => pattern.test(entry.name)));
  const rows = [...ETC_ROWS, { names: versioned.map((entry) => entry.name).sort(), except: [] }];
  const found: EtcEntry[] = [];
  for (const row of rows) for (const name of row.names) addEtc(etcDir, { name, except: row.except ?? [] }, found);
  return found;
}

function addEtc(etcDir: string, { name, except }: { name: string; except: readonly string[] }, found: EtcEntry[]): void {
  const stats = lstatSync(join(etcDir, name), { throwIfNoEntry: false });
  if (stats === undefined || !copyable(stats)) return;
  found.push({ name, stats, except });
  if (!stats.isDirectory()) return;
  for (const entry of list(join(etcDir, name))) {
    if (entry.isDirectory() && !isNever(entry.name, except)) addEtc(etcDir, { name: `${name}/${entry.name}`, except }, found);
  }
}

function isNever(name: string, except: readonly string[]): boolean {
  return except.includes(name) || ETC_NEVER.some((pattern) => pattern.test(name));
}

/** SAFETY: without the world-readable test a server that runs as root would hand root's files to every sandbox. */
function copyable(stats: Stats): boolean {
  if (stats.isSymbolicLink()) return true;
  if (stats.isDirectory()) return (stats.mode & 0o005) === 0o005;
  return stats.isFile() && (stats.mode & 0o004) !== 0 && stats.size <= MAX_ETC_BYTES;
}

function list(dir: string): Dirent[] {
  try {
    return readdirSync(dir, { withFileTypes: true });
  } catch {
    return [];
  }
}

function buildRoot(root: string, plan: SkeletonPlan): void {
  for (const dir of [...DIRS, plan.user.home, ...plan.dirs]) makeDir(join(root, dir));
  for (const [link, target] of [...LINKS, ...plan.links]) makeLink(join(root, link), target);
  for (const [name, content] of madeEtc(plan.user)) makeFile(join(root, "etc", name), content);
  for (const path of plan.copies) copyOne(path, join(root, path));
}

function copyEtc(etcDir: string, to: string, etc: readonly EtcEntry[]): void {
  for (const { name, stats, except } of etc) {
    if (!stats.isDirectory()) {
      copyEntry(join(etcDir, name), join(to, name));
      continue;
    }
    makeDir(join(to, name));
    for (const entry of list(join(etcDir, name))) {
      if (!entry.isDirectory() && !isNever(entry.name, except)) copyEntry(join(etcDir, name, entry.name), join(to, name, entry.name));
    }
  }
}

function copyEntry(from: string, to: string): void {
  const stats = lstatSync(from, { throwIfNoEntry: false });
  if (stats?.isSymbolicLink()) makeLink(to, readlinkSync(from));
  else if (stats !== undefined && copyable(stats)) copyOne(from, to);
}

/** SAFETY: NOFOLLOW, and judged by descriptor: a link put in a file's place would be copied as whoever runs Corral, root perhaps. */
function copyOne(from: string, to: string): void {
  const fd = openPlain(from);
  if (fd === undefined) return;
  try {
    if (copyable(fstatSync(fd))) makeFile(to, readFileSync(fd));
  } finally {
    closeSync(fd);
  }
}

/** Undefined for what went away, became a link, or is not ours to read: it is left out as if it had not been there. */
function openPlain(path: string): number | undefined {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (["ENOENT", "ELOOP", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

function makeDir(path: string): void {
  mkdirSync(path, { recursive: true });
}

function makeFile(path: string, content: string | Uint8Array): void {
  makeDir(dirname(path));
  writeFileSync(path, content, { flag: "wx" });
  chmodSync(path, 0o444);
}

function makeLink(path: string, target: string): void {
  makeDir(dirname(path));
  symlinkSync(target, path);
}

/** The sandbox's user is not the owner: every directory is opened to all, whatever the caller's umask. */
function openForAll(dir: string): void {
  chmodSync(dir, 0o755);
  for (const entry of list(dir)) if (entry.isDirectory()) openForAll(join(dir, entry.name));
}

function removeUnused(templatesDir: string): void {
  for (const entry of list(templatesDir)) {
    const path = join(templatesDir, entry.name);
    const stats = lstatSync(path, { throwIfNoEntry: false });
    if (stats !== undefined && Date.now() - stats.mtimeMs > KEEP_UNUSED_MS) rmSync(path, { recursive: true, force: true });
  }
}
