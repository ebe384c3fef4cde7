// Every method of the client has a command, or a reason why it has none. The methods are those of a client that is really made.

import { expect } from "vitest";
import { Corral } from "../src/sdk/corral.ts";
import { files, read } from "./tools/tree.ts";
import { verifies } from "./verifies.ts";

/** Commands, or why there is none. */
const HOW: Readonly<Record<string, string | { readonly none: string }>> = {
  create: "create",
  createBatch: { none: "a shell makes several with a loop; what one call saves is a program's" },
  list: "ps",
  sandbox: { none: "makes a handle and asks nothing" },
  "audit.list": "audit",
  "codebases.create": "codebase import",
  "codebases.get": { none: "`codebase ls --json` tells the same of each" },
  "codebases.list": "codebase ls",
  "codebases.delete": "codebase rm",
  "codebases.versions": "codebase versions",
  "codebases.entries": "codebase ls",
  "codebases.read": "codebase cat",
  "codebases.tar": "codebase export",
  "codebases.put": { none: "one file is changed in a sandbox over the codebase, or by importing the tree again" },
  "codebases.remove": { none: "as `put`" },
  "codebases.importTar": "codebase import",
  "codebases.importFrom": { none: "a directory of this machine is imported as of any client, by `codebase import`" },
  "codebases.uploads.begin": { none: "`uploadTree` calls it for `codebase import`, as the rows below" },
  "codebases.uploads.get": { none: "goes on with an upload that another program began" },
  "codebases.uploads.send": { none: "as `begin`" },
  "codebases.uploads.commit": { none: "as `begin`" },
  "codebases.uploads.abandon": { none: "one that nobody continues is forgotten by itself" },
  "deltas.list": "diff",
  "events.list": "events",
  "events.follow": "events",
  "policies.check": { none: "`policy lint` answers without a server" },
  "policies.explain": { none: "`policy explain` answers without a server" },
  "snapshots.get": { none: "`snapshot list --json` tells the same of each" },
  "snapshots.list": "snapshot list",
  "snapshots.delete": "snapshot rm",
  "secrets.create": "secret set",
  "secrets.list": "secret ls",
  "secrets.rotate": "secret set",
  "secrets.delete": "secret rm",
  "templates.create": "template create",
  "templates.get": { none: "`template list --json` tells the same of each" },
  "templates.list": "template list",
  "templates.importTar": "template create",
  "templates.delete": "template rm",
  "tokens.issue": "token issue",
  "tokens.list": "token list",
  "tokens.revoke": "token revoke",
  "handle.info": "create",
  "handle.metrics": "top",
  "handle.explain": "explain",
  "handle.exec": "exec",
  "handle.renew": "renew",
  "handle.pause": "pause",
  "handle.resume": "resume",
  "handle.portTicket": { none: "for a page: a person at a shell has a key, and `curl` reaches the port with it" },
  "handle.terminalTicket": { none: "for a browser's WebSocket; `shell` is the terminal of a person at a shell" },
  "handle.snapshot": "snapshot take",
  "handle.restore": "restore",
  "handle.fork": "fork",
  "handle.destroy": "rm",
  "handle.network.get": "network",
  "handle.network.set": "network",
  "handle.network.egress": "egress",
  "handle.delta.changes": "diff",
  "handle.delta.text": "diff",
  "handle.delta.export": "export",
  "handle.delta.commit": "commit",
  "handle.delta.discard": "discard",
  "handle.files.read": { none: "`cat` takes it as it comes, by `open`" },
  "handle.files.readText": { none: "as `read`" },
  "handle.files.open": "cat",
  "handle.files.write": "cp",
  "handle.files.list": "ls",
  "handle.files.stat": "ls",
  "handle.files.exists": { none: "`exec SB -- test -e PATH`" },
  "handle.files.move": { none: "`exec SB -- mv`" },
  "handle.files.remove": "cp",
  "handle.files.mkdir": "cp",
  "handle.files.update": { none: "`exec SB -- chmod`" },
  "handle.files.link": "cp",
  "handle.files.watch": { none: "for programs that react; a person looks with `ls`" },
  "handle.files.download": { none: "`cp` asks file by file, so that nothing hostile is unpacked here" },
  "handle.files.upload": { none: "as `download`" },
  "handle.processes.start": "shell",
  "handle.processes.list": "processes",
  "handle.processes.get": { none: "`processes --json` tells the same of each" },
  "handle.processes.output": "logs",
  "handle.processes.write": "shell",
  "handle.processes.signal": "kill",
  "handle.processes.resize": "shell",
  "handle.processes.wait": { none: "`kill` and `logs` wait for the end" },
  "handle.processes.stop": "kill",
  "handle.shells.open": { none: "shells that keep their state between calls are for programs; a person has `shell`" },
  "handle.shells.list": { none: "as `open`" },
  "handle.shells.get": { none: "as `open`" },
  "handle.shells.run": { none: "as `open`" },
  "handle.shells.interrupt": { none: "as `open`" },
  "handle.shells.close": { none: "as `open`" },
  "handle.contexts.create": "repl",
  "handle.contexts.list": { none: "contexts of a server's sandbox are for programs; a person types into `shell SB -- python3`" },
  "handle.contexts.get": { none: "as `list`" },
  "handle.contexts.run": "repl",
  "handle.contexts.runAlone": "py",
  "handle.contexts.interrupt": "repl",
  "handle.contexts.restart": { none: "as `list`" },
  "handle.contexts.delete": { none: "as `list`" },
};

/** Paths of the methods of `thing`, nouns in it included. */
function methodsOf(thing: object, prefix = ""): string[] {
  const inherited = Object.getPrototypeOf(thing) as object | null;
  const names = [
    ...Object.keys(thing),
    ...(inherited === Object.prototype || inherited === null ? [] : Object.getOwnPropertyNames(inherited)),
  ];
  return names
    .filter((name) => name !== "constructor")
    .flatMap((name) => {
      const value = (thing as Readonly<Record<string, unknown>>)[name];
      if (typeof value === "function") return [`${prefix}${name}`];
      return typeof value === "object" && value !== null ? methodsOf(value, `${prefix}${name}.`) : [];
    });
}

verifies("cli/covers-client", "every method of the client has a command that calls it, or a reason why it has none", () => {
  const client = new Corral({ url: "http://127.0.0.1:1", key: "none" });
  const methods = [...methodsOf(client), ...methodsOf(client.sandbox("none"), "handle.")];
  expect(methods.length).toBeGreaterThan(50);
  expect(methods.filter((name) => HOW[name] === undefined)).toEqual([]);
  expect(Object.keys(HOW).filter((name) => !methods.includes(name))).toEqual([]);
  const sources = files("src/cli/**/*.ts")
    .filter((path) => !path.endsWith(".test.ts"))
    .map(read)
    .join("\n");
  const words = new Set([...sources.matchAll(/\.command\("([a-z]+)"\)/g)].map(([, word]) => word));
  for (const [name, how] of Object.entries(HOW)) {
    if (typeof how !== "string") continue;
    for (const word of how.split(" ")) expect(words, `${name}: ${how}`).toContain(word);
    expect(sources.includes(`.${name.split(".").at(-1) ?? ""}(`), name).toBe(true);
  }
});
