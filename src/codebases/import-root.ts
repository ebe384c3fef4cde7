// What of an archive or a directory belongs to a root file system: everything but what the kernel and each sandbox bring themselves.
// A table. Invariant: nothing is left out that a program of the template could have read there as a file of its own.

/** Directories whose content is made for each sandbox; they themselves are kept. */
const MADE_DIRS = ["dev", "proc", "run", "sys", "tmp"];

/** Whether an entry of a root file system is kept. `path` is relative, latin1, with or without `./` before it. */
export function belongsToRoot(path: string): boolean {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  return names.length < 2 || !MADE_DIRS.includes(names[0] ?? "");
}
