// The worker `files` inside one PID 1: what each request does, and what no request may do. Over this machine's files, as an ordinary user.

import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  chmodSync,
  lstatSync,
  chownSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { FILES, FilesWorker, OP } from "./files-worker.ts";
import { type Client, FLAG, frame, TestGuest, u32 } from "./guest.ts";

const [EPERM, ENOENT, ENXIO, EBADF, EACCES, EEXIST, ENOTDIR, EISDIR, EINVAL, EMFILE] = [1, 2, 6, 9, 13, 17, 20, 21, 22, 24];
const [EXDEV, ENAMETOOLONG, ENOTEMPTY, ELOOP] = [18, 36, 39, 40];
/** 1000 inside. */
const OUTSIDE_UID = 201_000;
let guest: TestGuest;
let client: Client;
let worker: FilesWorker;
let dir = "";

beforeAll(async () => {
  guest = new TestGuest();
  client = await guest.client();
  worker = new FilesWorker(client);
});
afterAll(() => guest.end());
beforeEach(({ onTestFinished }) => {
  const made = mkdtempSync(join(tmpdir(), "corral-files-"));
  chownSync(made, OUTSIDE_UID, OUTSIDE_UID);
  dir = made;
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
});

describe("containment", () => {
  verifies(
    "guest/worker-walls",
    "a worker has a command's uid, no capability, one filter, three descriptors, and cannot be looked into",
    async () => {
      const status = (await worker.good(OP.get, { path: "/proc/self/status", count: 8192 })).toString("latin1");
      for (const line of ["CapInh", "CapPrm", "CapEff", "CapAmb"]) expect(status).toMatch(new RegExp(`${line}:\t0000000000000000`));
      expect(status).toMatch(/Uid:\t1000\t1000\t1000\t1000\n/);
      expect(status).toMatch(/NoNewPrivs:\t1\n/);
      expect(status).toMatch(/Seccomp_filters:\t1\n/);
      const open = await worker.list("/proc/self/fd");
      // The listing itself is the fourth.
      expect(open.map(({ name }) => name)).toEqual(["0", "1", "2", "3"]);
      const look = (path: string) => client.run("/bin/sh", "-c", `cat /proc/${worker.running.pid}/${path} 2>&1 >/dev/null`);
      for (const name of ["mem", "environ", "maps", "fd/1", "root/etc/passwd"])
        expect((await look(name)).text, name).toMatch(/Permission denied/);
      expect((await client.run("/bin/sh", "-c", `echo x > /proc/${worker.running.pid}/fd/1`)).errors).toMatch(/Permission denied/);
    },
  );

  verifies("guest/worker-walls", "only what is a worker starts, and not as root or on a terminal", async () => {
    const start = async (argv: string[], flags: number) => (await client.exec({ argv, flags: FLAG.worker | flags }).exit).startErrno;
    expect(await start(["/bin/true"], 0)).toBe(ENOENT);
    expect(await start([], 0)).toBe(ENOENT);
    expect(await start(["files"], FLAG.pty)).toBe(EINVAL);
    expect(await start(["files"], FLAG.merge)).toBe(EINVAL);
    expect((await client.exec({ argv: ["files"], flags: FLAG.worker }).exit).code).toBe(0);
  });

  verifies("guest/worker-walls", "a worker can be killed by a process of its user, and the next one works", async () => {
    const victim = new FilesWorker(client);
    await victim.good(OP.stat, { path: "/" });
    await client.run("/bin/sh", "-c", `kill -9 ${victim.running.pid}`);
    expect(await victim.running.exit).toMatchObject({ signal: 9 });
    await new FilesWorker(client).good(OP.stat, { path: "/" });
  });
});

