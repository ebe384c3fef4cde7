// Runs a program outside any sandbox, for negative controls: there an attempt must succeed, or its failing inside would prove nothing.
// Not a way to run anybody's command. Invariant: it runs in throwaway namespaces that die with it, so that what succeeds leaves nothing on
// the node; of an ordinary user they are below a user namespace of its own, where it has no more rights than that user.

import { spawn } from "node:child_process";

export interface Unconfined {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** An unprivileged uid that owns nothing. */
const NOBODY = 65_534;
/** Bytes of output that are kept of each stream. */
const KEPT_BYTES = 4 << 20;

/** `asUser`: without uid 0. Where `unshare` of util-linux is missing or refused, the exit code is not 0 and stderr says so. */
export function runUnconfined(argv: readonly string[], options: { readonly asUser?: boolean } = {}): Promise<Unconfined> {
  const child = spawn("unshare", [...namespaces(process.geteuid?.() === 0, options.asUser === true), ...argv], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [out, err] = [kept(child.stdout), kept(child.stderr)];
  return new Promise((resolve) => {
    child.once("error", (error) => resolve({ exitCode: 127, stdout: "", stderr: error.message }));
    child.once("close", (code) => resolve({ exitCode: code ?? -1, stdout: out(), stderr: err() }));
  });
}

function namespaces(isRoot: boolean, asUser: boolean): string[] {
  // SAFETY: own mounts, processes, network, queues and host name; all of it ends with `unshare`, which ends with its child.
  const own = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"];
  if (!isRoot) return ["--user", asUser ? "--map-current-user" : "--map-root-user", ...own];
  // SAFETY: what is to run without root's rights gives them up before its first instruction.
  return asUser ? [...own, "setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"] : own;
}

function kept(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream.on("data", (chunk: Buffer) => {
    if (size < KEPT_BYTES) chunks.push(chunk);
    size += chunk.length;
  });
  return () => Buffer.concat(chunks).toString("latin1");
}
