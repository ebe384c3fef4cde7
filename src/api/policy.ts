// What a policy is on the wire and in a file. The meaning of a rule is decided in policy/, nowhere else.
// Invariant: a policy is data - an ordered list of rules - and never fails open: no match means `none`.

/** `none < view < read < write`. `none`: does not exist. `view`: name and metadata. `read`: content. `write`: change. */
export type Permission = "none" | "view" | "read" | "write";

/** Permissions in rank order; the index is the rank. */
export const PERMISSIONS: readonly Permission[] = ["none", "view", "read", "write"];

/** What stands at a path. `other` is a FIFO, socket or device: it has a name and metadata, never content. */
export type EntryKind = "file" | "dir" | "link" | "other";

export interface Rule {
  /** Glob over codebase paths; grammar in docs/policy.md. Compared byte for byte after UTF-8 encoding. */
  readonly pattern: string;
  readonly permission: Permission;
  /** Higher ranks first; default 0. At equal priority the later rule wins. */
  readonly priority?: number;
  /** `false`: judges only the paths that the pattern itself matches, not what lies below. Default true. */
  readonly subtree?: boolean;
}

export interface Policy {
  readonly rules: readonly Rule[];
  /** Directories of the view that are made when the codebase lacks them (`/output`, `/tmp` of `agent-safe`); no changes of the delta. */
  readonly dirs?: readonly string[];
  /** Wants a policy that can change under a running sandbox (fuse engine). */
  readonly live?: boolean;
  /** Wants a record of each refusal (fuse engine). */
  readonly audit?: boolean;
}

/** Names of the built-in policies. Versioned: a change of meaning gets a new number. */
export type PresetName = "agent-safe" | "development" | "read-only" | "view-only" | "full-access";

/** The policy's answer for one access. */
export interface Verdict {
  readonly permission: Permission;
  /** Index into `policy.rules` of the rule that decided. Absent when no rule matched, or when only reachability opened the path. */
  readonly ruleIndex?: number;
  /** True when the path is `view` only because something below it is open; its listing shows only what leads there. */
  readonly passage?: boolean;
}

/** A place in a policy file: 1-based line and column, and the text that is wrong. */
export interface PolicyProblem {
  readonly severity: "error" | "warning";
  readonly line: number;
  readonly column: number;
  readonly message: string;
}
