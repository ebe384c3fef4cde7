import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync, linkSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { directTool } from "../../test/fixtures/direct-tool.ts";
import { decodeWalk, WalkDecoder, type WalkEntry, type WalkEvent } from "./walk.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "corral-walk-"));
});
afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

/** A path below `dir` from bytes. */
function at(name: string): Buffer {
  return Buffer.concat([Buffer.from(`${dir}/`), Buffer.from(name, "latin1")]);
}

async function walk(...options: string[]): Promise<{ entries: Map<string, WalkEntry>; events: WalkEvent[]; bytes: Buffer }> {
  const run = directTool()(["walk", ...options, dir]);
  const events: WalkEvent[] = [];
  const kept: Buffer[] = [];
  for await (const batch of decodeWalk(run.stdout, { onRecords: (b) => kept.push(Buffer.from(b)) })) events.push(...batch);
  await run.done;
  const entries = new Map<string, WalkEntry>();
  for (const e of events) if (e.event === "dir") for (const x of e.entries) entries.set(`${e.path}/${x.name}`, x);
  return { entries, events, bytes: Buffer.concat(kept) };
}

describe("walk", () => {
  it("tells kind, size, times, links and modes of every entry", async () => {
    mkdirSync(at("a"));
    writeFileSync(at("a/f"), "12345", { mode: 0o640 });
    utimesSync(at("a/f"), 0, 1234.5);
    symlinkSync("../nowhere", at("a/l"));
    linkSync(at("a/f"), at("a/g"));
    const { entries } = await walk();
    expect([...entries.keys()]).toEqual(["/a", "/a/f", "/a/g", "/a/l"]);
    expect(entries.get("/a/f")).toMatchObject({
      kind: "file",
      size: 5,
      mode: 0o100640,
      nlink: 2,
      mtimeSeconds: 1234,
      mtimeNs: 500_000_000,
      errno: 0,
    });
    expect(entries.get("/a/g")?.ino).toBe(entries.get("/a/f")?.ino);
    expect(entries.get("/a/l")).toMatchObject({ kind: "link", target: "../nowhere" });
  });

  it("keeps names as bytes: newlines, invalid UTF-8, 255 bytes", async () => {
    const names = ["new\nline", "\xff\xfe", "é", " ", "-rf", "n".repeat(255)];
    for (const name of names) writeFileSync(at(name), "");
    const { entries } = await walk();
    const utf8 = names.map((n) => `/${n}`).sort();
    expect([...entries.keys()]).toEqual(utf8);
  });

  it("looks at FIFOs, sockets and devices without opening them", async () => {
    execFileSync("mkfifo", [join(dir, "pipe")]);
    execFileSync("mknod", [join(dir, "null"), "c", "1", "3"]);
    const server = createServer().listen(join(dir, "sock"));
    await new Promise((resolve) => server.once("listening", resolve));
    const { entries } = await walk("--xattr", "user.");
    server.close();
    expect([...entries.values()].map((e) => [e.name, e.kind, e.rdevMajor, e.rdevMinor])).toEqual([
      ["null", "other", 1, 3],
      ["pipe", "other", 0, 0],
      ["sock", "other", 0, 0],
    ]);
  });

  it("does not follow links: a loop of links ends", async () => {
    mkdirSync(at("d"));
    symlinkSync("..", at("d/up"));
    symlinkSync("self", at("self"));
    expect([...(await walk()).entries.keys()]).toEqual(["/d", "/self", "/d/up"]);
  });

  it("lists a directory whole before the first thing below it, and the same tree gives the same bytes", async () => {
    for (const name of ["b", "a", "c"]) {
      mkdirSync(at(name));
      writeFileSync(at(`${name}/x`), "");
    }
    const { events, bytes } = await walk();
    expect(events.map((e) => `${e.event} ${e.path}`)).toEqual([
      "dir ",
      "dir /a",
      "leave /a",
      "dir /b",
      "leave /b",
      "dir /c",
      "leave /c",
      "leave ",
    ]);
    expect((await walk()).bytes.equals(bytes)).toBe(true);
  });

  it("decodes the same whatever pieces the bytes come in", async () => {
    mkdirSync(at("d"));
    for (let i = 0; i < 50; i++) symlinkSync("t".repeat(i + 1), at(`d/l${i}`));
    const { bytes, events } = await walk();
    for (const size of [1, 7, 79, 80, 81, 4096]) {
      const decoder = new WalkDecoder();
      const got: WalkEvent[] = [];
      for (let i = 0; i < bytes.length; i += size) got.push(...decoder.push(bytes.subarray(i, i + size)));
      decoder.end();
      expect(got).toEqual(events);
    }
  });

  it("never takes a cut or damaged stream for a smaller tree", async () => {
    mkdirSync(at("d"));
    writeFileSync(at("d/f"), "x");
    const { bytes } = await walk();
    for (let cut = 0; cut < bytes.length; cut++) {
      const decoder = new WalkDecoder();
      expect(() => {
        decoder.push(bytes.subarray(0, cut));
        decoder.end();
      }).toThrow("ends early");
    }
    const wrongCount = Buffer.from(bytes);
    wrongCount[wrongCount.length - 8] = 99;
    expect(() => new WalkDecoder().push(wrongCount)).toThrow("count");
  });

  it("survives trees deeper than it may hold directories open", async () => {
    // 600 levels of relative mkdir: longer than PATH_MAX is not needed to pass OPEN_LEVELS.
    execFileSync("sh", ["-c", 'cd "$1"; i=0; while [ $i -lt 600 ]; do mkdir d z; : > f; cd d; i=$((i+1)); done', "sh", dir]);
    const { entries } = await walk();
    expect(entries.size).toBe(1800);
    expect([...entries.values()].every((e) => e.errno === 0)).toBe(true);
    execFileSync("rm", ["-rf", dir]);
  });

  it.each([[], ["--codebase"]])("goes on when entries vanish midway %j", async (...options: string[]) => {
    const churn = spawn("sh", ["-c", 'cd "$1"; while :; do mkdir -p a/b/c; : > a/b/f; : > a/g; rm -rf a; done', "sh", dir]);
    try {
      for (let i = 0; i < 30; i++) {
        const { entries } = await walk(...options);
        for (const e of entries.values()) expect([0, 2]).toContain(e.errno);
      }
    } finally {
      churn.kill("SIGKILL");
      await new Promise((resolve) => churn.once("close", resolve));
    }
  });

  it("tells the same whether one or two threads look", async () => {
    execFileSync("sh", [
      "-c",
      'cd "$1"; for a in 1 2 3 4 5 6 7 8; do for b in 1 2 3 4; do mkdir -p $a/$b/c/d/e; : > $a/$b/f; : > $a/$b/c/g; ln -s x $a/$b/c/d/l; done; done',
      "sh",
      dir,
    ]);
    const { entries: one } = await walk();
    for (let i = 0; i < 20; i++) {
      const { entries: two } = await walk("--codebase");
      expect([...two.keys()]).toEqual([...one.keys()]);
      for (const [path, entry] of two) if (entry.kind !== "dir") expect(entry).toEqual(one.get(path));
    }
  });

  it.each([[], ["--codebase"]])("never follows a link that takes a directory's place midway %j", async (...options: string[]) => {
    // `z` is looked at before `a` is walked and opened after it: time enough to be exchanged.
    const script = 'cd "$1"; mkdir a z out; : > out/planted; ln -s out z.link; cd a; seq 3000 | xargs touch';
    execFileSync("sh", ["-c", script, "sh", dir]);
    const swap = 'import ctypes,os,sys\nos.chdir(sys.argv[1]); c=ctypes.CDLL(None)\nwhile True: c.renameat2(-100,b"z",-100,b"z.link",2)';
    const churn = spawn("python3", ["-c", swap, dir]);
    try {
      let replaced = 0;
      for (let i = 0; i < 40; i++) {
        const { entries, events } = await walk(...options);
        expect([...entries.keys()].filter((path) => path.endsWith("planted"))).toEqual(["/out/planted"]);
        replaced += events.filter((event) => event.event === "dir" && event.errno !== 0).length;
      }
      expect(replaced).toBeGreaterThan(0); // it was exchanged in between, and told
    } finally {
      churn.kill("SIGKILL");
      await new Promise((resolve) => churn.once("close", resolve));
    }
  });

  it("never lists another directory when the tree is moved under it", async () => {
    // The walker waits at the bottom, its output unread, while a directory above is moved to where another `z` is.
    const make = `cd "$1"; mkdir -p moved/z; : > moved/z/planted; mkdir deep; cd deep; i=0
      while [ $i -lt 200 ]; do mkdir -p d z; : > z/own; cd d; i=$((i+1)); done; seq -f "%0250.0f" 20000 | xargs touch`;
    execFileSync("sh", ["-c", make, "sh", dir]);
    const run = directTool()(["walk", dir]);
    await new Promise((resolve) => setTimeout(resolve, 1000)); // until the pipe is full
    execFileSync("mv", [join(dir, `deep/${"d/".repeat(50)}d`), join(dir, "moved/d")]);
    const decoder = new WalkDecoder();
    const stale: string[] = [];
    const listed: string[] = [];
    for await (const chunk of run.stdout) {
      for (const event of decoder.push(chunk)) {
        if (event.event !== "dir") continue;
        listed.push(...event.entries.map((entry) => `${event.path}/${entry.name}`));
        if (event.errno === 116) stale.push(event.path);
      }
    }
    decoder.end();
    expect(listed.filter((path) => path.endsWith("planted"))).toEqual([]);
    expect(stale.length).toBeGreaterThan(0);
  });

  it("leaves out of a codebase's directories what moves with every entry", async () => {
    mkdirSync(at("d"));
    const before = (await walk("--codebase", "--skip", "staging")).bytes;
    mkdirSync(at("staging"));
    expect((await walk("--codebase", "--skip", "staging")).bytes.equals(before)).toBe(true);
    expect((await walk("--codebase")).bytes.equals(before)).toBe(false);
  });

  it("leaves out what --skip names, in the root only", async () => {
    mkdirSync(at("x"));
    mkdirSync(at("x/.corral-commit-1"));
    mkdirSync(at(".corral-commit-2"));
    expect([...(await walk("--skip", ".corral-commit-")).entries.keys()]).toEqual(["/x", "/x/.corral-commit-1"]);
  });

  it("tells the wanted extended attributes, of links and FIFOs too", async () => {
    mkdirSync(at("d"));
    symlinkSync("x", at("l"));
    const set =
      "import os,sys; os.chdir(sys.argv[1]); os.setxattr('d','trusted.overlay.opaque',b'y'); os.setxattr('d','user.other',b'1'); os.setxattr('l','trusted.overlay.redirect',b'/a\\nb',follow_symlinks=False)";
    execFileSync("python3", ["-c", set, dir]);
    const { entries } = await walk("--xattr", "trusted.overlay.");
    expect(entries.get("/d")?.xattrs).toEqual(new Map([["trusted.overlay.opaque", "y"]]));
    expect(entries.get("/l")?.xattrs).toEqual(new Map([["trusted.overlay.redirect", "/a\nb"]]));
    expect((await walk()).entries.get("/d")?.xattrs).toBeUndefined();
  });

  it("does not enter a mount below the directory", async () => {
    mkdirSync(at("m"));
    writeFileSync(at("f"), "");
    execFileSync("mount", ["-t", "tmpfs", "none", join(dir, "m")]);
    try {
      writeFileSync(at("m/inside"), "");
      const { entries } = await walk();
      expect([...entries.keys()]).toEqual(["/f", "/m"]);
      expect(entries.get("/m")?.mountPoint).toBe(true);
    } finally {
      execFileSync("umount", [join(dir, "m")]);
    }
  });

  it("tells the errno of a directory that is none", async () => {
    rmSync(dir, { recursive: true });
    writeFileSync(dir, "a file");
    const run = directTool()(["walk", dir]);
    const decoder = new WalkDecoder();
    for await (const chunk of run.stdout) decoder.push(chunk);
    decoder.end();
    expect(decoder.root?.errno).toBe(20);
  });
});
