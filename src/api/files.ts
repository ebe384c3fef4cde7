// Files of a sandbox as a client asks for them. Types alone. Paths are absolute inside the sandbox and resolved there, by the kernel and as
// the sandbox's user, so the policy decides as it does for a command. Invariant: a name is its bytes; one that is not UTF-8 travels as base64.

import type { CallOptions, ListOf, PageOptions } from "./calls.ts";

/** Absolute, at most MAX_PATH_BYTES bytes, no NUL. `base64`: its bytes, where they are not UTF-8. */
export type FilePath = string | { readonly base64: string };

export interface FileEntry {
  /** The last name of `path`. */
  readonly name: string;
  /** U+FFFD stands for what is not UTF-8; then `base64` is the path to ask with. */
  readonly path: string;
  readonly base64?: string;
  /** `other`: a FIFO, socket or device. */
  readonly type: "file" | "dir" | "link" | "other";
  readonly size: number;
  /** The lowest twelve bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly modifiedAt: string;
  /** Of a link, as it stands there. */
  readonly target?: string;
  /** Of `stat`: user attributes that are UTF-8. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Bytes of a file as they come; read it once. */
export interface FileContent extends AsyncIterable<Uint8Array> {
  /** Of the whole file when it was opened; `null`: unknown before its end (files of `/proc`). */
  readonly size: number | null;
}

export interface RangeOptions extends CallOptions {
  /** Bytes to leave out; negative: so many from the end. */
  readonly offset?: number;
  readonly length?: number;
}

export interface WriteOptions extends CallOptions {
  /** Of the file, also when it is there already. Default: what it has, else 0644. */
  readonly mode?: number;
  /** Makes missing directories on the way. */
  readonly parents?: boolean;
  /** `file_exists` rather than replacing. */
  readonly exclusive?: boolean;
  /** At the end of the file, or from an offset on: written at once, not whole or not at all as otherwise. */
  readonly append?: boolean;
  readonly offset?: number;
}

export interface FileUpdate {
  readonly mode?: number;
  /** `null` takes a pair away; pairs that are not named stay. Names: `[A-Za-z0-9._-]`. */
  readonly metadata?: Readonly<Record<string, string | null>>;
}

export interface FileEvent {
  /** Counts from 1 in each watch. */
  readonly id: number;
  /** `ready`: the watch stands. `overflow`: events were lost; look again. `gone`: the directory is, and the watch ends. */
  readonly kind: "ready" | "create" | "modify" | "remove" | "move-from" | "move-to" | "attrib" | "overflow" | "gone";
  readonly path: string;
  readonly base64?: string;
  readonly isDir: boolean;
  /** The same in the two halves of a move; absent where only one half lies in the watched directory. */
  readonly cookie?: number;
}

export interface UnpackResult {
  readonly entries: number;
  /** Of the files' content. */
  readonly bytes: number;
}

export interface FileCalls {
  read(path: FilePath, options?: RangeOptions): Promise<Uint8Array>;
  /** As UTF-8; U+FFFD for what is not. */
  readText(path: FilePath, options?: RangeOptions): Promise<string>;
  /** The same as it comes. What ends it early is an error, never a short file. */
  open(path: FilePath, options?: RangeOptions): Promise<FileContent>;
  /** Whole or not at all: a write that is cut off leaves what was there. */
  write(path: FilePath, data: string | Uint8Array | AsyncIterable<Uint8Array>, options?: WriteOptions): Promise<FileEntry>;
  /** In the order of the names' bytes; `limit` at most MAX_LISTED_FILES. */
  list(path: FilePath, options?: PageOptions): Promise<ListOf<FileEntry>>;
  /** `follow: false`: of a link itself. */
  stat(path: FilePath, options?: CallOptions & { readonly follow?: boolean }): Promise<FileEntry>;
  /** False also for what the policy hides. */
  exists(path: FilePath, options?: CallOptions): Promise<boolean>;
  /** `overwrite: false`: `file_exists` rather than replacing. */
  move(from: FilePath, to: FilePath, options?: CallOptions & { readonly overwrite?: boolean; readonly parents?: boolean }): Promise<void>;
  remove(path: FilePath, options?: CallOptions & { readonly recursive?: boolean }): Promise<void>;
  /** `parents`: makes those on the way too, and one that is there is good. */
  mkdir(path: FilePath, options?: CallOptions & { readonly mode?: number; readonly parents?: boolean }): Promise<FileEntry>;
  update(path: FilePath, change: FileUpdate, options?: CallOptions): Promise<FileEntry>;
  /** A symbolic link at `path`; where it leads is not looked at. */
  link(path: FilePath, target: FilePath, options?: CallOptions): Promise<void>;
  /** Changes in a directory, or with `recursive` in all below it, from `ready` on until the loop is left. */
  watch(path: FilePath, options?: CallOptions & { readonly recursive?: boolean }): AsyncIterable<FileEvent>;
  /** A tar of the directory's content; special files and what cannot be read are left out. Hostile: unpack it as such. */
  download(path: FilePath, options?: CallOptions): AsyncIterable<Uint8Array>;
  /** Unpacks a tar into a directory, which is made when missing. Nothing leaves it: entries that would are `archive_invalid`. */
  upload(path: FilePath, tar: Uint8Array | AsyncIterable<Uint8Array>, options?: CallOptions): Promise<UnpackResult>;
}
