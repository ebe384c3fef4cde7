// The name or address that a connection is for: the only parser of names here. Not a resolver.
// Invariant: a Host is made by `Host.parse` alone, from one spelling; what another program could read in a second way is no Host.

import { type Address, parseAddress } from "./address.ts";

const MAX_NAME = 253;
const NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/;
/** SAFETY: what resolvers and browsers read as a number: `127.1`, `0x7f000001`, `2130706433`. */
const NUMBER = /(?:^|\.)(?:\d+|0x[0-9a-f]*)$/;

export class Host {
  /** Lower-case labels, or the canonical spelling of an address, without brackets. */
  readonly text: string;
  readonly address: Address | undefined;

  private constructor(text: string, address: Address | undefined) {
    this.text = text;
    this.address = address;
  }

  /** An ASCII name in any case, or an address in its canonical spelling. No brackets, port, zone, trailing dot, or anything around it. */
  static parse(text: string): Host | undefined {
    if (text.length > MAX_NAME) return undefined;
    const address = parseAddress(text);
    if (address !== undefined) return address.text === text ? new Host(text, address) : undefined;
    // SAFETY: tested before it is made lower case: some letters beyond ASCII become ASCII ones.
    if (!/^[A-Za-z0-9.-]+$/.test(text)) return undefined;
    const name = text.toLowerCase();
    return NAME.test(name) && !NUMBER.test(name) ? new Host(name, undefined) : undefined;
  }

  /** `host`, `host:port`, `[address]` or `[address]:port`; without a port, `port` is what is meant. */
  static parseAuthority(text: string, port: number): { readonly host: Host; readonly port: number } | undefined {
    const match = /^(?:\[([0-9a-f:]+)\]|([A-Za-z0-9.-]+))(?::([1-9]\d{0,4}))?$/.exec(text);
    if (match === null) return undefined;
    const [, inBrackets, plain, tail] = match;
    const host = Host.parse(inBrackets ?? plain ?? "");
    const isOfKind = (host?.address?.family === 6) === (inBrackets !== undefined);
    const wanted = tail === undefined ? port : Number(tail);
    return host === undefined || !isOfKind || wanted > 65_535 ? undefined : { host, port: wanted };
  }

  /** As it stands in a URL and in `Host`. */
  get inUrl(): string {
    return this.address?.family === 6 ? `[${this.text}]` : this.text;
  }
}
