// MCP as clients that are not ours speak it: the first SDK, the inspector's command line, and the conformance tool.

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { expect, onTestFinished } from "vitest";
import { conformanceEndpoint } from "../fixtures/mcp-conformance.ts";
import { startServerHere } from "../fixtures/server-here.ts";
import { verifies } from "../verifies.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const run = promisify(execFile);

/** The program of a package, as its package.json names it. */
function program(name: string, bin: string): string {
  const file =
    createRequire(import.meta.url)
      .resolve.paths(name)
      ?.map((folder) => join(folder, name, "package.json"))
      .find(isReadable) ?? "";
  const { bin: programs } = JSON.parse(readFileSync(file, "utf8")) as { readonly bin: Readonly<Record<string, string>> };
  return join(dirname(file), programs[bin] ?? "");
}

function isReadable(file: string): boolean {
  try {
    readFileSync(file);
    return true;
  } catch {
    return false;
  }
}

verifies("mcp/conformance", "the endpoint passes every scenario of the conformance tool that asks for what Corral offers", async () => {
  await using endpoint = await conformanceEndpoint();
  const results = mkdtempSync("/tmp/corral-conformance-");
  onTestFinished(() => rmSync(results, { recursive: true, force: true }));
  const baseline = join(ROOT, "test", "fixtures", "mcp-conformance.yml");
  const argv = [program("@modelcontextprotocol/conformance", "conformance"), "server", "--url", endpoint.url, "--suite", "active"];
  // It ends with 1 for a scenario that fails and is not named there, and for one that is named and passes.
  const { stdout } = await run(process.execPath, [...argv, "--expected-failures", baseline, "-o", results]);
  expect(stdout).toContain("✓ dns-rebinding-protection: 2 passed");
  expect(stdout).toMatch(/Total: 1[6-9] passed, 15 failed/);
});

verifies("mcp/inspector", "the inspector lists the tools and calls them", async () => {
  await using server = await startServerHere();
  const inspect = async (...words: string[]): Promise<string> => {
    const argv = [program("@modelcontextprotocol/inspector", "mcp-inspector"), "--cli", `${server.url}/mcp`, "--transport", "http"];
    return (await run(process.execPath, [...argv, "--header", `Authorization: Bearer ${server.key}`, ...words])).stdout;
  };
  expect(await inspect("--method", "tools/list")).toContain('"shell_execute"');
  const called = await inspect("--method", "tools/call", "--tool-name", "shell_execute", "--tool-arg", "command=echo $((6*7))");
  expect(called).toContain("42\\\\n");
});

verifies("mcp/older-client", "a client of the first SDK has the same tools", async () => {
  const dir = mkdtempSync("/tmp/corral-older-");
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const client = new Client({ name: "older", version: "1.0.0" });
  onTestFinished(() => client.close());
  await client.connect(new StdioClientTransport({ command: join(ROOT, "corral"), args: ["mcp", "--data", dir], stderr: "ignore" }));
  expect((await client.listTools()).tools.map(({ name }) => name)).toContain("edit_file");
  const answer = await client.callTool({ name: "shell_execute", arguments: { command: "echo old" } });
  expect(answer.structuredContent).toMatchObject({ status: "success", stdout: "old\n" });
});
