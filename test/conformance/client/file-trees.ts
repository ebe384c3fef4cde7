// Rows of the client suite: watches of directories, and trees as tar streams, kind and hostile ones.

import { expect } from "vitest";
import type { SandboxHandle } from "../../../src/api/client.ts";
import type { FileCalls, FileEvent } from "../../../src/api/files.ts";
import { readTar } from "../../../src/base/tar-reader.ts";
import { tarEnd, tarHeader, tarPadding } from "../../../src/base/tar-writer.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf, text } from "./lab.ts";

async function sh(sandbox: SandboxHandle, command: string): Promise<string> {
  const { exitCode, stdout, stderr } = await sandbox.exec({ command });
  if (exitCode !== 0) throw new Error(`${command}: ${text(stderr)}`);
  return text(stdout);
}

/** Begins a watch and waits until it stands. */
async function watching(files: FileCalls, path: string, recursive = true): Promise<AsyncIterator<FileEvent>> {
  const events = files.watch(path, { recursive })[Symbol.asyncIterator]();
  const first = await events.next();
  expect(first.value).toMatchObject({ id: 1, kind: "ready", path });
  return events;
}

async function until(events: AsyncIterator<FileEvent>, enough: (event: FileEvent) => boolean): Promise<FileEvent[]> {
  const seen: FileEvent[] = [];
  for (let next = await events.next(); next.done !== true; next = await events.next()) {
    seen.push(next.value);
    if (enough(next.value)) break;
  }
  return seen;
}

type Entry = readonly [type: string, path: string, rest?: { readonly target?: string; readonly content?: string; readonly mode?: number }];

/** A tar with entries as they are given, also such as no honest writer makes. `type`: its flag. */
function tarOf(...entries: readonly Entry[]): Buffer {
  const parts = entries.map(([type, path, { target = "", content = "", mode = 0o644 } = {}]) => {
    const header = tarHeader({ path, type: "file", mode, mtimeSeconds: 1_700_000_000, size: content.length, target });
    const own = header.subarray(-512);
    own.write(type, 156, "latin1");
    own.write(target, 157, 100, "latin1");
    own.fill(" ", 148, 156);
    const sum = own.reduce((total, byte) => total + byte, 0);
    own.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    return Buffer.concat([header, Buffer.from(content), tarPadding(content.length)]);
  });
  return Buffer.concat([...parts, tarEnd()]);
}

async function listing(chunks: AsyncIterable<Uint8Array>): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const entry of readTar(chunks)) {
    const parts: Uint8Array[] = [];
    for await (const part of entry.content()) parts.push(Uint8Array.from(part));
    found[entry.path] = entry.type === "file" ? `${entry.mode.toString(8)} ${text(Buffer.concat(parts))}` : `${entry.type} ${entry.target}`;
  }
  return found;
}