describe("reading", () => {
  verifies("guest/files-read", "a file is read whole, in part, and through a handle that keeps the file it began with", async () => {
    writeFileSync(join(dir, "f"), "0123456789");
    const path = `${dir}/f`;
    const whole = await worker.good(OP.get, { path, count: 100 });
    expect([whole.readBigUInt64LE(24), whole.readUInt32LE(48), whole.subarray(52).toString()]).toEqual([10n, 0, "0123456789"]);
    expect((await worker.good(OP.get, { path, count: 4, offset: 3 })).subarray(52).toString()).toBe("3456");
    expect((await worker.good(OP.get, { path, count: 4, offset: 100 })).length).toBe(52);
    const kept = await worker.good(OP.get, { path, count: 4, flags: FILES.keep });
    const handle = kept.readUInt32LE(48);
    rmSync(join(dir, "f"));
    expect((await worker.good(OP.read, { handle, offset: 4, count: 100 })).toString()).toBe("456789");
    expect((await worker.good(OP.read, { handle, offset: 10, count: 100 })).length).toBe(0);
    await worker.good(OP.close, { handle });
    expect(await worker.ask(OP.read, { handle, count: 1 })).toBe(EBADF);
    expect(await worker.ask(OP.get, { path, count: 1 })).toBe(ENOENT);
  });

  verifies("guest/files-read", "what has no size is read to its end", async () => {
    expect((await worker.good(OP.get, { path: "/proc/version", count: 4096 })).subarray(52).toString()).toMatch(/^Linux version/);
  });

  verifies("guest/files-special", "FIFOs, devices, sockets and links of /proc are refused and never opened", async () => {
    expect((await client.run("/bin/sh", "-c", `mkfifo ${dir}/fifo; ln -s /dev/zero ${dir}/zero`)).result.code).toBe(0);
    for (const path of [`${dir}/fifo`, "/dev/zero", `${dir}/zero`, "/dev/null"]) {
      expect(await worker.ask(OP.get, { path, count: 1 })).toBe(ENXIO);
      expect(await worker.ask(OP.put, { path, data: "x" })).toBe(ENXIO);
      expect(await worker.ask(OP.put, { path, data: "x", flags: FILES.append })).toBe(ENXIO);
    }
    for (const path of ["/proc/self/exe", "/proc/1/root/etc", "/proc/self/root/etc/passwd", "/proc/self/cwd/x", "/proc/self/fd/0"])
      expect(await worker.ask(OP.get, { path, count: 1 }), path).toSatisfy((errno) => [ELOOP, EACCES].includes(errno as number));
    symlinkSync("/proc/self/exe", join(dir, "exe"));
    expect(await worker.ask(OP.put, { path: `${dir}/exe`, data: "x" })).toBe(ELOOP);
    for (const path of ["/proc/self/mem", "/proc/1/mem", "/proc/1/environ"])
      expect(await worker.ask(OP.get, { path, count: 1 })).toBe(EACCES);
    expect(await worker.ask(OP.put, { path: "/proc/self/mem", data: "x" })).toBe(EACCES);
  });

  verifies("guest/files-list", "a directory of any size comes in pages, in the order of its bytes, each name once", async () => {
    const names = Array.from({ length: 2_500 }, (_, i) => `n${(i * 7919) % 2_500}-${"x".repeat(i % 200)}`);
    for (const name of names) writeFileSync(join(dir, name), "");
    symlinkSync("/no/such", join(dir, "a-link"));
    mkdirSync(join(dir, "zz-dir"));
    const found = await worker.list(dir, 300);
    const sorted = [...names, "a-link", "zz-dir"].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(found.map(({ name }) => name)).toEqual(sorted);
    expect(found[0]).toMatchObject({ kind: 2, target: "/no/such" });
    expect(found.at(-1)).toMatchObject({ kind: 1 });
    expect(await worker.ask(OP.list, { path: `${dir}/a-link` })).toBe(ENOENT);
    expect(await worker.ask(OP.list, { path: join(dir, sorted[1] as string) })).toBe(ENOTDIR);
  });

  verifies("guest/files-names", "names are bytes, and what is no path of a file is told by errno", async () => {
    const odd = `${dir}/\xff\xfe \n"\\`;
    await worker.good(OP.put, { path: odd, data: "odd" });
    expect((await worker.list(dir)).map(({ name }) => name)).toEqual([`\xff\xfe \n"\\`]);
    expect((await worker.good(OP.get, { path: odd, count: 9 })).subarray(52).toString()).toBe("odd");
    const put = (path: string, base = "") => worker.ask(OP.put, { path, base, data: "x" });
    expect(await put("relative")).toBe(EINVAL);
    expect(await put("")).toBe(EINVAL);
    expect(await put("/")).toBe(EISDIR);
    expect(await put(`${dir}/..`)).toBe(EISDIR);
    expect(await put(`${dir}/${"x".repeat(256)}`)).toBe(ENAMETOOLONG);
    expect(await put(`${dir}${"/x".repeat(2100)}`)).toBe(ENAMETOOLONG);
    expect(await put("/absolute", dir)).toBe(EINVAL);
  });

  verifies("guest/files-beneath", "beneath a base no link and no `..` leads anywhere", async () => {
    mkdirSync(join(dir, "base/in"), { recursive: true });
    chownSync(join(dir, "base"), OUTSIDE_UID, OUTSIDE_UID);
    chownSync(join(dir, "base/in"), OUTSIDE_UID, OUTSIDE_UID);
    symlinkSync("..", join(dir, "base/up"));
    symlinkSync("in", join(dir, "base/inner"));
    const put = (path: string) => worker.ask(OP.put, { base: `${dir}/base`, path, data: "x", flags: FILES.parents });
    expect(await put("../f")).toBe(EXDEV);
    expect(await put("up/f")).toSatisfy((errno) => [ELOOP, ENOTDIR].includes(errno as number));
    expect(await put("inner/f")).toSatisfy((errno) => [ELOOP, ENOTDIR].includes(errno as number));
    expect(await put("up")).toBe(ELOOP);
    expect(await put("in/../../f")).toSatisfy((errno) => errno === EXDEV);
    expect(typeof (await put("in/deep/f"))).toBe("object");
    expect(readdirSync(dir)).toEqual(["base"]);
  });
});

