import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, renameSync, statSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { isRoot, openLab, snapshot, type Lab } from "../../test/fixtures/delta-lab.ts";
import { verifies } from "../../test/verifies.ts";
import { exportDelta } from "./export.ts";

let lab: Lab;
afterEach(() => lab?.close());

verifies(
  "view/export-tar",
  "the export is a tar of what was added or changed, files without data of their own included",
  async (context) => {
    if (!isRoot) context.skip("mounting an overlay needs root");
    lab = openLab({ a: "1", gone: "2", mode: "content of the base", "d/moved": "m", keep: "k" });
    await lab.start();
    const long = `${"dir-".repeat(30)}/${"n".repeat(200)}`;
    const bytes = `\xff\xfe${"x".repeat(150)}`;
    writeFileSync(join(lab.merged, "a"), "changed");
    unlinkSync(join(lab.merged, "gone"));
    chmodSync(join(lab.merged, "mode"), 0o755);
    renameSync(join(lab.merged, "d/moved"), join(lab.merged, "d/here"));
    mkdirSync(join(lab.merged, long, ".."), { recursive: true });
    writeFileSync(join(lab.merged, long), "long");
    writeFileSync(Buffer.from(`${lab.merged}/${bytes}`, "latin1"), "b".repeat(512));
    symlinkSync("t".repeat(300), join(lab.merged, "link"));
    symlinkSync("a", join(lab.merged, "short"));
    mkdirSync(join(lab.merged, "empty"));
    execFileSync("mkfifo", [join(lab.merged, "pipe")]);
    const chunks: Uint8Array[] = [];
    for await (const chunk of exportDelta(lab.input(), await lab.changes())) chunks.push(chunk);
    const out = join(lab.dir, "out");
    mkdirSync(out);
    execFileSync("tar", ["-x", "-C", out], { input: Buffer.concat(chunks), stdio: ["pipe", "inherit", "pipe"] });
    expect(snapshot(out)).toEqual(
      [
        "/a file 644 changed",
        "/d dir 755", // tar makes the directory above
        "/d/here file 644 m",
        "/empty dir 755",
        `/${long} file 644 long`,
        `/${long.split("/")[0]} dir 755`,
        `/${bytes} file 644 ${"b".repeat(512)}`,
        `/link link ${"t".repeat(300)}`,
        "/mode file 755 content of the base",
        "/short link a",
      ].sort(),
    );
  },
);

it("a file larger than the header's eleven digits has its size in a pax record", async (context) => {
  if (!isRoot) context.skip("mounting an overlay needs root");
  lab = openLab();
  await lab.start();
  execFileSync("truncate", ["-s", "9G", join(lab.merged, "big")]);
  expect(statSync(join(lab.merged, "big")).size).toBe(9 * 1024 ** 3);
  const stream = exportDelta(lab.input(), await lab.changes());
  const first = (await stream.next()).value as Buffer;
  await stream.return(undefined);
  expect(first.toString("latin1")).toContain(`size=${9 * 1024 ** 3}\n`);
});
