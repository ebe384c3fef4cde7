// The built-in policies, versioned: a change of meaning gets a new number. Data; the meaning of a rule is verdict.ts's.
// Invariant: nothing that is added on a command line opens what a preset hides - allowances stand before the preset's hiding rules,
// and what is hidden on the command line stands after everything and outranks it.

import { CorralError } from "../api/errors.ts";
import type { Permission, Policy, PresetName, Rule } from "../api/policy.ts";
import { invalidPolicy, readRules } from "./rules.ts";

export interface Preset {
  /** With its version: `agent-safe@1`. */
  readonly id: string;
  /** What is open; allowances of a command line go in after these. */
  readonly open: readonly Rule[];
  /** What is hidden, and what of it is not. */
  readonly hidden: readonly Rule[];
  /** Directories of the codebase view that are made when absent. */
  readonly dirs: readonly string[];
}

const VERSION = 1;

/** Names that hold secrets in ordinary projects, and the history that holds them after they were deleted. */
const HIDDEN: readonly Rule[] = [
  ...rules("none", ".env*"),
  // Right behind the line they except, so that the lines below still hide them in `secrets/` and the like.
  ...rules("read", ".env.example", ".env.sample", ".env.template"),
  ...rules("none", "secrets/", ".git/", ".ssh/", ".aws/", ".gnupg/", ".netrc", ".npmrc", ".pypirc"),
  ...rules("none", "*.key", "*.pem", "*.p12", "*.pfx", "*.jks", "id_rsa*", "id_ed25519*"),
  ...rules("none", "credentials", "credentials.{json,yml,yaml,toml,ini,csv,xml}", "*.tfstate*", ".kube/", ".docker/config.json"),
];

const PRESETS: Readonly<Record<PresetName, Omit<Preset, "id">>> = {
  "agent-safe": {
    open: [...rules("read", "**"), ...rules("write", "/output/**", "/tmp/**")],
    hidden: HIDDEN,
    dirs: ["/output", "/tmp"],
  },
  development: { open: rules("write", "**"), hidden: HIDDEN.filter((rule) => rule.pattern !== ".git/"), dirs: [] },
  "read-only": { open: rules("read", "**"), hidden: [], dirs: [] },
  "view-only": { open: rules("view", "**"), hidden: [], dirs: [] },
  "full-access": { open: rules("write", "**"), hidden: [], dirs: [] },
};

export const PRESET_NAMES = Object.keys(PRESETS) as readonly PresetName[];

function rules(permission: Permission, ...patterns: string[]): readonly Rule[] {
  return patterns.map((pattern) => ({ pattern, permission }));
}

/** Whether `name` is spelled like a preset (`agent-safe`, `agent-safe@1`); `preset` may still refuse the version. */
export function isPresetName(name: string): boolean {
  const [base = ""] = name.split("@", 1);
  return Object.hasOwn(PRESETS, base);
}

/** The preset of that name: `agent-safe` is its newest version, `agent-safe@1` that version. Throws `preset_unknown`. */
export function preset(name: string): Preset {
  const [base = "", version, ...rest] = name.split("@");
  if (!Object.hasOwn(PRESETS, base)) {
    throw new CorralError(
      "preset_unknown",
      `There is no preset \`${name}\`. Presets: ${PRESET_NAMES.join(", ")}; a path to a policy file works too.`,
    );
  }
  if (rest.length > 0 || (version !== undefined && version !== String(VERSION))) {
    throw new CorralError(
      "preset_unknown",
      `There is no version \`${version}\` of the preset \`${base}\`; this Corral knows \`${base}@${VERSION}\`.`,
    );
  }
  return { id: `${base}@${VERSION}`, ...PRESETS[base as PresetName] };
}

/** Whether the rule is a preset's own, not one that was written like it: its author has nothing to mend in it. */
export function isPresetRule(rule: Rule): boolean {
  return Object.values(PRESETS).some(({ open, hidden }) => open.includes(rule) || hidden.includes(rule));
}

export interface Additions {
  /** Globs that become `write`, except where the preset hides. */
  readonly allowWrite?: readonly string[];
  /** Globs that become `none`, whatever else is said. */
  readonly hide?: readonly string[];
  /** Rules of a file that extends the preset: after it, before `hide`. */
  readonly rules?: readonly Rule[];
}

/** The preset's rules with additions in their places. Throws `preset_unknown`, `policy_invalid`. */
export function extendPreset(name: string, additions: Additions = {}): Policy {
  const { open, hidden, dirs } = preset(name);
  const allowed = checked(rules("write", ...(additions.allowWrite ?? [])), "an allowance");
  const all = [...open, ...allowed, ...hidden, ...(additions.rules ?? [])];
  return hide({ rules: all, ...(dirs.length === 0 ? {} : { dirs }) }, additions.hide);
}

/** `policy` with `patterns` hidden above everything else: the new rules stand last and no priority outranks them. */
export function hide(policy: Policy, patterns: readonly string[] = []): Policy {
  if (patterns.length === 0) return policy;
  // Without this, a rule of the policy with a priority would win over what the caller hides: it would fail open.
  const priority = policy.rules.reduce((highest, rule) => Math.max(highest, rule.priority ?? 0), 0);
  const hidden = checked(rules("none", ...patterns), "a hidden path").map((rule) => (priority === 0 ? rule : { ...rule, priority }));
  return { ...policy, rules: [...policy.rules, ...hidden] };
}

/** Directories that the preset makes in the codebase view when they are absent. */
export function presetDirs(name: string): readonly string[] {
  return preset(name).dirs;
}

function checked(added: readonly Rule[], what: string): readonly Rule[] {
  const problems = readRules(added).problems.map(({ index, offset = 0, message }) => ({
    severity: "error" as const,
    line: index + 1,
    column: offset + 1,
    message: `${what}, \`${added[index]?.pattern ?? ""}\`: ${message}`,
  }));
  if (problems.length > 0) throw invalidPolicy(problems);
  return added;
}