export function fileTreeRows(lab: () => ClientLab): void {
  verifies(
    "files/watch",
    "1,000 files that are made while it watches are told, each once, and what becomes of them",
    async () => {
      const sandbox = await lab().make();
      const events = await watching(sandbox.files, "/workspace");
      const made = sh(
        sandbox,
        "i=0; while [ $i -lt 1000 ]; do mkdir -p d$((i % 10)); : > d$((i % 10))/f$i; i=$((i+1)); done; echo x >> d1/f1; mv d1/f1 d2/m; rm d2/m",
      );
      const seen = await until(events, ({ kind, path }) => kind === "remove" && path === "/workspace/d2/m");
      await made;
      const created = seen.filter(({ kind, isDir }) => kind === "create" && !isDir).map(({ path }) => path);
      expect(created.toSorted()).toEqual(Array.from({ length: 1_000 }, (_, i) => `/workspace/d${i % 10}/f${i}`).toSorted());
      expect(seen.map(({ id }) => id)).toEqual(seen.map((_, i) => i + 2));
      const [from, to] = ["move-from", "move-to"].map((half) => seen.find(({ kind }) => kind === half));
      expect([from?.path, to?.path, from?.cookie === to?.cookie]).toEqual(["/workspace/d1/f1", "/workspace/d2/m", true]);
      await events.return?.();
    },
    60_000,
  );

  verifies(
    "files/watch",
    "a write through the client is told as one of a command, the policy holds, and the end of the directory too",
    async () => {
      const sandbox = await lab().make();
      const { files } = sandbox;
      await files.mkdir("/workspace/w");
      const events = await watching(files, "/workspace/w", false);
      await files.write("/workspace/w/f", "one");
      await files.write("/workspace/w/f", "two");
      await files.remove("/workspace/w", { recursive: true });
      const seen = await until(events, () => false);
      expect(seen.map(({ kind, path }) => `${kind} ${path}`)).toEqual([
        "create /workspace/w/f",
        "modify /workspace/w/f",
        "remove /workspace/w/f",
        "gone /workspace/w",
      ]);
      const code = (path: string) => codeOf(files.watch(path)[Symbol.asyncIterator]().next());
      expect([await code("/workspace/none"), await code("/etc/passwd"), await code("x")]).toEqual([
        "file_not_found",
        "not_a_directory",
        "request_invalid",
      ]);
    },
  );

  verifies(
    "files/watch-overflow",
    "a reader that is too slow is told that events were lost, and goes on from there",
    async () => {
      const sandbox = await lab().make();
      const events = await watching(sandbox.files, "/workspace");
      const long = "x".repeat(200);
      await sh(sandbox, `seq 30000 | sed 's/^/${long}/' | xargs touch; mkdir late`);
      await until(events, ({ kind }) => kind === "overflow");
      await sh(sandbox, ": > late/f");
      await until(events, ({ kind, path }) => kind === "create" && path === "/workspace/late/f");
      await events.return?.();
    },
    120_000,
  );

  verifies("files/watch-bounded", "watches of one sandbox are bounded, and one that is left makes room", async () => {
    const { files } = await lab().make();
    const all = [];
    for (let i = 0; i < 16; i++) all.push(await watching(files, "/workspace"));
    expect(await codeOf(files.watch("/workspace")[Symbol.asyncIterator]().next())).toBe("limit_reached");
    await all[0]?.return?.();
    let next: AsyncIterator<FileEvent> | undefined;
    while (next === undefined) next = await watching(files, "/workspace").catch(() => undefined); // over HTTP the server hears of it a moment later
    for (const events of [...all, next]) await events.return?.();
  });

  verifies("files/archive", "a tree goes out as a tar and comes back as it was", async () => {
    const sandbox = await lab().make();
    const { files } = sandbox;
    await sh(
      sandbox,
      "mkdir -p t/a/b t/empty; echo one > t/a/f; printf '' > t/a/b/none; ln -s ../a/f t/a/l; chmod 750 t/a/f; touch -d @1600000000 t/a/f; mkfifo t/fifo; head -c 1000000 /dev/zero > t/big",
    );
    const tar: Uint8Array[] = [];
    for await (const chunk of files.download("/workspace/t")) tar.push(Uint8Array.from(chunk));
    const bytes = Buffer.concat(tar);
    async function* cut(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < bytes.length; at += 77_777) yield bytes.subarray(at, at + 77_777);
    }
    const found = await listing(cut());
    expect(Object.keys(found).toSorted()).toEqual(["a/", "a/b/", "a/b/none", "a/f", "a/l", "big", "empty/"]);
    expect([found["a/f"], found["a/l"]]).toEqual(["750 one\n", "link ../a/f"]);
    expect(await files.upload("/workspace/deep/copy", cut())).toEqual({ entries: 7, bytes: 1_000_004 });
    expect(
      await sh(sandbox, "rm t/fifo; diff -r --no-dereference t deep/copy && stat -c '%a %Y' deep/copy/a/f && readlink deep/copy/a/l"),
    ).toBe("750 1600000000\n../a/f\n");
    expect(await files.upload("/workspace/deep/copy", bytes)).toMatchObject({ entries: 7 });
    expect(await codeOf(listing(files.download("/workspace/t/big")))).toBe("not_a_directory");
    expect(await codeOf(listing(files.download("/workspace/no")))).toBe("file_not_found");
  });

  verifies(
    "files/archive-hostile",
    "no archive reaches beyond its directory: each attempt is refused by name, and nothing outside changes",
    async () => {
      const sandbox = await lab().make();
      const { files } = sandbox;
      await sh(sandbox, "mkdir outside; echo safe > outside/f; mkdir -p to/sub; ln -s ../outside to/old");
      const dots = "../".repeat(5);
      const attempts: Readonly<Record<string, Buffer>> = {
        absolute: tarOf(["0", "/workspace/outside/f", { content: "bad" }]),
        "a way up": tarOf(["0", "a/../../outside/f", { content: "bad" }]),
        "a link out, and a write through it": tarOf(["2", "l", { target: "../outside" }], ["0", "l/f", { content: "bad" }]),
        "an absolute link": tarOf(["2", "l", { target: "/workspace/outside" }], ["0", "l/f", { content: "bad" }]),
        "a link to a link out": tarOf(["2", "a/b/l", { target: `${dots}outside/f` }]),
        "a link that was there": tarOf(["0", "old/f", { content: "bad" }]),
        "a hard link out": tarOf(["1", "h", { target: "../outside/f" }], ["0", "h", { content: "bad" }]),
        "a hard link through a link": tarOf(["1", "h", { target: "old/f" }]),
        "a device": tarOf(["3", "dev"]),
        "a block device": tarOf(["4", "dev"]),
        "a FIFO": tarOf(["6", "fifo"]),
        "no archive": Buffer.alloc(2_048, "no tar "),
        "cut short": tarOf(["0", "f", { content: "x".repeat(5_000) }]).subarray(0, 1_024),
        "a NUL in a name": tarOf(["x", "PaxHeader", { content: "17 path=a\0b/ccc\n" }], ["0", "f"]),
      };
      for (const [what, tar] of Object.entries(attempts))
        expect(await codeOf(files.upload("/workspace/to", tar)), what).toSatisfy(
          (code) => code === "archive_invalid" || code === "file_denied",
        );
      expect(await sh(sandbox, "cat outside/f; ls -A outside; ls -A . | sort | tr '\\n' ' '; cat /etc/shadow 2>/dev/null || true")).toBe(
        "safe\nf\noutside to ",
      );
      // What only looks like an attempt is unpacked.
      await files.upload(
        "/workspace/kind",
        tarOf(
          ["5", "./"],
          ["0", "./a", { content: "1" }],
          ["2", "l", { target: "sub/../a" }],
          ["1", "h", { target: "a" }],
          ["0", "a", { content: "2" }],
          ["0", ".wh.x"],
        ),
      );
      expect(await sh(sandbox, "cd kind; cat a h; readlink l; ls -A | tr '\\n' ' '")).toBe("21sub/../a\n.wh.x a h l ");
    },
  );
}
