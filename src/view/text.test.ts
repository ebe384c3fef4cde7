import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, describe, expect, it, type TestContext } from "vitest";
import { isRoot, openLab, snapshot, type Lab } from "../../test/fixtures/delta-lab.ts";
import { verifies } from "../../test/verifies.ts";
import { gitName, hunks } from "./unified.ts";

let lab: Lab;
afterEach(() => lab?.close());

async function delta(context: TestContext, files: Record<string, string>, act: (merged: string) => void): Promise<void> {
  if (!isRoot) context.skip("mounting an overlay needs root");
  lab = openLab(files);
  await lab.start();
  act(lab.merged);
}

/** `git apply` in a copy of the codebase; what it makes of it. */
function applied(patch: Buffer): string[] {
  const copy = join(lab.dir, "copy");
  cpSync(lab.base, copy, { recursive: true, verbatimSymlinks: true });
  execFileSync("git", ["apply", "--whitespace=nowarn", "-"], {
    cwd: copy,
    input: patch,
    env: { ...process.env, GIT_CEILING_DIRECTORIES: lab.dir },
  });
  return snapshot(copy);
}

const LINES = Array.from({ length: 40 }, (_, i) => `line ${i}`).join("\n");

describe("the text of a delta", () => {
  verifies("view/diff-git-applies", "git apply makes of the codebase what the merged view is", async (context) => {
    const names = ["plain", "with blank", 'qu"ote', "back\\slash", "tab\tname", "new\nline", "\xff\xfe", "caf\xc3\xa9", "-rf", "a/b/c"];
    const files = Object.fromEntries(names.slice(0, 5).map((name) => [name, `${LINES}\n`]));
    await delta(
      context,
      { ...files, "no-newline": LINES, empty: "", "x.sh": "#!", gone: "g\n", "d/gone": "g", moved: "m\n", link: "l", "dd/in": "1\n" },
      (at) => {
        const path = (name: string): Buffer => Buffer.from(`${at}/${name}`, "latin1");
        mkdirSync(join(at, "a/b"), { recursive: true });
        for (const name of names) writeFileSync(path(name), `first\n${LINES.replace("line 20", "changed")}\n`);
        writeFileSync(join(at, "no-newline"), `${LINES}\nmore`);
        writeFileSync(join(at, "empty"), "no longer");
        writeFileSync(join(at, "new-empty"), "");
        chmodSync(join(at, "x.sh"), 0o755);
        unlinkSync(join(at, "gone"));
        rmSync(join(at, "d"), { recursive: true });
        renameSync(join(at, "moved"), join(at, "a/moved too"));
        unlinkSync(join(at, "link"));
        symlinkSync("plain", join(at, "link"));
        symlinkSync("../x", join(at, "a/link"));
        rmSync(join(at, "dd"), { recursive: true });
        writeFileSync(join(at, "dd"), "now a file\n");
        writeFileSync(join(at, "latin1"), Buffer.from("caf\xe9\n", "latin1"));
        writeFileSync(join(at, "crlf"), "a\r\nb\r\n");
      },
    );
    expect(applied(await lab.text())).toEqual(snapshot(lab.merged));
  });

  it("any two texts", async (context) => {
    await delta(context, { f: "" }, () => undefined);
    const text = fc
      .array(fc.constantFrom("a\n", "b\n", "c\n", "\n", "\r\n", "@@ -1 +1 @@\n", "--- a/f\n", "\\ No newline at end of file\n", "d"), {
        maxLength: 30,
      })
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(text, text, (before, after) => {
        const body = Buffer.concat([...hunks(Buffer.from(before), Buffer.from(after))]);
        if (before === after) {
          expect(body).toHaveLength(0);
          return;
        }
        writeFileSync(join(lab.base, "f"), before);
        const head = before === "" || after === "" ? "diff --git a/f b/f\n--- a/f\n+++ b/f\n" : "--- a/f\n+++ b/f\n";
        execFileSync("git", ["apply", "--whitespace=nowarn", "-"], {
          cwd: lab.base,
          input: Buffer.concat([Buffer.from(head), body]),
          env: { ...process.env, GIT_CEILING_DIRECTORIES: lab.dir },
        });
        expect(readFileSync(join(lab.base, "f"), "utf8")).toBe(after);
      }),
      { numRuns: 120 },
    );
  });

  verifies(
    "view/diff-names-binary",
    "binary, very large and special files and empty directories are named only, and the rest still applies",
    async (context) => {
      await delta(context, { bin: "a\0b", text: "1\n" }, (at) => {
        writeFileSync(join(at, "bin"), "c\0d");
        writeFileSync(join(at, "evil\n+++ b"), "\0");
        execFileSync("truncate", ["-s", "20G", join(at, "large")]);
        execFileSync("mkfifo", [join(at, "pipe")]);
        mkdirSync(join(at, "void"));
        writeFileSync(join(at, "text"), "2\n");
      });
      const patch = await lab.text();
      expect(
        patch
          .toString()
          .split("\n")
          .filter((line) => line.startsWith("#")),
      ).toEqual([
        "# binary file, changed: bin",
        '# binary file, added: "evil\\n+++ b"',
        "# file of 21474836480 bytes, too large to show, added: large",
        "# special file, left out: pipe",
        "# new directory: void",
      ]);
      expect(applied(patch)).toEqual(["/bin file 644 a\0b", "/text file 644 2\n"]);
    },
  );

  it("only the paths asked for", async (context) => {
    await delta(context, { a: "1\n", b: "1\n" }, (at) => {
      writeFileSync(join(at, "a"), "2\n");
      writeFileSync(join(at, "b"), "2\n");
    });
    const text = (await lab.text(["/b"])).toString();
    expect([text.includes("a/a"), text.includes("a/b")]).toEqual([false, true]);
  });
});

it("a name is spelled so that it cannot leave its line", () => {
  expect(gitName('a\n"\\\x1b\xff\t')).toBe('"a\\n\\"\\\\\\033\\377\\t"');
});
