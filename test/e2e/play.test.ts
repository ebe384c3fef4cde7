// `corral play` and `corral world lint` as a person types them; a provider over real HTTP; a kill in the middle of a reply.

import { LLMock } from "@copilotkit/aimock";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import type { CanonProblem, PlayTurn } from "../../src/api/loom.ts";
import { ROOT } from "../tools/tree.ts";
import { verifies } from "../verifies.ts";
import { run, start } from "./command-line.ts";

const WORLDS = ["lighthouse", "ferry"].map((name) => join(ROOT, "examples", "worlds", name));
const [LIGHTHOUSE = ""] = WORLDS;
const mock = new LLMock({ port: 0, host: "127.0.0.1" });
let dir: string;

beforeAll(async () => {
  dir = mkdtempSync("/tmp/corral-play-");
  mock.on({ userMessage: "slow" }, { content: "It was a long night. ".repeat(100) }, { chunkSize: 20, latency: 200 });
  mock.onMessage("next", { content: "Morning came." });
  await mock.start();
});
afterAll(async () => {
  await mock.stop();
  rmSync(dir, { recursive: true, force: true });
});

function played(stdout: Buffer): PlayTurn {
  return JSON.parse(stdout.toString()) as PlayTurn;
}

describe("corral play", () => {
  verifies("loom/play-once", "one turn without any key says that it is scripted, and a session goes on with what was said", async () => {
    const data = ["--data", join(dir, "once")];
    const first = await run(["play", LIGHTHOUSE, "--once", "I light the lamp", "--json", ...data]);
    const turn = played(first.stdout);
    expect([first.code, turn.state, turn.stopReason]).toEqual([0, "done", "end"]);
    expect(turn.text).toMatch(/^\[scripted: no model was asked\] You said: I light the lamp \(2 messages/);
    expect(Number.isInteger(turn.timings.engineMs) && Number.isInteger(turn.timings.providerMs)).toBe(true);
    const second = await run(["play", LIGHTHOUSE, "--session", turn.session, "--once", "and wait", "--json", ...data]);
    expect([played(second.stdout).session, played(second.stdout).text]).toMatchObject([
      turn.session,
      /\(4 messages/.exec(played(second.stdout).text)?.input,
    ]);
    const refused = await run(["play", LIGHTHOUSE, "--model", "openai/gpt-x", "--once", "x", ...data], { env: { OPENAI_API_KEY: "" } });
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining("model_unknown: openai/gpt-x needs a key; set OPENAI_API_KEY"),
    ]);
  });

  verifies("loom/play-commands", "a play takes turns back and brings them back, answers anew, and goes on in branches", async () => {
    const input = "hello\n/undo\n/undo\n/redo\n/redo\n/retry\n/branch other way\nmore\n/goto turnnone\n/cost\n/quit\nnot this\n";
    const { code, stdout, stderr } = await run(["play", LIGHTHOUSE, "--data", join(dir, "commands")], { input });
    const lines = stdout.toString().trim().split("\n");
    expect([code, lines.length]).toEqual([0, 7]);
    expect(lines.map((line) => line.replace(/turn[a-z0-9]{20}/, "TURN").replace(/, [0-9a-f]{8}\)/, ")"))).toEqual([
      "[scripted: no model was asked] You said: hello (2 messages)",
      "at the beginning",
      "at TURN",
      "[scripted: no model was asked] You said: hello (2 messages)",
      "on other way",
      "[scripted: no model was asked] You said: more (4 messages)",
      "$0.000000",
    ]);
    expect(stderr.match(/turn_not_found/g)?.length).toBe(3);
  });

  verifies(
    "loom/play-survives",
    "a kill in the middle of a reply loses nothing that was said or shown, and asks for nothing twice",
    async () => {
      const env = { COMPATIBLE_BASE_URL: `${mock.url}/v1`, COMPATIBLE_API_KEY: "k" };
      const words = ["play", LIGHTHOUSE, "--model", "compatible/m", "--data", join(dir, "kill")];
      const killed = start([...words, "--once", "slow"], { env });
      await killed.said("long night");
      killed.child.kill("SIGKILL");
      const shown = (await killed.ended).stdout.toString();
      // Its session was told by nobody: the store knows it.
      const { openStore } = await import("../../src/store/store.ts");
      let session = "";
      {
        await using store = await openStore({ kind: "sqlite", file: join(dir, "kill", "corral.db") });
        session = (await store.loom.sessions.list({})).items[0]?.id ?? "";
      }
      const next = played((await run([...words, "--session", session, "--once", "next", "--json"], { env })).stdout);
      expect([next.state, next.text]).toEqual(["done", "Morning came."]);
      await using store = await openStore({ kind: "sqlite", file: join(dir, "kill", "corral.db") });
      const [lost, after] = await store.loom.turns.page(session, 0, 10);
      expect([lost?.state, lost?.stopReason, after?.parentId]).toEqual(["interrupted", "unknown", lost?.id]);
      expect((await store.loom.blobs.get(session, lost?.outputHash ?? "")).startsWith(shown.trim())).toBe(true);
      expect((await store.loom.money.ledger(session)).map(({ certainty }) => certainty)).toEqual(["unknown", "exact"]);
      expect(mock.getRequests().length).toBe(2);
    },
  );

  verifies(
    "loom/examples-lint",
    "the example worlds have nothing to find, and what is wrong in a world is told with file, line and column",
    async () => {
      for (const world of WORLDS) expect(JSON.parse((await run(["world", "lint", world, "--json"])).stdout.toString())).toEqual([]);
      writeFileSync(join(dir, "main.md"), "---\nversion: 1\n---\n# World\nw\n# Tone\n{{include:gone.md}} \u001b[31m\n");
      const told = await run(["world", "lint", dir]);
      expect([told.code, told.stdout.toString()]).toEqual([1, "main.md:7:1 error include-missing: there is no file gone.md\n"]);
      const refused = await run(["play", dir, "--once", "x", "--data", join(dir, "bad")]);
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("canon_invalid")]);
      const problems = JSON.parse((await run(["world", "lint", dir, "--json"])).stdout.toString()) as readonly CanonProblem[];
      expect(problems.map(({ code, line }) => [code, line])).toEqual([["include-missing", 7]]);
      expect((await run(["world", "lint", join(dir, "none")])).stderr).toContain("world_not_found");
    },
  );
});
