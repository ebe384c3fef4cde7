// Durations and sizes as people write and read them. Parsing refuses what it does not know; nothing is guessed.
// Invariant: a parsed value is a positive whole number of milliseconds or bytes.

import { CorralError } from "../api/errors.ts";

const MS_PER: Readonly<Record<string, number>> = { ms: 1, "": 1000, s: 1000, m: 60_000, h: 3_600_000 };
const BYTES_PER: Readonly<Record<string, number>> = { "": 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };
/** Longest wait that a timer of 32 bits can hold, ms (about 24 days). */
const MAX_MS = 2 ** 31 - 1;

/** `90`, `90s`, `1.5m`, `2h`, `500ms`; a bare number is seconds. `option` names the source in the error. */
export function parseDuration(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  const ms = match === null ? Number.NaN : Math.round(Number(match[1]) * (MS_PER[match[2] ?? ""] ?? Number.NaN));
  if (!(ms >= 1 && ms <= MAX_MS)) {
    throw new CorralError(
      "request_invalid",
      `${option}: ${JSON.stringify(text)} is no duration between 1ms and 24 days; write 90 (seconds), 90s, 5m or 2h`,
    );
  }
  return ms;
}

/** `1048576`, `512M`, `2G`, `1.5GiB`; a bare number is bytes, letters are powers of 1024. */
export function parseSize(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)([bkmgt])?(?:i?b)?$/i.exec(text);
  const bytes = match === null ? Number.NaN : Math.round(Number(match[1]) * (BYTES_PER[(match[2] ?? "").toLowerCase()] ?? Number.NaN));
  if (!(bytes >= 1 && Number.isSafeInteger(bytes))) {
    throw new CorralError("request_invalid", `${option}: ${JSON.stringify(text)} is no size; write 512M, 2G or a number of bytes`);
  }
  return bytes;
}

export function formatMs(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** `0 B`, `12 KiB`, `3.4 GiB`. */
export function formatSize(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

export function formatCount(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
