// Rows of the client suite: contexts, whose interpreters keep their state and tell results apart from whatever code writes.

import { expect } from "vitest";
import type { CodeAnswer, ContextCalls, CreateContextBody, RunCode } from "../../../src/api/contexts.ts";
import { ID_PREFIX } from "../../../src/api/ids.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf, text } from "./lab.ts";

interface Opened {
  readonly contexts: ContextCalls;
  readonly id: string;
  readonly run: (code: string, more?: Partial<RunCode>) => Promise<CodeAnswer>;
  /** Status, text of the main result, stdout, stderr. */
  readonly said: (code: string, more?: Partial<RunCode>) => Promise<readonly (string | undefined)[]>;
}

async function opened(lab: ClientLab, body: CreateContextBody = {}): Promise<Opened> {
  const { contexts } = await lab.make();
  return over(contexts, await contexts.create(body).then(({ id }) => id));
}

function over(contexts: ContextCalls, id: string): Opened {
  const run: Opened["run"] = (code, more = {}) => contexts.run(id, { code, ...more });
  const said: Opened["said"] = async (code, more) => {
    const answer = await run(code, more);
    const main = answer.results.find(({ isMain }) => isMain)?.mime["text/plain"] as string | undefined;
    return [answer.status, main, text(answer.stdout), text(answer.stderr)];
  };
  return { contexts, id, run, said };
}

