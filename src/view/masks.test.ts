import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openLab, policyOf, type LabMode, type ViewLab } from "../../test/fixtures/view-lab.ts";
import { directTool, GUEST } from "../../test/fixtures/direct-tool.ts";
import { verifies } from "../../test/verifies.ts";
import { readManifest } from "./codebase.ts";
import { openKernelView, type PreparedView } from "./kernel.ts";
import { PlanBytes } from "./plan-bytes.ts";

const MODES: readonly LabMode[] = ["root", "rootless"];
const POLICY = policyOf(["read", "**"], ["write", "/w/**"], ["none", "*.hid"]);
const FILL = "mkdir -p w/a w/b r/c; for d in . w w/a w/b r r/c; do echo $d > $d/f; done; echo h > w/a/x.hid";

describe.each(MODES)("kept masks, %s", (mode) => {
  let lab: ViewLab;
  let dir: string;
  beforeEach(() => {
    lab = openLab(mode);
    dir = lab.codebase(FILL);
  });
  afterEach(() => {
    lab[Symbol.dispose]();
  });

  const prepare = (): Promise<PreparedView> => lab.engine.prepare({ base: dir, policy: POLICY });
  const masks = (): string[] => readdirSync(join(lab.dir, "cache", "masks"));
  const layer = (view: PreparedView): string => view.mount().lowers[0] as string;
  const list = (view: PreparedView): string => lab.delta(view).run(["/usr/bin/find", ".", "-mindepth", "1"]).stdout;

  verifies("view/mask-shared", "one mask serves every sandbox of a codebase version and a policy", async () => {
    const first = await prepare();
    const second = await prepare();
    expect([first.stats.cached, second.stats.cached]).toEqual([false, true]);
    expect(layer(second)).toBe(layer(first));
    expect(second.signature).toBe(first.signature);
    expect([second.stats.visible, second.stats.hidden, second.remarks]).toEqual([first.stats.visible, first.stats.hidden, first.remarks]);
    const other = await lab.engine.prepare({ base: dir, policy: policyOf(["read", "**"]) });
    expect(layer(other)).not.toBe(layer(first));
    expect(masks()).toHaveLength(2);
  });

  verifies("view/version-signature", "any change of the codebase is another version, and no change is none", async () => {
    const seen = new Set<string>();
    const signature = async (): Promise<string> => {
      const view = await prepare();
      view.release();
      return view.signature;
    };
    const first = await signature();
    expect(await signature()).toBe(first);
    seen.add(first);
    const changes = [
      () => writeFileSync(join(dir, "w/new"), ""),
      () => rmSync(join(dir, "w/new")),
      () => writeFileSync(join(dir, "w/f"), "longer than before"),
      () => utimesSync(join(dir, "w/f"), 1, 1),
      () => chmodSync(join(dir, "w/f"), 0o600),
      () => writeFileSync(join(dir, "w/a/x.hid"), "hidden and changed"),
      () => chmodSync(join(dir, "r"), 0o700),
    ];
    const signatures: string[] = [];
    for (const change of changes) {
      change();
      signatures.push(await signature());
    }
    // The second change takes the first one back: w/new is gone, and a directory's own times are no part of a version.
    expect(signatures[1]).toBe(first);
    expect(new Set(signatures).size).toBe(changes.length);
    mkdirSync(join(dir, ".corral-commit-x"));
    expect(await signature()).toBe(signatures.at(-1));
  });

  it("shows the new version after the codebase changed, and leaves the old one to whoever has it", async () => {
    const old = await prepare();
    const before = list(old);
    writeFileSync(join(dir, "w/a/new"), "new");
    rmSync(join(dir, "r/c"), { recursive: true });
    const next = await prepare();
    expect(next.stats.cached).toBe(false);
    expect(list(next).split("\n")).toEqual(expect.arrayContaining(["./w/a/new", "./w/b/f"]));
    expect(list(next)).not.toContain("./r/c");
    expect(list(old)).toBe(before);
  });

  verifies("view/mask-whole", "two who make the same mask at once both get a whole one", async () => {
    const engines = [1, 2, 3].map(() => openKernelView({ tool: lab.tool, ids: lab.ids, cacheDir: join(lab.dir, "cache") }));
    const views = await Promise.all(
      engines.flatMap((engine) => [engine.prepare({ base: dir, policy: POLICY }), engine.prepare({ base: dir, policy: POLICY })]),
    );
    expect(new Set(views.map(layer)).size).toBe(1);
    expect(list(views[0] as PreparedView)).toContain("./w/a/f");
    expect(masks()).toHaveLength(1);
  });

  it("makes a mask again when the one that is kept is damaged", async () => {
    const first = await prepare();
    first.release();
    writeFileSync(join(layer(first), "..", "stamp.json"), '{"form":"tr');
    const second = await prepare();
    expect(second.stats.cached).toBe(false);
    expect(list(second)).toContain("./w/a/f");
  });

  it("sweeps away what a dead process left half made, and nothing of a living one", async () => {
    await prepare();
    const [mask] = masks();
    const dead = join(lab.dir, "cache", "masks", ".making-999999-1-00000000-0000-0000-0000-000000000000.aaaaaaaa");
    mkdirSync(join(dead, "layer", "deep"), { recursive: true });
    await lab.engine.sweep();
    expect(masks()).toEqual([mask]);
  });

  it("keeps at most 64 masks, and none less that is in use", async () => {
    const held = await prepare();
    const dirOf = (name: string): string => join(lab.dir, "cache", "masks", name);
    for (let i = 0; i < 70; i++) {
      mkdirSync(join(dirOf(`${"0".repeat(24)}-${i}`), "uses"), { recursive: true });
      writeFileSync(join(dirOf(`${"0".repeat(24)}-${i}`), "stamp.json"), "{}");
      utimesSync(join(dirOf(`${"0".repeat(24)}-${i}`), "stamp.json"), 1000 + i, 1000 + i);
    }
    utimesSync(join(layer(held), "..", "stamp.json"), 1, 1); // the oldest, and in use
    await lab.engine.sweep();
    expect(masks()).toHaveLength(65);
    expect(existsSync(layer(held))).toBe(true);
    held.release();
    await lab.engine.sweep();
    expect(existsSync(layer(held))).toBe(false);
  });

  verifies("view/manifest", "the walk of the version is kept for the commit, hidden entries too", async () => {
    const { manifestFile = "" } = await prepare();
    const paths: string[] = [];
    for await (const batch of readManifest(manifestFile))
      for (const event of batch) if (event.event === "dir") paths.push(...event.entries.map((entry) => `${event.path}/${entry.name}`));
    expect(paths).toContain("/w/a/x.hid");
    expect(paths).toHaveLength(12);
    writeFileSync(manifestFile, readFileSync(manifestFile).subarray(0, -9));
    await expect(
      (async () => {
        for await (const _ of readManifest(manifestFile));
      })(),
    ).rejects.toThrow();
  });
});

