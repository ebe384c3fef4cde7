// Which folders of the host the sandbox is shown so that programs on the caller's PATH work: a table with a row per known layout.
// It looks at the host and mounts nothing; template.ts does. A folder that no row knows is not shown, and named in `skipped`.
// Invariant: never a home, never a folder above one, never a folder that holds credentials (`.cargo/bin`, not `.cargo`).

import { readdirSync, readFileSync, realpathSync, type Stats, statSync } from "node:fs";
import { dirname, join } from "node:path";

export interface ToolLayout {
  readonly tool: string;
  /** Ends of a directory on PATH, links resolved; `*` is one component. What stands before is the base of the other fields. */
  readonly at: readonly string[];
  /** One of these exists below the base, else the row does not apply. */
  readonly markers?: readonly string[];
  /** Folders below the base that are shown, `.` for the base itself, `$1` for the first `*`. */
  readonly show: readonly string[];
  /** Small files below the base that are copied, because their folder must not be shown. */
  readonly copies?: readonly string[];
  /** Only its links are shown, and only those that lead into what is shown anyway. */
  readonly linksOnly?: true;
  /** Environment that the tool needs because its home is not the sandbox's; values are below the base. */
  readonly env?: Readonly<Record<string, string>>;
  /** Directories below the base that hold the programs themselves; they precede the shims, which want a writable home. */
  readonly active?: (base: string) => readonly string[];
}

export const TOOL_LAYOUTS: readonly ToolLayout[] = [
  { tool: "nvm", at: [".nvm/versions/node/*/bin", "nvm/versions/node/*/bin"], show: ["$0/versions/node/$1"] },
  { tool: "fnm", at: ["fnm/node-versions/*/installation/bin", ".fnm/node-versions/*/installation/bin"], show: ["$0/node-versions/$1"] },
  {
    tool: "volta",
    at: [".volta/bin"],
    show: [".volta/bin", ".volta/tools"],
    env: { VOLTA_HOME: ".volta" },
    active: (base) => volta(base),
  },
  {
    tool: "nodenv",
    at: [".nodenv/shims", ".nodenv/bin"],
    show: [".nodenv"],
    env: { NODENV_ROOT: ".nodenv" },
    active: (base) => chosen(base, ".nodenv"),
  },
  {
    tool: "pyenv",
    at: [".pyenv/shims", ".pyenv/bin", ".pyenv/plugins/*/shims", ".pyenv/plugins/*/bin", ".pyenv/versions/*/bin"],
    show: [".pyenv"],
    env: { PYENV_ROOT: ".pyenv" },
    active: (base) => chosen(base, ".pyenv"),
  },
  {
    tool: "rbenv",
    at: [".rbenv/shims", ".rbenv/bin"],
    show: [".rbenv"],
    env: { RBENV_ROOT: ".rbenv" },
    active: (base) => chosen(base, ".rbenv"),
  },
  {
    tool: "goenv",
    at: [".goenv/shims", ".goenv/bin"],
    show: [".goenv"],
    env: { GOENV_ROOT: ".goenv" },
    active: (base) => chosen(base, ".goenv"),
  },
  {
    tool: "asdf",
    at: [".asdf/shims", ".asdf/bin"],
    show: [".asdf"],
    env: { ASDF_DIR: ".asdf", ASDF_DATA_DIR: ".asdf" },
    active: (base) => asdf(base),
  },
  {
    tool: "mise",
    at: [".local/share/mise/shims", ".local/share/mise/installs/*/*/bin", ".local/share/mise/installs/*/*"],
    show: [".local/share/mise/installs"],
    active: (base) => mise(base),
  },
  {
    tool: "rustup",
    at: [".cargo/bin"],
    show: [".cargo/bin", ".rustup/toolchains"],
    copies: [".rustup/settings.toml"],
    env: { RUSTUP_HOME: ".rustup" },
    active: (base) => rustup(base),
  },
  { tool: "go", at: ["bin"], markers: ["pkg/tool"], show: ["."] },
  { tool: "go programs", at: ["go/bin"], show: ["go/bin"] },
  {
    tool: "homebrew",
    at: [".linuxbrew/bin", ".linuxbrew/sbin"],
    // `etc` and `var` hold the settings and data of services.
    show: ["bin", "sbin", "Cellar", "opt", "lib", "libexec", "include", "share", "etc/ca-certificates", "etc/openssl@3"].map(
      (name) => `.linuxbrew/${name}`,
    ),
  },
  { tool: "sdkman", at: [".sdkman/candidates/*/*/bin"], show: [".sdkman/candidates/$1"] },
  { tool: "bun", at: [".bun/bin"], show: [".bun/bin", ".bun/install/global"] },
  { tool: "deno", at: [".deno/bin"], show: [".deno/bin"] },
  {
    tool: "pnpm",
    at: [".local/share/pnpm", ".local/share/pnpm/bin"],
    show: [".local/share/pnpm"],
    env: { PNPM_HOME: ".local/share/pnpm" },
  },
  {
    tool: "uv",
    at: [".local/share/uv/tools/*/bin", ".local/share/uv/python/*/bin"],
    show: [".local/share/uv/tools", ".local/share/uv/python"],
  },
  { tool: "pipx", at: [".local/share/pipx/venvs/*/bin"], show: [".local/share/pipx/venvs"] },
  { tool: "pipx", at: [".local/pipx/venvs/*/bin"], show: [".local/pipx/venvs"] },
  { tool: "poetry", at: [".local/share/pypoetry/venv/bin"], show: [".local/share/pypoetry/venv"] },
  { tool: "links of ~/.local/bin", at: [".local/bin"], show: [], linksOnly: true },
  { tool: "nix", at: ["nix/store/*/bin"], show: ["nix/store"] },
  {
    tool: "conda",
    at: ["bin", "condabin"],
    markers: ["conda-meta"],
    // Its own folder may hold a .condarc with a token.
    show: ["bin", "condabin", "conda-meta", "lib", "libexec", "include", "share", "ssl", "etc/conda", "envs"],
  },
  { tool: "python venv", at: ["bin"], markers: ["pyvenv.cfg"], show: ["."] },
  { tool: "node", at: ["bin"], markers: ["include/node", "lib/node_modules/npm"], show: ["bin", "lib", "include"] },
];

