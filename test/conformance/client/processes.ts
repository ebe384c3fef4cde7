// Rows of the client suite: processes that run beside their callers.

import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { ID_PREFIX } from "../../../src/api/ids.ts";
import { MAX_KEPT_COMMANDS, PROCESS_OUTPUT_BYTES } from "../../../src/api/limits.ts";
import type { ProcessCalls, ProcessOutput } from "../../../src/api/processes.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf } from "./lab.ts";

const NONE = `${ID_PREFIX.process}${"0".repeat(20)}`;

interface Heard {
  readonly stdout: string;
  readonly stderr: string;
  readonly offsets: readonly number[];
  readonly gaps: readonly number[];
  readonly ended: boolean;
}

/** Reads until its end, or until stdout holds `until`. */
async function hear(output: AsyncIterable<ProcessOutput>, until?: string): Promise<Heard> {
  const heard = { stdout: "", stderr: "", offsets: [] as number[], gaps: [] as number[], ended: false };
  for await (const piece of output) {
    if (piece.kind === "gap") heard.gaps.push(piece.offset);
    else if (piece.kind === "end") heard.ended = true;
    else {
      heard.offsets.push(piece.offset);
      heard[piece.kind] += Buffer.from(piece.bytes).toString("latin1");
    }
    if (until !== undefined && heard.stdout.includes(until)) break;
  }
  return heard;
}

async function started(processes: ProcessCalls, command: string, more: object = {}): Promise<string> {
  return (await processes.start({ command, ...more })).id;
}