describe("a full disk", () => {
  it.each(MODES)("is told as such, %s, and leaves nothing half made", async (mode) => {
    using lab = openLab(mode);
    const dir = lab.codebase("i=0; while [ $i -lt 3000 ]; do echo > f$i-with-a-name-of-some-length; i=$((i+1)); done");
    const cacheDir = join(lab.dir, "small");
    mkdirSync(cacheDir);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=200k,nr_inodes=500", "none", cacheDir]);
    try {
      const engine = openKernelView({ tool: lab.tool, ids: lab.ids, cacheDir });
      await expect(engine.prepare({ base: dir, policy: POLICY })).rejects.toMatchObject({ code: "disk_full" });
      expect(readdirSync(join(cacheDir, "masks"))).toEqual([]);
    } finally {
      execFileSync("umount", [cacheDir]);
    }
  });
});

describe("a kernel that mounts no images", () => {
  verifies("view/mask-without-images", "is served by trees, as root too", async () => {
    using lab = openLab("root");
    const dir = lab.codebase(FILL);
    // The tool as it answers where image_mount fails: it makes the file and cannot use it.
    const tool = (argv: readonly string[], input?: AsyncIterable<Uint8Array>): ReturnType<typeof lab.tool> =>
      argv[1] === "image"
        ? directTool(["/bin/sh", "-c", "cat > /dev/null; echo 'mask: image: the kernel cannot mount it: No such device' >&2; exit 1"])(
            argv,
            input,
          )
        : lab.tool(argv, input);
    const engine = openKernelView({ tool, ids: lab.ids, cacheDir: join(lab.dir, "no-images") });
    const view = await engine.prepare({ base: dir, policy: POLICY });
    expect([view.stats.form, view.stats.cached]).toEqual(["tree", false]);
    expect(lab.delta(view).run(["/bin/sh", "-c", "cat w/a/f; echo x >> w/a/f; cat w/a/f; ls w/a; echo x > r/f"])).toMatchObject({
      stdout: "w/a\nw/a\nx\nf\n",
    });
    expect((await engine.prepare({ base: dir, policy: POLICY })).stats.cached).toBe(true);
  });
});

