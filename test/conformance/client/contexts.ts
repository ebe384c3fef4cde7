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
      expect(await codeOf(contexts.create({ cwd: "/nowhere" }))).toBe("exec_failed");
      expect(await codeOf(contexts.create({ env: { PATH: "/nowhere" } }))).toBe("context_unavailable");
    },
  );
}
