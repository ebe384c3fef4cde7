// The reader of an interpreter's control channel against what hostile code may write there.

import { expect } from "vitest";
import { MAX_CODE_STRAY_BYTES } from "../../api/limits.ts";
import { verifies } from "../../../test/verifies.ts";
import { MessageReader, ResultRoom } from "./wire.ts";

const WORD = "w".repeat(20);
const OTHER = "v".repeat(20);
const line = (text: string): Buffer => Buffer.from(`\n${text}\n`);
const reader = (): MessageReader => {
  const made = new MessageReader();
  made.expect(WORD);
  return made;
};
const END = `${WORD}E.{"status":"ok","error":null}`;

verifies(
  "sandbox/context-wire",
  "of what an interpreter writes only whole messages under the word of the call count, checked and bounded",
  () => {
    expect(reader().push(line(END))).toEqual([{ kind: "end", status: "ok", error: null }]);
    // Whatever stands between lines, however the bytes are cut.
    const noise = Buffer.concat([
      Buffer.from("\0\xff{}", "latin1"),
      line(`${OTHER}E.{"status":"ok","error":null}`),
      Buffer.from("x".repeat(9_000)),
      line(END),
    ]);
    const byByte = reader();
    const found = [...noise].map((_, at) => byByte.push(noise.subarray(at, at + 1)) ?? ["broken"]).flat();
    expect(found).toEqual([{ kind: "end", status: "ok", error: null }]);
    const [first, second] = ['{"mime":{"text/plain":"a', 'b"},"isMain":true}'];
    const pieces = Buffer.concat([line(`${WORD}R+${first}`), Buffer.from("between"), line(`${WORD}R.${second}`)]);
    expect(reader().push(pieces)).toEqual([{ kind: "result", result: { mime: { "text/plain": "ab" }, isMain: true } }]);
    for (const wrong of [`${WORD}E.{`, `${WORD}E.[]`, `${WORD}E.{"status":"sure"}`, `${WORD}Q.{}`, `${WORD}R.{"mime":[]}`, `${WORD}R.null`])
      expect(reader().push(line(wrong)), wrong).toBeUndefined();
    // Pieces of two messages do not mix.
    expect(reader().push(Buffer.concat([line(`${WORD}R+{`), line(END)]))).toBeUndefined();
    const odd = { "__proto__/x": "kept", constructor: "x", "text/html": { a: 1 }, "application/json": { a: [1] }, "image/png": "AA==" };
    const [told] = reader().push(line(`${WORD}R.${JSON.stringify({ mime: odd, isMain: 1 })}`)) ?? [];
    expect(told).toEqual({ kind: "result", result: { mime: { "application/json": { a: [1] }, "image/png": "AA==" }, isMain: false } });
    const deep = `{"mime":{"application/json":${"[".repeat(1_500)}${"]".repeat(1_500)},"text/plain":"t"},"isMain":true}`;
    expect(reader().push(line(`${WORD}R.${deep}`))).toEqual([{ kind: "result", result: { mime: { "text/plain": "t" }, isMain: true } }]);
    const idle = new MessageReader();
    expect(idle.push(line(END))).toEqual([]);
    const flooded = reader();
    const flood = Buffer.alloc(1024 * 1024, "x\n");
    let rounds = 0;
    while (flooded.push(flood) !== undefined) rounds++;
    expect(Math.abs(rounds - MAX_CODE_STRAY_BYTES / flood.length)).toBeLessThan(2);
    const room = new ResultRoom();
    const large = { mime: { "text/plain": "x".repeat(9 * 1024 * 1024) }, isMain: true };
    expect([room.fit(large) === large, room.fit(large).mime["text/plain"]]).toEqual([true, expect.stringContaining("left out")]);
  },
);
