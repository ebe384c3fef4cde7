// Lists what src/api offers: every exported name with its kind, and the members of interfaces and tables, one a line. Not a type
// checker: a changed type of a member shows in tsc, a changed name shows here. Invariant: the order is that of names, so a move within
// a file is no change.

import { basename } from "node:path";
import { files, read } from "./tree.ts";

const EXPORT = /^export (?:declare )?(?:abstract )?(?:async )?(const|function|class|interface|type)\*? (\w+)(.*)$/;
const MEMBER = /^ {2}(?:override )?(?:readonly )?(?:static )?(\w+)\??[:(<]/;

/** Names that one file of the contract exports. A form that is not known is listed as it stands: better ugly than hidden. */
function exportsOf(path: string): string[] {
  const found: string[] = [];
  let owner: string | undefined;
  for (const line of read(path).split("\n")) {
    const [, kind, name, rest = ""] = EXPORT.exec(line) ?? [];
    if (kind !== undefined && name !== undefined) {
      found.push(`${name} (${kind})`);
      owner = kind !== "function" && rest.endsWith("{") ? name : undefined;
    } else if (line.startsWith("export")) {
      found.push(line);
    } else if (line.startsWith("}")) {
      owner = undefined;
    } else if (owner !== undefined) {
      const member = MEMBER.exec(line)?.[1];
      if (member !== undefined && member !== "constructor") found.push(`${owner}.${member}`);
    }
  }
  return found;
}

/** The whole surface as text, as test/surface.txt keeps it. */
export function surface(): string {
  return files("src/api/*.ts")
    .filter((path) => !path.endsWith(".test.ts"))
    .map((path) => `${basename(path)}\n${exportsOf(path).sort().join("\n")}\n`)
    .join("\n");
}
