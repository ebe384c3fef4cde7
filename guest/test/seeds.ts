// Writes the seed corpus of the fuzzers: node guest/test/seeds.ts. Names say what each seed is; crashes found later are added beside them by hand.
// Invariant: every seed is accepted whole by its parser, so that the fuzzer begins behind the first checks.

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { SPAWNER } from "../../src/runtime/native/frames.ts";
import { FILES, filesBody, OP } from "./files-worker.ts";
import { attachBody, execBody, FLAG, facts, frame, REQUEST, testFilter, u32 } from "./guest.ts";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "../../test/fixtures/fuzz");

function write(harness: string, seeds: Readonly<Record<string, Buffer>>): void {
  mkdirSync(join(FOLDER, harness), { recursive: true });
  for (const [name, bytes] of Object.entries(seeds)) writeFileSync(join(FOLDER, harness, name), bytes);
}

function records(parser: number, ...words: readonly string[]): Buffer {
  return Buffer.concat([Buffer.from([parser]), Buffer.from(words.map((word) => `${word}\0`).join(""), "latin1")]);
}

write("frames", {
  exec: frame(
    REQUEST.exec,
    1,
    execBody({ argv: ["/bin/sh", "-c", "echo hi"], env: ["A=b", "C="], cwd: "/tmp", flags: 3, timeoutMs: 1000, cap: 9 }),
  ),
  "exec-empty": frame(REQUEST.exec, 2, execBody({ argv: [], cwd: "" })),
  stdin: Buffer.concat([frame(REQUEST.stdin, 1, Buffer.from("abc\0\xff", "latin1")), frame(REQUEST.stdinEof, 1)]),
  control: Buffer.concat([
    frame(REQUEST.signal, 1, u32(15, 1)),
    frame(REQUEST.stop, 1),
    frame(REQUEST.resize, 1, Buffer.from([24, 0, 80, 0])),
    frame(REQUEST.credit, 1, u32(65_536)),
    frame(REQUEST.ping, 9, Buffer.from("ping")),
    frame(REQUEST.killAll, 3),
    frame(REQUEST.hold, 4),
    frame(REQUEST.release, 5),
  ]),
  "exec-kept": frame(REQUEST.exec, 4, execBody({ argv: ["/bin/bash"], env: ["A=b"], flags: FLAG.stdin | FLAG.control, key: "sh-0a" })),
  kept: Buffer.concat([
    frame(REQUEST.controlIn, 4, Buffer.from("+4\0true=1 4\0")),
    frame(REQUEST.stdinAgain, 4),
    frame(REQUEST.list, 5),
    frame(REQUEST.attach, 6, attachBody("sh-0a", 2 ** 33 + 7)),
    frame(REQUEST.forget, 7, Buffer.from("sh-0a\0")),
  ]),
  cut: frame(REQUEST.stdin, 1, Buffer.alloc(300)).subarray(0, 200),
});

write("files", {
  stat: frame(OP.stat, 1, filesBody({ path: "/etc/passwd", flags: FILES.nofollow | FILES.xattrs })),
  list: frame(OP.list, 2, filesBody({ path: "/workspace", other: "after", count: 1000 })),
  get: frame(OP.get, 3, filesBody({ path: "/f", offset: 7, count: 65_536, flags: FILES.keep })),
  put: frame(OP.put, 4, filesBody({ base: "/b", path: "r/f", data: Buffer.from([0, 1, 255]), mode: 0o644, flags: FILES.mode })),
  pair: Buffer.concat([
    frame(OP.create, 5, filesBody({ path: "/g" })),
    frame(OP.write, 6, filesBody({ handle: 64, data: "bytes" })),
    frame(OP.commit, 7, filesBody({ handle: 64 })),
  ]),
  xattr: frame(OP.setxattr, 8, filesBody({ path: "/f", other: "user.a", data: "v" })),
});

