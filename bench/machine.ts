// What this machine is: the facts that stand beside every figure. Reads /proc and `os`, changes nothing.

import { readFileSync } from "node:fs";
import { arch, cpus, release, totalmem } from "node:os";

export function machine(): Readonly<Record<string, string>> {
  const list = cpus();
  return {
    cpu: `${list.length} × ${list[0]?.model.trim() ?? "unknown"}`,
    memory: `${Math.round(totalmem() / 1024 ** 3)} GiB`,
    kernel: release(),
    arch: arch(),
    system: distribution(),
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  };
}

function distribution(): string {
  try {
    const line = readFileSync("/etc/os-release", "utf8")
      .split("\n")
      .find((text) => text.startsWith("PRETTY_NAME="));
    return line?.slice("PRETTY_NAME=".length).replaceAll('"', "") ?? "unknown";
  } catch {
    return "unknown"; // a machine without os-release is no reason to refuse a figure
  }
}
