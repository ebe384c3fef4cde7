// What a view and its deltas ask of stored codebases. Types alone: where trees lie and which versions there are is not known here.

import type { StoredBase, StoredRoot } from "../api/sandbox.ts";
import type { CommitInput, CommitTarget } from "./commit.ts";
import type { WalkEvent } from "./walk.ts";

/** A tree that never changes and is known without a walk. Its content lies in `blobs`, each file where its entry says. */
export interface StoredTree {
  /** Names the content: one root, one tree. */
  readonly root: string;
  readonly blobs: string;
  events(): AsyncIterable<WalkEvent[]>;
  /** Links are followed inside of the tree. */
  hasFile(path: string): Promise<boolean>;
  /** A small file, looked for as by `hasFile`; `undefined`: there is none, or it is larger than `most` bytes. */
  read(path: string, most: number): Promise<Buffer | undefined>;
}

export interface StoredCodebases {
  tree(base: StoredRoot): StoredTree;
  /** A new version of the codebase, merged over the current one. */
  target(base: StoredBase, input: CommitInput): CommitTarget;
}
