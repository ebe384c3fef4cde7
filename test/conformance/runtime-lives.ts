// Rows of the runtime suite: how sandboxes end, are lost, stand still, and live beside each other.

import { expect, it, onTestFinished } from "vitest";
import { verifies } from "../verifies.ts";
import { hostPid, IDLE, type Lab, leftovers, output, readText, run, start } from "./runtime-lab.ts";

/** The kernel ends killed processes after the call that kills them. */
const SOON = { interval: 20 };

export function lives(lab: () => Lab): void {
  verifies("runtime/destroy-leaves-nothing", "leaves no process, socket or cgroup behind when it is destroyed, however busy", async () => {
    const container = await lab().make();
    const pid = await hostPid(container);
    const busy = start(container, "/workspace/peek daemon; setsid sleep 300 & yes > /dev/null & echo up; wait");
    busy.ended.catch(() => undefined);
    await busy.said("up");
    expect(leftovers(container.id, lab().dir)).not.toEqual([]);
    await container.destroy();
    await container.destroy();
    await expect(busy.ended).rejects.toThrow(/lost/);
    await expect.poll(() => readText(`/proc/${pid}/status`), SOON).toBe("");
    expect(leftovers(container.id, lab().dir)).toEqual([]);
    expect(() => container.exec({ ...IDLE, argv: ["true"] })).toThrow(/no more requests/);
  });

  verifies("runtime/lost-is-told", "says that it was lost when its PID 1 is killed from outside", async () => {
    const container = await lab().make();
    const command = start(container, "echo up; sleep 300");
    await command.said("up");
    process.kill(await hostPid(container), "SIGKILL");
    expect(await container.lost).not.toBe("");
    await expect(command.ended).rejects.toThrow(/lost/);
    await container.destroy();
    expect(leftovers(container.id, lab().dir)).toEqual([]);
  });

  verifies("runtime/freeze", "stands still as a whole when it is frozen, and goes on where it was", async () => {
    const container = await lab().make();
    let inside = 0;
    const busy = start(container, "echo up; while :; do :; done", { onStarted: (started) => (inside = started) });
    busy.ended.catch(() => undefined);
    await busy.said("up");
    const pid = await hostPid(container, inside);
    const ticks = (): number => Number(readText(`/proc/${pid}/stat`).split(" ")[13]);
    await expect.poll(ticks, SOON).toBeGreaterThan(3);
    await container.freeze();
    await container.freeze();
    const used = ticks();
    const asked = output(container, "echo later");
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(ticks()).toBe(used);
    await container.thaw();
    expect(await asked).toBe("later\n");
    await expect.poll(ticks, SOON).toBeGreaterThan(used);
    await container.thaw();
  });

  verifies("runtime/freeze-time", "the time limits of a command stand still while it is frozen", async () => {
    const container = await lab().make();
    const slow = start(container, "echo up; sleep 0.5; echo done", { timeoutMs: 1_500, idleTimeoutMs: 1_500 });
    await slow.said("up");
    await container.freeze();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    await container.thaw();
    const { exit, stdout } = await slow.ended;
    expect([exit.timedOut, exit.idle, stdout.toString()]).toEqual([false, false, "up\ndone\n"]);
    const late = await run(container, "sleep 60", { timeoutMs: 100 });
    expect(late.exit.timedOut).toBe(true);
  });

  verifies("runtime/freeze", "is destroyed without trace while it is frozen", async () => {
    const container = await lab().make();
    const command = start(container, "echo up; sleep 300");
    await command.said("up");
    await container.freeze();
    await container.destroy();
    await expect(command.ended).rejects.toThrow(/lost/);
    expect(leftovers(container.id, lab().dir)).toEqual([]);
  });

  it("is not harmed by a command that signals everything it can", async () => {
    const container = await lab().make();
    await run(container, "kill -KILL 1; kill -STOP 1; kill -SEGV 1; kill -KILL -1");
    expect(await output(container, "echo alive")).toBe("alive\n");
  });

  it("makes several sandboxes at once and keeps them apart", async () => {
    const containers = await Promise.all(Array.from({ length: 6 }, () => lab().make()));
    await Promise.all(containers.map((container, n) => output(container, `echo ${n} > /tmp/own`)));
    expect(await Promise.all(containers.map((container) => output(container, "cat /tmp/own")))).toEqual(containers.map((_, n) => `${n}\n`));
  });

  it("refuses a second sandbox of the same name and keeps the first", async () => {
    const spec = lab().spec();
    const container = await lab().runtime.create(spec);
    onTestFinished(() => container.destroy());
    await expect(lab().runtime.create(spec)).rejects.toThrow(/exists/);
    expect(await output(container, "echo first")).toBe("first\n");
  });

  it("takes everything away when a mount cannot be made, and names the step", async () => {
    const spec = lab().spec();
    const broken = {
      ...spec,
      mounts: [...spec.mounts, { kind: "bind" as const, target: "/no/such/place", source: lab().dir, readOnly: true, exec: false }],
    };
    await expect(lab().runtime.create(broken)).rejects.toThrow(/step 1\d|ended before it was ready/);
    expect(leftovers(spec.id, lab().dir)).toEqual([]);
  });
}