export interface ToolSearch {
  /** The caller's PATH. */
  readonly path: string;
  /** Homes of this machine's people: never shown, nor what stands above them. */
  readonly homes: readonly string[];
  /** Host directories that the template shows anyway. */
  readonly shown: readonly string[];
  /** The codebase: what lies in it is judged by the policy, so it is never shown beside it. */
  readonly codebaseDir: string;
  readonly workspace: string;
  /** Directories that are the sandbox's own: nothing of the host can be shown below them. */
  readonly own: readonly string[];
}

export interface Tools {
  /** PATH inside, in the caller's order. */
  readonly path: readonly string[];
  /** Host directories to show at the same place, none inside another. */
  readonly dirs: readonly string[];
  /** Host files to copy to the same place. */
  readonly copies: readonly string[];
  /** Links to make: place inside to its target. */
  readonly links: ReadonlyMap<string, string>;
  readonly env: Readonly<Record<string, string>>;
  readonly skipped: readonly { readonly dir: string; readonly why: string }[];
}

const STANDARD_PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** Names whose presence says that a folder is somebody's, not a tool's. */
const CREDENTIAL_NAMES: ReadonlySet<string> = new Set([
  ".ssh",
  ".aws",
  ".gnupg",
  ".netrc",
  ".npmrc",
  ".pypirc",
  ".docker",
  ".kube",
  ".git-credentials",
  ".config",
  ".azure",
  ".gcloud",
  "credentials",
  "credentials.toml",
  "credentials.json",
  ".env",
  ".condarc",
  "id_rsa",
  "id_ed25519",
  ".vault-token",
  ".bash_history",
]);

/** Links looked at in one directory; more is no directory of programs. */
const MAX_LINKS = 5_000;

/** Reads PATH and the host's folders; changes nothing. */
export function findTools(search: ToolSearch): Tools {
  const found: Found = { path: [], dirs: new Set(), copies: new Set(), links: new Map(), env: {}, skipped: [] };
  for (const entry of search.path.split(":")) addEntry(search, found, entry);
  for (const dir of STANDARD_PATH) if (isDirectory(dir)) found.path.push(dir);
  return {
    path: [...new Set(found.path)],
    dirs: outermost(found.dirs),
    copies: [...found.copies].filter((file) => !isUnder(file, [...found.dirs])),
    links: found.links,
    env: found.env,
    skipped: found.skipped,
  };
}