describe("a mask tree that is brought up to date", () => {
  let lab: ViewLab;
  let dir: string;
  beforeEach(() => {
    lab = openLab("rootless");
    dir = lab.codebase(FILL);
  });
  afterEach(() => {
    lab[Symbol.dispose]();
  });

  async function inodes(): Promise<Map<string, number>> {
    const view = await lab.engine.prepare({ base: dir, policy: POLICY });
    view.release();
    const layer = view.mount().lowers[0] as string;
    const found = execFileSync("find", [layer, "-printf", "%P %i\n"], { encoding: "utf8" });
    return new Map(
      found
        .trim()
        .split("\n")
        .map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
    );
  }

  verifies("view/mask-mended", "only directories whose listing changed are made again", async () => {
    const before = await inodes();
    writeFileSync(join(dir, "w/a/new"), "new");
    rmSync(join(dir, "w/b"), { recursive: true });
    const after = await inodes();
    const same = (path: string): boolean => after.get(path) === before.get(path);
    expect(["r", "r/f", "r/c", "r/c/f"].filter(same)).toEqual(["r", "r/f", "r/c", "r/c/f"]);
    expect(["w/a/f"].filter(same)).toEqual([]);
    expect([after.has("w/a/new"), after.has("w/b"), before.has("w/b")]).toEqual([true, false, true]);
    expect(readdirSync(join(lab.dir, "cache", "masks"))).toHaveLength(1);
  });

  it("is not touched by a hidden entry that comes or goes", async () => {
    const before = await inodes();
    writeFileSync(join(dir, "w/a/y.hid"), "hidden");
    rmSync(join(dir, "w/a/x.hid"));
    expect(await inodes()).toEqual(before);
  });

  it("is what a new one would be, after directories moved, turned into files and back", async () => {
    const steps = [
      "mv w/a r/c/a2",
      "rm -r w/b; echo b > w/b",
      "rm w/b; mkdir -p w/b/deep; echo x > w/b/deep/f",
      "ln -s f w/l; rm f",
      "chmod 755 r/f; touch -d @5 r/c/f",
      "mkdir -p n/o/p; echo q > n/o/p/q",
    ];
    const state = (layer: string): string =>
      execFileSync("bash", ["-c", "find . -printf '%P %y %m %U %s %T@ %l\\n' | sort; getfattr -hR -d -m user.overlay . | sort"], {
        cwd: layer,
        encoding: "utf8",
      });
    for (const step of steps) {
      const old = await lab.engine.prepare({ base: dir, policy: POLICY });
      old.release();
      execFileSync("bash", ["-eu", "-c", step], { cwd: dir });
      const mended = await lab.engine.prepare({ base: dir, policy: POLICY });
      const fresh = await openKernelView({ tool: lab.tool, ids: lab.ids, cacheDir: join(lab.dir, `fresh-${steps.indexOf(step)}`) }).prepare(
        { base: dir, policy: POLICY },
      );
      expect(state(mended.mount().lowers[0] as string)).toBe(state(fresh.mount().lowers[0] as string));
      mended.release();
    }
  });

  it("is made anew when what is kept of it is wrong", async () => {
    const view = await lab.engine.prepare({ base: dir, policy: POLICY });
    view.release();
    const layer = view.mount().lowers[0] as string;
    rmSync(join(layer, "w"), { recursive: true });
    writeFileSync(join(dir, "w/a/new"), "new");
    expect([...(await inodes()).keys()]).toEqual(expect.arrayContaining(["w/a/new", "w/b/f", "r/c/f"]));
  });
});

