// Attempts that no row makes yet, each with the reason: what a scoreboard must not keep silent about. Data alone.
// Invariant: an id stands here or in the catalogue, never in both.

import type { AttackClass, AttackRow } from "../api/attack.ts";
import type { RuntimeName } from "../api/sandbox.ts";

export interface Planned {
  readonly id: `${AttackClass}/${string}`;
  readonly reason: string;
  /** Of no runtime: it is tried on the server, the SDK or the command line. */
  readonly onServer: boolean;
}

const SUITE = "no row here yet; the test suite has it";

function planned(kind: AttackClass, reason: string, names: string, options: { readonly inRuntime?: true } = {}): Planned[] {
  return names
    .trim()
    .split(/\s+/)
    .map((name) => ({ id: `${kind}/${name}` as const, reason, onServer: options.inRuntime === undefined }));
}

export const PLANNED: readonly Planned[] = [
  ...planned("door", "room not built: nothing enters a sandbox by setns", "setns-keeps-caps", { inRuntime: true }),
  ...planned("file", `${SUITE} (test/conformance)`, "op-matrix hidden-twin", { inRuntime: true }),
  ...planned("file", `${SUITE} (src/policy)`, "preset-table fail-open"),
  ...planned("file", "room not built: a policy cannot change under a live sandbox", "live-withdraw", { inRuntime: true }),
  ...planned("file", "room not built: there is no fuse engine", "fuse-dies", { inRuntime: true }),
  ...planned(
    "commit",
    `${SUITE} (src/view)`,
    "escaping-link special-entry shadow-hidden hidden-children metadata-only runs-on-host commit-race lost-update commit-crash diff-bomb",
  ),
  ...planned("transfer", `${SUITE} (src/base, src/codebases)`, "tar-slip bomb archive-xattrs"),
  ...planned("transfer", "room not built: no zip is read", "zip-slip"),
  ...planned(
    "transfer",
    `${SUITE} (test/conformance/client, test/e2e)`,
    "name-encoding file-api-link file-api-race client-upload client-download",
  ),
  ...planned(
    "control",
    `${SUITE} (test/e2e, test/conformance/client, src/runtime)`,
    `no-token silent-fallback foreign-id token-scope signed-url idempotent-create races quota-parallel injection pattern-bomb outbound-url
     host-rebinding stream-auth guest-lies port-squat`,
  ),
  ...planned("control", "room not built: there is no foreign wire", "unsecured-origin"),
  ...planned("mcp", `${SUITE} (test/e2e)`, "mcp-origin mcp-fixation mcp-tool-text mcp-host-path mcp-size mcp-confused"),
  ...planned("dashboard", "room not built", "html-in-output csrf token-leak"),
  ...planned("dashboard", `${SUITE} (test/e2e)`, "preview-origin download-type"),
  ...planned("terminal", `${SUITE} (src/cli)`, "terminal-escape"),
  ...planned("loom", "room not built", "inject-file canon-write memory-poison prompt-secret tool-flood"),
];

export function plannedRow({ id, reason, onServer }: Planned, runtime: RuntimeName): AttackRow {
  return {
    id,
    class: id.slice(0, id.indexOf("/")) as AttackClass,
    runtime: onServer ? "server" : runtime,
    engine: "kernel",
    door: "-",
    user: "user",
    result: "skipped",
    control: { kind: "-", result: "not run" },
    reason,
    ms: 0,
  };
}
