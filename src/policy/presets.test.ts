// The presets, name by name and at every depth, and what a command line may add to them.

import { deepEqual, equal, throws } from "node:assert/strict";
import { it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { errorCode } from "../api/errors.ts";
import type { Permission, Policy } from "../api/policy.ts";
import { compilePolicy } from "./compile.ts";
import { parsePolicy } from "./parse.ts";
import { extendPreset, hide, preset, PRESET_NAMES, presetDirs } from "./presets.ts";

/** Files that hold secrets; a name with `/` is a file in a directory of that name. */
const SECRET = [
  ...[".env", ".env.local", ".env.production", ".envrc", ".env.development.local", ".env.test", ".env-old", ".env.example.bak"],
  ...["secrets/a", "secrets/deep/er/b", "secrets/.env.example", ".ssh/config", ".ssh/known_hosts", ".aws/config", ".gnupg/pubring.kbx"],
  ...[".netrc", ".npmrc", ".pypirc", ".netrc/x", "server.key", "a.b.key", ".key", "tls.pem", "ca.p12", "ca.pfx", "store.jks"],
  ...["id_rsa", "id_rsa.pub", "id_rsa_old", "id_ed25519", "id_ed25519.pub", "id_ed25519_sk", "credentials", "credentials/x"],
  ...[
    "credentials.json",
    "credentials.yml",
    "credentials.yaml",
    "credentials.toml",
    "credentials.ini",
    "credentials.csv",
    "credentials.xml",
  ],
  ...["terraform.tfstate", "terraform.tfstate.backup", "x.tfstate.d/y", ".kube/config", ".kube/cache/z", ".docker/config.json"],
];
const HISTORY = [".git/config", ".git/objects/ab/cd", ".git/HEAD", ".git/hooks/pre-commit"];
/** Ordinary names that look like them. */
const PLAIN = [
  ...[
    "credentials.ts",
    "credentials.py",
    "credentials.json.md",
    "my-credentials.json",
    "secrets.ts",
    "secret/a",
    "key",
    "keys/a",
    "x.keys",
    "a.key.md",
  ],
  ...["env", "x.env", ".gitignore", ".github/workflows/ci.yml", ".gitattributes", "ssh/config", "pem", "id_dsa", "my_id_rsa", "tfstate"],
  ...[".docker/Dockerfile", "docker/config.json", "kube/config", ".npmignore", "src/index.ts", "README.md", "package.json", "Makefile"],
];
const TEMPLATES = [".env.example", ".env.sample", ".env.template"];
const DEPTHS = ["", "a/", "a/b/", "a/b/c/", "a/b/c/d/", "a/b/c/d/e/"];

function levels(policy: Policy, names: readonly string[]): ReadonlyMap<string, Permission> {
  const compiled = compilePolicy(policy);
  return new Map(
    DEPTHS.flatMap((depth) => names.map((name) => [`/${depth}${name}`, compiled.verdict(`/${depth}${name}`, "file").permission] as const)),
  );
}

function expectAll(policy: Policy, names: readonly string[], permission: Permission): void {
  for (const [path, level] of levels(policy, names)) equal(level, permission, path);
}

verifies("policy/preset-table", "each preset gives a hundred names their levels at every depth", () => {
  const levelsOf: readonly (readonly [string, Permission, Permission, Permission, Permission])[] = [
    //  preset        plain    secret  history  template
    ["agent-safe", "read", "none", "none", "read"],
    ["development", "write", "none", "write", "read"],
    ["read-only", "read", "read", "read", "read"],
    ["view-only", "view", "view", "view", "view"],
    ["full-access", "write", "write", "write", "write"],
  ];
  deepEqual(
    levelsOf.map(([name]) => name),
    PRESET_NAMES,
  );
  for (const [name, plain, secret, history, template] of levelsOf) {
    const policy = extendPreset(name);
    expectAll(policy, PLAIN, plain);
    expectAll(policy, SECRET, secret);
    expectAll(policy, HISTORY, history);
    expectAll(policy, TEMPLATES, template);
  }
});

it("agent-safe writes to /output and /tmp at the root, and hides secrets there too", () => {
  const compiled = compilePolicy(extendPreset("agent-safe@1"));
  const at = (path: string): Permission => compiled.verdict(path, "file").permission;
  equal(at("/output/a/b"), "write");
  equal(compiled.verdict("/tmp", "dir").permission, "write");
  equal(at("/src/output/a"), "read");
  equal(at("/output/.env"), "none");
  equal(at("/output/secrets/x"), "none");
  equal(compiled.verdict("/secrets", "file").permission, "read"); // `secrets/` is a directory's name
  deepEqual(presetDirs("agent-safe"), ["/output", "/tmp"]);
  deepEqual(extendPreset("agent-safe").dirs, ["/output", "/tmp"]);
  deepEqual(presetDirs("development"), []);
});

it("an unknown preset or version is refused by name", () => {
  for (const name of ["safe", "agent-safe@2", "agent-safe@", "agent-safe@1@1", "toString", ""]) {
    throws(
      () => preset(name),
      (error) => errorCode(error) === "preset_unknown",
      name,
    );
  }
  equal(preset("read-only").id, "read-only@1");
});

verifies(
  "policy/command-line-opens-nothing",
  "what the command line allows opens nothing that the preset hides, what it hides is hidden",
  () => {
    const policy = extendPreset("agent-safe", {
      allowWrite: ["**", "secrets/**", "/.git/**", ".env"],
      hide: ["/private", "*.md"],
      rules: [{ pattern: "/private/x", permission: "write" }],
    });
    expectAll(policy, SECRET, "none");
    expectAll(policy, HISTORY, "none");
    const compiled = compilePolicy(policy);
    equal(compiled.verdict("/src/a.ts", "file").permission, "write");
    equal(compiled.verdict("/private/x", "file").permission, "none");
    equal(compiled.verdict("/output/README.md", "file").permission, "none");
    for (const name of ["read-only", "view-only"])
      equal(compilePolicy(extendPreset(name, { allowWrite: ["/a"] })).verdict("/a/b", "file").permission, "write");
  },
);

it("a hidden path outranks every priority", () => {
  const policy = hide({ rules: [{ pattern: "**", permission: "write", priority: 7 }] }, ["/a"]);
  equal(compilePolicy(policy).verdict("/a/b", "file").permission, "none");
  equal(compilePolicy(policy).verdict("/b", "file").permission, "write");
});

it("a malformed addition is refused and named", () => {
  for (const additions of [{ allowWrite: ["/a[b"] }, { hide: ["/ok", "/a//b"] }]) {
    throws(
      () => extendPreset("agent-safe", additions),
      (error: Error) => errorCode(error) === "policy_invalid" && /\/a(\[b|\/\/b)/.test(error.message),
    );
  }
});

it("a file that extends a preset wins over it", () => {
  const { policy, allowAt, places, ...rest } = parsePolicy("extends agent-safe\nread /secrets/public/**\n");
  if (policy === undefined) throw new Error(JSON.stringify(rest.problems));
  equal(rest.extends, "agent-safe@1");
  equal(allowAt, 3);
  equal(places.length, policy.rules.length);
  deepEqual(policy.dirs, ["/output", "/tmp"]);
  equal(compilePolicy(policy).verdict("/secrets/public/a", "file").permission, "read");
  equal(compilePolicy(policy).verdict("/secrets/a", "file").permission, "none");
});