/** `path` is one of `dirs` or lies below one. */
export function isUnder(path: string, dirs: readonly string[]): boolean {
  return dirs.some((dir) => path === dir || path.startsWith(dir === "/" ? "/" : `${dir}/`));
}

interface Found {
  readonly path: string[];
  readonly dirs: Set<string>;
  readonly copies: Set<string>;
  readonly links: Map<string, string>;
  env: Readonly<Record<string, string>>;
  readonly skipped: { dir: string; why: string }[];
}

function addEntry(search: ToolSearch, found: Found, entry: string): void {
  // A relative or empty entry means the current directory of whoever runs: never taken over.
  if (!entry.startsWith("/")) return;
  const dir = real(entry);
  if (dir === undefined || !isDirectory(dir)) return;
  if (isUnder(dir, [search.codebaseDir])) {
    found.path.push(join(search.workspace, dir.slice(search.codebaseDir.length)));
    return;
  }
  if (isUnder(dir, search.shown)) {
    if (!STANDARD_PATH.includes(entry) || dir === "/usr/local/bin") followLinks(search, found, dir, false);
    found.path.push(entry === dir || isUnder(entry, search.shown) ? entry : dir);
    return;
  }
  const row = showDirectory(search, found, dir);
  if (row === undefined) return;
  followLinks(search, found, dir, row.layout.linksOnly === true);
  if (row.layout.linksOnly === true && ![...found.links.keys()].some((link) => dirname(link) === dir)) {
    skip(found, dir, "none of its programs is a link into a folder that is shown");
    return;
  }
  const active = (row.layout.active?.(row.base) ?? []).map((name) => real(join(row.base, name))).filter((path) => path !== undefined);
  found.path.push(...active.filter((path) => isUnder(path, [...found.dirs])));
  if (row.layout.linksOnly === true || isUnder(dir, [...found.dirs])) found.path.push(dir);
}

/** Adds what the first fitting row shows; undefined, and a reason in `skipped`, when there is none. */
function showDirectory(search: ToolSearch, found: Found, dir: string): Match | undefined {
  const match = findRow(search, dir);
  if (match === undefined) {
    skip(found, dir, "no known layout; install the tool below /usr or /opt, or by a version manager that Corral knows, to show it");
    return undefined;
  }
  for (const name of match.layout.show) {
    const path = real(join(match.base, fill(name, match.stars)));
    if (path === undefined || !isDirectory(path)) continue;
    const why = refusal(search, path);
    if (why === undefined) found.dirs.add(path);
    else skip(found, path, why);
  }
  if (!match.layout.show.some((name) => isUnder(join(match.base, fill(name, match.stars)), [...found.dirs]))) return match;
  for (const name of match.layout.copies ?? []) if (isFile(join(match.base, name))) found.copies.add(join(match.base, name));
  const env = Object.entries(match.layout.env ?? {}).map(([key, name]) => [key, join(match.base, name)] as const);
  found.env = { ...found.env, ...Object.fromEntries(env) };
  return match;
}

function skip(found: Found, dir: string, why: string): void {
  if (!found.skipped.some((one) => one.dir === dir)) found.skipped.push({ dir, why });
}

interface Match {
  readonly layout: ToolLayout;
  readonly base: string;
  readonly stars: readonly string[];
}

function findRow(search: ToolSearch, dir: string): Match | undefined {
  for (const layout of TOOL_LAYOUTS) {
    for (const pattern of layout.at) {
      const match = matchEnd(pattern, dir);
      if (match === undefined) continue;
      // `~/bin` beside a `~/lib/node_modules` is a person's own folder, whatever else lies there.
      if (layout.markers !== undefined && search.homes.includes(match.base)) continue;
      if (layout.markers?.every((marker) => !exists(join(match.base, marker)))) continue;
      return { layout, ...match };
    }
  }
  return undefined;
}

