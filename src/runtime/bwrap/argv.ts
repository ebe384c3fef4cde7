// The command line of bubblewrap for one sandbox. The spawner has made ids, mounts, cgroup and network namespace (guest/launch.c) and
// staged the mounts by number on /tmp; bubblewrap makes the other namespaces and the root; `launched` inside does the rest.
// Pure: reads and starts nothing. Invariant: mounts stand in the order of the list, as in native; no host path but bubblewrap's own.

import type { MountSpec } from "../../view/view.ts";
import type { SystemMount } from "../runtime.ts";

export interface BwrapArgvOptions {
  readonly bwrap: string;
  readonly hostname: string;
  readonly mounts: readonly (MountSpec | SystemMount)[];
  /** Containment steps to leave out: 7 keeps the ipc and uts namespaces of the node. */
  readonly weaken: readonly number[];
}

/** Where launch.c puts mount N, and where it leaves the guest program. */
const STAGE = "/tmp";
const GUEST = "/proc/self/fd/11";

/**
 * SAFETY: what `launched` needs for the mounts of steps 11 and 12, and what init keeps or needs to drop the rest; all within the
 * sandbox's own user namespace. Everything else of bubblewrap's set is gone before our first instruction.
 */
const CAPABILITIES = ["CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"];
/** What uid 0 inside may have, where the sandbox offers it: init takes them from PID 1's own set. */
const ROOT_CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_NET_BIND_SERVICE"];

export function bwrapArgv(options: BwrapArgvOptions): string[] {
  const spaces = options.weaken.includes(7) ? [] : ["--unshare-ipc", "--unshare-uts", "--hostname", options.hostname];
  return [
    options.bwrap,
    "--unshare-pid",
    ...spaces,
    // The guest itself, not a helper of bubblewrap that could be traced: it makes itself non-dumpable.
    "--as-pid-1",
    "--die-with-parent",
    "--clearenv",
    "--chdir",
    "/",
    "--cap-drop",
    "ALL",
    ...[...CAPABILITIES, ...ROOT_CAPABILITIES].flatMap((name) => ["--cap-add", name]),
    ...options.mounts.flatMap((mount, index) => bindArguments(mount, index)),
    "--",
    GUEST,
    "launched",
    ...options.mounts.flatMap((mount) => launchedArguments(mount, options.weaken)),
  ];
}

function bindArguments(mount: MountSpec | SystemMount, index: number): string[] {
  const source = `${STAGE}/${index}`;
  switch (mount.kind) {
    case "overlay":
      return [mount.upper === undefined ? "--ro-bind" : "--bind", source, mount.target];
    case "bind":
      return [mount.readOnly ? "--ro-bind" : "--bind", source, mount.target];
    case "tmpfs":
      return ["--bind", source, mount.target];
    case "dev":
      // `--bind` would set nodev, and not a node could be opened.
      return ["--dev-bind", source, mount.target];
    case "proc":
      return ["--proc", mount.target];
    case "devpts":
    case "file":
      return [];
  }
}

function launchedArguments(mount: MountSpec | SystemMount, weaken: readonly number[]): string[] {
  switch (mount.kind) {
    case "devpts":
      return ["devpts", mount.target];
    case "file":
      return ["file", mount.target, String(mount.mode), mount.content];
    case "proc":
      if (weaken.includes(12)) return [];
      return [
        ...mount.readOnly.flatMap((name) => ["ro", name]),
        ...mount.hide.flatMap((name) => ["hide", name]),
        ...Object.entries(mount.files).flatMap(([name, content]) => ["procfile", name, content]),
      ];
    case "overlay":
    case "bind":
    case "tmpfs":
    case "dev":
      return [];
  }
}