describe("the mask tool", () => {
  let lab: ViewLab;
  beforeEach(() => {
    lab = openLab("root");
  });
  afterEach(() => {
    lab[Symbol.dispose]();
  });

  const mask = (form: string, plan: Buffer, out: string): { status: number | null; stderr: string } =>
    spawnSync(GUEST, ["tool", "mask", form, "--own", "1", "1", "--xattrs", "trusted", out], { input: plan, encoding: "utf8" });

  function smallPlan(): Buffer {
    const bytes = new PlanBytes();
    const time = { mtimeSeconds: -1, mtimeNs: 5 };
    bytes.enter("");
    bytes.file("f", { own: true, mode: 0o644, content: true }, 2 ** 43 + 5, time);
    bytes.link("l", { own: false, mode: 0o777 }, "t".repeat(4095), time);
    bytes.file("placed", { own: false, mode: 0o444, content: true, place: "/ab/cd" }, 5, time);
    bytes.enter("d");
    bytes.leave({ own: false, mode: 0o755 }, time);
    bytes.leave({ own: true, mode: 0o755 }, time);
    bytes.end();
    return Buffer.concat(bytes.take(true));
  }

  it.each(["tree", "image"])("makes no %s of a plan that is cut or damaged", (form) => {
    const plan = smallPlan();
    const out = (name: string): string => join(lab.dir, `${form}-${name}`);
    expect(mask(form, plan, out("whole"))).toMatchObject({ status: 0, stderr: "" });
    for (let cut = 0; cut < plan.length; cut += cut < 200 ? 1 : 97)
      expect([cut, mask(form, plan.subarray(0, cut), out(`cut-${cut}`)).status]).toEqual([cut, 1]);
    for (const at of [0, 4, 5, 33, plan.length - 4]) {
      const damaged = Buffer.from(plan);
      damaged[at] = 0xee;
      expect([at, mask(form, damaged, out(`damaged-${at}`)).status]).toEqual([at, 1]);
    }
  });

  it("refuses names that lead out of the mask", () => {
    for (const [at, name] of ["..", ".", "a/b", "", "a\0b"].entries()) {
      const bytes = new PlanBytes();
      bytes.enter("");
      bytes.file(name, { own: false, mode: 0o444, content: false }, 0, { mtimeSeconds: 0, mtimeNs: 0 });
      bytes.leave({ own: false, mode: 0o755 }, { mtimeSeconds: 0, mtimeNs: 0 });
      bytes.end();
      const plan = Buffer.concat(bytes.take(true));
      for (const form of ["tree", "image"]) expect(mask(form, plan, join(lab.dir, `${form}-${at}`)).stderr).toContain("bad name");
    }
    for (const [at, place] of ["ab", "/../x", "/ab/..", "//ab"].entries()) {
      const bytes = new PlanBytes();
      bytes.enter("");
      bytes.file("f", { own: false, mode: 0o444, content: true, place }, 0, { mtimeSeconds: 0, mtimeNs: 0 });
      expect(mask("tree", Buffer.concat(bytes.take(true)), join(lab.dir, `placed-${at}`)).stderr).toContain("bad place");
    }
  });

  it("never writes over what is there", () => {
    const out = join(lab.dir, "there");
    writeFileSync(out, "mine");
    for (const form of ["tree", "image"]) expect(mask(form, smallPlan(), out).status).toBe(1);
    expect(readFileSync(out, "utf8")).toBe("mine");
  });

  it("gives an image the layout that the file system's own checker accepts, whatever the sizes of names and directories", async () => {
    const bytes = new PlanBytes();
    const time = { mtimeSeconds: 1_700_000_000, mtimeNs: 123_456_789 };
    bytes.enter("");
    // Lengths around a block: of a directory's listing, of a target, of a name, of the path in a mark.
    for (let i = 0; i < 300; i++) {
      bytes.enter(`dir-${"x".repeat((i * 7) % 240)}-${i}`);
      for (let j = 0; j < i; j++) {
        const size = j * 4096 - (j % 3 === 0 ? j : 0);
        bytes.file(`${j}-${"n".repeat((i * j) % 230)}`, { own: j % 2 === 0, mode: 0o644, content: j % 5 !== 0 }, size, time);
      }
      bytes.link("-before-the-dots", { own: false, mode: 0o777 }, "t".repeat(1 + ((i * 53) % 4095)), time);
      bytes.leave({ own: false, mode: 0o755 }, time);
    }
    bytes.leave({ own: false, mode: 0o755 }, time);
    bytes.end();
    const image = join(lab.dir, "image.erofs");
    const target = join(lab.dir, "mounted");
    mkdirSync(target);
    expect(mask("image", Buffer.concat(bytes.take(true)), image)).toMatchObject({ status: 0, stderr: "" });
    execFileSync("mount", ["-t", "erofs", "-o", "ro", image, target]);
    try {
      const names = readdirSync(target);
      expect(names).toHaveLength(300);
      for (const name of names) {
        const i = Number(name.slice(name.lastIndexOf("-") + 1));
        expect(readdirSync(join(target, name)).sort()).toEqual(
          ["-before-the-dots", ...Array.from({ length: i }, (_, j) => `${j}-${"n".repeat((i * j) % 230)}`)].sort(),
        );
        expect(lstatSync(join(target, name, "-before-the-dots")).size).toBe(1 + ((i * 53) % 4095));
        expect(execFileSync("readlink", [join(target, name, "-before-the-dots")], { encoding: "utf8" }).length).toBe(2 + ((i * 53) % 4095));
        for (let j = 0; j < i; j += 37) {
          const stats = statSync(join(target, name, `${j}-${"n".repeat((i * j) % 230)}`));
          expect([stats.size, stats.mtimeMs, stats.uid]).toEqual([
            j * 4096 - (j % 3 === 0 ? j : 0),
            1_700_000_000_123.4568,
            j % 2 === 0 ? 1 : 0,
          ]);
        }
      }
    } finally {
      execFileSync("umount", [target]);
    }
  });

  it("is run with the tool's own error when it cannot write", async () => {
    const run = directTool()(
      ["mask", "image", "--own", "1", "1", "--xattrs", "trusted", "/nonexistent/image"],
      (async function* () {
        yield smallPlan();
      })(),
    );
    await expect(run.done).rejects.toThrow("mask: cannot make /nonexistent/image: No such file or directory");
  });
});
