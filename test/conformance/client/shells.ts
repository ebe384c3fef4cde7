// Rows of the client suite: shells that keep their state, and whose commands end apart from their output.

import { expect } from "vitest";
import { ID_PREFIX } from "../../../src/api/ids.ts";
import { MAX_SHELL_QUEUE } from "../../../src/api/limits.ts";
import type { RunInShell, ShellCalls, ShellResult } from "../../../src/api/shells.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf } from "./lab.ts";

interface Opened {
  readonly shells: ShellCalls;
  readonly id: string;
  /** Exit code, stdout, stderr. */
  readonly said: (command: string, more?: Partial<RunInShell>) => Promise<readonly [number, string, string]>;
  readonly run: (command: string, more?: Partial<RunInShell>) => Promise<ShellResult>;
}

async function opened(lab: ClientLab): Promise<Opened> {
  const { shells } = await lab.make();
  const { id } = await shells.open();
  const run: Opened["run"] = (command, more = {}) => shells.run(id, { command, ...more });
  const said: Opened["said"] = async (command, more) => {
    const { exitCode, stdout, stderr } = await run(command, more);
    return [exitCode, Buffer.from(stdout).toString("latin1"), Buffer.from(stderr).toString("latin1")];
  };
  return { shells, id, run, said };
}