describe("writing", () => {
  verifies(
    "guest/files-atomic",
    "a file is replaced whole: its mode and attributes are kept, readers see the old or the new, nothing is left beside it",
    async () => {
      const path = `${dir}/f`;
      expect(await worker.entry(OP.put, { path, data: "one" })).toMatchObject({ kind: 0, mode: 0o644, size: 3 });
      await worker.good(OP.set, { path, flags: FILES.mode, mode: 0o640 });
      await worker.good(OP.setxattr, { path, other: "user.note", data: "n" });
      const { ino } = lstatSync(path);
      expect(await worker.entry(OP.put, { path, data: "three" })).toMatchObject({ mode: 0o640, size: 5 });
      expect(lstatSync(path).ino).not.toBe(ino);
      expect((await worker.good(OP.stat, { path, flags: FILES.xattrs })).subarray(48).toString("latin1")).toBe(
        "\x09\0\x01\0\0\0user.noten",
      );
      expect(await worker.entry(OP.put, { path, data: "", flags: FILES.mode, mode: 0o755 })).toMatchObject({ mode: 0o755, size: 0 });
      expect(readdirSync(dir)).toEqual(["f"]);
    },
  );

  verifies("guest/files-atomic", "a write that is cut off leaves the old file and nothing else", async () => {
    const cut = new FilesWorker(client);
    const path = `${dir}/f`;
    await cut.good(OP.put, { path, data: "old" });
    const handle = (await cut.good(OP.create, { path })).readUInt32LE(0);
    await cut.good(OP.write, { handle, data: "new" });
    expect(readFileSync(path, "utf8")).toBe("old");
    await client.run("/bin/sh", "-c", `kill -9 ${cut.running.pid}`);
    await cut.running.exit;
    expect([readFileSync(path, "utf8"), readdirSync(dir)]).toEqual(["old", ["f"]]);
    const again = (await worker.good(OP.create, { path })).readUInt32LE(0);
    await worker.good(OP.write, { handle: again, data: "new" });
    await worker.good(OP.write, { handle: again, data: "er" });
    expect(await worker.entry(OP.commit, { handle: again })).toMatchObject({ size: 5 });
    expect(await worker.ask(OP.write, { handle: again, data: "x" })).toBe(EBADF);
    expect(readFileSync(path, "utf8")).toBe("newer");
  });

  verifies(
    "guest/files-atomic",
    "a file in a directory that takes no new names is written in place, once the new bytes are whole",
    async () => {
      mkdirSync(join(dir, "closed"));
      const path = `${dir}/closed/f`;
      writeFileSync(path, "a long old content");
      chmodSync(path, 0o666);
      expect(await worker.entry(OP.put, { path, data: "new" })).toMatchObject({ size: 3 });
      expect(readFileSync(path, "utf8")).toBe("new");
      expect(await worker.ask(OP.put, { path: `${dir}/closed/g`, data: "x" })).toBe(EACCES);
      chmodSync(path, 0o444);
      expect(await worker.ask(OP.put, { path, data: "x" })).toBe(EACCES);
    },
  );

  verifies("guest/files-write", "exclusive, appended, in place, with parents, through links: each as asked", async () => {
    const path = `${dir}/a/b/f`;
    expect(await worker.ask(OP.put, { path, data: "x" })).toBe(ENOENT);
    await worker.good(OP.put, { path, data: "0123", flags: FILES.parents | FILES.exclusive });
    expect(await worker.ask(OP.put, { path, data: "x", flags: FILES.exclusive })).toBe(EEXIST);
    await worker.good(OP.put, { path, data: "45", flags: FILES.append });
    await worker.good(OP.put, { path, data: "xy", offset: 1, flags: FILES.at });
    expect(readFileSync(path, "utf8")).toBe("0xy345");
    symlinkSync("a/b/f", join(dir, "link"));
    symlinkSync("a/b/new", join(dir, "dangling"));
    await worker.good(OP.put, { path: `${dir}/link`, data: "by link" });
    await worker.good(OP.put, { path: `${dir}/dangling`, data: "made" });
    expect(lstatSync(join(dir, "link")).isSymbolicLink()).toBe(true);
    expect([readFileSync(path, "utf8"), readFileSync(join(dir, "a/b/new"), "utf8")]).toEqual(["by link", "made"]);
    symlinkSync("loop", join(dir, "loop"));
    expect(await worker.ask(OP.put, { path: `${dir}/loop`, data: "x" })).toBe(ELOOP);
  });

  verifies(
    "guest/files-change",
    "directories, moves, links, modes, times, attributes and removals, each with the kernel's errno",
    async () => {
      const at = (name: string) => `${dir}/${name}`;
      expect(await worker.entry(OP.mkdir, { path: at("d/e"), flags: FILES.parents })).toMatchObject({ kind: 1, mode: 0o755 });
      expect(await worker.ask(OP.mkdir, { path: at("d") })).toBe(EEXIST);
      expect(await worker.entry(OP.mkdir, { path: at("w"), flags: FILES.mode, mode: 0o777 })).toMatchObject({ mode: 0o777 });
      await worker.good(OP.put, { path: at("f"), data: "f" });
      expect(await worker.ask(OP.mkdir, { path: at("f"), flags: FILES.parents })).toBe(EEXIST);
      await worker.good(OP.put, { path: at("g"), data: "g" });
      expect(await worker.ask(OP.move, { path: at("f"), other: at("g"), flags: FILES.exclusive })).toBe(EEXIST);
      await worker.good(OP.move, { path: at("f"), other: at("d/g") });
      await worker.good(OP.symlink, { path: at("s"), other: "d/g" });
      await worker.good(OP.link, { path: at("d/g"), other: at("hard") });
      expect(await worker.entry(OP.stat, { path: at("s"), flags: FILES.nofollow })).toMatchObject({ kind: 2, target: "d/g" });
      expect(await worker.entry(OP.set, { path: at("s"), flags: FILES.mtime, offset: 1_500_000_000_123 })).toMatchObject({
        mtimeNs: 1_500_000_000_123n,
      });
      expect(await worker.ask(OP.setxattr, { path: at("g"), other: "user.overlay.opaque", data: "y" })).toBe(EPERM);
      expect(await worker.ask(OP.setxattr, { path: at("g"), other: "trusted.x", data: "y" })).toBe(EPERM);
      await worker.good(OP.setxattr, { path: at("g"), other: "user.none", flags: FILES.unset });
      expect(await worker.ask(OP.remove, { path: at("d"), count: 100 })).toBe(ENOTEMPTY);
      await worker.good(OP.remove, { path: at("s"), count: 100 });
      expect(await worker.ask(OP.remove, { path: at("s"), count: 100 })).toBe(ENOENT);
      for (const name of ["d", "w", "g", "hard"])
        expect((await worker.good(OP.remove, { path: at(name), flags: FILES.recursive, count: 100 }))[0]).toBe(0);
      expect(readdirSync(dir)).toEqual([]);
    },
  );

  verifies("guest/files-change", "a large tree is removed in steps", async () => {
    expect((await client.run("/bin/sh", "-c", `for i in $(seq 50); do mkdir -p ${dir}/t/$i/x; done`)).result.code).toBe(0);
    const request = { path: `${dir}/t`, flags: FILES.recursive, count: 30 };
    let steps = 1;
    while ((await worker.good(OP.remove, request))[0] === 1) steps++;
    expect(steps).toBeGreaterThan(2);
    expect(readdirSync(dir)).toEqual([]);
  });
});

