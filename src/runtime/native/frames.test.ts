import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_FRAME_BYTES } from "../../api/limits.ts";
import { FrameReader, FrameWriter, HEADER_BYTES, records, strings } from "./frames.ts";

interface Sent {
  readonly type: number;
  readonly id: number;
  readonly payload: Buffer;
}

function encode(frames: readonly Sent[]): Buffer {
  return Buffer.concat(
    frames.flatMap(({ type, id, payload }) => {
      const head = Buffer.alloc(HEADER_BYTES);
      head.writeUInt32LE(payload.length, 0);
      head.writeUInt32LE(id, 4);
      head[8] = type;
      return [head, payload];
    }),
  );
}

function collector(): { reader: FrameReader; seen: Sent[] } {
  const seen: Sent[] = [];
  const reader = new FrameReader(({ type, id, buffer, start, end }) =>
    seen.push({ type, id, payload: Buffer.from(buffer.subarray(start, end)) }),
  );
  return { reader, seen };
}

const frame = fc.record({
  type: fc.integer({ min: 0, max: 255 }),
  id: fc.nat(0xffff_ffff),
  payload: fc.uint8Array({ maxLength: 3000 }).map((bytes) => Buffer.from(bytes)),
});

describe("FrameReader", () => {
  it("gives the same frames however the stream is cut", () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 20 }),
        (frames, cuts) => {
          const bytes = encode(frames);
          const { reader, seen } = collector();
          // One buffer for all reads, overwritten each time, as sockets do it.
          const shared = Buffer.alloc(5000);
          for (let at = 0, n = 0; at < bytes.length; n++) {
            const length = Math.min(cuts[n % cuts.length] ?? 1, bytes.length - at);
            shared.fill(0xee);
            bytes.copy(shared, 0, at, at + length);
            reader.push(shared, length);
            at += length;
          }
          expect(seen).toEqual(frames);
        },
      ),
    );
  });

  it("takes the largest frame, byte by byte at its head", () => {
    const big: Sent = { type: 67, id: 9, payload: Buffer.alloc(MAX_FRAME_BYTES, 7) };
    const bytes = encode([big, { type: 1, id: 2, payload: Buffer.alloc(0) }]);
    const { reader, seen } = collector();
    for (let at = 0; at < 20; at++) reader.push(bytes.subarray(at, at + 1), 1);
    for (let at = 20; at < bytes.length; at += 100_000) reader.push(bytes.subarray(at), Math.min(100_000, bytes.length - at));
    expect(seen.map(({ type, id, payload }) => [type, id, payload.length])).toEqual([
      [67, 9, MAX_FRAME_BYTES],
      [1, 2, 0],
    ]);
  });

  it("refuses a length above the limit before any of it comes, and bytes that must be zero", () => {
    for (const spoil of [
      (head: Buffer) => head.writeUInt32LE(MAX_FRAME_BYTES + 1, 0),
      (head: Buffer) => head.writeUInt32LE(0xffff_ffff, 0),
      (head: Buffer) => head.writeUInt8(1, 9),
      (head: Buffer) => head.writeUInt8(1, 11),
    ]) {
      const head = Buffer.alloc(HEADER_BYTES);
      spoil(head);
      expect(() => collector().reader.push(head, HEADER_BYTES)).toThrow(expect.objectContaining({ code: "guest_protocol" }));
      const { reader } = collector();
      expect(() => {
        for (const byte of head) reader.push(Buffer.from([byte]), 1);
      }).toThrow(expect.objectContaining({ code: "guest_protocol" }));
    }
  });
});

describe("FrameWriter", () => {
  it("hands over the frames of one turn in one write, and none twice", async () => {
    const writes: Buffer[] = [];
    const writer = new FrameWriter({ write: (bytes) => writes.push(Buffer.from(bytes)) });
    writer.send(1, 1, Buffer.from("a"));
    writer.sendU32(7, 2, 99);
    await Promise.resolve().then(() => writer.send(3, 3));
    expect(writes).toEqual([]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(writes.length).toBe(1);
    const { reader, seen } = collector();
    for (const bytes of writes) reader.push(bytes, bytes.length);
    expect(seen).toEqual([
      { type: 1, id: 1, payload: Buffer.from("a") },
      { type: 7, id: 2, payload: Buffer.from([99, 0, 0, 0]) },
      { type: 3, id: 3, payload: Buffer.alloc(0) },
    ]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(writes.length).toBe(1);
  });

  it("keeps order and bytes for any mixture of sizes", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ type: fc.integer({ min: 0, max: 255 }), id: fc.nat(), size: fc.integer({ min: 0, max: 40_000 }) }), {
          maxLength: 12,
        }),
        async (list) => {
          const frames = list.map(({ type, id, size }) => ({ type, id, payload: Buffer.alloc(size, type) }));
          const writes: Buffer[] = [];
          const writer = new FrameWriter({ write: (bytes) => writes.push(Buffer.from(bytes)) });
          for (const { type, id, payload } of frames) writer.send(type, id, payload);
          await new Promise((resolve) => setImmediate(resolve));
          expect(Buffer.concat(writes).equals(encode(frames))).toBe(true);
        },
      ),
      { numRuns: 50 },
    );
  });

  it("refuses a payload that no frame can hold", () => {
    const writer = new FrameWriter({ write: () => undefined });
    expect(() => writer.send(1, 1, Buffer.alloc(MAX_FRAME_BYTES + 1))).toThrow(expect.objectContaining({ code: "request_invalid" }));
  });
});

function whole(buffer: Buffer): string[] {
  return strings({ buffer, start: 0, end: buffer.length });
}

describe("records", () => {
  it("travel as strings that cannot become other records", () => {
    expect(whole(records([["env", "A=\nid x"], ["end"]]))).toEqual(["env", "A=\nid x", "end"]);
    expect(() => records([["env", "A=\0end"]])).toThrow(expect.objectContaining({ code: "request_invalid" }));
  });

  it("that are cut off are no strings", () => {
    expect(() => whole(Buffer.from("a\0b"))).toThrow(expect.objectContaining({ code: "guest_protocol" }));
  });
});
