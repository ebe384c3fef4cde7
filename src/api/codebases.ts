// Stored codebases: versioned trees that sandboxes stand on. Types alone. Paths are relative to the root, with or without a `/` before them,
// in UTF-8. Invariant: a version never changes; every change is a new one, made whole or not at all.

import type { CallOptions, PageOptions } from "./calls.ts";
import type { ListOf } from "./server.ts";

export interface CodebaseVersion {
  readonly number: number;
  /** Names the content: equal trees have equal roots. */
  readonly root: string;
  /** Of all its files. */
  readonly bytes: number;
  readonly files: number;
  /** Files, links and directories. */
  readonly entries: number;
  /** Where it came from: `empty`, `tar`, `upload`, `directory`, `git COMMIT`, `put`, `delete`, `commit SANDBOX`. */
  readonly source: string;
  readonly createdAt: string;
}

export interface CodebaseResource {
  readonly id: string;
  readonly ownerId: string;
  /** Need not be unique. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAt: string;
  readonly updatedAt: string;
  /** The current one. */
  readonly version: CodebaseVersion;
  /** Of an import from a directory: FIFOs, sockets and devices that were left out, the first of them. */
  readonly skipped?: readonly string[];
}

/** The files of one commit; no history, no submodules, no content that LFS keeps elsewhere. */
export interface GitSource {
  /** `https://host/path`, without a user or password; `file:///path` where the server's configuration allows it. */
  readonly url: string;
  /** A branch, a tag or the whole hash of a commit; default what the repository calls HEAD. */
  readonly ref?: string;
  /** How many commits are fetched on the way; default 1. */
  readonly depth?: number;
}

/** A directory of the server's machine (a key of scope `admin`), or a git repository (the same, unless `git.hosts` of its configuration names the host). */
export type CodebaseSource = { readonly dir: string } | { readonly git: GitSource };

export interface CreateCodebaseBody {
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Absent: an empty codebase. */
  readonly from?: CodebaseSource;
}

export interface CodebaseEntry {
  /** Relative. Bytes that are not UTF-8 show as U+FFFD; `pathBytes` has them then, base64. */
  readonly path: string;
  readonly pathBytes?: string;
  readonly type: "file" | "dir" | "link";
  /** Of a directory: of all files below it. */
  readonly size: number;
  /** Nine bits; absent for a link. */
  readonly mode?: number;
  readonly modifiedAt: string;
  /** SHA-256 of a file's content, hex. */
  readonly hash?: string;
  readonly target?: string;
}

/** One entry of a tree that is to be uploaded. Directories are needed only where they are empty or have a mode of their own. */
export interface UploadEntry {
  readonly path: string;
  readonly type: "file" | "dir" | "link";
  /** Default 0644, of a directory 0755. */
  readonly mode?: number;
  /** Since 1970; default: when it is sent. */
  readonly mtimeMs?: number;
  /** Of a file, bytes. */
  readonly size?: number;
  /** Of a file: SHA-256 of its content, hex. */
  readonly hash?: string;
  /** Of a link. */
  readonly target?: string;
}

export interface BeginUploadBody {
  /** The whole tree. */
  readonly entries: readonly UploadEntry[];
}

export interface UploadResource {
  readonly id: string;
  readonly codebaseId: string;
  readonly createdAt: string;
  /** When it is forgotten unless it is committed. */
  readonly endAt: string;
  /** Hashes of the contents that the server does not have. */
  readonly missing: readonly string[];
}

export interface UploadContent {
  readonly hash: string;
  readonly content: Uint8Array;
}

/** Contents on their way: 32 bytes SHA-256, 8 bytes length (big-endian), the bytes; again and again, in a body that may be gzip or zstd. */
export const UPLOAD_FRAME = { hashBytes: 32, lengthBytes: 8 } as const;

export interface ChangeOptions extends CallOptions {
  /** Refuse (`codebase_state`) when the current version is another. */
  readonly expectedVersion?: number;
}

export interface VersionOptions extends CallOptions {
  /** Default: the current one. */
  readonly version?: number;
}

export interface EntriesOptions extends PageOptions, VersionOptions {
  /** A directory; default the root. One that is not there lists empty. */
  readonly path?: string;
  /** All below it, a directory before what is in it. */
  readonly recursive?: boolean;
}

export interface ListCodebasesOptions extends PageOptions {
  readonly name?: string;
}

export interface CodebaseCalls {
  create(body: CreateCodebaseBody, options?: CallOptions & { readonly idempotencyKey?: string }): Promise<CodebaseResource>;
  get(id: string, options?: CallOptions): Promise<CodebaseResource>;
  /** Newest first. */
  list(options?: ListCodebasesOptions): Promise<ListOf<CodebaseResource>>;
  /** Refused (`codebase_state`) while a sandbox stands on it or a kept delta was made over it. */
  delete(id: string, options?: CallOptions): Promise<void>;
  /** Newest first. */
  versions(id: string, options?: PageOptions): Promise<ListOf<CodebaseVersion>>;
  entries(id: string, options?: EntriesOptions): Promise<ListOf<CodebaseEntry>>;
  /** The bytes of a file. Throws `file_not_found`. */
  read(id: string, path: string, options?: VersionOptions): AsyncIterable<Uint8Array>;
  /** The whole version. Whoever unpacks it unpacks what others put there. */
  tar(id: string, options?: VersionOptions): AsyncIterable<Uint8Array>;
  /** One file, its directories with it; a new version. `mode` defaults to that of the file before, else 0644. */
  put(id: string, path: string, content: Uint8Array, options?: ChangeOptions & { readonly mode?: number }): Promise<CodebaseResource>;
  /** A file, a link, or a directory with all below it; a new version. */
  remove(id: string, path: string, options?: ChangeOptions): Promise<CodebaseResource>;
  /** Replaces the tree by that of a tar: plain, gzip or zstd. */
  importTar(id: string, tar: Uint8Array, options?: ChangeOptions): Promise<CodebaseResource>;
  /** Replaces the tree. */
  importFrom(id: string, source: CodebaseSource, options?: ChangeOptions): Promise<CodebaseResource>;
  readonly uploads: UploadCalls;
}

/** A tree is told first, then the contents that are missing, then it becomes the current version. `uploadTree` of the SDK does all three. */
export interface UploadCalls {
  begin(codebaseId: string, body: BeginUploadBody, options?: CallOptions): Promise<UploadResource>;
  get(codebaseId: string, uploadId: string, options?: CallOptions): Promise<UploadResource>;
  /** What arrived whole stays when the connection is cut. */
  send(codebaseId: string, uploadId: string, contents: readonly UploadContent[], options?: CallOptions): Promise<void>;
  commit(codebaseId: string, uploadId: string, options?: ChangeOptions): Promise<CodebaseResource>;
  abandon(codebaseId: string, uploadId: string, options?: CallOptions): Promise<void>;
}