export function processRows(lab: () => ClientLab): void {
  verifies(
    "client/processes",
    "a process runs beside its callers: output from any offset, its streams apart, its end as it was",
    async () => {
      const { processes } = await lab().make();
      const made = await processes.start({
        command: "printf one; printf err >&2; sleep 0.2; printf two; exit 3",
        env: { A: "1" },
        cwd: "/tmp",
      });
      expect(made).toMatchObject({ pty: false, end: null, output: { from: 0 } });
      expect(made.id.startsWith(ID_PREFIX.process)).toBe(true);
      const whole = await hear(processes.output(made.id));
      expect([whole.stdout, whole.stderr, whole.offsets[0], whole.gaps, whole.ended]).toEqual(["onetwo", "err", 0, [], true]);
      const again = await hear(processes.output(made.id, { from: 6 }));
      expect([again.stdout + again.stderr, again.offsets, again.ended]).toEqual(["two", [6], true]);
      expect((await hear(processes.output(made.id, { from: 9 }))).ended).toBe(true);
      expect(await codeOf(hear(processes.output(made.id, { from: 10 })))).toBe("request_invalid");
      const { end, output, command } = await processes.get(made.id);
      expect([end?.exitCode, end?.signal, end?.timedOut, end?.limitHit, output.to]).toEqual([3, null, false, null, 9]);
      expect(command).toBe("printf one; printf err >&2; sleep 0.2; printf two; exit 3");
      const listed = await started(processes, "exit 0");
      expect((await processes.list()).items.map(({ id }) => id)).toEqual([made.id, listed]);
    },
  );

  verifies("client/processes", "a reader that leaves ends nothing, and several read the same bytes", async () => {
    const { processes } = await lab().make();
    const id = await started(processes, "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.05; done");
    const first = await hear(processes.output(id), "2");
    const leave = new AbortController();
    const left = codeOf(hear(processes.output(id, { from: 0, signal: leave.signal })));
    leave.abort();
    expect(await left).toBe("canceled");
    const both = await Promise.all([hear(processes.output(id)), hear(processes.output(id, { from: first.stdout.length }))]);
    expect(both[0].stdout).toBe("1\n2\n3\n4\n5\n6\n7\n8\n");
    expect(first.stdout + both[1].stdout).toBe(both[0].stdout);
  });

  verifies(
    "client/process-stdin",
    "stdin takes bytes in pieces and an end; one that was started without it, or has ended, says so",
    async () => {
      const { processes } = await lab().make();
      const id = await started(processes, "cat; echo end", { stdin: true });
      await processes.write(id, Buffer.from("a\0\xff", "latin1"));
      await hear(processes.output(id), "\xff");
      await processes.write(id, Buffer.alloc(300_000, 120));
      await processes.write(id, new Uint8Array(), { end: true });
      const { stdout } = await hear(processes.output(id));
      expect([stdout.slice(0, 4), stdout.length, stdout.endsWith("end\n")]).toEqual(["a\0\xffx", 300_007, true]);
      expect(await codeOf(processes.write(id, Buffer.from("late")))).toBe("process_ended");
      const without = await started(processes, "sleep 300");
      expect(await codeOf(processes.write(without, Buffer.from("x")))).toBe("request_invalid");
      const deaf = await started(processes, "sleep 300", { stdin: true });
      const leave = new AbortController();
      const writing = codeOf(processes.write(deaf, Buffer.alloc(700_000), { signal: leave.signal }));
      setTimeout(() => leave.abort(), 200);
      expect(await writing).toBe("canceled");
    },
  );

  verifies("client/process-control", "signals, the ladder, time-outs and waiting reach a process by its id", async () => {
    const { processes } = await lab().make();
    const trap = await started(processes, "trap 'echo got; exit 5' USR1; echo up; while :; do sleep 0.05; done");
    await hear(processes.output(trap), "up");
    expect((await processes.wait(trap, { timeoutMs: 50 })).end).toBeNull();
    await processes.signal(trap, "SIGUSR1");
    expect((await processes.wait(trap)).end).toMatchObject({ exitCode: 5, signal: null });
    expect(await codeOf(processes.signal(trap, "SIGUSR1"))).toBe("process_ended");
    const sleeper = await started(processes, "sleep 300 & sleep 300");
    expect(await codeOf(processes.signal(sleeper, "SIGNOPE"))).toBe("request_invalid");
    const { end } = await processes.stop(sleeper);
    expect(end?.signal).toMatch(/^SIG(INT|TERM)$/);
    expect((await processes.stop(sleeper)).end).toEqual(end);
    const late = await started(processes, "sleep 300", { timeoutMs: 100 });
    expect((await processes.wait(late)).end).toMatchObject({ exitCode: 124, timedOut: true });
    expect(await codeOf(processes.get(NONE))).toBe("process_not_found");
    expect(await codeOf(processes.start({ command: ["/no/such"] }))).toBe("exec_failed");
    expect(await codeOf(processes.start({ command: "true", cwd: "/no/such" }))).toBe("exec_failed");
    expect((await processes.list()).items.length).toBe(3);
  });

  verifies("client/process-hold", "a process waits for a reader who asks for it, and goes on when that one leaves", async () => {
    const { processes } = await lab().make();
    const id = await started(processes, "echo ready; read go; head -c 20000000 /dev/zero; echo end", { stdin: true });
    let bytes = 0;
    for await (const piece of processes.output(id, { from: 0, hold: true })) {
      if (piece.kind === "gap") throw new Error(`bytes before ${piece.offset} were missed`);
      // It begins when there is a reader to wait for.
      if (bytes === 0) await processes.write(id, Buffer.from("go\n"));
      if (piece.kind !== "end") bytes += piece.bytes.length;
      if (bytes < 500_000) await sleep(5); // slower than it writes
    }
    expect(bytes).toBe(20_000_010);
    const flood = await started(processes, "head -c 100000000 /dev/zero");
    const held = processes.output(flood, { from: 0, hold: true })[Symbol.asyncIterator]();
    await held.next();
    let last = -1;
    await expect.poll(async () => last === (last = (await processes.get(flood)).output.to), { interval: 300 }).toBe(true);
    expect((await processes.get(flood)).end).toBeNull();
    await held.return?.();
    expect((await processes.wait(flood)).end).toMatchObject({ exitCode: 0 });
  });

  verifies("client/process-pty", "a process may have a terminal: an interactive shell is one", async () => {
    const { processes } = await lab().make();
    const { id, pty } = await processes.start({
      command: ["bash", "--norc", "--noediting", "-i"],
      pty: { rows: 30, cols: 100 },
      env: { PS1: "> " },
    });
    expect(pty).toBe(true);
    await hear(processes.output(id), "> ");
    await processes.resize(id, { rows: 40, cols: 120 });
    await processes.write(id, Buffer.from("stty size; x=5; echo s''et\n"));
    expect((await hear(processes.output(id), "set\r\n")).stdout).toContain("40 120");
    await processes.write(id, Buffer.from("sleep 300\n"));
    const { output } = await processes.get(id);
    await processes.write(id, Buffer.from("\x03"));
    // What is typed before the prompt is thrown away with the line.
    await hear(processes.output(id, { from: output.to }), "> ");
    await processes.write(id, Buffer.from("echo [$x]; exit 4\n"));
    expect((await hear(processes.output(id))).stdout).toContain("[5]");
    expect((await processes.get(id)).end?.exitCode).toBe(4);
    const pipes = await started(processes, "sleep 300");
    expect(await codeOf(processes.resize(pipes, { rows: 1, cols: 1 }))).toBe("request_invalid");
  });

  verifies(
    "client/process-output-bound",
    "output nobody reads does not hold a process; what is gone is told with the first byte that is there",
    async () => {
      const { processes } = await lab().make();
      const total = 3 * PROCESS_OUTPUT_BYTES;
      const id = await started(processes, `head -c ${total} /dev/zero; printf end`);
      expect((await processes.wait(id)).end?.exitCode).toBe(0);
      const { output } = await processes.get(id);
      expect([output.to, output.to - output.from <= PROCESS_OUTPUT_BYTES, output.from > 0]).toEqual([total + 3, true, true]);
      const { gaps, stdout, offsets } = await hear(processes.output(id, { from: 7 }));
      expect([gaps, offsets[0]]).toEqual([[output.from], output.from]);
      expect([stdout.length, stdout.endsWith("end")]).toEqual([output.to - output.from, true]);
    },
  );

  verifies("client/process-bounds", "how many live is bounded; ended ones make room, oldest first", async () => {
    const { processes } = await lab().make();
    const ids: string[] = [];
    for (let n = 0; n < MAX_KEPT_COMMANDS; n++) ids.push(await started(processes, "exec sleep 300"));
    expect(await codeOf(processes.start({ command: "true" }))).toBe("limit_reached");
    await processes.stop(ids[3] ?? "");
    await processes.stop(ids[1] ?? "");
    const next = await started(processes, "exec sleep 300");
    expect([await codeOf(processes.get(ids[3] ?? "")), (await processes.get(ids[1] ?? "")).end !== null]).toEqual([
      "process_not_found",
      true,
    ]);
    expect((await processes.list()).items.map(({ id }) => id)).toEqual([...ids.filter((_, n) => n !== 3), next]);
  });

  verifies("client/process-owners", "processes and shells are reached by who reaches their sandbox, a key makes one once", async () => {
    const mine = await lab().make();
    const bob = (await lab().of("bob")).sandbox(mine.id);
    const narrow = (await lab().ofSandbox("ann", mine.id)).sandbox(mine.id);
    const id = await started(mine.processes, "echo hi; sleep 300");
    const calls = [bob.processes.list(), bob.processes.get(id), bob.processes.stop(id), hear(bob.processes.output(id)), bob.shells.open()];
    expect(new Set(await Promise.all(calls.map(codeOf)))).toEqual(new Set(["sandbox_not_found"]));
    expect((await hear(narrow.processes.output(id), "hi")).stdout).toBe("hi\n");
    const once = { idempotencyKey: `once-${mine.id}` };
    const made = await Promise.all([1, 2].map(() => mine.processes.start({ command: "exec sleep 300" }, once).catch(() => undefined)));
    const again = await mine.processes.start({ command: "exec sleep 300" }, once);
    expect(new Set(made.flatMap((one) => (one === undefined ? [] : [one.id])))).toEqual(new Set([again.id]));
    expect(await codeOf(mine.processes.start({ command: "true" }, once))).toBe("idempotency_conflict");
    await mine.destroy();
    expect(await codeOf(mine.processes.get(id))).toBe("sandbox_not_found");
  });
}