write("records", {
  create: records(
    0,
    ...[
      "id",
      "sb01",
      "socket",
      "/run/c/s",
      "journal",
      "/var/j",
      "hostname",
      "box",
      "idmap",
      "0",
      "100000",
      "65536",
      "user",
      "1000",
      "1000",
    ],
    ...["memory", "268435456", "pids", "100", "cpu", "50000", "100000", "nofile", "1024", "env", "A=b"],
    ...[
      "overlay",
      "/",
      "1",
      "lower",
      "/a",
      "lower",
      "/b",
      "data",
      "/c",
      "upper",
      "/u",
      "work",
      "/w",
      "opt",
      "metacopy=on",
      "idmap-lower",
      "0",
      "0",
      "1000",
      "1000",
      "end",
    ],
    ...[
      "bind",
      "/data",
      "/srv/data",
      "1",
      "0",
      "tmpfs",
      "/tmp",
      "1048576",
      "1000",
      "1023",
      "0",
      "proc",
      "/proc",
      "devpts",
      "/dev/pts",
      "dev",
      "/dev",
    ],
    ...["prochide", "kcore", "procfile", "uptime", "1.0 1.0", "procro", "sys", "file", "/etc/hostname", "420", "box", "weaken", "21"],
  ),
  "create-egress": records(
    0,
    ...[
      "id",
      "sb01",
      "socket",
      "/run/c/s",
      "hostname",
      "box",
      "idmap",
      "0",
      "100000",
      "65536",
      "user",
      "1000",
      "1000",
      "bind",
      "/",
      "/srv",
      "1",
      "1",
    ],
    ...["egress", "/run/c/e", "egress.sock", "65534", "65534", "egress-port", "443"],
  ),
  configure: records(
    1,
    "seccomp",
    "060000000000ff7f",
    "guest",
    "/usr/lib/corral-guest",
    "cg2",
    "/sys/fs/cgroup/corral",
    "memory,pids",
    "cg1",
    "pids",
    "/cg/pids",
    "nofile",
    "65536",
    "mark",
    "00ff",
  ),
  destroy: records(2, "id", "sb01", "scrub", "/var/lib/corral/d/sb01"),
  tool: records(3, "arg", "walk", "arg", "/srv/base"),
  freeze: records(5, "id", "sb01", "frozen", "1"),
  mount: records(
    6,
    "id",
    "sb01",
    "overlay",
    "/workspace",
    "1",
    ...["lower", "/a", "data", "/c", "upper", "/u", "work", "/w", "opt", "metacopy=on", "end"],
  ),
  facts: Buffer.concat([
    Buffer.from([4]),
    facts(
      [
        "user",
        "1000",
        "1000",
        "ids",
        "1",
        "root",
        "0",
        "env",
        "A=b",
        "nofile",
        "1024",
        "nproc",
        "64",
        "fsize",
        "1",
        ...["egress", "egress.sock", "65534", "65534", "egress-port", "443"],
        "landlock",
        "/tmp",
        "rw",
        "weaken",
        "21",
      ],
      testFilter(),
    ),
  ]),
});

/** Acts of fuzz-clients.c: a peer comes, leaves, or writes; `+ 4` of a write lets the next act fall into the same round. */
const come = (peer: number): Buffer => Buffer.from([peer]);
const leave = (peer: number): Buffer => Buffer.from([4 + peer]);
const say = (peer: number, ...frames: readonly Buffer[]): Buffer => {
  const bytes = Buffer.concat(frames);
  return Buffer.concat([Buffer.from([8 + peer, bytes.length]), bytes]);
};
const atOnce = (act: Buffer): Buffer => Buffer.concat([Buffer.from([(act[0] ?? 0) + 4]), act.subarray(1)]);
const adopt = frame(SPAWNER.adopt, 1);
write("clients", {
  adopt: Buffer.concat([come(0), say(0, adopt, frame(SPAWNER.destroy, 2)), leave(0), come(1), say(1, adopt)]),
  second: Buffer.concat([come(0), come(1), say(1, adopt), say(0, adopt), come(2), say(2, adopt), leave(0), come(1), say(1, adopt)]),
  end: Buffer.concat([come(0), say(0, adopt, frame(SPAWNER.end, 2)), come(1)]),
  garbage: Buffer.concat([
    come(0),
    say(0, Buffer.from("GET / HTTP/1.1")),
    come(1),
    say(1, frame(SPAWNER.end, 1)),
    come(2),
    say(2, adopt, adopt),
  ]),
  cut: Buffer.concat([come(0), say(0, adopt.subarray(0, 5)), atOnce(say(0, adopt.subarray(5))), leave(0), come(0), leave(0)]),
});
