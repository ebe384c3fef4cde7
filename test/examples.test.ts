// The stories in examples/, as their READMEs tell them, against a real server. Only the model's answers are made up.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { WebSocket as WsSocket } from "ws";
import { afterAll, beforeAll, describe, expect } from "vitest";
import type * as TerminalScript from "../examples/web-terminal/terminal.ts";
import type { Screen } from "../examples/web-terminal/terminal.ts";
import { startModel } from "./fixtures/model.ts";
import { type ServerProcess, startServerProcess } from "./fixtures/server.ts";
import { ROOT } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

let dir: string;
let server: ServerProcess;
/** Of the example that serves a page, whose origin the server must know from the start. */
let pagePort: number;

beforeAll(async () => {
  dir = mkdtempSync("/tmp/corral-examples-");
  pagePort = await freePort();
  server = await startServerProcess(join(dir, "data"), ["--origin", `http://127.0.0.1:${pagePort}`]);
});
afterAll(async () => {
  await server.end("SIGTERM");
  rmSync(dir, { recursive: true, force: true });
});

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  return port;
}

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Not the synchronous kind: the model answers from this process. */
function run(program: string, words: readonly string[], env: Readonly<Record<string, string>>): Promise<Ran> {
  const child = spawn(program, words, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, stdout, stderr }));
  });
}

/** In the place of xterm.js: keeps what is shown. */
class FakeScreen implements Screen {
  readonly rows = 24;
  readonly cols = 80;
  readonly sockets: WsSocket[] = [];
  shown = "";
  #typed: (text: string) => void = () => undefined;

  write(data: Uint8Array | string): void {
    this.shown += typeof data === "string" ? data : Buffer.from(data).toString();
  }

  onData(typed: (text: string) => void): { dispose(): void } {
    this.#typed = typed;
    return { dispose: () => (this.#typed = () => undefined) };
  }

  onResize(): { dispose(): void } {
    return { dispose: () => undefined };
  }

  type(text: string): void {
    this.#typed(text);
  }

  /** As a browser opens them for a page of `origin`. */
  socketsOf(origin: string): typeof WebSocket {
    const { sockets } = this;
    return class extends WsSocket {
      constructor(url: string) {
        super(url, { origin });
        sockets.push(this);
      }
    } as unknown as typeof WebSocket;
  }
}

describe("examples", () => {
  verifies(
    "examples/agent-loop",
    "an agent's loop runs what the model asks for in a sandbox and tells the model what came of it",
    async () => {
      await using model = await startModel([
        { command: "echo 3 > /tmp/n; cat /etc/shadow" },
        { garbled: "{" },
        { command: "cat /tmp/n" },
        { say: "The number is 3." },
      ]);
      const env = { CORRAL_URL: server.url, CORRAL_KEY: server.key ?? "", MODEL_URL: model.url };
      const done = await run(process.execPath, ["examples/agent-loop/agent.ts", "keep a number"], env);
      expect(done).toMatchObject({ code: 0, stderr: "" });
      expect(done.stdout.trim().split("\n").at(-1)).toBe("The number is 3.");
      const told = model.requests
        .at(-1)
        ?.messages.filter(({ role }) => role === "tool")
        .map(({ content }) => content);
      expect(told?.[0]).toMatch(/^exit code 1\ncat: .*\/etc\/shadow/);
      expect(told?.[1]).toContain("unknown call");
      expect(told?.[2]).toBe("exit code 0\n3\n");
    },
  );

  verifies(
    "examples/web-terminal",
    "a page's script shows a shell in a sandbox by one-time tickets, and goes on where a broken connection was",
    async () => {
      const origin = `http://127.0.0.1:${pagePort}`;
      const env = { CORRAL_URL: server.url, CORRAL_KEY: server.key ?? "", PORT: String(pagePort) };
      const page = spawn(process.execPath, ["examples/web-terminal/server.ts"], {
        cwd: ROOT,
        env: { ...process.env, ...env },
        stdio: "pipe",
      });
      const ended = once(page, "close");
      await once(page.stdout, "data");
      expect(await (await fetch(origin)).text()).toContain("/page.ts");
      const script = await (await fetch(`${origin}/terminal.ts`)).text();
      expect(await (await fetch(`${origin}/page.ts`)).text()).toContain('"/xterm.mjs"');
      expect((await fetch(`${origin}/xterm.mjs`)).headers.get("content-type")).toContain("text/javascript");
      expect((await fetch(`${origin}/ticket`, { method: "POST", headers: { origin: "https://evil.example" } })).status).toBe(403);
      // As the browser gets it, without the browser: xterm.js itself needs a screen.
      const { join: joinTerminal } = (await import(`data:text/javascript,${encodeURIComponent(script)}`)) as typeof TerminalScript;
      const screen = new FakeScreen();
      const exitCode = joinTerminal(screen, {
        ask: async (wanted) => await (await fetch(`${origin}/ticket`, { method: "POST", body: JSON.stringify(wanted) })).text(),
        Socket: screen.socketsOf(origin),
      });
      await expect.poll(() => screen.shown).toMatch(/[$#] /);
      screen.type("kept=4; stty size\r");
      await expect.poll(() => screen.shown).toContain("24 80");
      screen.sockets.at(-1)?.terminate();
      await expect.poll(() => screen.sockets.length).toBe(2);
      await expect.poll(() => (screen.type("echo is ${kept}2\r"), screen.shown), { interval: 500 }).toContain("is 42");
      expect(screen.shown.match(/24 80/g)).toHaveLength(1); // nothing came twice
      screen.type("exit 3\r");
      expect(await exitCode).toBe(3);
      page.kill("SIGTERM");
      expect((await ended)[0]).toBe(0);
    },
  );

  verifies("examples/ci-job", "a job's steps run apart over a checkout that none can change, and its end tells which failed", async () => {
    const code = join(dir, "code");
    mkdirSync(code);
    writeFileSync(join(code, "a.txt"), "a\n");
    const env = { CORRAL_DATA: join(dir, "data") };
    const job = (steps: readonly string[]): Promise<Ran> => run("examples/ci-job/job.sh", [code, ...steps], env);
    expect(await job(["grep a a.txt", "ls"])).toMatchObject({ code: 0, stdout: "passed  grep a a.txt\npassed  ls\n" });
    const failed = await job(["echo changed > a.txt", "ls", "exit 7"]);
    expect(failed.code).toBe(1);
    expect(failed.stdout).toMatch(
      /^FAILED \(\d\) {2}echo changed > a.txt\n {4}.*Permission denied\npassed {2}ls\nFAILED \(7\) {2}exit 7\n/,
    );
    expect(readFileSync(join(code, "a.txt"), "utf8")).toBe("a\n");
  });
});
