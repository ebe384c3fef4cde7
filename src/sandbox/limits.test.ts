import { expect, it } from "vitest";
import { checkExec } from "./exec-request.ts";
import { heldLimits } from "./limits.ts";
import { signalName, signalNumber } from "./signals.ts";

it("limits that cannot hold are refused with their name, never clamped", () => {
  expect(heldLimits({ memoryBytes: 64 * 1024 ** 2, cpus: 0.5 })).toMatchObject({ memoryBytes: 64 * 1024 ** 2, cpus: 0.5, pids: 4096 });
  for (const limits of [
    { memoryBytes: 1 },
    { pids: 1.5 },
    { cpus: 0 },
    { cpus: Number.NaN },
    { openFiles: -1 },
    { diskBytes: 0 },
    { inodes: Infinity },
  ]) {
    const [name = ""] = Object.keys(limits);
    expect(() => heldLimits(limits)).toThrow(`limits.${name}: expected`);
  }
});

it("a request that the guest could not be told without loss is refused with its field", () => {
  const bad = [
    [{ command: [] }, "command"],
    [{ command: ["a\0b"] }, "command"],
    [{ command: ["x".repeat(2 * 1024 ** 2)] }, "command"],
    [{ command: "true", cwd: "relative" }, "cwd"],
    [{ command: "true", env: { "A=B": "" } }, "env"],
    [{ command: "true", env: { A: "\0" } }, "env"],
    [{ command: "true", timeoutMs: 0 }, "timeoutMs"],
    [{ command: "true", idleTimeoutMs: 1.5 }, "idleTimeoutMs"],
    [{ command: "true", outputBytes: -1 }, "outputBytes"],
    [{ command: "true", pty: { rows: 0, cols: 1 } }, "pty"],
  ] as const;
  for (const [request, field] of bad) expect(checkExec(request)).toContain(`${field}: `);
  expect(checkExec({ command: ["a", ""], cwd: "/", env: { A: "=" }, timeoutMs: 1, outputBytes: Infinity })).toBeUndefined();
});

it("signals go by the name that people use", () => {
  expect([signalName(0), signalName(6), signalName(9), signalName(29), signalName(34), signalName(40)]).toEqual([
    null,
    "SIGABRT",
    "SIGKILL",
    "SIGIO",
    "SIGRTMIN",
    "SIGRTMIN+6",
  ]);
  expect(signalNumber("SIGPIPE")).toBe(13);
  expect(() => signalNumber("SIGNOPE")).toThrow("is no signal");
});
