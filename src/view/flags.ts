// Which changed paths make code run on the host without anybody starting it by name: hooks, editor tasks, CI, agent settings.
// A table, and how a name is held against it. Not a scanner of content, with one exception: package.json is flagged for its scripts.
// Not in the table is what a person starts themselves (a Makefile, a source file): reviewing that is reviewing the change.
// Invariant: a path is flagged whether or not something stood there before, and in any case of its letters.

import type { DeltaChange } from "./changes.ts";
import type { Contents } from "./stage.ts";

interface Row {
  /** Names that end the path, at any depth; `/**` behind them: what lies below too. `*` stands for a part of a name. */
  readonly path: string;
  readonly why: string;
}

/** Sorted by who starts the code. */
export const RUNS_ON_HOST: readonly Row[] = [
  { path: ".git/hooks/**", why: "git hook" },
  { path: ".git/config*", why: "git settings, which can name programs" },
  { path: ".git/modules/**", why: "git settings of a submodule" },
  { path: ".git/worktrees/**", why: "git settings of a worktree" },
  { path: ".git/info/attributes", why: "git attributes, which choose filter programs" },
  { path: ".git", why: "where git keeps its settings" },
  { path: ".gitmodules", why: "git submodule" },
  { path: "HEAD", why: "makes git take its directory for a repository with settings of its own" },
  { path: ".husky/**", why: "git hook" },
  { path: ".githooks/**", why: "git hook" },
  { path: "lefthook*.yml", why: "git hook" },
  { path: "lefthook*.yaml", why: "git hook" },
  { path: ".pre-commit-config.yaml", why: "git hook" },
  { path: ".envrc", why: "direnv runs it on entering the directory" },
  { path: ".mise.toml", why: "mise reads it on entering the directory" },
  { path: "mise.toml", why: "mise reads it on entering the directory" },
  { path: ".bashrc", why: "shell start-up file" },
  { path: ".bash_profile", why: "shell start-up file" },
  { path: ".bash_login", why: "shell start-up file" },
  { path: ".profile", why: "shell start-up file" },
  { path: ".zshrc", why: "shell start-up file" },
  { path: ".zshenv", why: "shell start-up file" },
  { path: ".zprofile", why: "shell start-up file" },
  { path: ".config/fish/**", why: "shell start-up file" },
  { path: ".ssh/**", why: "ssh settings and keys" },
  { path: ".npmrc", why: "npm settings, which can name a shell and a registry" },
  { path: ".yarnrc", why: "yarn settings, which can name programs" },
  { path: ".yarnrc.yml", why: "yarn settings, which can name programs" },
  { path: ".yarn/plugins/**", why: "yarn plugin" },
  { path: ".yarn/releases/**", why: "the yarn that is run here" },
  { path: ".pnpmfile.cjs", why: "pnpm runs it on install" },
  { path: ".cargo/config", why: "cargo settings, which can name programs" },
  { path: ".cargo/config.toml", why: "cargo settings, which can name programs" },
  { path: ".vscode/tasks.json", why: "editor task" },
  { path: ".vscode/launch.json", why: "editor launch" },
  { path: ".vscode/settings.json", why: "editor settings, which can name programs" },
  { path: ".vscode/mcp.json", why: "MCP server" },
  { path: "*.code-workspace", why: "editor task" },
  { path: ".idea/**", why: "editor settings and run configurations" },
  { path: ".devcontainer/**", why: "development container" },
  { path: ".devcontainer.json", why: "development container" },
  { path: ".exrc", why: "editor start-up file" },
  { path: ".vimrc", why: "editor start-up file" },
  { path: ".nvimrc", why: "editor start-up file" },
  { path: ".nvim.lua", why: "editor start-up file" },
  { path: ".dir-locals.el", why: "editor start-up file" },
  { path: ".claude/**", why: "agent settings, hooks and commands" },
  { path: ".mcp.json", why: "MCP server" },
  { path: "mcp.json", why: "MCP server" },
  { path: ".cursor/**", why: "agent settings" },
  { path: ".codex/**", why: "agent settings" },
  { path: ".gemini/**", why: "agent settings" },
  { path: ".github/workflows/**", why: "CI" },
  { path: ".github/actions/**", why: "CI" },
  { path: ".gitlab-ci.yml", why: "CI" },
  { path: ".gitlab/ci/**", why: "CI" },
  { path: ".circleci/**", why: "CI" },
  { path: ".buildkite/**", why: "CI" },
  { path: ".woodpecker/**", why: "CI" },
  { path: ".woodpecker.yml", why: "CI" },
  { path: ".drone.yml", why: "CI" },
  { path: ".travis.yml", why: "CI" },
  { path: "appveyor.yml", why: "CI" },
  { path: "azure-pipelines.yml", why: "CI" },
  { path: "bitbucket-pipelines.yml", why: "CI" },
  { path: "Jenkinsfile", why: "CI" },
];

