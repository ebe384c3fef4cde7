// What a sandbox sees of a codebase. Implementations: kernel.ts (this issue), a FUSE engine later; each runs test/conformance/view.ts.
// A view turns a compiled policy into mounts. It contains no process and decides no verdict.
// Invariant: no write reaches the codebase; what the policy does not open is not in any layer that the sandbox can read.

/** Runs `corral-guest TOOL ARG…` in the spawner's namespaces. Tools: walk, mask, stage … (guest/PROTOCOL.md, Tools). */
export type RunTool = (argv: readonly string[], input?: AsyncIterable<Uint8Array>) => ToolRun;

export interface ToolRun {
  /** Chunks are the reader's to keep. */
  readonly stdout: AsyncIterable<Uint8Array>;
  /** Rejects with `CorralError` (tool's own message) on a non-zero exit. */
  readonly done: Promise<void>;
  kill(): void;
}

/** How ids inside a sandbox look to the tools and the overlay (root mode: host ids; rootless: ids of the spawner's namespace). */
export interface IdMap {
  /** Outside id of inside 0. */
  readonly base: number;
  readonly count: number;
  /** Inside uid and gid of ordinary commands. */
  readonly uid: number;
  readonly gid: number;
  /** Whether overlay may use trusted.* xattrs (root) or user.* (rootless). */
  readonly trusted: boolean;
}

export type OverlayMount = Extract<MountSpec, { kind: "overlay" }>;

/** One mount of a sandbox, in order. Targets are absolute inside. */
export type MountSpec =
  | {
      readonly kind: "overlay";
      readonly target: string;
      /** Topmost first. `dataOnly` lowers follow `::`. One that is a regular file is a mask image (guest/image.h), not a directory. */
      readonly lowers: readonly string[];
      readonly dataOnly?: readonly string[];
      /** Absent = read-only. */
      readonly upper?: string;
      readonly work?: string;
      /** `idmap`: the last lower is mounted so that `from` (its owner) appears as `to`. */
      readonly idmap?: { readonly fromUid: number; readonly fromGid: number; readonly toUid: number; readonly toGid: number };
      readonly options: readonly string[];
      readonly exec: boolean;
    }
  | { readonly kind: "bind"; readonly target: string; readonly source: string; readonly readOnly: boolean; readonly exec: boolean }
  | {
      readonly kind: "tmpfs";
      readonly target: string;
      readonly sizeBytes: number;
      readonly inodes: number;
      readonly mode: number;
      readonly own: boolean;
    };
