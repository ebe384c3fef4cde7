// One `corral-guest init` for a test, started by launch.c, and a small client of its protocol.
// Not the runtime: no views, no network, no limits; the child sees this machine's files.
// Invariant: ending the test ends the launcher, and with it PID 1 and everything inside.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { filterArch, seccompProgram } from "../../src/runtime/seccomp/filter.ts";
import { guestProgram, testProgram } from "./build.ts";

export const REQUEST = {
  ...{ exec: 1, stdin: 2, stdinEof: 3, signal: 4, stop: 5, resize: 6, credit: 7, ping: 8, killAll: 9 },
  ...{ controlIn: 10, stdinAgain: 11, list: 12, attach: 13, forget: 14, hold: 20, release: 21 },
} as const;
export const ANSWER = {
  ...{ ready: 64, ok: 65, started: 66, stdout: 67, stderr: 68, exit: 69, stdinCredit: 70, pong: 71 },
  ...{ control: 72, controlCredit: 73, kept: 74, attached: 75, detached: 76 },
} as const;
export const FLAG = { pty: 1, stdin: 2, merge: 4, tied: 8, root: 16, keep: 32, control: 64, worker: 128 } as const;
export const EXIT = { timedOut: 1, idle: 2, truncated: 4, memoryHit: 8, pidsHit: 16, cwd: 32 } as const;

export interface GuestOptions {
  readonly program?: string;
  readonly records?: readonly string[];
  readonly filter?: Buffer;
  readonly cgroup?: string;
  readonly memory?: string;
  readonly pids?: string;
  /** "many": ids 0-65535 inside. "one": 1000 alone. */
  readonly ids?: "many" | "one";
}

export interface Exit {
  readonly code: number;
  readonly signal: number;
  readonly startErrno: number;
  readonly flags: number;
  readonly cpuUs: number;
  readonly maxRss: number;
  readonly dropped: number;
}

export interface Exec {
  argv: readonly string[];
  env?: readonly string[];
  cwd?: string;
  flags?: number;
  timeoutMs?: number;
  idleMs?: number;
  graceMs?: number;
  cap?: number;
  rows?: number;
  cols?: number;
  /** Sets flag KEEP. */
  key?: string;
  note?: string;
  /** false: no credit is given back by itself. */
  credit?: boolean;
}

export function frame(type: number, id: number, body: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt32LE(body.length, 0);
  head.writeUInt32LE(id, 4);
  head[8] = type;
  return Buffer.concat([head, body]);
}

export function u32(...values: readonly number[]): Buffer {
  const out = Buffer.alloc(values.length * 4);
  for (const [i, value] of values.entries()) out.writeUInt32LE(value, i * 4);
  return out;
}

export function execBody(exec: Exec): Buffer {
  const head = Buffer.alloc(32);
  head.writeUInt32LE((exec.flags ?? 0) | (exec.key === undefined ? 0 : FLAG.keep), 0);
  head.writeUInt32LE(exec.timeoutMs ?? 0, 4);
  head.writeUInt32LE(exec.idleMs ?? 0, 8);
  head.writeUInt32LE(exec.graceMs ?? 100, 12);
  head.writeBigUInt64LE(BigInt(exec.cap ?? 0), 16);
  head.writeUInt16LE(exec.rows ?? 24, 24);
  head.writeUInt16LE(exec.cols ?? 80, 26);
  head.writeUInt16LE(exec.argv.length, 28);
  head.writeUInt16LE(exec.env?.length ?? 0, 30);
  const strings = [exec.cwd ?? "/", ...exec.argv, ...(exec.env ?? []), ...(exec.key === undefined ? [] : [exec.key, exec.note ?? ""])];
  return Buffer.concat([head, Buffer.from(strings.map((text) => `${text}\0`).join(""), "latin1")]);
}

export interface Attached {
  readonly errno: number;
  readonly pid: number;
  readonly from: number;
  readonly stdinRoom: number;
  readonly controlRoom: number;
  readonly flags: number;
}

export class Running {
  readonly id: number;
  readonly out: Buffer[] = [];
  readonly err: Buffer[] = [];
  pid = 0;
  stdinCredit = 0;
  /** Bytes of output that came, also those that were not kept. */
  bytes = 0;
  keep = true;
  readonly started: Promise<number>;
  readonly exit: Promise<Exit>;
  readonly attached: Promise<Attached>;
  readonly detached: Promise<void>;
  controlText = "";
  /** Every byte of stdout and stderr, as one letter for each frame and its text: the order in which they came. */
  readonly order: string[] = [];
  readonly #client: Client;
  #tellStarted!: (pid: number) => void;
  #tellExit!: (exit: Exit) => void;
  #tellAttached!: (attached: Attached) => void;
  #tellDetached!: () => void;
  readonly #waiters: (() => void)[] = [];

