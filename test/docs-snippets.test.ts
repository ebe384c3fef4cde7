// The TypeScript that papers show, run as a reader would run it, against a real server.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { startServerProcess } from "./fixtures/server.ts";
import { files, read, ROOT } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

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
  const found = snippets();
  expect(found.length).toBeGreaterThan(3);
  const failed = found.flatMap(({ place, code }) => {
    const words = ["--input-type=module-typescript", "--eval", code.replaceAll(SHOWN_URL, server.url)];
    const ran = spawnSync(process.execPath, words, { cwd: ROOT, encoding: "utf8", env: { ...process.env, CORRAL_KEY: server.key ?? "" } });
    return ran.status === 0 ? [] : [`${place}: ${ran.stderr}`];
  });
  expect(failed).toEqual([]);
});
