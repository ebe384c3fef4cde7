// The host side of the spawner's socket: starts `corral-guest spawner` or connects to one that an earlier process left, sends requests,
// gives answers to whoever asked. It decides nothing about sandboxes. Invariant: when the spawner is lost, every request that waits is
// refused with `spawner_lost`, and requests after it too; one that breaks the protocol is ended.

import type { Socket } from "node:net";
import { CorralError } from "../../api/errors.ts";
import type { RunTool } from "../../view/view.ts";
import { type Frame, FrameReader, FrameWriter, records, SPAWNER, strings } from "./frames.ts";
import { connectLink, type Link, startLink } from "./link.ts";
import { runTool, type ToolChannel, type ToolSink } from "./tool.ts";

export interface IdRange {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

export interface SpawnerOptions {
  readonly guestBinary: string;
  /** Ranges beside the caller's own id, for a user namespace; absent: as root. */
  readonly rootless?: { readonly uids: readonly IdRange[]; readonly gids: readonly IdRange[] };
  readonly allowWeaken?: boolean;
  /** Fault injection of tests, with `allowWeaken`: each CREATE fails at this step. */
  readonly failStep?: number;
  /** It outlives this process: successors come to the socket, and it waits so long for one. */
  readonly lasting?: { readonly socket: string; readonly waitMs: number };
}

export interface SpawnerEvents {
  /** A sandbox ended unasked. */
  readonly onDied: (death: Death) => void;
  /** It is gone and nobody asked it to. */
  readonly onLost: (spawner: Spawner, reason: string) => void;
}

export interface Death {
  readonly id: string;
  /** Containment step that failed; 0 when none did. */
  readonly step: number;
  readonly errno: number;
  readonly reason: string;
  /** What a create is refused with when this ended it. */
  readonly code: "overloaded" | "create_failed";
}

export interface Created {
  readonly pid: number;
  /** ms */
  readonly timings: Readonly<Record<string, number>>;
}

/** What an adopted spawner tells of itself. */
export interface Adopted {
  readonly facts: ReadonlyMap<string, string>;
  /** As it was configured with. */
  readonly mark: string;
  readonly cg2: { readonly dir: string; readonly controllers: readonly string[] } | undefined;
  readonly cg1: readonly { readonly controller: string; readonly dir: string }[];
  /** Sandboxes that live. */
  readonly sandboxes: readonly string[];
}

type Answer = { resolve(payload: Buffer): void; reject(error: CorralError): void };

export class Spawner {
  readonly #link: Link;
  readonly #writer: FrameWriter;
  readonly #socket: Socket;
  readonly #events: SpawnerEvents;
  readonly #waiting = new Map<number, Answer>();
  readonly #tools = new Map<number, ToolSink>();
  #nextId = 1;
  #lost: string | undefined;
  #closing = false;
  #configured = false;

  constructor(link: Link, events: SpawnerEvents) {
    this.#link = link;
    this.#events = events;
    this.#socket = link.socket;
    this.#writer = new FrameWriter(this.#socket);
    const reader = new FrameReader((frame) => this.#onFrame(frame));
    this.#socket.on("data", (chunk: Buffer) => {
      try {
        reader.push(chunk, chunk.length);
      } catch (error) {
        link.end(`the spawner broke the protocol: ${(error as Error).message}`);
      }
    });
    // Nothing more to do on an error: the process has left or is leaving, and its end is what counts.
    this.#socket.on("error", () => this.#socket.destroy());
    void link.ended.then((reason) => this.#end(reason));
  }

  /** Throws nothing: what is wrong with it is what `configure` is refused with. */
  static start(options: SpawnerOptions, events: SpawnerEvents): Spawner {
    return new Spawner(startLink(options.guestBinary, argv(options), options.lasting !== undefined), events);
  }

  /** `undefined`: nobody listens there, or it takes no client. */
  static async connect(path: string, events: SpawnerEvents): Promise<Spawner | undefined> {
    const link = await connectLink(path);
    return link === undefined ? undefined : new Spawner(link, events);
  }

  get pid(): number {
    return this.#link.pid;
  }

