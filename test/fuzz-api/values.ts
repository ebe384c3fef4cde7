// Values for schemas: good ones, and ones that a client with bad manners or bad intent would send.

import type { Chance } from "../faults/chance.ts";
import type { Schema } from "./document.ts";

/** Ids and the like that were seen, by the name of the field that takes them. */
export type Pool = (name: string) => string | undefined;

const WORDS: Readonly<Record<string, readonly string[]>> = {
  command: [
    "true",
    "echo hello",
    "cat",
    "exit 3",
    "echo out; echo err >&2",
    "pwd; ls -la",
    "head -c 100000 /dev/zero",
    "kill -9 $$",
    "read x",
  ],
  cwd: ["/workspace", "/", "/tmp", "/none", "relative", "/etc/passwd"],
  path: [
    "/workspace/a",
    "/workspace/a",
    "a",
    "/workspace",
    "/tmp/b",
    "/",
    "a",
    "a/b",
    ".",
    "/workspace/../tmp/x",
    "/proc/self/mem",
    "/dev/zero",
  ],
  from: ["/workspace/a", "/tmp/b", "a"],
  to: ["/workspace/c", "/tmp/d", "c"],
  target: ["a", "/etc/passwd", "../../.."],
  signal: ["SIGTERM", "SIGINT", "SIGKILL", "SIGNONE", "9"],
  policy: ["agent-safe", "full-access", "read-only", "none"],
  name: ["one", "two", "täst"],
  ownerId: ["ann", "bob", "admin"],
  dir: ["/none", "relative"],
  mode: ["644", "755", "9"],
  kind: ["sandbox.created", "x"],
};

export function good(schema: Schema, chance: Chance, pool: Pool, name = ""): unknown {
  if (schema.const !== undefined) return schema.const;
  if (schema.enum !== undefined) return chance.pick(schema.enum);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return good(chance.pick(choices) ?? {}, chance, pool, name);
  const type = typeof schema.type === "string" ? schema.type : chance.pick(schema.type ?? []);
  switch (type) {
    case "object":
      return goodObject(schema, chance, pool);
    case "array":
      return Array.from({ length: Math.max(schema.minItems ?? 0, chance.below(3)) }, () => good(schema.items ?? {}, chance, pool, name));
    case "integer":
    case "number":
      return goodNumber(schema, chance, name);
    case "boolean":
      return chance.of(1, 2);
    case "null":
      return null;
    default:
      return goodText(schema, chance, pool, name);
  }
}

function goodObject({ properties = {}, required = [], additionalProperties }: Schema, chance: Chance, pool: Pool): Record<string, unknown> {
  const made: Record<string, unknown> = {};
  for (const [key, schema] of Object.entries(properties))
    if (required.includes(key) || chance.of(1, 3)) made[key] = good(schema, chance, pool, key);
  if (typeof additionalProperties === "object" && chance.of(1, 2))
    made[chance.pick(["KEY", "a.b", "Ünicode"]) ?? ""] = good(additionalProperties, chance, pool);
  return made;
}

function goodNumber({ minimum = 0, maximum = Number.MAX_SAFE_INTEGER }: Schema, chance: Chance, name: string): number {
  // Waits are short: a fuzzer that sleeps finds nothing.
  if (name.endsWith("Ms") && chance.of(9, 10)) return Math.max(minimum, chance.below(300));
  if (name.endsWith("Bytes") && chance.of(9, 10)) return 64 * 1024 * 1024 + chance.below(1_000_000);
  return chance.pick([minimum, maximum, minimum + chance.below(10), Math.min(maximum, minimum + chance.below(100_000))]) ?? minimum;
}

function goodText({ minLength = 0, maxLength = 64, format, contentEncoding }: Schema, chance: Chance, pool: Pool, name: string): string {
  const text = pool(name) ?? chance.pick(WORDS[name] ?? ["x", "hello", "a=b", "7", "true", ""]) ?? "";
  if (format === "base64" || contentEncoding === "base64" || /^(base64|stdin)$/.test(name)) return Buffer.from(text).toString("base64");
  return text.padEnd(minLength, "x").slice(0, maxLength);
}

/** One that most schemas refuse, or should survive. */
export function hostile(chance: Chance): unknown {
  const make = chance.pick(HOSTILE) ?? (() => null);
  return make(chance);
}

const HOSTILE: readonly ((chance: Chance) => unknown)[] = [
  () => null,
  () => true,
  () => -1,
  () => 0,
  () => 1.5,
  () => 2 ** 53,
  () => -(2 ** 63),
  () => 1e308,
  () => "",
  () => "\0",
  () => "a\0b",
  () => "\r\nx-evil: 1",
  () => "\u{202e}\u{1f600}\ud800",
  () => "../../../../etc/passwd",
  () => "%00%2e%2e%2f",
  () => "'; DROP TABLE sandboxes; --",
  () => "$(reboot)`reboot`",
  () => "__proto__",
  () => "x".repeat(5_000),
  (chance) => "é".repeat(1 + chance.below(200_000)),
  () => [],
  () => [[[[]]]],
  () => ({}),
  () => ({ toString: 1, constructor: { prototype: null } }),
  (chance) => Array.from({ length: chance.below(5_000) }, (_, n) => n),
];

/** The same with one place made worse; `value` is a plain JSON value. */
export function worse(value: unknown, chance: Chance): unknown {
  if (value === null || typeof value !== "object" || chance.of(1, 8)) return hostile(chance);
  if (Array.isArray(value)) {
    if (value.length === 0) return [hostile(chance)];
    const at = chance.below(value.length);
    return value.map((item: unknown, n) => (n === at ? worse(item, chance) : item));
  }
  const entries = Object.entries(value);
  const key = chance.pick(entries)?.[0];
  if (key === undefined || chance.of(1, 6))
    return { ...value, [chance.pick(["x", "__proto__", "constructor", "", "id"]) ?? ""]: hostile(chance) };
  if (chance.of(1, 5)) return Object.fromEntries(entries.filter(([name]) => name !== key));
  return Object.fromEntries(entries.map(([name, item]): [string, unknown] => [name, name === key ? worse(item, chance) : item]));
}
