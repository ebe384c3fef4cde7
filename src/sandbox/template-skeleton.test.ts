import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openSkeleton, type SkeletonPlan } from "./template-skeleton.ts";

// A made /etc of a host, so that what this machine's happens to hold does not matter.

let dir = "";
let etcDir = "";

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "corral-skeleton-"));
  etcDir = join(dir, "etc");
  for (const name of ["ssl/certs", "ssl/private", "java-17-openjdk/security", "alternatives", "default"])
    mkdirSync(join(etcDir, name), { recursive: true });
  const files = [
    "ssl/certs/root.pem",
    "ssl/private/host.pem",
    "ssl/openssl.cnf",
    "ssl/certs/host.key",
    "java-17-openjdk/security/java.security",
    "shadow",
    "services",
    "environment",
    "npmrc",
  ];
  for (const name of files) writeFileSync(join(etcDir, name), name);
  symlinkSync("/usr/bin/vi", join(etcDir, "alternatives/editor"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const plan = (): SkeletonPlan => ({
  etcDir,
  user: { name: "user", uid: 1000, gid: 1000, home: "/home/user", shell: "/bin/sh", hostname: "corral" },
  dirs: ["/opt", "/root/.nvm/versions/node/v22"],
  links: new Map([["/bin", "usr/bin"]]),
  copies: [],
});
/** The layers of the root: what belongs to the plan, and the host's /etc. */
const layers = (): readonly [string, string] => openSkeleton(dir, plan()).layers;
const root = (): string => layers()[0];
const base = (): string => layers()[1];

it("copies what the rows name, links as links, and leaves keys out", () => {
  const made = base();
  expect(readFileSync(join(made, "etc/ssl/certs/root.pem"), "utf8")).toBe("ssl/certs/root.pem");
  expect(readFileSync(join(made, "etc/java-17-openjdk/security/java.security"), "utf8")).toBe("java-17-openjdk/security/java.security");
  expect(readlinkSync(join(made, "etc/alternatives/editor"))).toBe("/usr/bin/vi");
  expect(readdirSync(join(made, "etc/ssl")).sort()).toEqual(["certs", "openssl.cnf"]);
  expect(readdirSync(join(made, "etc/ssl/certs"))).toEqual(["root.pem"]);
  const names = readdirSync(join(made, "etc"));
  expect(names).not.toContain("shadow");
  expect(names).not.toContain("npmrc");
  expect(readFileSync(join(root(), "etc/environment"), "utf8")).toBe("");
});

it("leaves out what only root can read, also when a row names it", () => {
  chmodSync(join(etcDir, "services"), 0o600);
  chmodSync(join(etcDir, "ssl/openssl.cnf"), 0o640);
  chmodSync(join(etcDir, "java-17-openjdk"), 0o700);
  const made = base();
  expect(readdirSync(join(made, "etc"))).not.toContain("services");
  expect(readdirSync(join(made, "etc"))).not.toContain("java-17-openjdk");
  expect(readdirSync(join(made, "etc/ssl"))).toEqual(["certs"]);
});

it("makes mount points and links of the root", () => {
  const made = root();
  expect(lstatSync(join(made, "root/.nvm/versions/node/v22")).isDirectory()).toBe(true);
  expect(readlinkSync(join(made, "bin"))).toBe("usr/bin");
  expect(readlinkSync(join(made, "var/tmp"))).toBe("../tmp");
});

it("is built anew when a file of the host's /etc was replaced, and when an entry came", () => {
  const first = base();
  writeFileSync(join(etcDir, "ssl/certs/new.pem"), "new");
  const second = base();
  expect(second).not.toBe(first);
  writeFileSync(join(etcDir, "ssl/.tmp"), "other");
  renameSync(join(etcDir, "ssl/.tmp"), join(etcDir, "ssl/openssl.cnf"));
  const third = base();
  expect(third).not.toBe(second);
  expect(readFileSync(join(third, "etc/ssl/openssl.cnf"), "utf8")).toBe("other");
});

it("shares the copy of /etc between plans that differ in their tools", () => {
  const [own, shared] = layers();
  const other = openSkeleton(dir, { ...plan(), dirs: ["/opt"] });
  expect(other.layers[0]).not.toBe(own);
  expect(other.layers[1]).toBe(shared);
});

it("copies a tool's file only when it is a plain one that everybody may read", () => {
  const files = ["plain", "private", "link"].map((name) => join(dir, name));
  const [plain = "", secret = "", link = ""] = files;
  for (const path of [plain, secret]) writeFileSync(path, "x");
  chmodSync(secret, 0o600);
  symlinkSync("/etc/passwd", link);
  const made = openSkeleton(dir, { ...plan(), copies: files }).layers[0];
  expect(files.map((path) => existsSync(join(made, path)))).toEqual([true, false, false]);
});