  /** The first request to a spawner that was connected to. Throws `spawner_lost` when it takes another client, or none. */
  async adopt(): Promise<Adopted> {
    const told = adopted(wholeStrings(await this.#ask(SPAWNER.adopt, Buffer.alloc(0))));
    this.#link.isProcess(Number(told.facts.get("pid")));
    this.#configured = true;
    return told;
  }

  async configure(list: readonly (readonly string[])[]): Promise<ReadonlyMap<string, string>> {
    const answer = await this.#ask(SPAWNER.configure, records(list));
    this.#configured = true;
    return pairs(wholeStrings(answer));
  }

  async create(list: readonly (readonly string[])[]): Promise<Created> {
    const answer = await this.#ask(SPAWNER.create, records(list));
    const ms = (index: number): number => answer.readUInt32LE(4 + 4 * index) / 1000;
    return { pid: answer.readUInt32LE(0), timings: { prepareMs: ms(0), cloneMs: ms(1), mapsMs: ms(2), cgroupMs: ms(3) } };
  }

  async destroy(id: string, scrub: readonly string[]): Promise<void> {
    await this.#ask(SPAWNER.destroy, records([["id", id], ...scrub.map((path) => ["scrub", path])]));
  }

  /** Into one that stands and in which nothing has run. */
  async mount(id: string, overlay: readonly (readonly string[])[]): Promise<void> {
    await this.#ask(SPAWNER.mount, records([["id", id], ...overlay]));
  }

  /** Asks for the state and tells whether everything of the sandbox stands still now; asking again is how to wait. */
  async freeze(id: string, frozen: boolean): Promise<boolean> {
    const list = [
      ["id", id],
      ["frozen", frozen ? "1" : "0"],
    ];
    return pairs(wholeStrings(await this.#ask(SPAWNER.freeze, records(list)))).get("frozen") === "1";
  }

  async stats(id: string): Promise<ReadonlyMap<string, number>> {
    const answer = await this.#ask(SPAWNER.stats, records([["id", id]]));
    return new Map([...pairs(wholeStrings(answer))].map(([key, value]) => [key, Number(value)]));
  }

  readonly tool: RunTool = (words, input) => {
    if (this.#lost !== undefined) throw this.#lostError();
    const id = this.#id();
    const channel: ToolChannel = {
      send: (type, payload) => this.#writer.send(type, id, payload),
      credit: (bytes) => this.#writer.sendU32(SPAWNER.credit, id, bytes),
      forget: () => this.#tools.delete(id),
    };
    this.#writer.send(SPAWNER.tool, id, records(words.map((word) => ["arg", word])));
    const { run, sink } = runTool(words, channel, input);
    this.#tools.set(id, sink);
    return run;
  };

  /** Ends every sandbox of it, then the process; resolves when it is gone. */
  async close(): Promise<void> {
    this.#closing = true;
    // Ending our half is what tells one that does not outlive us; what it still answers is read.
    if (this.#link.lasting && this.#lost === undefined) {
      this.#writer.send(SPAWNER.end, this.#id());
      this.#writer.flush();
    }
    this.#socket.end();
    await this.#link.gone();
  }

  #id(): number {
    const id = this.#nextId;
    this.#nextId = id === 0xffff_ffff ? 1 : id + 1;
    return id;
  }

  #ask(type: number, payload: Buffer): Promise<Buffer> {
    if (this.#lost !== undefined) return Promise.reject(this.#lostError());
    const id = this.#id();
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    this.#waiting.set(id, { resolve, reject });
    this.#writer.send(type, id, payload);
    return promise;
  }

  #onFrame(frame: Frame): void {
    const { type, id, buffer, start, end } = frame;
    if (type === SPAWNER.died) {
      this.#events.onDied(death(strings(frame)));
      return;
    }
    const tool = this.#tools.get(id);
    if (tool !== undefined) {
      tool.frame(frame);
      return;
    }
    const answer = this.#waiting.get(id);
    if (answer === undefined || (type !== SPAWNER.ok && type !== SPAWNER.error))
      throw new CorralError("guest_protocol", `an answer nobody asked for (type ${type})`);
    this.#waiting.delete(id);
    if (type === SPAWNER.ok) answer.resolve(Buffer.from(buffer.subarray(start, end)));
    else answer.reject(refusal(frame));
  }

  #lostError(): CorralError {
    const kept = this.#configured ? "; its sandboxes are gone, their deltas are kept" : "";
    return new CorralError("spawner_lost", `${this.#lost ?? "the spawner ended"}${kept}`);
  }

  #end(reason: string): void {
    if (this.#lost !== undefined) return;
    this.#lost = reason;
    this.#writer.close();
    this.#socket.destroy();
    const error = this.#lostError();
    for (const answer of this.#waiting.values()) answer.reject(error);
    this.#waiting.clear();
    for (const sink of this.#tools.values()) sink.lost(error);
    this.#tools.clear();
    if (!this.#closing) this.#events.onLost(this, reason);
  }
}

function argv(options: SpawnerOptions): string[] {
  const words = ["spawner", "--fd", "3"];
  if (options.rootless !== undefined) {
    words.push("--rootless");
    for (const [flag, ranges] of [["--map", options.rootless.uids] as const, ["--gid-map", options.rootless.gids] as const]) {
      for (const range of ranges) words.push(flag, String(range.inside), String(range.outside), String(range.count));
    }
  }
  if (options.lasting !== undefined) words.push("--listen", options.lasting.socket, "--wait-ms", String(options.lasting.waitMs));
  if (options.allowWeaken === true) words.push("--allow-weaken");
  if (options.failStep !== undefined) words.push("--fail-step", String(options.failStep));
  return words;
}

function wholeStrings(buffer: Buffer): string[] {
  return strings({ buffer, start: 0, end: buffer.length });
}

function pairs(list: readonly string[]): Map<string, string> {
  const map = new Map<string, string>();
  for (let i = 0; i + 1 < list.length; i += 2) map.set(list[i] ?? "", list[i + 1] ?? "");
  return map;
}

/** Throws `guest_protocol` for an id that could lead elsewhere when it is joined to a path. */
function adopted(list: readonly string[]): Adopted {
  const facts = new Map<string, string>();
  const cg1: { controller: string; dir: string }[] = [];
  const sandboxes: string[] = [];
  let cg2: Adopted["cg2"];
  for (let i = 0; i < list.length; ) {
    const [verb = "", first = "", second = ""] = list.slice(i, i + 3);
    i += 3;
    if (verb === "sandbox") sandboxes.push(first);
    else if (verb === "cg1") cg1.push({ controller: first, dir: second });
    else if (verb === "cg2") cg2 = { dir: first, controllers: second.split(",").filter((name) => name !== "") };
    else {
      facts.set(verb, first);
      i -= 1;
    }
  }
  const odd = sandboxes.find((id) => !/^[a-z0-9]{2,32}$/.test(id));
  if (odd !== undefined) throw new CorralError("guest_protocol", `the spawner told of a sandbox ${JSON.stringify(odd)}, which is no id`);
  return { facts, mark: facts.get("mark") ?? "", cg2, cg1, sandboxes };
}

function death(list: readonly string[]): Death {
  const fields = pairs(list);
  const step = Number(fields.get("step") ?? 0);
  const status = Number(fields.get("status") ?? 0);
  const message = fields.get("message") ?? "";
  const how = (status & 0x7f) === 0 ? `exit status ${(status >> 8) & 0xff}` : `signal ${status & 0x7f}`;
  const errno = Number(fields.get("errno") ?? 0);
  const reason = step === 0 ? `PID 1 ended by ${how}` : `containment step ${step} failed: ${message} (errno ${errno})`;
  return { id: fields.get("id") ?? "", step, errno, reason, code: createFailure(errno) };
}

/** errno values that a caller can act on. */
const ENOSPC = 28;
const ESRCH = 3;
const EMFILE = 24;
const ENFILE = 23;
const EAGAIN = 11;
const ENOMEM = 12;

/** The node is full, of whatever, or the sandbox could not be made for another reason. */
function createFailure(errno: number): "overloaded" | "create_failed" {
  return [EMFILE, ENFILE, EAGAIN, ENOMEM, ENOSPC].includes(errno) ? "overloaded" : "create_failed";
}

function refusal({ buffer, start, end }: Frame): CorralError {
  if (end - start < 9) return new CorralError("guest_protocol", "the spawner refused a request without saying why");
  const errno = buffer.readInt32LE(start);
  const step = buffer.readUInt32LE(start + 4);
  const message = buffer.toString("utf8", start + 8, end - 1);
  const where = step === 0 ? "" : ` at containment step ${step}`;
  const details = { errno, step };
  if (errno === ESRCH && step === 0)
    return new CorralError("sandbox_lost", `the spawner refused: ${message} any more; it ended meanwhile`, { details });
  if (errno === ENOSPC && step === 4)
    return new CorralError("disk_full", `the spawner refused${where}: ${message}: no space left (errno 28); free some`, { details });
  return new CorralError(createFailure(errno), `the spawner refused${where}: ${message} (errno ${errno})`, { details });
}
