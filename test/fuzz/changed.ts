// What a few wrong bytes make of sound ones. Invariant: the same choices of fast-check make the same bytes.

import fc from "fast-check";

/** Bytes, some of them exchanged, taken away or put in. */
export function changed(whole: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const byte = fc.oneof(fc.nat(255), fc.constantFrom(...Buffer.from("\r\n\t :,;0aA\0"), 0x0b, 0x80, 0xff));
  const change = fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom("put", "cut", "set", "twice"), byte);
  return fc.tuple(whole, fc.array(change, { maxLength: 4 })).map(([bytes, changes]) =>
    changes.reduce((now, [place, how, value]) => {
      const at = Math.floor(place * now.length);
      const kept = now.subarray(at + (how === "cut" || how === "set" ? 1 : 0));
      const put = how === "cut" ? Buffer.alloc(0) : how === "twice" ? now.subarray(at, at + value) : Buffer.from([value]);
      return Buffer.concat([now.subarray(0, at), put, kept]);
    }, bytes),
  );
}