describe("bounds", () => {
  verifies("guest/files-bounded", "at most 64 handles are open, and one that was closed is nobody else's", async () => {
    const many = new FilesWorker(client);
    writeFileSync(join(dir, "f"), "0123456789");
    const open = () => many.ask(OP.get, { path: `${dir}/f`, count: 1, flags: FILES.keep });
    const handles = new Set<number>();
    for (let i = 0; i < 64; i++) handles.add(((await open()) as Buffer).readUInt32LE(48));
    expect(handles.size).toBe(64);
    expect(await open()).toBe(EMFILE);
    const [first] = [...handles] as [number];
    await many.good(OP.close, { handle: first });
    const next = ((await open()) as Buffer).readUInt32LE(48);
    expect(handles.has(next)).toBe(false);
    expect(await many.ask(OP.read, { handle: first, count: 1 })).toBe(EBADF);
    expect(await many.ask(OP.write, { handle: next, data: "x" })).toBe(EBADF);
  });

  verifies("guest/files-bounded", "bytes that are no request end the worker and nothing else", async () => {
    for (const bytes of [frame(99, 1, Buffer.alloc(30)), frame(OP.stat, 1, Buffer.alloc(5)), u32(0x7fffffff, 0, 0)]) {
      const broken = new FilesWorker(client);
      await broken.send(bytes);
      expect((await broken.running.exit).code).toBe(3);
    }
    await worker.good(OP.stat, { path: "/" });
  });

  verifies("guest/files-bounded", "requests that wait are answered in order", async () => {
    const frames = Array.from({ length: 200 }, (_, i) =>
      frame(OP.stat, 1000 + i, Buffer.concat([Buffer.alloc(24), Buffer.from("\0/\0\0")])),
    );
    await worker.send(Buffer.concat(frames));
    for (let i = 0; i < 200; i++) expect(typeof (await worker.answer(1000 + i))).toBe("object");
  });
});
