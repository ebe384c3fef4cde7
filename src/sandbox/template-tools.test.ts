import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { findTools, isUnder, TOOL_LAYOUTS, type ToolSearch } from "./template-tools.ts";

let machine = "";
let home = "";

beforeEach(() => {
  machine = realpathSync(mkdtempSync(join(tmpdir(), "corral-tools-")));
  home = join(machine, "home/alice");
  mkdirSync(home, { recursive: true });
});
afterEach(() => rmSync(machine, { recursive: true, force: true }));

function program(path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, "#!/bin/sh\n");
  chmodSync(path, 0o755);
}

function file(path: string, content: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

function link(target: string, path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  symlinkSync(target, path);
}

function search(path: readonly string[], changes: Partial<ToolSearch> = {}): ReturnType<typeof findTools> {
  const codebaseDir = join(machine, "project");
  mkdirSync(codebaseDir, { recursive: true });
  return findTools({
    path: path.join(":"),
    homes: [home],
    shown: ["/usr", "/bin", "/sbin"],
    codebaseDir,
    workspace: "/workspace",
    own: [],
    ...changes,
  });
}

describe("the tool directories of the host template", () => {
  verifies("runtime/template-tool-dirs", "each known layout shows the folder of the programs and nothing of the home around it", () => {
    const cases: readonly [string, readonly string[]][] = [
      [".nvm/versions/node/v22.1.0/bin", [".nvm/versions/node/v22.1.0"]],
      [".local/share/fnm/node-versions/v20.0.0/installation/bin", [".local/share/fnm/node-versions/v20.0.0"]],
      [".volta/bin", [".volta/bin", ".volta/tools"]],
      [".pyenv/shims", [".pyenv"]],
      [".rbenv/shims", [".rbenv"]],
      [".asdf/shims", [".asdf"]],
      [".local/share/mise/installs/node/22/bin", [".local/share/mise/installs"]],
      [".cargo/bin", [".cargo/bin", ".rustup/toolchains"]],
      ["go/bin", ["go/bin"]],
      [".sdkman/candidates/java/21/bin", [".sdkman/candidates/java"]],
      [".bun/bin", [".bun/bin"]],
      [".deno/bin", [".deno/bin"]],
      [".local/share/pnpm", [".local/share/pnpm"]],
      [".linuxbrew/bin", [".linuxbrew/Cellar", ".linuxbrew/bin"]],
    ];
    for (const [bin, shown] of cases) {
      const user = join(machine, "home", `u${cases.findIndex(([name]) => name === bin)}`);
      for (const dir of shown) mkdirSync(join(user, dir), { recursive: true });
      program(join(user, bin, "tool"));
      file(join(user, ".cargo/credentials.toml"), "token");
      file(join(user, ".linuxbrew/var/db"), "data");
      const tools = search([join(user, bin)], { homes: [user] });
      expect({ bin, dirs: tools.dirs }).toEqual({ bin, dirs: shown.map((dir) => join(user, dir)) });
      expect(tools.path).toContain(join(user, bin));
    }
  });

  it("puts the chosen version of a version manager before its shims", () => {
    program(join(home, ".pyenv/shims/python"));
    program(join(home, ".pyenv/versions/3.12.1/bin/python"));
    file(join(home, ".pyenv/version"), "3.12.1\n");
    program(join(home, ".cargo/bin/cargo"));
    program(join(home, ".rustup/toolchains/stable-x/bin/cargo"));
    file(join(home, ".rustup/settings.toml"), 'default_toolchain = "stable-x"\n');
    const tools = search([join(home, ".pyenv/shims"), join(home, ".cargo/bin")]);
    expect(tools.path.slice(0, 4)).toEqual([
      join(home, ".pyenv/versions/3.12.1/bin"),
      join(home, ".pyenv/shims"),
      join(home, ".rustup/toolchains/stable-x/bin"),
      join(home, ".cargo/bin"),
    ]);
    expect(tools.env).toEqual({ PYENV_ROOT: join(home, ".pyenv"), RUSTUP_HOME: join(home, ".rustup") });
    expect(tools.copies).toEqual([join(home, ".rustup/settings.toml")]);
  });

  it("follows a link on PATH to the folder that really holds the programs", () => {
    const real = join(home, ".local/share/fnm/node-versions/v20.0.0/installation");
    program(join(real, "bin/node"));
    link(real, join(machine, "multishell/123_456"));
    const tools = search([join(machine, "multishell/123_456/bin")]);
    expect(tools.path[0]).toBe(join(real, "bin"));
    expect(tools.dirs).toEqual([dirname(real)]);
  });

  it("shows of ~/.local/bin only the links that lead into a known layout", () => {
    program(join(home, ".local/share/uv/tools/ruff/bin/ruff"));
    program(join(home, ".local/bin/my-deploy-script"));
    program(join(home, "notes/secret.sh"));
    link(join(home, ".local/share/uv/tools/ruff/bin/ruff"), join(home, ".local/bin/ruff"));
    link(join(home, "notes/secret.sh"), join(home, ".local/bin/secret"));
    const tools = search([join(home, ".local/bin")]);
    expect([...tools.links.keys()]).toEqual([join(home, ".local/bin/ruff")]);
    expect(tools.dirs).toEqual([join(home, ".local/share/uv/tools")]);
    expect(tools.path[0]).toBe(join(home, ".local/bin"));
  });

  it("knows a Node.js, a conda, a Go and a virtual environment by what they hold, wherever they lie", () => {
    const node = join(home, "opt/node-v22");
    program(join(node, "bin/node"));
    mkdirSync(join(node, "lib/node_modules/npm"), { recursive: true });
    const conda = join(home, "miniconda3");
    program(join(conda, "bin/conda"));
    mkdirSync(join(conda, "conda-meta"), { recursive: true });
    file(join(conda, ".condarc"), "token");
    const go = join(home, "sdk/go1.25");
    program(join(go, "bin/go"));
    mkdirSync(join(go, "pkg/tool"), { recursive: true });
    const venv = join(home, "venvs/work");
    program(join(venv, "bin/python"));
    file(join(venv, "pyvenv.cfg"), "");
    const tools = search([node, conda, go, venv].map((dir) => join(dir, "bin")));
    expect(tools.dirs).toEqual([join(conda, "bin"), join(conda, "conda-meta"), join(node, "bin"), join(node, "lib"), go, venv].sort());
  });

  it("never shows a home, what stands above one, or a folder with credentials in it", () => {
    program(join(home, "bin/node"));
    mkdirSync(join(home, "lib/node_modules/npm"), { recursive: true });
    file(join(home, "go/bin/.npmrc"), "token");
    program(join(home, "go/bin/tool"));
    file(join(machine, "pyvenv.cfg"), "");
    program(join(machine, "bin/python"));
    const tools = search([join(home, "bin"), join(home, "go/bin"), join(machine, "bin"), home]);
    expect(tools.dirs).toEqual([]);
    expect(tools.path.filter((dir) => isUnder(dir, [machine]))).toEqual([]);
    expect(tools.skipped.map(({ dir }) => dir).sort()).toEqual([home, join(home, "bin"), join(home, "go/bin"), machine].sort());
  });

  it("leaves a folder of the codebase to its policy and names it below /workspace", () => {
    program(join(machine, "project/node_modules/.bin/tsc"));
    const tools = search([join(machine, "project/node_modules/.bin")]);
    expect(tools.dirs).toEqual([]);
    expect(tools.path[0]).toBe("/workspace/node_modules/.bin");
  });

  it("refuses a folder that holds the codebase", () => {
    const venv = join(machine, "venv");
    file(join(venv, "pyvenv.cfg"), "");
    program(join(venv, "bin/python"));
    mkdirSync(join(venv, "src/app"), { recursive: true });
    expect(search([join(venv, "bin")], { codebaseDir: join(venv, "src/app") }).dirs).toEqual([]);
  });

  it("drops entries that are relative, missing or unknown, and says which it did not know", () => {
    mkdirSync(join(home, "scripts"));
    const tools = search(["", ".", "bin", "/nonexistent/bin", join(home, "scripts"), "/usr/bin"]);
    expect(tools.path[0]).toBe("/usr/bin");
    expect(tools.skipped.map(({ dir }) => dir)).toEqual([join(home, "scripts")]);
  });

  it("has no row that shows a whole home or a folder with a known secret in it", () => {
    for (const { show, tool } of TOOL_LAYOUTS)
      for (const name of show)
        expect({ tool, name }).not.toEqual({
          tool,
          name: expect.stringMatching(/^(\.cargo|\.rustup|\.local|\.local\/share|\.config|\.linuxbrew|go|\.bun|\.deno|\.volta)$/),
        });
  });
});
