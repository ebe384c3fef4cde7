// Secrets on their way: placeholders become values in one header of one host, values become placeholders in what comes back.
// Knows no connection. Invariant: a value leaves this file only in the header that a rule names, and no answer of that host gives it back
// as it was sent.

import type { SecretFormat } from "../api/network.ts";
import { randomText } from "../base/random-text.ts";
import type { Header } from "./head.ts";

/** A secret of one sandbox. */
export interface SandboxSecret {
  readonly name: string;
  /** What the sandbox holds instead: `newPlaceholder()`. */
  readonly placeholder: string;
  /** Printable ASCII, 8 to 8,192 characters. */
  readonly value: string;
}

/** A secret at the place where it is used. */
export interface BoundSecret extends SandboxSecret {
  readonly header: string;
  readonly format: SecretFormat;
}

/** What to look for, and what to put in its place. */
export interface Needle {
  readonly find: Buffer;
  readonly put: Buffer;
}

/** SAFETY: a value breaks no head, and one shorter than this would be found in answers that do not mirror it. */
const VALUE = /^[\x21-\x7e](?:[\x20-\x7e]{6,8190})[\x21-\x7e]$/;
const PLACEHOLDER = /^corral_[A-Za-z0-9]{32,64}$/;
const BASIC = /^basic +([A-Za-z0-9+/]+={0,2})$/i;

export function isSecretValue(value: string): boolean {
  return VALUE.test(value);
}

export function isPlaceholder(text: string): boolean {
  return PLACEHOLDER.test(text);
}

/** Of one secret of one sandbox; says nothing of the value. */
export function newPlaceholder(): string {
  return `corral_${randomText(40)}`;
}

/** Headers with values in place of placeholders, and what to look for in the answer because of them. */
export function withSecrets(
  headers: readonly Header[],
  secrets: readonly BoundSecret[],
): { readonly headers: readonly Header[]; readonly sent: readonly Needle[] } {
  const sent: Needle[] = [];
  const changed = headers.map((header) => {
    const value = secrets
      .filter((secret) => secret.header === header.lower)
      .reduce(
        (text, secret) => (secret.format === "basic" ? basic(text, secret, sent) : text.replaceAll(secret.placeholder, () => secret.value)),
        header.value,
      );
    return value === header.value ? header : { ...header, value };
  });
  return { headers: changed, sent };
}

function basic(text: string, { placeholder, value }: BoundSecret, sent: Needle[]): string {
  const [, coded] = BASIC.exec(text) ?? [];
  const clear = coded === undefined ? "" : Buffer.from(coded, "base64").toString("latin1");
  if (coded === undefined || !clear.includes(placeholder)) return text;
  const filled = Buffer.from(
    clear.replaceAll(placeholder, () => value),
    "latin1",
  ).toString("base64");
  sent.push({ find: Buffer.from(filled), put: Buffer.from(coded) });
  return `Basic ${filled}`;
}

/** Every spelling in which an answer mirrors a value: as it is, in JSON, in a URL. */
export function needlesOf(secrets: readonly SandboxSecret[]): Needle[] {
  return secrets.flatMap(({ value, placeholder }) => {
    const spellings = new Set([value, JSON.stringify(value).slice(1, -1), encodeURIComponent(value), value.replaceAll("/", "\\/")]);
    return [...spellings].map((spelling) => ({ find: Buffer.from(spelling), put: Buffer.from(placeholder) }));
  });
}

/** A header's value or a reason with values turned back. */
export function maskText(text: string, needles: readonly Needle[]): string {
  return needles.reduce((masked, { find, put }) => masked.replaceAll(find.toString("latin1"), () => put.toString("latin1")), text);
}

/** Turns values back into placeholders in a stream, wherever it is cut. Holds back only what may be the beginning of one. */
export class Masker {
  readonly #needles: readonly Needle[];
  #held = Buffer.alloc(0);
  /** Values that were found. */
  found = 0;

  constructor(needles: readonly Needle[]) {
    this.#needles = needles.toSorted((a, b) => b.find.length - a.find.length);
  }

  take(chunk: Buffer): Buffer {
    let bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const out: Buffer[] = [];
    for (let next = this.#first(bytes); next !== undefined; next = this.#first(bytes)) {
      out.push(bytes.subarray(0, next.at), next.needle.put);
      bytes = bytes.subarray(next.at + next.needle.find.length);
      this.found += 1;
    }
    const kept = this.#beginning(bytes);
    this.#held = Buffer.from(bytes.subarray(bytes.length - kept));
    out.push(bytes.subarray(0, bytes.length - kept));
    return out.length === 1 && out[0] !== undefined ? out[0] : Buffer.concat(out);
  }

  /** What was held back: it is no value. */
  end(): Buffer {
    const rest = this.#held;
    this.#held = Buffer.alloc(0);
    return rest;
  }

  #first(bytes: Buffer): { readonly at: number; readonly needle: Needle } | undefined {
    let best: { at: number; needle: Needle } | undefined;
    for (const needle of this.#needles) {
      const at = bytes.indexOf(needle.find);
      if (at >= 0 && (best === undefined || at < best.at)) best = { at, needle };
    }
    return best;
  }

  /** Bytes at the end that may begin a value. */
  #beginning(bytes: Buffer): number {
    return Math.max(
      0,
      ...this.#needles.map(({ find }) => {
        for (let length = Math.min(find.length - 1, bytes.length); length > 0; length--)
          if (bytes.subarray(bytes.length - length).equals(find.subarray(0, length))) return length;
        return 0;
      }),
    );
  }
}
