// The configuration as a person meets it: files, environment, command line, and what is refused.

import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envName, readConfig } from "../../src/config/read.ts";
import { configKeys } from "../../src/config/schema.ts";
import { verifies } from "../verifies.ts";

const LAUNCHER = join(import.meta.dirname, "..", "..", "corral");
const run = promisify(execFile);

let dir: string;
beforeAll(() => {
  dir = mkdtempSync("/tmp/corral-config-");
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

interface Said {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

async function serve(words: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Said> {
  try {
    return { ...(await run(LAUNCHER, ["serve", ...words], { env: { ...process.env, ...env } })), code: 0 };
  } catch (error) {
    const { stdout, stderr, code } = error as Said;
    return { stdout, stderr, code };
  }
}

function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

const CEILING = 'network.ceiling={"allow":["npm"]}';

describe("where the configuration comes from", () => {
  verifies(
    "server/config-order",
    "a file, the environment and the command line win in rising order, key by key, and it is told who won",
    async () => {
      mkdirSync(join(dir, "data"));
      const path = file("data/corral.yaml", "drainMs: 1\nquotas: { sandboxes: 2 }\nhttp:\n  connections: 3\n");
      const { stdout } = await serve(
        ["--print-config", "--json", "--data", join(dir, "data"), "--set", "http.connections=9", "--port", "77"],
        { CORRAL_QUOTAS_SANDBOXES: "8", CORRAL_HTTP_CONNECTIONS: "8", CORRAL_ORIGINS: "https://a.example,https://b.example" },
      );
      expect(JSON.parse(stdout)).toMatchObject({
        drainMs: { value: 1, source: `file ${path}` },
        "quotas.sandboxes": { value: 8, source: "environment CORRAL_QUOTAS_SANDBOXES" },
        "http.connections": { value: 9, source: "--set" },
        "listen.port": { value: 77, source: "--port" },
        origins: { value: ["https://a.example", "https://b.example"], source: "environment CORRAL_ORIGINS" },
        "store.kind": { value: "sqlite", source: "default" },
      });
      expect(Object.keys(JSON.parse(stdout) as object)).toEqual([...configKeys().keys()]);
    },
  );

  it("prints what can be given back, as YAML, and takes JSON too", async () => {
    const first = await serve([
      "--print-config",
      "--data",
      join(dir, "none"),
      "--set",
      "drainMs=5",
      "--set",
      CEILING,
      "--origin",
      "https://a.example",
    ]);
    const again = await serve(["--print-config", "--json", "--config", file("again.yaml", first.stdout)]);
    expect(JSON.parse(again.stdout)).toMatchObject({
      drainMs: { value: 5 },
      origins: { value: ["https://a.example"] },
      "network.ceiling": { value: { allow: ["npm"] } },
    });
    const json = await serve(["--print-config", "--json", "--config", file("c.json", '{"drainMs": 6}')]);
    expect(JSON.parse(json.stdout)).toMatchObject({ drainMs: { value: 6 } });
  });

  verifies("server/config-secrets", "no password is printed or told, wherever it stands", async () => {
    const url = "postgres://ann:hunter2@db/x?sslpassword=hunter2";
    const { stdout } = await serve(["--print-config", "--store", url]);
    expect(stdout).toContain("postgres://ann:***@db/x");
    const wrong = await serve(["--config", file("wrong.yaml", `store: { kind: sqlite, url: "${url}" }\n`), "--data", join(dir, "d")]);
    const broken = await serve(["--config", file("broken.yaml", `store:\n  url: "${url}\n  kind: [`), "--data", join(dir, "d")]);
    expect([wrong.code, broken.code]).toEqual([2, 2]);
    expect(stdout + wrong.stderr + wrong.stdout + broken.stderr + broken.stdout).not.toContain("hunter2");
  });

  verifies("server/config-refused", "what is wrong or unknown is refused by its key and its source", () => {
    const refusals: readonly (readonly [string, string])[] = [
      ["listen: { prot: 1 }", 'listen (FILE): there is no key "listen.prot"'],
      ["lisen: { port: 1 }", 'configuration (FILE): there is no key "lisen"'],
      ["listen: { port: 70000 }", "listen.port (FILE): Too big"],
      ["listen: 4700", "listen (FILE): Invalid input: expected object"],
      ["origins: [https://a.example/path]", "origins.0 (FILE): expected an origin"],
      ["store: { kind: postgres }", "store (FILE): kind postgres needs a url"],
      ["store: { pool: { min: 5, max: 2 } }", "store.pool (FILE): min is larger than max"],
      ["tls: { certFile: a }", "tls (FILE): certFile and keyFile go together"],
      ["- 1", "FILE: expected keys and values"],
      ["a: &x 1\nb: *x", "FILE: is neither YAML nor JSON"],
      ["drainMs: 1\ndrainMs: 2", "FILE: is neither YAML nor JSON at line 2"],
    ];
    for (const [text, told] of refusals) {
      const path = file("refused.yaml", text);
      expect(() => readConfig({ file: { path, demanded: true }, env: {}, flags: [] }), text).toThrow(
        told.replace("FILE", told.startsWith("FILE") ? path : `file ${path}`),
      );
    }
    const here =
      (env: Record<string, string>, flags: readonly { key: string; text: string; source: string }[] = []): (() => unknown) =>
      () =>
        readConfig({ env, flags });
    expect(here({ CORRAL_STORE_POOL_MAXX: "1" })).toThrow("environment CORRAL_STORE_POOL_MAXX: there is no such key");
    expect(here({ CORRAL_STORE_POOL_MAX: "many" })).toThrow(
      "store.pool.max (environment CORRAL_STORE_POOL_MAX): Invalid input: expected number",
    );
    expect(here({ CORRAL_KEY: "ck1", CORRAL_URL: "http://x" })).not.toThrow();
    expect(here({}, [{ key: "__proto__.x", text: "1", source: "--set" }])).toThrow('--set: there is no key "__proto__.x"');
    expect(() => readConfig({ file: { path: "/none.yaml", demanded: true }, env: {}, flags: [] })).toThrow("ENOENT");
    expect(() => readConfig({ file: { path: "/none.yaml", demanded: false }, env: {}, flags: [] })).not.toThrow();
    expect(envName("store.sqlite.cacheKiB")).toBe("CORRAL_STORE_SQLITE_CACHE_KI_B");
  });
});
