// A world's folder on disk as the texts of a canon. Not the canon: that is compile.ts. Invariant: nothing outside of the folder is read (links
// are not followed), and what is read is bounded.

import { lstat, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { CorralError } from "../../api/errors.ts";
import type { CanonFiles } from "./source.ts";

const MAX_FILES = 2_000;
const MAX_BYTES = 16 * 1024 ** 2;
const MAX_DEPTH = 8;

/** The Markdown files below a folder. Throws `world_not_found`, `request_too_large`. */
export async function readFolder(dir: string): Promise<CanonFiles> {
  const found = new Map<string, string>();
  let bytes = 0;
  const walk = async (below: string, depth: number): Promise<void> => {
    const entries = await readdir(join(dir, below), { withFileTypes: true });
    for (const entry of entries.sort((one, other) => (one.name < other.name ? -1 : 1))) {
      const path = below === "" ? entry.name : `${below}/${entry.name}`;
      if (entry.name.startsWith(".")) continue;
      if (entry.isDirectory() && depth < MAX_DEPTH) await walk(path, depth + 1);
      if (!entry.isFile() || !entry.name.endsWith(".md")) continue;
      bytes += (await lstat(join(dir, path))).size;
      if (found.size >= MAX_FILES || bytes > MAX_BYTES)
        throw new CorralError(
          "request_too_large",
          `${dir} holds more than ${MAX_FILES} Markdown files or ${MAX_BYTES} bytes of them; a world is smaller`,
        );
      found.set(path, await readFile(join(dir, path), "utf8"));
    }
  };
  try {
    await walk("", 0);
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new CorralError("world_not_found", `${dir} is no folder; name one that holds a main.md`);
    throw error;
  }
  return found;
}