export function contextRows(lab: () => ClientLab): void {
  verifies("client/contexts", "a context keeps its state between calls, and tells value, output and errors apart", async () => {
    const { contexts, id, run, said } = await opened(lab());
    expect(id.startsWith(ID_PREFIX.context)).toBe(true);
    expect(await said("x = 20 + 1\nx * 2")).toEqual(["ok", "42", "", ""]);
    expect(await said("import sys, os\nprint('out')\nprint('err', file=sys.stderr)\nos.system('echo sub')\nx")).toEqual([
      ...["ok", "21", "out\nsub\n", "err\n"],
    ]);
    expect(await said("import asyncio\nawait asyncio.sleep(0.001)\nawait asyncio.sleep(0, 'later')")).toEqual(["ok", "'later'", "", ""]);
    const failed = await run("def f():\n  return 1 / 0\nf()");
    expect(failed).toMatchObject({ status: "error", stateLost: false, error: { name: "ZeroDivisionError", value: "division by zero" } });
    expect(failed.error?.traceback).toMatch(/^Traceback[^]*<cell 4>", line 3[^]*return 1 \/ 0[^]*ZeroDivisionError: division by zero\n$/);
    expect(failed.error?.traceback).not.toContain("<corral>");
    expect((await run("1 +")).error).toMatchObject({ name: "SyntaxError" });
    expect(await said("x")).toEqual(["ok", "21", "", ""]);
    expect(await contexts.get(id)).toMatchObject({ id, language: "python", state: "idle", executionCount: 6, cwd: "/workspace" });
    await contexts.delete(id);
    await contexts.delete(id);
    expect(await codeOf(contexts.get(id))).toBe("context_not_found");
    expect((await contexts.list()).items).toEqual([]);
  });

  verifies(
    "client/context-fork",
    "a further context is forked from an interpreter inside that ran no code, shares nothing with others, and draws its own random numbers",
    async () => {
      const { contexts, run } = await opened(lab());
      await run("secret = 'of the first'; import os; os.environ['LEFT'] = 'here'; import json; json.left = 1");
      const code = "import os, json, random, uuid, secrets\nrandom.random(), str(uuid.uuid4()), secrets.token_hex(8)";
      const places = [
        { cwd: "/tmp", env: { A: "1" } },
        { cwd: "/tmp", env: { A: "2" } },
      ];
      const others = await Promise.all(places.map(async (place) => over(contexts, (await contexts.create(place)).id)));
      const drawn: unknown[] = [];
      for (const [index, other] of others.entries()) {
        expect(await contexts.get(other.id)).toMatchObject({ start: { kind: "fork" }, cwd: "/tmp" });
        const own = await other.said(
          "import os, json; os.getcwd(), os.environ['A'], os.getppid(), 'secret' in dir(), 'LEFT' in os.environ, hasattr(json, 'left')",
        );
        expect(own[1]).toBe(`('/tmp', '${index + 1}', 1, False, False, False)`);
        expect((await other.said("import resource; sorted(int(n) for n in os.listdir('/proc/self/fd'))"))[1]).toMatch(
          /^\[0, 1, 2, \d+, \d+, \d+\]$/,
        );
        drawn.push(...((await other.said(code))[1] ?? "").split(", "));
      }
      expect(new Set(drawn).size).toBe(6);
      const wrapper = JSON.stringify('#!/bin/sh\nexport PATH=/usr/bin:/bin OTHER=1; exec python3 "$@"\n');
      const made = await run(
        `os.makedirs('/workspace/bin'); open('/workspace/bin/python3', 'w').write(${wrapper}); os.chmod('/workspace/bin/python3', 0o755)`,
      );
      expect(made.error).toBeNull();
      const of = over(contexts, (await contexts.create({ env: { PATH: "/workspace/bin:/usr/bin:/bin" } })).id);
      expect([await of.said("import os; os.environ.get('OTHER')"), (await contexts.get(of.id)).start]).toEqual([
        ["ok", "'1'", "", ""],
        { kind: "fork" },
      ]);
      expect(await codeOf(contexts.create({ cwd: "/nowhere" }))).toBe("exec_failed");
      expect(await codeOf(contexts.create({ env: { PATH: "/nowhere" } }))).toBe("context_unavailable");
    },
  );

  verifies("client/context-forge", "nothing that code writes to any descriptor is taken for an answer, or breaks one", async () => {
    const { said, run } = await opened(lab());
    const forge = String.raw`import os, re, threading, time, subprocess
fake = b'\n' + b'a' * 20 + b'E.{"status":"ok","error":null}\n' + b'\n\x00\xff' * 50 + b'{"mime":{"text/plain":"forged"},"isMain":true}'
def spray():
  for fd in range(3, 1025):
    try: os.write(fd, fake)
    except OSError: pass
spray()
stop = False
def always():
  while not stop:
    try: os.write(901, b'z' * 300); os.write(901, fake)
    except OSError: pass
    time.sleep(0.0005)
thread = threading.Thread(target=always); thread.start()
'x' * 200000`;
    expect((await run(forge)).results).toMatchObject([{ isMain: true, mime: { "text/plain": `'${"x".repeat(200_000)}'` } }]);
    expect(await said("21 * 2")).toEqual(["ok", "42", "", ""]);
    expect(
      await said(
        "subprocess.run(['sh', '-c', 'for n in 3 4 200 201 900 901; do eval \"echo forged >&$n\"; done 2>/dev/null; ls /proc/self/fd | wc -l'], close_fds=False); 1",
      ),
    ).toEqual(["ok", "1", expect.any(String), ""]);
    expect(await said("stop = True; thread.join(); 3")).toEqual(["ok", "3", "", ""]);
    // A copy of the interpreter answers nothing, and takes no call.
    expect((await said("pid = os.fork()\n'parent' if pid else 'child'"))[1]).toBe("'parent'");
    for (let n = 0; n < 3; n++) expect(await said(`${n} + 1`)).toEqual(["ok", String(n + 1), "", ""]);
  });

  verifies(
    "client/context-interrupt",
    "out of time or asked to, code is interrupted and its state stays; what does not mind that is ended, and the next call says so",
    async () => {
      const { contexts, id, run, said } = await opened(lab());
      await said("kept = 7");
      expect(await run("while True: pass", { timeoutMs: 100 })).toMatchObject({
        status: "timeout",
        stateLost: false,
        error: { name: "KeyboardInterrupt" },
      });
      const begun = Promise.withResolvers<void>();
      const sleeping = run("import time; time.sleep(60)", { onStarted: () => begun.resolve() });
      await begun.promise;
      const waiting = said("kept");
      await expect
        .poll(async () => {
          await contexts.interrupt(id);
          return await Promise.race([sleeping.then(({ status }) => status), new Promise((later) => setTimeout(later, 50, "runs"))]);
        })
        .toBe("interrupted");
      expect(await waiting).toEqual(["ok", "7", "", ""]);
      const leave = new AbortController();
      const left = run("import time; time.sleep(60)", { signal: leave.signal, onStarted: () => setTimeout(() => leave.abort(), 50) });
      await left.catch(() => undefined);
      expect(await said("kept")).toEqual(["ok", "7", "", ""]);
      const deaf = await run("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", { timeoutMs: 100 });
      expect(deaf).toMatchObject({ status: "timeout", stateLost: true, error: { name: "InterpreterEnded" } });
      const next = await run("'kept' in dir()");
      expect(next).toMatchObject({ status: "ok", stateLost: false, results: [{ mime: { "text/plain": "False" } }] });
      expect(next.freshBecause).toMatch(/did not mind being interrupted/);
      expect((await run("1")).freshBecause).toBeNull();
    },
  );

  verifies(
    "client/context-died",
    "an interpreter that ends under its code is told as such, and the next call begins in a new one",
    async () => {
      const { contexts, id, run } = await opened(lab());
      const ends = [
        "import os; print('last', flush=True); os._exit(3)",
        "import ctypes; ctypes.string_at(0)",
        "import os, signal; os.kill(os.getpid(), 9)",
      ];
      for (const [index, code] of ends.entries()) {
        const died = await run(code);
        expect(died).toMatchObject({ status: "died", stateLost: true, error: { name: "InterpreterEnded" } });
        if (index === 0) expect(text(died.stdout)).toBe("last\n");
        expect((await contexts.get(id)).state).toBe("lost");
        expect((await run("1")).freshBecause).toMatch([/exit 3/, /SIGSEGV/, /SIGKILL/][index] ?? /never/);
      }
      await run("x = 1");
      await contexts.restart(id);
      expect(await run("'x' in dir()")).toMatchObject({
        freshBecause: "the context was restarted",
        results: [{ mime: { "text/plain": "False" } }],
      });
    },
  );

  verifies(
    "client/context-alone",
    "code without a context runs in an interpreter of its own, beside others, with the input it is given",
    async () => {
      const { contexts } = await opened(lab());
      const answers = await Promise.all(
        [1, 2, 3, 4].map((n) =>
          contexts.runAlone({
            code: `import builtins; seen = getattr(builtins, 'seen', 0); builtins.seen = ${n}\nseen, input('? ')`,
            input: `line ${n}\nmore`,
            env: { N: "1" },
          }),
        ),
      );
      expect(answers.map(({ results }) => results[0]?.mime["text/plain"])).toEqual([1, 2, 3, 4].map((n) => `(0, 'line ${n}')`));
      expect(answers.map(({ stdout }) => text(stdout))).toEqual(["? ", "? ", "? ", "? "]);
      const none = await contexts.runAlone({ code: "input()" });
      expect(none.error).toMatchObject({ name: "EOFError", value: expect.stringContaining("input") });
      expect((await contexts.list()).items).toHaveLength(1);
    },
  );

  verifies(
    "client/context-results",
    "values come as MIME bundles: pictures, tables and figures as they show themselves, each bounded",
    async () => {
      const { run } = await opened(lab());
      const shown = await run(
        "class A:\n  def _repr_html_(self): return '<b>a</b>'\n  def _repr_png_(self): return b'\\x89PNG'\n  def _repr_svg_(self): 1 / 0\n  def __repr__(self): return 'A'\ndisplay(A(), 5)\nprint('between')\n{'k': [1, None]}",
      );
      expect(shown.results).toEqual([
        {
          isMain: false,
          mime: { "text/html": "<b>a</b>", "image/png": Buffer.from("\x89PNG", "latin1").toString("base64"), "text/plain": "A" },
        },
        { isMain: false, mime: { "text/plain": "5" } },
        { isMain: true, mime: { "text/plain": "{'k': [1, None]}", "application/json": { k: [1, null] } } },
      ]);
      const large = await run("class B:\n  def _repr_html_(self): return 'x' * 9_000_000\nB()");
      expect(Object.keys(large.results[0]?.mime ?? {})).toEqual(["text/plain"]);
      expect(large.results[0]?.mime["text/plain"]).toMatch(/text\/html is left out/);
      expect((await run("class C:\n  def __repr__(self): raise ValueError('no repr')\nC()")).error).toMatchObject({ name: "ValueError" });
      expect((await run("def deep(n): return deep(n + 1)\ndeep(0)")).error).toMatchObject({ name: "RecursionError" });
    },
  );

  verifies(
    "client/context-languages",
    "JavaScript and bash contexts keep their state, tell errors, and survive an interruption",
    async () => {
      const { contexts } = await lab().make();
      const js = over(contexts, (await contexts.create({ language: "javascript" })).id);
      expect(await js.said("const x = 20; console.log('out'); await Promise.resolve(x + 1)")).toEqual(["ok", "21", "out\n", ""]);
      expect(await js.said("const x = 1; [x]")).toEqual(["ok", "[ 1 ]", "", ""]);
      expect((await js.run("(() => { null.y })()")).error).toMatchObject({
        name: "TypeError",
        traceback: expect.stringMatching(/at cell-3:1:\d+\n/),
      });
      for (const code of ["while (true) {}", "await new Promise(() => {})"])
        expect(await js.run(code, { timeoutMs: 100 })).toMatchObject({ status: "timeout", stateLost: false });
      expect((await js.run("process.exit(5)")).error?.value).toMatch(/exit 5/);
      expect(await js.run("typeof x")).toMatchObject({
        freshBecause: "it ended by exit 5",
        results: [{ mime: { "text/plain": "'undefined'" } }],
      });
      const bash = over(contexts, (await contexts.create({ language: "bash", cwd: "/tmp" })).id);
      expect(await bash.said("x=5; echo $x $V", { env: { V: "it's" } })).toEqual(["ok", undefined, "5 it's\n", ""]);
      expect(await bash.said("echo $x $PWD [$V]; cat; false", { input: "in" })).toEqual(["error", undefined, "5 /tmp []\nin", ""]);
      expect((await contexts.list()).items.map(({ language }) => language)).toEqual(["javascript", "bash"]);
    },
  );

  verifies(
    "client/context-cache",
    "the answer of code whose caller asks for that is given again, until something else was run",
    async () => {
      const { contexts, run } = await opened(lab());
      const code = "import time; print('ran'); time.perf_counter_ns()";
      const first = await run(code, { cache: true });
      const again = await run(code, { cache: true });
      expect([first.cached, again.cached, again.results, text(again.stdout)]).toEqual([false, true, first.results, "ran\n"]);
      expect((await run(code)).results).not.toEqual(first.results);
      const other = await run(code, { cache: true });
      expect([other.cached, other.results[0]?.mime === first.results[0]?.mime]).toEqual([false, false]);
      expect((await run(code, { cache: true, input: "x" })).cached).toBe(false);
      expect((await run(code, { cache: true })).cached).toBe(false);
      const alone = await contexts.runAlone({ code, cache: true });
      const chunks: string[] = [];
      const told = await contexts.runAlone({ code, cache: true, onStdout: (chunk) => void chunks.push(text(chunk)) });
      expect([told.cached, told.results, chunks, told.stdout.length]).toEqual([true, alone.results, ["ran\n"], 0]);
      expect(
        (await contexts.runAlone({ code: "1 / 0", cache: true })).cached ||
          (await contexts.runAlone({ code: "1 / 0", cache: true })).cached,
      ).toBe(false);
    },
  );

  verifies(
    "client/context-ends",
    "contexts stand still with their sandbox, end with its processes, and hold within its limits",
    async () => {
      const sandbox = await lab().make({ limits: { memoryBytes: 512 * 1024 ** 2 } });
      const { contexts } = sandbox;
      const { id, run } = over(contexts, (await contexts.create()).id);
      await run("x = 5");
      const full = await run("kept = []\nwhile True: kept.append(b'x' * (16 << 20))");
      // Where no cgroup counts, Python is told by its own allocator.
      if (full.status === "died") expect(full).toMatchObject({ stateLost: true, limitHit: "memory" });
      else expect(full.error).toMatchObject({ name: "MemoryError" });
      await run("x = 6");
      if (
        await sandbox.pause().then(
          () => true,
          () => false,
        )
      ) {
        await sandbox.resume();
        expect((await run("x")).results).toMatchObject([{ mime: { "text/plain": "6" } }]);
      }
      await sandbox.pause({ memory: false });
      await sandbox.resume();
      expect(await codeOf(contexts.get(id))).toBe("context_not_found");
      expect(await codeOf(run("x"))).toBe("context_not_found");
      expect((await contexts.runAlone({ code: "2" })).results).toMatchObject([{ mime: { "text/plain": "2" } }]);
    },
  );

  verifies(
    "client/context-figures",
    "a figure of matplotlib comes as PNG without a display, a frame of pandas as a table in HTML",
    async (context) => {
      const sandbox = await lab().make();
      const { contexts } = sandbox;
      const env = { PATH: "/usr/bin:/bin" };
      const there = await sandbox.exec({ command: ["python3", "-c", "import matplotlib, pandas"], env });
      if (there.exitCode !== 0) context.skip("python3-matplotlib and python3-pandas are not installed");
      const { run } = over(contexts, (await contexts.create({ env })).id);
      const drawn = await run("import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()\nplt.figure()\nplt.title('second');");
      const pictures = drawn.results.flatMap(({ mime }) =>
        typeof mime["image/png"] === "string" ? [Buffer.from(mime["image/png"], "base64")] : [],
      );
      expect([drawn.status, pictures.length, text(drawn.stderr)]).toEqual(["ok", 2, ""]);
      for (const picture of pictures) expect(picture.subarray(0, 8).toString("latin1")).toBe("\x89PNG\r\n\x1a\n");
      const table = await run("import pandas\npandas.DataFrame({'a': [1, 2], 'b': ['x', '<y>']})");
      expect(table.results[0]?.mime["text/html"]).toMatch(/<table[^]*&lt;y&gt;[^]*<\/table>/);
      expect(table.results[0]?.mime["text/plain"]).toMatch(/a\s+b\n0\s+1\s+x/);
    },
  );
}
