// `tool layer`: a copy has everything that the original has, and nothing that no delta can hold is copied.

import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished, type TestContext } from "vitest";
import { setXattr } from "../../test/fixtures/delta-lab.ts";
import { directTool } from "../../test/fixtures/direct-tool.ts";
import { verifies } from "../../test/verifies.ts";
import { guestProgram } from "./build.ts";

const tool = directTool([], guestProgram());

function place(context: TestContext): string {
  if (process.geteuid?.() !== 0) context.skip("marks and owners of a delta need root");
  const dir = mkdtempSync(join(tmpdir(), "corral-layer-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  mkdirSync(join(dir, "from"));
  return dir;
}

function sh(dir: string, script: string): string {
  return execFileSync("sh", ["-euc", script], { cwd: dir, encoding: "utf8" });
}

verifies(
  "guest/layer-copy",
  "a copied layer has every name, kind, owner, mode, time, attribute and hole of the original",
  async (context) => {
    const dir = place(context);
    const from = join(dir, "from");
    sh(
      from,
      `mkdir -p d/e; echo one > d/file; ln d/file d/e/same; ln -s ../x d/link; mkfifo d/fifo; mknod d/gone c 0 0; truncate -s 1G sparse; echo end >> sparse
     chown -R 300000:300001 d; chmod 4751 d/file; chmod 1777 d/e; touch -h -d '2020-01-02 03:04:05.678901234' d/link d/file d/fifo d/e d .`,
    );
    setXattr(join(from, "d"), "trusted.overlay.opaque", "y");
    setXattr(join(from, "d/file"), "user.note", "x");
    sh(
      from,
      `python3 -c "import os; os.setxattr('d/file', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))"`,
    );
    await tool(["layer", "copy", from, join(dir, "to")]).done;
    const told = "find . -printf '%P %y %U:%G %m %n %s %TY-%Tm-%Td %TT %l\\n' | sort; getfattr -Rdh -m - . 2>/dev/null | sort";
    expect(sh(join(dir, "to"), told)).toBe(sh(from, told));
    const [file, same, gone, sparse] = ["d/file", "d/e/same", "d/gone", "sparse"].map((name) => lstatSync(join(dir, "to", name)));
    expect([file?.ino, gone?.rdev, gone?.isCharacterDevice()]).toEqual([same?.ino, 0, true]);
    expect([sparse?.size, (sparse?.blocks ?? 0) < 100]).toEqual([1024 ** 3 + 4, true]);
    expect([readFileSync(join(dir, "to/d/file"), "utf8"), readlinkSync(join(dir, "to/d/link"))]).toEqual(["one\n", "../x"]);
  },
);

verifies("guest/layer-copy", "a device that no sandbox can make, a mount and a tree without end are refused", async (context) => {
  const dir = place(context);
  const from = join(dir, "from");
  sh(from, "mknod null c 1 3");
  await expect(tool(["layer", "copy", from, join(dir, "a")]).done).rejects.toThrow(/Invalid/);
  sh(from, "rm null; mkdir m; mount -t tmpfs none m");
  try {
    await expect(tool(["layer", "copy", from, join(dir, "b")]).done).rejects.toThrow(/[Cc]ross-device/);
  } finally {
    sh(from, "umount m");
  }
  const deep = "import os\nfor _ in range(2100):\n  os.mkdir('d'); os.chdir('d')\n";
  execFileSync("python3", ["-c", deep], { cwd: from });
  await expect(tool(["layer", "copy", from, join(dir, "c")]).done).rejects.toThrow(/loop|Too many levels/);
  await tool(["remove", join(dir, "c")]).done;
  await tool(["remove", from]).done;
});

it("copies below 2000 directories, names longer than a path included, and moves a layer in one step", async (context) => {
  const dir = place(context);
  const from = join(dir, "from");
  const deep = "import os\nfor i in range(300):\n  os.mkdir('n'*200); os.chdir('n'*200)\n  open('f','w').write('x'); os.link('f','g')\n";
  execFileSync("python3", ["-c", deep], { cwd: from });
  const count =
    "import os,sys\nn=0\nwhile True:\n  names=os.listdir('.')\n  n+=len(names)\n  if 'n'*200 not in names: break\n  os.chdir('n'*200)\nprint(n)\n";
  const counted = (cwd: string): string => execFileSync("python3", ["-c", count], { cwd, encoding: "utf8" });
  const expected = counted(from);
  await tool(["layer", "copy", from, join(dir, "to")]).done;
  expect(counted(join(dir, "to"))).toBe(expected);
  const { ino } = statSync(from);
  await tool(["layer", "move", from, join(dir, "moved")]).done;
  expect([statSync(join(dir, "moved")).ino, existsSync(from)]).toEqual([ino, false]);
  await expect(tool(["layer", "move", join(dir, "moved"), join(dir, "to")]).done).rejects.toThrow(/exists/);
  for (const name of ["moved", "to"]) await tool(["remove", join(dir, name)]).done;
});