/** A package.json longer than this is flagged unread. */
const MAX_PACKAGE_BYTES = 1024 * 1024;

type Match = (names: readonly string[], isLink: boolean) => boolean;
const rows = RUNS_ON_HOST.map(({ path, why }) => ({ matches: matcher(path.toLowerCase().split("/")), why }));

function matcher(wanted: readonly string[]): Match {
  const below = wanted.at(-1) === "**";
  const head = (below ? wanted.slice(0, -1) : wanted).map(nameMatcher);
  return (names, isLink) => {
    for (let at = 0; at < names.length; at++) {
      const held = Math.min(head.length, names.length - at);
      if (!names.slice(at, at + held).every((name, index) => head[index]?.(name))) continue;
      if (held === head.length && (below || at + held === names.length)) return true;
      // A link that takes the place of `.github` decides what lies at `.github/workflows`.
      if (isLink && held === names.length - at) return true;
    }
    return false;
  };
}

function nameMatcher(pattern: string): (name: string) => boolean {
  const [start = "", end] = pattern.split("*");
  if (end === undefined) return (name) => name === pattern;
  return (name) => name.length >= start.length + end.length && name.startsWith(start) && name.endsWith(end);
}

/** The reason to look twice, for those changes that have one. `contents` is asked only where a name does not tell. */
export async function flagChanges(changes: readonly DeltaChange[], contents: () => Contents): Promise<ReadonlyMap<DeltaChange, string>> {
  const flags = new Map<DeltaChange, string>();
  for (const change of changes) {
    // What was deleted runs nothing.
    if (change.kind === "delete") continue;
    const why = byName(change) ?? (await byScripts(change, contents));
    if (why !== undefined) flags.set(change, `runs on the host: ${why}`);
  }
  return flags;
}

function byName(change: DeltaChange): string | undefined {
  // A directory alone holds no code; what is put into it has a path of its own.
  if (change.type === "dir") return undefined;
  const names = change.path.slice(1).toLowerCase().split("/");
  return rows.find((row) => row.matches(names, change.type === "link"))?.why;
}

async function byScripts(change: DeltaChange, contents: () => Contents): Promise<string | undefined> {
  const { path, before, after } = change;
  if (path.slice(path.lastIndexOf("/") + 1).toLowerCase() !== "package.json" || change.kind === "mode") return undefined;
  if (after?.kind !== "file" || after.source === undefined) return "npm script (package.json is no plain file)";
  const now = await scriptsOf(contents(), after.size, after.source);
  const old = before?.kind === "file" ? await scriptsOf(contents(), before.size, { root: "base", path }) : "{}";
  if (now === undefined) return "npm script (package.json cannot be read as JSON)";
  return now === "{}" || now === old ? undefined : "npm script";
}

/** The parts of a package.json that npm runs, in one spelling; `undefined` when it cannot be told. */
async function scriptsOf(
  contents: Contents,
  size: number,
  source: { readonly root: "upper" | "base"; readonly path: string },
): Promise<string | undefined> {
  if (size > MAX_PACKAGE_BYTES) return undefined;
  const chunks: Buffer[] = [];
  for await (const chunk of contents.read(source)) chunks.push(chunk);
  try {
    const parsed: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
    if (typeof parsed !== "object" || parsed === null) return "{}";
    const { scripts, gypfile, bin, pnpm, workspaces } = parsed as Record<string, unknown>;
    // `undefined` members vanish, so a file without any of them reads as `{}`.
    return JSON.stringify({ scripts, gypfile, bin, pnpm, workspaces });
  } catch {
    // Not JSON: npm may yet be more lenient than we are, so a person looks.
    return undefined;
  }
}
