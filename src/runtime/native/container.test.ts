import { describe, expect, it, vi } from "vitest";
import { EXITED, exec, fakeGuest, frame, NOT_FOUND, u32 } from "../../../test/fixtures/fake-guest.ts";
import { verifies } from "../../../test/verifies.ts";
import { MAX_FRAME_BYTES, STDIN_WINDOW_BYTES, STREAM_WINDOW_BYTES } from "../../api/limits.ts";
import { GUEST, records } from "./frames.ts";

describe("a guest's connection", () => {
  it("carries a command from its start to its end", async () => {
    const guest = await fakeGuest();
    expect((await guest.container.ready).fields.get("version")).toBe("fake");
    const command = exec(guest.container, { argv: ["printf", "%s", "é"], env: { A: "1" }, cwd: "/w" });
    const { id, payload } = await guest.asked(GUEST.exec);
    expect(payload.toString("utf8", 32)).toBe("/w\0printf\0%s\0é\0A=1\0");
    guest.send(GUEST.started, id, u32(7));
    guest.send(GUEST.stdout, id, Buffer.from("out"));
    guest.send(GUEST.stderr, id, Buffer.from("err"));
    guest.send(
      GUEST.exit,
      id,
      Buffer.concat([u32(3, 0, 0, 1 | 8), Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]), Buffer.alloc(8)]),
    );
    expect(await command.ended).toEqual({
      code: 3,
      signal: 0,
      startErrno: 0,
      timedOut: true,
      idle: false,
      truncated: false,
      memoryHit: true,
      pidsHit: false,
      cwdFailed: false,
      cpuUs: 1,
      maxRssBytes: 2,
    });
    expect(command.output).toEqual(["pid 7", "stdout out", "stderr err"]);
  });

  const lies: readonly (readonly [string, (id: number) => Buffer])[] = [
    ["a length beyond the limit", () => u32(MAX_FRAME_BYTES + 1, 1, 67)],
    ["a header with bytes that must be zero", () => Buffer.from([0, 0, 0, 0, 1, 0, 0, 0, 67, 1, 0, 0])],
    ["a second READY", () => frame(GUEST.ready, 0)],
    ["output of a command that never was", (id) => frame(GUEST.stdout, id + 1, Buffer.from("x"))],
    ["output before the start", (id) => frame(GUEST.stdout, id, Buffer.from("x"))],
    ["an exit before the start", (id) => frame(GUEST.exit, id, EXITED)],
    ["two starts", (id) => Buffer.concat([frame(GUEST.started, id, u32(1)), frame(GUEST.started, id, u32(1))])],
    ["a start without its pid", (id) => frame(GUEST.started, id)],
    ["two exits", (id) => Buffer.concat([frame(GUEST.started, id, u32(1)), frame(GUEST.exit, id, EXITED), frame(GUEST.exit, id, EXITED)])],
    ["an exit that is too short", (id) => Buffer.concat([frame(GUEST.started, id, u32(1)), frame(GUEST.exit, id, u32(0))])],
    ["credit for stdin that was not sent", (id) => frame(GUEST.stdinCredit, id, u32(1))],
    ["credit for control bytes of a command without", (id) => frame(GUEST.controlCredit, id, u32(0))],
    ["control bytes of a command without", (id) => Buffer.concat([frame(GUEST.started, id, u32(1)), frame(GUEST.control, id, u32(1))])],
    ["an ATTACHED for a command that was started", (id) => frame(GUEST.attached, id, Buffer.alloc(28))],
    ["a list that nobody asked for", (id) => frame(GUEST.kept, id + 5, records([["forgotten", "0"]]))],
    ["a pong that nobody asked for", (id) => frame(GUEST.pong, id + 5)],
    ["a type that no guest has", (id) => frame(200, id)],
    ["a request of ours", (id) => frame(GUEST.exec, id)],
  ];
  for (const [lie, bytes] of lies) {
    it(`ends that sandbox alone when the guest sends ${lie}`, async () => {
      const [liar, honest] = await Promise.all([fakeGuest("liar"), fakeGuest("honest")]);
      await liar.container.ready;
      const command = exec(liar.container, { stdin: true });
      const other = exec(honest.container);
      const { id } = await liar.asked(GUEST.exec);
      liar.raw(bytes(id));
      expect(await liar.container.lost).toMatch(/protocol/);
      // The command has ended, one way or the other; its sandbox is taken away once, however much more was sent.
      await command.ended;
      await liar.container.destroy();
      expect(liar.ends).toEqual([[]]);
      expect(() => exec(liar.container)).toThrow(expect.objectContaining({ code: "sandbox_lost" }));
      const asked = await honest.asked(GUEST.exec);
      honest.send(GUEST.exit, asked.id, NOT_FOUND);
      expect(await other.ended).toMatchObject({ code: -1, startErrno: 2 });
      expect(honest.ends).toEqual([]);
    });
  }

  it("ends the sandbox when anything comes before READY", async () => {
    const guest = await fakeGuest("early", frame(GUEST.pong, 1));
    await expect(guest.container.ready).rejects.toMatchObject({ code: "create_failed" });
    expect(await guest.container.lost).toMatch(/before READY/);
  });

  it("gives credit for output only as it is consumed, and takes no byte beyond the window", async () => {
    const guest = await fakeGuest();
    const got: number[] = [];
    const command = exec(guest.container, {
      onOutput: (_, chunk) => {
        got.push(chunk.length);
        return false;
      },
    });
    const { id } = await guest.asked(GUEST.exec);
    guest.send(GUEST.started, id, u32(1));
    for (let n = 0; n < 16; n++) guest.send(GUEST.stdout, id, Buffer.alloc(STREAM_WINDOW_BYTES / 16));
    await expect.poll(() => got.reduce((a, b) => a + b, 0)).toBe(STREAM_WINDOW_BYTES);
    expect(guest.requests.filter(({ type }) => type === GUEST.credit)).toEqual([]);
    command.process.credit(STREAM_WINDOW_BYTES / 2);
    expect((await guest.asked(GUEST.credit)).payload).toEqual(u32(STREAM_WINDOW_BYTES / 2));
    guest.send(GUEST.stdout, id, Buffer.alloc(STREAM_WINDOW_BYTES / 2));
    guest.send(GUEST.stdout, id, Buffer.alloc(1));
    expect(await guest.container.lost).toMatch(/beyond the credit/);
  });

  it("sends no more stdin than the window, and the rest as the guest takes it", async () => {
    const guest = await fakeGuest();
    const command = exec(guest.container, { stdin: true });
    const { id } = await guest.asked(GUEST.exec);
    const sent = (): number =>
      guest.requests.filter(({ type }) => type === GUEST.stdin).reduce((sum, { payload }) => sum + payload.length, 0);
    const written = command.process.write(Buffer.alloc(STDIN_WINDOW_BYTES + 10, 5));
    command.process.closeStdin();
    await expect.poll(() => sent()).toBe(STDIN_WINDOW_BYTES);
    expect(guest.requests.some(({ type }) => type === GUEST.stdinEof)).toBe(false);
    guest.send(GUEST.stdinCredit, id, u32(100));
    await written;
    await guest.asked(GUEST.stdinEof);
    expect(sent()).toBe(STDIN_WINDOW_BYTES + 10);
  });

  it("lets a writer go on when the program has ended without reading", async () => {
    const guest = await fakeGuest();
    const command = exec(guest.container, { stdin: true });
    const { id } = await guest.asked(GUEST.exec);
    const written = command.process.write(Buffer.alloc(2 * STDIN_WINDOW_BYTES));
    guest.send(GUEST.exit, id, NOT_FOUND);
    await command.ended;
    await written;
  });

  verifies("runtime/host-backstop", "a guest that does not end a command in time is ended by the host", async () => {
    const guest = await fakeGuest();
    await guest.container.ready;
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const command = exec(guest.container, { timeoutMs: 1_000, graceMs: 100 });
    vi.advanceTimersByTime(1_000 + 2 * 100 + 4_999);
    expect(guest.ends).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(await command.ended).toMatch(/did not end a command/);
    expect(await guest.container.lost).toMatch(/did not end a command/);
  });

  it("says why the sandbox ended when the spawner knows, and removes the trees of a destroy that comes after", async () => {
    const guest = await fakeGuest();
    await guest.container.ready;
    const command = exec(guest.container);
    guest.container.died({ id: "a", step: 0, errno: 0, code: "create_failed", reason: "PID 1 ended by signal 9" });
    expect(await command.ended).toBe("PID 1 ended by signal 9");
    expect(await guest.container.lost).toBe("PID 1 ended by signal 9");
    await guest.container.destroy(["/delta"]);
    await guest.container.destroy(["/delta"]);
    expect(guest.ends).toEqual([[], ["/delta"]]);
  });

  it("is lost when the guest closes it", async () => {
    const guest = await fakeGuest();
    await guest.container.ready;
    guest.close();
    expect(await guest.container.lost).toBe("its guest closed the connection");
  });

  it("refuses what no guest could read", async () => {
    const guest = await fakeGuest();
    await guest.container.ready;
    for (const changes of [{ argv: [] }, { argv: ["a\0b"] }, { cwd: "/\0" }, { env: { A: "\0" } }] as const) {
      expect(() => exec(guest.container, changes)).toThrow(expect.objectContaining({ code: "request_invalid" }));
    }
    expect(() => exec(guest.container).process.write(Buffer.from("x"))).toThrow(expect.objectContaining({ code: "request_invalid" }));
  });
});
