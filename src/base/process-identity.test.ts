import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, it } from "vitest";
import { identify, isAlive } from "./process-identity.ts";

it("a living process is alive, and no longer once it ended", async () => {
  const child = spawn("sleep", ["30"]);
  const identity = identify(child.pid ?? 0);
  if (identity === undefined) throw new Error("the child has no identity");
  expect(isAlive(identity)).toBe(true);
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(isAlive(identity)).toBe(false);
});

it("another process with the same pid, or the same pid after a boot, is not it", () => {
  const self = identify(process.pid);
  if (self === undefined) throw new Error("no identity");
  expect(isAlive({ ...self, startTicks: "1" })).toBe(false);
  expect(isAlive({ ...self, bootId: "other" })).toBe(false);
});
