// Writes a plan as the guest's `mask` tool reads it (guest/PROTOCOL.md, Tools). It decides nothing.
// Invariant: the count in the last record is that of all records, so a plan that lost bytes is never a smaller mask.

import type { Attributes, FileAttributes, PlanSink, Time } from "./plan.ts";

const FILE = 1;
const LINK = 2;
const ENTER = 3;
const LEAVE = 4;
const KEEP = 5;
const END = 6;
const OWN = 1;
const CONTENT = 2;
const PLACED = 4;
const HIGH = 0x1_0000_0000;
const BUFFER_BYTES = 1 << 17;
/** Longer than any record: a head, a name of 255 bytes, a target of 4095. */
const MAX_RECORD = 8192;

/** How a directory relates to the mask that is being brought up to date. */
export type EnterState = "fresh" | "changed" | "same";
const STATES: Readonly<Record<EnterState, number>> = { fresh: 0, changed: 1, same: 2 };

export class PlanBytes implements PlanSink {
  #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  #at = 0;
  /** What of the buffer was given away already. */
  #from = 0;
  #full: Buffer[] = [];
  #records = 0;

  enter(name: string, state: EnterState = "fresh"): void {
    this.#named(ENTER, STATES[state], name, 4);
  }

  /** Keeps directory `name` of the old mask, with all below it. */
  keep(name: string): void {
    this.#named(KEEP, 0, name, 4);
  }

  file(name: string, attributes: FileAttributes, size: number, time: Time): void {
    const { own, content, place } = attributes;
    const placed = content && place !== undefined;
    const at = this.#named(FILE, (own ? OWN : 0) | (content ? CONTENT : 0) | (placed ? PLACED : 0), name, 28);
    const to = this.#buffer;
    if (placed) {
      to.writeUInt16LE(place.length, this.#at);
      to.write(place, this.#at + 2, "latin1"); // there is room: a record's is reserved for the longest
      this.#at += 2 + place.length;
    }
    to.writeUInt32LE(attributes.mode, at + 4);
    to.writeUInt32LE(size % HIGH, at + 8);
    to.writeUInt32LE(Math.floor(size / HIGH), at + 12);
    this.#time(at + 16, time);
  }

  link(name: string, attributes: Attributes, target: string, time: Time): void {
    const at = this.#named(LINK, attributes.own ? OWN : 0, name, 20);
    this.#buffer.write(target, this.#at, "latin1"); // there is room: a record's is reserved for the longest
    this.#at += target.length;
    this.#buffer.writeUInt16LE(target.length, at + 4);
    this.#buffer.writeUInt16LE(0, at + 6);
    this.#time(at + 8, time);
  }

  leave(attributes: Attributes, time: Time): void {
    const at = this.#record(16);
    const to = this.#buffer;
    to[at] = LEAVE;
    to[at + 1] = attributes.own ? OWN : 0;
    to.writeUInt16LE(attributes.mode, at + 2);
    this.#time(at + 4, time);
  }

  /** Puts in records that another writer gave by `cut`. */
  append(records: readonly Buffer[], count: number): void {
    this.#flush();
    this.#full.push(...records);
    this.#records += count;
  }

  end(): void {
    const at = this.#record(8);
    this.#buffer.writeUInt32LE(END, at);
    this.#buffer.writeUInt32LE(this.#records - 1, at + 4);
  }

  get records(): number {
    return this.#records;
  }

  /** What was written and not taken yet. `all`: also what would fill no whole buffer. */
  take(all: boolean): Buffer[] {
    if (all) this.#flush();
    const full = this.#full;
    this.#full = [];
    return full;
  }

  /** What was written and not taken yet, as bytes that stay as they are; the rest of the buffer goes on being filled. */
  cut(): Buffer[] {
    if (this.#at > this.#from) this.#full.push(this.#buffer.subarray(this.#from, this.#at));
    this.#from = this.#at;
    return this.take(false);
  }

  #flush(): void {
    if (this.#at > this.#from) this.#full.push(this.#buffer.subarray(this.#from, this.#at));
    if (this.#at > 0) this.#buffer = Buffer.allocUnsafe(BUFFER_BYTES);
    this.#at = 0;
    this.#from = 0;
  }

  #record(bytes: number): number {
    if (this.#at + MAX_RECORD > BUFFER_BYTES) this.#flush();
    const at = this.#at;
    this.#at += bytes;
    this.#records++;
    return at;
  }

  /** A record that begins with type, flags and the length of a name, and has the name behind its head. */
  #named(type: number, flags: number, name: string, head: number): number {
    const at = this.#record(head + name.length);
    const to = this.#buffer;
    to[at] = type;
    to[at + 1] = flags;
    to.writeUInt16LE(name.length, at + 2);
    to.write(name, at + head, "latin1");
    return at;
  }

  #time(at: number, time: Time): void {
    const high = Math.floor(time.mtimeSeconds / HIGH);
    this.#buffer.writeUInt32LE(time.mtimeSeconds - high * HIGH, at);
    this.#buffer.writeInt32LE(high, at + 4);
    this.#buffer.writeUInt32LE(time.mtimeNs, at + 8);
  }
}
