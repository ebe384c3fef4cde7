// IP addresses and ranges as numbers, in one spelling each. Not a judge of which may be reached. Invariant: what `parseAddress` takes it
// prints in one way only, and two addresses are equal exactly when their texts are.

export interface Address {
  readonly family: 4 | 6;
  readonly value: bigint;
  /** RFC 5952, hexadecimal throughout; dotted decimal for IPv4. */
  readonly text: string;
}

export interface Range {
  readonly family: 4 | 6;
  readonly value: bigint;
  readonly prefix: number;
  readonly text: string;
}

const BITS = { 4: 32, 6: 128 } as const;
const OCTET = "(?:0|[1-9]\\d?|1\\d\\d|2[0-4]\\d|25[0-5])";
const DOTTED = new RegExp(`^${OCTET}(?:\\.${OCTET}){3}$`);
const LONGEST_TEXT = 45;

/** Any spelling of RFC 4291, without zone; IPv4 as four decimal numbers without leading zeros. `undefined` for everything else. */
export function parseAddress(text: string): Address | undefined {
  if (text.length > LONGEST_TEXT) return undefined;
  if (DOTTED.test(text)) return { family: 4, value: dotted(text), text };
  const groups = groupsOf(text);
  if (groups === undefined) return undefined;
  return address(
    6,
    groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n),
  );
}

export function address(family: 4 | 6, value: bigint): Address {
  return { family, value, text: family === 4 ? dottedText(value) : groupsText(value) };
}

/** `ADDRESS/PREFIX` without bits behind the prefix, or one address. */
export function parseRange(text: string): Range | undefined {
  const [head = "", tail, ...rest] = text.split("/");
  const base = parseAddress(head);
  if (base === undefined || base.text !== head || rest.length > 0) return undefined;
  if (tail !== undefined && !/^(?:0|[1-9]\d{0,2})$/.test(tail)) return undefined;
  const prefix = tail === undefined ? BITS[base.family] : Number(tail);
  if (prefix > BITS[base.family]) return undefined;
  const parsed = { family: base.family, value: base.value, prefix, text: `${base.text}/${prefix}` };
  return (base.value & (mask(parsed) ^ full(base.family))) === 0n ? parsed : undefined;
}

/** One of ours; throws for a text that is none. */
export function range(text: string): Range {
  const parsed = parseRange(text);
  if (parsed === undefined) throw new TypeError(`${text} is no range of addresses`);
  return parsed;
}

export function contains(outer: Range, inner: Address | Range): boolean {
  if (outer.family !== inner.family) return false;
  if ("prefix" in inner && inner.prefix < outer.prefix) return false;
  return (inner.value & mask(outer)) === outer.value;
}

export function overlaps(a: Range, b: Range): boolean {
  return contains(a, b) || contains(b, a);
}

function full(family: 4 | 6): bigint {
  return (1n << BigInt(BITS[family])) - 1n;
}

function mask({ family, prefix }: Pick<Range, "family" | "prefix">): bigint {
  const shift = BigInt(BITS[family] - prefix);
  return (full(family) >> shift) << shift;
}

function dotted(text: string): bigint {
  return text.split(".").reduce((value, octet) => (value << 8n) | BigInt(octet), 0n);
}

function dottedText(value: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 255n)).join(".");
}

/** The eight groups of an IPv6 address. */
function groupsOf(text: string): number[] | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const parts = halves.map((half, index) => (half === "" ? [] : half.split(":").flatMap(groupsIn(index === halves.length - 1))));
  const groups = parts.flat();
  if (groups.includes(Number.NaN)) return undefined;
  if (halves.length === 1) return groups.length === 8 ? groups : undefined;
  if (groups.length > 7) return undefined;
  return [...(parts[0] ?? []), ...Array.from({ length: 8 - groups.length }, () => 0), ...(parts[1] ?? [])];
}

/** The last part of an address may be an IPv4 address. */
function groupsIn(isLastHalf: boolean): (part: string, index: number, all: readonly string[]) => number[] {
  return (part, index, all) => {
    if (/^[0-9a-f]{1,4}$/i.test(part)) return [Number.parseInt(part, 16)];
    if (!isLastHalf || index !== all.length - 1 || !DOTTED.test(part)) return [Number.NaN];
    const value = Number(dotted(part));
    return [Math.floor(value / 65_536), value % 65_536];
  };
}

function groupsText(value: bigint): string {
  const groups = Array.from({ length: 8 }, (_, index) => Number((value >> BigInt(112 - 16 * index)) & 0xffffn));
  const { start, length } = longestZeros(groups);
  const text = (some: readonly number[]): string => some.map((group) => group.toString(16)).join(":");
  return length < 2 ? text(groups) : `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}

function longestZeros(groups: readonly number[]): { readonly start: number; readonly length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}
