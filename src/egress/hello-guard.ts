// Looks at what follows the first hello of an unread tunnel: a server may ask for a second one (TLS 1.3, HelloRetryRequest), and that one
// must name the same host. Invariant: no second hello in clear passes unread.

import { MAX_HELLO_BYTES, readClientHello } from "./client-hello.ts";

const CHANGE_CIPHER_SPEC = 20;
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const HEADER = 5;

/** Of what comes after the first hello: gives what may pass, `undefined` when it may not. */
export function helloGuard(host: string): (bytes: Buffer) => Buffer | undefined {
  let held: Buffer | undefined = Buffer.alloc(0);
  return (bytes) => {
    if (held === undefined) return bytes;
    held = Buffer.concat([held, bytes]);
    let skip = 0;
    while (held.length > skip && held[skip] === CHANGE_CIPHER_SPEC) {
      if (held.length < skip + HEADER) break;
      skip += HEADER + held.readUInt16BE(skip + 3);
    }
    const rest = held.subarray(skip);
    if (rest.length <= HEADER && (rest.length === 0 || rest[0] === HANDSHAKE || rest[0] === CHANGE_CIPHER_SPEC)) return tooLong(held);
    const isHello = rest[0] === HANDSHAKE && rest[HEADER] === CLIENT_HELLO;
    const hello = isHello ? readClientHello(rest) : undefined;
    if (hello === "more") return tooLong(held);
    if (typeof hello === "string" || (hello !== undefined && hello.host.text !== host)) return undefined;
    const passed = held;
    held = undefined;
    return passed;
  };
}

function tooLong(held: Buffer): Buffer | undefined {
  return held.length > MAX_HELLO_BYTES ? undefined : Buffer.alloc(0);
}