  constructor(client: Client, id: number) {
    this.#client = client;
    this.id = id;
    this.started = new Promise((tell) => {
      this.#tellStarted = tell;
    });
    this.exit = new Promise((tell) => {
      this.#tellExit = tell;
    });
    this.attached = new Promise((tell) => {
      this.#tellAttached = tell;
    });
    this.detached = new Promise((tell) => {
      this.#tellDetached = tell;
    });
  }

  get text(): string {
    return Buffer.concat(this.out).toString("latin1");
  }

  get errors(): string {
    return Buffer.concat(this.err).toString("latin1");
  }

  send(type: number, body?: Buffer): void {
    this.#client.send(frame(type, this.id, body));
  }

  /** Resolves once the output so far matches. */
  async until(pattern: RegExp): Promise<string> {
    while (!pattern.test(this.text)) await this.changed();
    return this.text;
  }

  /** Resolves when anything has come of it. */
  changed(): Promise<void> {
    return new Promise<void>((go) => this.#waiters.push(go));
  }

  take(type: number, body: Buffer, giveCredit: boolean): void {
    if (type === ANSWER.started) {
      this.pid = body.readUInt32LE(0);
      this.#tellStarted(this.pid);
    } else if (type === ANSWER.stdout || type === ANSWER.stderr || type === ANSWER.control) {
      this.bytes += body.length;
      const text = body.toString("latin1");
      if (this.keep) this.order.push(`${type === ANSWER.stdout ? "o" : type === ANSWER.stderr ? "e" : "c"}${text}`);
      if (type === ANSWER.control) this.controlText += text;
      else if (this.keep) (type === ANSWER.stdout ? this.out : this.err).push(body);
      if (giveCredit) this.send(REQUEST.credit, u32(body.length));
    } else if (type === ANSWER.stdinCredit) this.stdinCredit += body.readUInt32LE(0);
    else if (type === ANSWER.attached) this.#tellAttached(parseAttached(body));
    else if (type === ANSWER.detached) this.#tellDetached();
    else if (type === ANSWER.exit) this.#tellExit(parseExit(body));
    for (const go of this.#waiters.splice(0)) go();
  }
}

function parseAttached(body: Buffer): Attached {
  if (body.length !== 28) throw new Error(`ATTACHED of ${body.length} bytes`);
  return {
    errno: body.readUInt32LE(0),
    pid: body.readUInt32LE(4),
    from: Number(body.readBigUInt64LE(8)),
    stdinRoom: body.readUInt32LE(16),
    controlRoom: body.readUInt32LE(20),
    flags: body.readUInt32LE(24),
  };
}

function parseExit(body: Buffer): Exit {
  if (body.length !== 40) throw new Error(`EXIT of ${body.length} bytes`);
  return {
    code: body.readInt32LE(0),
    signal: body.readInt32LE(4),
    startErrno: body.readUInt32LE(8),
    flags: body.readUInt32LE(12),
    cpuUs: Number(body.readBigUInt64LE(16)),
    maxRss: Number(body.readBigUInt64LE(24)),
    dropped: Number(body.readBigUInt64LE(32)),
  };
}

export class Client {
  readonly ready: Promise<Map<string, string>>;
  readonly closed: Promise<void>;
  readonly socket: Socket;
  readonly #running = new Map<number, { running: Running; credit: boolean }>();
  readonly #others: { type: number; id: number; body: Buffer }[] = [];
  readonly #waiters: (() => void)[] = [];
  #bytes: Buffer = Buffer.alloc(0);
  #next = 1;

  constructor(path: string) {
    this.socket = connect(path);
    let tellReady!: (facts: Map<string, string>) => void;
    this.ready = new Promise((tell) => {
      tellReady = tell;
    });
    this.closed = new Promise((tell) => {
      this.socket.on("close", () => tell());
    });
    this.socket.on("error", () => undefined);
    this.socket.on("data", (chunk: Buffer) => {
      this.#bytes = this.#bytes.length ? Buffer.concat([this.#bytes, chunk]) : chunk;
      while (this.#bytes.length >= 12) {
        const length = this.#bytes.readUInt32LE(0);
        if (this.#bytes.length < 12 + length) break;
        const body = Buffer.from(this.#bytes.subarray(12, 12 + length));
        this.#take(this.#bytes[8] as number, this.#bytes.readUInt32LE(4), body, tellReady);
        this.#bytes = this.#bytes.subarray(12 + length);
      }
    });
  }

  #take(type: number, id: number, body: Buffer, tellReady: (facts: Map<string, string>) => void): void {
    const entry = this.#running.get(id);
    if (type === ANSWER.ready) tellReady(readyFacts(body));
    else if (entry && type !== ANSWER.ok && type !== ANSWER.pong) {
      if (type === ANSWER.exit) this.#running.delete(id);
      entry.running.take(type, body, entry.credit);
    } else this.#others.push({ type, id, body });
    for (const go of this.#waiters.splice(0)) go();
  }

  send(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  exec(exec: Exec): Running {
    const running = new Running(this, this.#next++);
    this.#running.set(running.id, { running, credit: exec.credit ?? true });
    this.send(frame(REQUEST.exec, running.id, execBody(exec)));
    return running;
  }

  attach(key: string, offset: number, credit = true): Running {
    const running = new Running(this, this.#next++);
    this.#running.set(running.id, { running, credit });
    this.send(frame(REQUEST.attach, running.id, attachBody(key, offset)));
    return running;
  }

  /** Records of LIST, words behind their verb. */
  async list(): Promise<string[][]> {
    this.send(frame(REQUEST.list, this.#next++));
    const strings = (await this.other()).body.toString("latin1").split("\0").slice(0, -1);
    const records = [];
    for (let at = 0; at < strings.length; ) {
      const length = strings[at] === "kept" ? 7 : 2;
      records.push(strings.slice(at, at + length));
      at += length;
    }
    return records;
  }

  async run(...argv: readonly string[]): Promise<Running & { result: Exit }> {
    const running = this.exec({ argv });
    const result = await running.exit;
    return Object.assign(running, { result });
  }

  /** The next answer that belongs to no command. */
  async other(): Promise<{ type: number; id: number; body: Buffer }> {
    for (;;) {
      const found = this.#others.shift();
      if (found) return found;
      await new Promise<void>((go) => this.#waiters.push(go));
    }
  }

  close(): void {
    this.socket.destroy();
  }
}

function readyFacts(body: Buffer): Map<string, string> {
  const strings = body.toString("latin1").split("\0");
  const told = new Map<string, string>();
  for (let i = 0; i + 1 < strings.length; ) {
    const verb = strings[i] as string;
    if (verb === "ns") {
      told.set(`ns ${strings[i + 1]}`, strings[i + 2] as string);
      i += 3;
    } else {
      told.set(verb, strings[i + 1] as string);
      i += 2;
    }
  }
  return told;
}

export function testFilter(): Buffer {
  const arch = filterArch();
  if (!arch) throw new Error("no filter for this processor");
  return seccompProgram({ arch, pid1Clone3: true });
}

export function facts(records: readonly string[], filter: Buffer): Buffer {
  const text = Buffer.from(records.map((record) => `${record}\0`).join(""), "latin1");
  return Buffer.concat([u32(0x6c617263, text.length, filter.length), text, filter]);
}

export function attachBody(key: string, offset: number): Buffer {
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(offset));
  return Buffer.concat([head, Buffer.from(`${key}\0`, "latin1")]);
}

export class TestGuest {
  readonly folder: string;
  readonly socket: string;
  readonly launcher: ChildProcess;
  /** Pid of PID 1 outside, and what the fault pipe said. */
  readonly pid: Promise<number>;
  readonly fault: Promise<string>;
  readonly #clients: Client[] = [];

  constructor(options: GuestOptions = {}) {
    this.folder = mkdtempSync(join(tmpdir(), "corral-guest-"));
    this.socket = join(this.folder, "s");
    const file = join(this.folder, "facts");
    const ids = options.ids ?? "many";
    const records = [
      "user",
      "1000",
      "1000",
      "ids",
      ids === "many" ? "1" : "0",
      "env",
      "PATH=/usr/bin:/bin",
      "env",
      "BASE=base",
      ...(options.records ?? []),
    ];
    writeFileSync(file, facts(records, options.filter ?? testFilter()));
    const program = options.program ?? guestProgram();
    const args = [program, this.socket, file, ...(ids === "many" ? ["--ids", "200000", "65536"] : ["--one-id", "265536"])];
    if (options.cgroup) args.push("--cgroup", options.cgroup);
    if (options.memory) args.push("--memory", options.memory);
    if (options.pids) args.push("--pids", options.pids);
    const asan = program.endsWith("-asan");
    this.launcher = spawn(testProgram("launch", []), args, { stdio: ["pipe", "pipe", "inherit"], env: asan ? { LAUNCH_STDERR: "1" } : {} });
    let told = "";
    let tellPid!: (pid: number) => void;
    let tellFault!: (fault: string) => void;
    this.pid = new Promise((tell) => {
      tellPid = tell;
    });
    this.fault = new Promise((tell) => {
      tellFault = tell;
    });
    this.launcher.stdout?.on("data", (chunk: Buffer) => {
      told += chunk.toString("latin1");
      const lines = told.split("\n");
      if (lines.length > 1) tellPid(Number(lines[0]));
      if (/(^|\n)serving\n/.test(told)) tellFault(lines.slice(1, lines.indexOf("serving")).join("\n"));
    });
  }

  async client(): Promise<Client> {
    const fault = await this.fault;
    if (fault) throw new Error(`init failed: ${fault}`);
    const client = new Client(this.socket);
    this.#clients.push(client);
    return client;
  }

  async end(): Promise<void> {
    for (const client of this.#clients) client.close();
    const gone = new Promise((tell) => this.launcher.on("exit", tell));
    this.launcher.stdin?.end();
    if (this.launcher.exitCode === null && this.launcher.signalCode === null) await gone;
    rmSync(this.folder, { recursive: true, force: true });
  }
}
