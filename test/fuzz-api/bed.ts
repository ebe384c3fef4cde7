// The server that is fuzzed, a process of its own, with an owner who must notice nothing and the keys that ask.

import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "../../src/api/client.ts";
import { Corral } from "../../src/sdk/corral.ts";
import type { Chance } from "../faults/chance.ts";
import { removeTree } from "../fixtures/remove-tree.ts";
import { startServerProcess } from "../fixtures/server.ts";

export interface ServerKey {
  readonly key: string;
  readonly isAdmin: boolean;
}

export interface FuzzBed extends AsyncDisposable {
  readonly port: number;
  /** Of the owner who must notice nothing. */
  readonly foreignIds: readonly string[];
  /** Of the keys that ask. */
  readonly keyIds: readonly string[];
  document(): Promise<unknown>;
  keyFor(path: string, chance: Chance): ServerKey;
  /** A new sandbox for the requests to reach, instead of the last one, and what is in it, by their nouns. */
  renewed(): Promise<Readonly<Record<string, string>>>;
  /** Throws when the server or the other owner's things are not as they were. */
  others(): Promise<void>;
}

/** Every request counts, and none is refused for being one too many. */
const SETTINGS = ["perToken", "perAddress"].flatMap((kind) => ["--set", `rateLimits.${kind}.requests=1000000`]);

export async function startFuzzed(): Promise<FuzzBed> {
  await using parts = new AsyncDisposableStack();
  const dir = mkdtempSync("/tmp/corral-fuzz-");
  parts.defer(() => removeTree(dir));
  const { url, key, ...server } = await startServerProcess(join(dir, "data"), SETTINGS);
  parts.defer(() => server[Symbol.asyncDispose]());
  const admin = new Corral({ url, key: key ?? "" });
  const [asking, other] = await Promise.all(["ann", "vic"].map((ownerId) => admin.tokens.issue({ ownerId, scope: "user", name: "fuzz" })));
  if (asking === undefined || other === undefined) throw new Error("no keys");
  const { ids, alive } = await otherOwner(new Corral({ url, key: other.secret }));
  const ann = new Corral({ url, key: asking.secret });
  const own = await admin.tokens.list();
  let lasting = "";
  const owned = parts.move();
  return {
    port: Number(new URL(url).port),
    foreignIds: ids,
    keyIds: [asking.id, other.id, ...own.items.map(({ id }) => id)],
    document: async () => await (await fetch(`${url}/v1/openapi.json`, { headers: { authorization: `Bearer ${key}` } })).json(),
    // SAFETY: an admin may name directories of this machine, so that key asks only where none is named.
    keyFor: (path, chance) =>
      /^\/v1\/(tokens|audit|events)/.test(path) && chance.of(1, 2)
        ? { key: key ?? "", isAdmin: true }
        : { key: asking.secret, isAdmin: false },
    renewed: async () => {
      const before = lasting;
      const sandbox = await ann.create({ timeoutMs: null });
      lasting = sandbox.id;
      await sandbox.files.write("/workspace/a", "content");
      const [process, shell] = await Promise.all([sandbox.processes.start({ command: "cat", stdin: true }), sandbox.shells.open({})]);
      if (before !== "") await ann.sandbox(before).destroy();
      return { sandbox: sandbox.id, process: process.id, shell: shell.id };
    },
    others: async () => {
      const ready = await fetch(`${url}/readyz`);
      if (ready.status !== 200) throw new Error(`/readyz answers ${ready.status}`);
      await alive();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function otherOwner(client: Client): Promise<{ readonly ids: readonly string[]; readonly alive: () => Promise<void> }> {
  const sandbox = await client.create({ timeoutMs: null });
  const [process, shell, codebase] = await Promise.all([
    sandbox.processes.start({ command: ["cat"], stdin: true }),
    sandbox.shells.open({}),
    client.codebases.create({ name: "private" }),
  ]);
  await sandbox.exec({ command: "echo alive > /workspace/flag" });
  const alive = async (): Promise<void> => {
    const { stdout } = await sandbox.exec({ command: "cat /workspace/flag" });
    const said = Buffer.from(stdout).toString().trim();
    if (said !== "alive") throw new Error(`the flag says ${JSON.stringify(said)}`);
    if ((await sandbox.processes.get(process.id)).end !== null) throw new Error("the process ended");
  };
  return { ids: [sandbox.id, process.id, shell.id, codebase.id], alive };
}
