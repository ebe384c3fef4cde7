// A stored tree as the root of a sandbox, read-only: its mask, and above it a skeleton with what a sandbox needs whatever the tree holds -
// mount points, the sandbox's user in /etc/passwd, the names of a machine without a network. Not how a tree gets into the store.
// Invariant: the tree itself is never changed; what of its own /etc is replaced is written down here, file by file.

import type { KernelView } from "../view/kernel.ts";
import type { StoredTree } from "../view/stored.ts";
import type { MountSpec } from "../view/view.ts";
import { ownMounts, type TemplatePlan } from "./template.ts";
import type { EtcUser } from "./template-etc.ts";
import { procNames } from "./template-proc.ts";
import { openStoredSkeleton } from "./template-skeleton.ts";

export interface StoredTemplateOptions {
  readonly view: KernelView;
  /** Below the data directory. */
  readonly templatesDir: string;
  /** Inside ids of ordinary commands. */
  readonly uid: number;
  readonly gid: number;
}

export interface StoredTemplates {
  plan(tree: StoredTree, memoryBytes: number): Promise<TemplatePlan>;
}

const USER = "user";
const HOME = "/home/user";
const HOSTNAME = "corral";
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** A file of users or settings that is larger is none. */
const MAX_ETC_BYTES = 64 * 1024;
/** That are remembered; of others the layer is looked for again. */
const MAX_TOPS = 256;

interface Top {
  /** The layer above the tree. */
  readonly layer: string;
  readonly shell: string;
}

export function openStoredTemplates(options: StoredTemplateOptions): StoredTemplates {
  const names = procNames();
  const tops = new Map<string, Promise<Top>>();
  return {
    plan: async (tree, memoryBytes) => {
      const key = `${tree.blobs} ${tree.root}`;
      const opening = tops.get(key) ?? topOf(options, tree);
      tops.delete(key); // and back to the end: the first one is the one that waited longest
      tops.set(key, opening);
      opening.catch(() => tops.delete(key));
      for (const oldest of tops.keys()) if (tops.size > MAX_TOPS) tops.delete(oldest);
      const { layer, shell } = await opening;
      const { lowers, dataOnly, options: how, ...hold } = await options.view.prepareRoot(tree);
      const mount: MountSpec = { kind: "overlay", target: "/", lowers: [layer, ...lowers], dataOnly, options: how, exec: true };
      return {
        hold,
        mounts: [mount, ...ownMounts(HOME, memoryBytes, names)],
        hostname: HOSTNAME,
        env: { PATH, HOME, USER, LOGNAME: USER, SHELL: shell, LANG: "C.UTF-8", TERM: "xterm-256color" },
        toolDirs: [],
        skipped: [],
      };
    },
  };
}

async function topOf({ templatesDir, uid, gid }: StoredTemplateOptions, tree: StoredTree): Promise<Top> {
  const read = async (path: string): Promise<string | undefined> => (await tree.read(path, MAX_ETC_BYTES))?.toString("latin1");
  const shell = (await tree.hasFile("/bin/bash")) ? "/bin/bash" : "/bin/sh";
  const user: EtcUser = { name: USER, uid, gid, home: HOME, shell, hostname: HOSTNAME };
  const files = new Map([
    ["passwd", withUser((await read("/etc/passwd")) ?? "root:x:0:0:root:/root:/bin/sh\n", passwdLine(user), uid)],
    ["group", withUser((await read("/etc/group")) ?? "root:x:0:\n", `${USER}:x:${gid}:\n`, gid)],
    ["hosts", `127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 ${HOSTNAME}\n`],
    ["hostname", `${HOSTNAME}\n`],
    // Empty: there is no resolver, and a look-up fails at once instead of waiting for one.
    ["resolv.conf", ""],
    // Laid over by each sandbox's own.
    ["machine-id", ""],
  ]);
  // The view's directories may belong to another id than the command's; git would refuse to work in them.
  if ((await read("/etc/gitconfig")) === undefined) files.set("gitconfig", "[safe]\n\tdirectory = *\n");
  return { shell, layer: openStoredSkeleton(templatesDir, { home: HOME, files }) };
}

function passwdLine({ name, uid, gid, home, shell }: EtcUser): string {
  return `${name}:x:${uid}:${gid}::${home}:${shell}\n`;
}

/** The sandbox's own line first: of two with one id or name the first counts. */
function withUser(text: string, line: string, id: number): string {
  const [root = "", ...rest] = text.split("\n").filter((other) => other !== "");
  const others = rest.filter((other) => !other.startsWith(`${USER}:`) && other.split(":")[2] !== String(id));
  return `${[root, line.trimEnd(), ...others].join("\n")}\n`;
}
