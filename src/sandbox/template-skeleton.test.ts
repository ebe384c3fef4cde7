import {
  chmodSync,
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
const root = (): string => openSkeleton(dir, plan()).rootDir;

it("copies what the rows name, links as links, and leaves keys out", () => {
  const made = root();
  expect(readFileSync(join(made, "etc/ssl/certs/root.pem"), "utf8")).toBe("ssl/certs/root.pem");
  expect(readFileSync(join(made, "etc/java-17-openjdk/security/java.security"), "utf8")).toBe("java-17-openjdk/security/java.security");
  expect(readlinkSync(join(made, "etc/alternatives/editor"))).toBe("/usr/bin/vi");
  expect(readdirSync(join(made, "etc/ssl")).sort()).toEqual(["certs", "openssl.cnf"]);
  expect(readdirSync(join(made, "etc/ssl/certs"))).toEqual(["root.pem"]);
  const names = readdirSync(join(made, "etc"));
  expect(names).not.toContain("shadow");
  expect(names).not.toContain("npmrc");
  expect(readFileSync(join(made, "etc/environment"), "utf8")).toBe("");
});

it("leaves out what only root can read, also when a row names it", () => {
  chmodSync(join(etcDir, "services"), 0o600);
  chmodSync(join(etcDir, "ssl/openssl.cnf"), 0o640);
  chmodSync(join(etcDir, "java-17-openjdk"), 0o700);
  const made = root();
  expect(readdirSync(join(made, "etc"))).not.toContain("services");
  expect(readdirSync(join(made, "etc"))).not.toContain("java-17-openjdk");
  expect(readdirSync(join(made, "etc/ssl"))).toEqual(["certs"]);
});

it("makes mount points and links of the root", () => {
  const made = root();
  expect(lstatSync(join(made, "root/.nvm/versions/node/v22")).isDirectory()).toBe(true);
  expect(readlinkSync(join(made, "bin"))).toBe("usr/bin");
  expect(readlinkSync(join(made, "dev/fd"))).toBe("/proc/self/fd");
});

it("is built anew when a file of the host's /etc was replaced, and when an entry came", () => {
  const first = root();
  writeFileSync(join(etcDir, "ssl/certs/new.pem"), "new");
  const second = root();
  expect(second).not.toBe(first);
  writeFileSync(join(etcDir, "ssl/.tmp"), "other");
  renameSync(join(etcDir, "ssl/.tmp"), join(etcDir, "ssl/openssl.cnf"));
  const third = root();
  expect(third).not.toBe(second);
  expect(readFileSync(join(third, "etc/ssl/openssl.cnf"), "utf8")).toBe("other");
});
