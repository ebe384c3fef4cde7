// `corral ls`, `cat` and `cp`: files of a sandbox. Invariant: names that come out of a sandbox reach the terminal inert; content reaches a
// pipe or a file unchanged.

import type { Client } from "../../api/client.ts";
import { CorralError } from "../../api/errors.ts";
import type { FileEntry } from "../../api/files.ts";
import { EXIT_OK } from "../exit-codes.ts";
import { inert } from "../../base/inert.ts";
import { everyItem } from "../pages.ts";
import { print, sinkOf } from "../streams.ts";
import { table } from "../table.ts";
import { tell } from "../tell.ts";
import { formatCount } from "../units.ts";
import { copyIn } from "./copy-in.ts";
import { copyOut } from "./copy-out.ts";
import { inSandbox, placeOf } from "./place.ts";
import { sandboxId } from "./sandboxes.ts";

export async function ls(
  client: Client,
  word: string,
  { long, json }: { readonly long?: boolean; readonly json?: boolean },
): Promise<number> {
  const { sandbox, path } = inSandbox(word);
  const { files } = client.sandbox(await sandboxId(client, sandbox));
  const entry = await files.stat(path, { follow: true });
  const found: FileEntry[] = [];
  if (entry.type === "dir") for await (const one of everyItem((page) => files.list(path, page))) found.push(one);
  else found.push(entry);
  if (json === true) await print(`${JSON.stringify(found)}\n`);
  else if (long === true) await print(table(["MODE", "UID", "SIZE", "CHANGED", "NAME"], found.map(row)));
  else await print(found.map(({ name, type }) => `${inert(name)}${type === "dir" ? "/" : ""}\n`).join(""));
  return EXIT_OK;
}

function row({ mode, uid, size, modifiedAt, name, type, target }: FileEntry): string[] {
  const mark = { dir: "d", file: "-", link: "l", other: "?" }[type];
  const shown = type === "link" ? `${name} -> ${target ?? ""}` : type === "dir" ? `${name}/` : name;
  return [`${mark}${mode.toString(8).padStart(4, "0")}`, String(uid), String(size), modifiedAt, shown];
}

export async function cat(client: Client, words: readonly string[]): Promise<number> {
  const gone = new AbortController();
  const out = sinkOf(process.stdout, { onBroken: () => gone.abort() });
  for (const word of words) {
    const { sandbox, path } = inSandbox(word);
    const { files } = client.sandbox(await sandboxId(client, sandbox));
    for await (const chunk of await files.open(path, { signal: gone.signal })) await out.write(chunk);
  }
  await out.finish();
  return EXIT_OK;
}

export async function cp(client: Client, from: string, to: string): Promise<number> {
  const [source, target] = [placeOf(from), placeOf(to)];
  if ((source.sandbox === undefined) === (target.sandbox === undefined))
    throw new CorralError("request_invalid", "cp copies between this machine and a sandbox: one of the two is SB:path");
  const { files } = client.sandbox(await sandboxId(client, source.sandbox ?? target.sandbox ?? ""));
  const { copied, left } =
    source.sandbox === undefined ? await copyIn(files, source.path, target.path) : await copyOut(files, source.path, target.path);
  for (const { path, why } of left) tell(`left out: ${path} (${why})`);
  tell(`copied ${formatCount(copied, "entry", "entries")}`);
  return EXIT_OK;
}