/** Compares the last components of `dir` with those of `pattern`. */
function matchEnd(pattern: string, dir: string): { base: string; stars: string[] } | undefined {
  const want = pattern.split("/");
  const have = dir.split("/");
  if (want.length >= have.length) return undefined;
  const tail = have.slice(-want.length);
  const stars = [want[0] ?? ""];
  for (const [index, part] of want.entries()) {
    const name = tail[index] ?? "";
    if (part === "*") stars.push(name);
    else if (part !== name) return undefined;
  }
  return { base: have.slice(0, -want.length).join("/") || "/", stars };
}

function fill(name: string, stars: readonly string[]): string {
  return name.replace(/\$(\d)/g, (_, digit: string) => stars[Number(digit)] ?? "");
}

/** Programs are often links into another layout: those targets are shown too. */
function followLinks(search: ToolSearch, found: Found, dir: string, record: boolean): void {
  for (const entry of entries(dir).slice(0, MAX_LINKS)) {
    if (!entry.isSymbolicLink()) continue;
    const link = join(dir, entry.name);
    const target = real(link);
    if (target === undefined || isUnder(target, [search.codebaseDir])) continue;
    const visible = (): boolean => isUnder(target, [...search.shown, ...found.dirs]);
    if (!visible() && findRow(search, dirname(target)) !== undefined) showDirectory(search, found, dirname(target));
    if (record && visible()) found.links.set(link, target);
  }
}

/** Why a folder must not be shown, or undefined. */
function refusal(search: ToolSearch, dir: string): string | undefined {
  if (dir === "/" || search.homes.some((home) => isUnder(home, [dir]))) return "it is a home, or holds one";
  if (isUnder(dir, search.own)) return "it lies where the sandbox has a folder of its own";
  if (isUnder(search.codebaseDir, [dir]) || isUnder(dir, [search.codebaseDir])) return "it and the codebase overlap";
  // SAFETY: whatever a row says, a folder with such a name in it would hand its owner's keys to the sandbox.
  const secret = entries(dir).find((entry) => CREDENTIAL_NAMES.has(entry.name));
  return secret === undefined ? undefined : `it holds ${secret.name}`;
}

function outermost(dirs: ReadonlySet<string>): string[] {
  const sorted = [...dirs].sort();
  return sorted.filter((dir) => !sorted.some((other) => other !== dir && isUnder(dir, [other])));
}

function volta(base: string): string[] {
  const version = /"runtime"\s*:\s*"([\w.-]+)"/.exec(read(join(base, ".volta/tools/user/platform.json")))?.[1];
  return version === undefined ? [] : [`.volta/tools/image/node/${version}/bin`];
}

/** pyenv and its like write the chosen versions into one file. */
function chosen(base: string, root: string): string[] {
  const versions = read(join(base, root, "version")).split(/\s+/);
  return versions.filter((version) => /^[\w.+-]+$/.test(version)).map((version) => `${root}/versions/${version}/bin`);
}

function asdf(base: string): string[] {
  const lines = read(join(base, ".tool-versions")).split("\n");
  const pairs = lines.map((line) => /^([\w-]+)\s+([\w.+-]+)/.exec(line)).filter((match) => match !== null);
  return pairs.map((match) => `.asdf/installs/${match[1]}/${match[2]}/bin`);
}

function mise(base: string): string[] {
  const root = ".local/share/mise/installs";
  return entries(join(base, root)).flatMap((tool) => [`${root}/${tool.name}/latest/bin`, `${root}/${tool.name}/latest`]);
}

function rustup(base: string): string[] {
  const name = /^default_toolchain\s*=\s*"([\w.+-]+)"/m.exec(read(join(base, ".rustup/settings.toml")))?.[1];
  return name === undefined ? [] : [`.rustup/toolchains/${name}/bin`];
}

function real(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

/** Undefined also where the caller may not look: a folder that cannot be seen cannot be shown. */
function look(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function exists(path: string): boolean {
  return look(path) !== undefined;
}

function isDirectory(path: string): boolean {
  return look(path)?.isDirectory() === true;
}

function isFile(path: string): boolean {
  return look(path)?.isFile() === true;
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8").slice(0, 65_536);
  } catch {
    return "";
  }
}

function entries(dir: string): { name: string; isSymbolicLink(): boolean }[] {
  try {
    return readdirSync(dir, { withFileTypes: true });
  } catch {
    return [];
  }
}