export function shellRows(lab: () => ClientLab): void {
  verifies(
    "client/shells",
    "a shell keeps its directory, variables, functions, jobs, descriptors and status between commands",
    async () => {
      const { shells, id, run, said } = await opened(lab());
      expect(await shells.get(id)).toMatchObject({ state: "idle", cwd: "/workspace", end: null });
      expect(id.startsWith(ID_PREFIX.shell)).toBe(true);
      expect((await run("cd /tmp; x=5; f() { echo f$x; }; declare -A m=([k]=v); exec 3</etc/passwd")).cwd).toBe("/tmp");
      expect(await said("echo $x $PWD $(f) ${m[k]}; read -r line <&3; echo ${line%%:*}")).toEqual([0, "5 /tmp f5 v\nroot\n", ""]);
      expect(await said("sleep 300 & echo bg")).toEqual([0, "bg\n", ""]);
      expect((await said("jobs"))[1]).toMatch(/Running +sleep 300/);
      expect(await said("(exit 7)")).toEqual([7, "", ""]);
      expect(await said("echo $?")).toEqual([0, "7\n", ""]);
      expect(await said("")).toEqual([0, "", ""]);
      expect((await shells.list()).items).toMatchObject([{ id, cwd: "/tmp", state: "idle" }]);
    },
  );

  verifies("client/shell-any-text", "no text of a command confuses a shell about where it ends", async () => {
    const { said } = await opened(lab());
    expect(await said("printf foo")).toEqual([0, "foo", ""]);
    expect(await said("cat <<E\nhere\nE")).toEqual([0, "here\n", ""]);
    for (const broken of ["echo 'a", 'echo "$(', "if true", "for", "echo \\", "cat <<E\nno end", "}"]) await said(broken);
    expect((await said("echo 'a"))[2]).toContain("unexpected EOF");
    expect(await said("break; continue; echo on")).toEqual([0, "", ""]);
    expect(await said("while :; do break; done; for i in 1 2; do continue; done; echo on")).toEqual([0, "on\n", ""]);
    expect((await said("return 3"))[0]).not.toBe(0);
    expect(await said("printf '1234567890abcdef 0 /tmp\\0' >&2; exec 4>&1; echo x >&4")).toEqual([0, "x\n", "1234567890abcdef 0 /tmp\0"]);
    expect(await said(`x='${"y".repeat(5_000)}'; echo \${#x}`)).toEqual([0, "5000\n", ""]);
    expect(await said(`x='${"é".repeat(1 << 19)}'; echo \${#x}`, { timeoutMs: 60_000 })).toEqual([0, "524288\n", ""]);
    expect(await said("set -x; echo traced; set +x")).toMatchObject([0, "traced\n", expect.stringContaining("echo traced")]);
    expect(await said("printf() { echo mine; }; echo 1; set -o noclobber; set -f; IFS=x")).toEqual([0, "1\n", ""]);
    expect(await said("echo still; unset -f printf")).toEqual([0, "still\n", ""]);
  });

  verifies(
    "client/shell-output",
    "a command's output comes whole before its end, its streams apart and byte for byte, whatever its size",
    async () => {
      const { said, run } = await opened(lab());
      expect(await said("printf '\\000\\377\\001'; printf 'e\\200' >&2")).toEqual([0, "\0\xff\x01", "e\x80"]);
      for (let n = 0; n < 20; n++) expect(await said(`echo out${n}; echo err${n} >&2`)).toEqual([0, `out${n}\n`, `err${n}\n`]);
      const big = await run("head -c 3000000 /dev/zero; printf end");
      expect([big.stdout.length, Buffer.from(big.stdout.slice(-3)).toString(), big.truncated]).toEqual([3_000_003, "end", false]);
      let bytes = 0;
      const sink = async (chunk: Uint8Array): Promise<void> => {
        bytes += chunk.length;
        await new Promise((resolve) => setImmediate(resolve));
      };
      expect((await run("head -c 3000000 /dev/zero", { onStdout: sink })).stdout.length).toBe(0);
      expect(bytes).toBe(3_000_000);
      const cut = await run("head -c 3000000 /dev/zero; exit_status() { return 4; }; exit_status", { outputBytes: 1_000 });
      expect([cut.stdout.length, cut.truncated, cut.limitHit, cut.exitCode]).toEqual([1_000, true, "output", 4]);
      expect(await said("exec >/tmp/file; echo to file")).toEqual([0, "", ""]);
      expect(await said("echo more; cat /tmp/file >&2")).toEqual([0, "", "to file\nmore\n"]);
    },
  );

  verifies("client/shell-stdin", "each command has a stdin of its own: what it was given, or nothing; what it leaves is gone", async () => {
    const { said } = await opened(lab());
    expect(await said("cat; read x; echo r$?")).toEqual([0, "r1\n", ""]);
    expect(await said("cat", { stdin: Buffer.from("a\0b\xff", "latin1") })).toEqual([0, "a\0b\xff", ""]);
    expect(await said("wc -c", { stdin: Buffer.alloc(1_000_000) })).toEqual([0, "1000000\n", ""]);
    expect(await said("head -c 2", { stdin: Buffer.alloc(1_000_000, 97) })).toEqual([0, "aa", ""]);
    expect(await said("cat; echo none")).toEqual([0, "none\n", ""]);
    expect(await said("cat", { stdin: Buffer.from("next") })).toEqual([0, "next", ""]);
  });

  verifies(
    "client/shell-order",
    "commands asked for at once run one after the other; one taken back while it waits never runs",
    async () => {
      const { shells, id, run, said } = await opened(lab());
      const leave = new AbortController();
      const begun = Promise.withResolvers<void>();
      const first = run("while [ ! -e /tmp/go ]; do sleep 0.02; done; echo 1 >> /tmp/order", { onStarted: begun.resolve });
      await begun.promise;
      expect((await shells.get(id)).state).toBe("busy");
      const second = run("echo -n 2 >> /tmp/order; sleep 0.1; echo 2 >> /tmp/order");
      const taken = codeOf(run("echo no >> /tmp/order", { signal: leave.signal }));
      const third = run("echo -n 3 >> /tmp/order; sleep 0.1; echo 3 >> /tmp/order");
      setTimeout(() => leave.abort(), 100);
      expect(await taken).toBe("canceled");
      const other = await shells.open({ cwd: "/tmp", env: { WHO: "me" } });
      expect(Buffer.from((await shells.run(other.id, { command: "echo $WHO $PWD; touch go" })).stdout).toString()).toBe("me /tmp\n");
      await Promise.all([first, second, third]);
      // Requests that are under way together may come in any order.
      expect((await said("cat /tmp/order"))[1]).toMatch(/^1\n(22\n33|33\n22)\n$/);
      const many = Array.from({ length: MAX_SHELL_QUEUE + 8 }, () => codeOf(shells.run(other.id, { command: "sleep 0.5" })));
      setTimeout(() => void shells.close(other.id), 300);
      const codes = new Set(await Promise.all(many));
      expect(codes).toEqual(new Set(["passed", "limit_reached", "shell_closed"]));
    },
  );

  verifies(
    "client/shell-interrupt",
    "a command that runs out of time, or is interrupted, ends with its programs; its shell goes on",
    async () => {
      const { shells, id, run, said } = await opened(lab());
      await run("x=5; g() { sleep 300; echo in; }; h() { g; echo h; }");
      for (const command of [
        "sleep 300; echo no",
        "h; echo no",
        "while :; do g; done; echo no",
        "for i in 1 2; do sleep 300; done",
        "y=$(sleep 300)",
      ]) {
        const { exitCode, timedOut, closed, stdout } = await run(command, { timeoutMs: 150 });
        expect([command, exitCode, timedOut, closed, stdout.length]).toEqual([command, 124, true, false, 0]);
        expect(await said("echo $? $x")).toEqual([0, "130 5\n", ""]);
      }
      const waiting = run("sleep 300 & echo $!; while :; do :; done; echo no");
      setTimeout(() => void shells.interrupt(id), 300);
      const { exitCode, timedOut, stdout } = await waiting;
      expect([exitCode, timedOut]).toEqual([130, false]);
      expect(await said(`kill -0 ${Buffer.from(stdout).toString().trim()} && echo job`)).toEqual([0, "job\n", ""]);
      await shells.interrupt(id);
      expect(await said("echo alive")).toEqual([0, "alive\n", ""]);
      const deaf = await run("trap '' INT; sleep 300", { timeoutMs: 100 });
      expect([deaf.timedOut, deaf.closed, deaf.exitCode]).toEqual([true, true, 124]);
      expect(await codeOf(run("echo no"))).toBe("shell_closed");
    },
  );

  verifies(
    "client/shell-end",
    "a command that ends its shell is told with its status, and later ones that the shell is closed",
    async () => {
      const { shells } = await lab().make();
      for (const [command, exitCode] of [
        ["exit 42", 42],
        ["set -e; false; echo no", 1],
        ["kill -9 $$", 137],
        ["exec true", 0],
      ] as const) {
        const { id } = await shells.open();
        const late = shells.run(id, { command: `sleep 0.1; ${command}` });
        const waits = codeOf(shells.run(id, { command: "echo no" }));
        expect(await late).toMatchObject({ exitCode, closed: true, timedOut: false });
        expect([await waits, await codeOf(shells.run(id, { command: "echo no" }))]).toEqual(["shell_closed", "shell_closed"]);
        expect(await shells.get(id)).toMatchObject({ state: "closed", end: { exitCode } });
      }
      const { id } = await shells.open();
      expect((await shells.run(id, { command: "set -e; true; ! true" })).exitCode).toBe(1);
      expect((await shells.run(id, { command: "test -f /none && echo no" })).exitCode).toBe(1);
      expect(await shells.run(id, { command: "cat <<E\nhere\nE" })).toMatchObject({
        exitCode: 0,
        stdout: new Uint8Array(Buffer.from("here\n")),
      });
      await shells.run(id, { command: "sleep 1234 &" });
      const running = shells.run(id, { command: "sleep 300" });
      await shells.close(id);
      expect(await running).toMatchObject({ closed: true });
      await shells.close(id);
      const { id: other } = await shells.open();
      const left = await shells.run(other, { command: "pgrep -f 'sleep 1234' || echo none" });
      expect(Buffer.from(left.stdout).toString()).toBe("none\n");
      expect(await codeOf(shells.get(`${ID_PREFIX.shell}${"0".repeat(20)}`))).toBe("shell_not_found");
      expect(await codeOf(shells.open({ cwd: "/no/such" }))).toBe("exec_failed");
      expect(await codeOf(shells.open({ env: { PATH: "/nowhere" } }))).toBe("shell_unavailable");
      expect(await codeOf(shells.run(other, { command: "a\0b" }))).toBe("request_invalid");
    },
  );
}
