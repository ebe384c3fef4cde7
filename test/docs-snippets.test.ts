// The TypeScript that papers show, run as a reader would run it, against a real server.

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished } from "vitest";
import { startServerProcess } from "./fixtures/server.ts";
import { smallRoot } from "./fixtures/small-root.ts";
import { files, read, ROOT } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

const run = promisify(execFile);
const SHOWN_URL = "http://127.0.0.1:4700";

function snippets(): { readonly place: string; readonly code: string }[] {
  return files("**/*.md").flatMap((paper) =>
    [...read(paper).matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match, index) => ({
      place: `${paper}, snippet ${index + 1}`,
      code: match[1] ?? "",
    })),
  );
}

verifies("house/snippets-run", "every TypeScript snippet of a paper runs as it stands", async () => {
  const dir = mkdtempSync("/tmp/corral-snippets-");
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  await using server = await startServerProcess(join(dir, "data"));
  const rootTar = join(dir, "root.tar");
  writeFileSync(rootTar, smallRoot());
  const found = snippets();
  expect(found.length).toBeGreaterThan(3);
  const failed: string[] = [];
  for (const { place, code } of found) {
    const words = ["--input-type=module-typescript", "--eval", code.replaceAll(SHOWN_URL, server.url)];
    const env = { ...process.env, CORRAL_KEY: server.key ?? "", ROOT_TAR: rootTar };
    await run(process.execPath, words, { cwd: ROOT, env }).catch((error: { stderr: string }) => failed.push(`${place}: ${error.stderr}`));
  }
  expect(failed).toEqual([]);
});
