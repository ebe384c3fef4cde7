// What is in force, as a file that could be given back: YAML with the source of each value beside it. Invariant: no password is in it.

import type { ReadConfig } from "./read.ts";
import { configKeys, SECRET_KEYS } from "./schema.ts";

export interface PrintedKey {
  readonly value: unknown;
  readonly source: string;
}

export function describeConfig({ config, sources }: ReadConfig): ReadonlyMap<string, PrintedKey> {
  const found = new Map<string, PrintedKey>();
  const keys = configKeys();
  const walk = (value: unknown, path: string): void => {
    // A key may have an object for its value: that one is a whole.
    if (!keys.has(path) && typeof value === "object" && value !== null && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value)) walk(inner, path === "" ? key : `${path}.${key}`);
      return;
    }
    found.set(path, { value: SECRET_KEYS.has(path) ? withoutPassword(value) : value, source: sources.get(path) ?? "default" });
  };
  walk(config, "");
  return found;
}

export function printConfig(keys: ReadonlyMap<string, PrintedKey>): string {
  let text = "";
  let open: readonly string[] = [];
  for (const [path, { value, source }] of keys) {
    const parts = path.split(".");
    const sections = parts.slice(0, -1);
    for (const [depth, name] of sections.entries())
      if (open[depth] !== name || open.slice(0, depth).join(".") !== sections.slice(0, depth).join("."))
        text += `${"  ".repeat(depth)}${name}:\n`;
    open = sections;
    text += `${"  ".repeat(sections.length)}${parts.at(-1)}: ${JSON.stringify(value)} # ${source}\n`;
  }
  return text;
}

function withoutPassword(value: unknown): unknown {
  if (typeof value !== "string") return value;
  try {
    const url = new URL(value);
    if (url.password !== "") url.password = "***";
    for (const name of [...url.searchParams.keys()]) if (/pass|secret|key/i.test(name)) url.searchParams.set(name, "***");
    return url.href;
  } catch {
    return "***";
  }
}
