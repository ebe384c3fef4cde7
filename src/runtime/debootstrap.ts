// Runs debootstrap of this machine: a Debian root made of packages from the mirror that the machine is configured with. It installs with the
// rights of this process and runs what the packages bring; they are signed by the distribution, as those of the machine itself are.
// Not a sandbox. Invariant: nothing of a run is left when it ends, however it ends: its mounts and processes are in namespaces of its own.

import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { CorralError } from "../api/errors.ts";

export interface DebootstrapRequest {
  readonly suite: string;
  readonly variant: string;
  readonly include: readonly string[];
  /** Where the root is made; must not exist. */
  readonly dir: string;
  /** Absent: the first of apt's sources. */
  readonly mirror?: string;
  readonly onStep: (step: string) => void;
  readonly signal: AbortSignal;
}

const SCRIPTS = "/usr/share/debootstrap/scripts";
const SOURCES = "/etc/apt";
/** Lines of stderr that an error tells. */
const TOLD_LINES = 3;
const TOLD_LENGTH = 300;

/** Throws `template_failed`, `runtime_unavailable`, `request_invalid`, `canceled`. */
export async function debootstrap(request: DebootstrapRequest): Promise<void> {
  const { suite, variant, include, dir, mirror = machineMirror(), signal } = request;
  demandPlain(suite, include);
  if (!existsSync(SCRIPTS))
    throw new CorralError("runtime_unavailable", "this machine has no debootstrap; run: apt-get install debootstrap");
  if (!existsSync(`${SCRIPTS}/${suite}`)) throw new CorralError("request_invalid", `suite: debootstrap of this machine knows no ${suite}`);
  const packages = include.length === 0 ? [] : [`--include=${include.join(",")}`];
  // SAFETY: with the namespaces of `unshare` the mounts that debootstrap makes in the root, and all of its processes, end with it; and it
  // ends with this process, killed or not.
  const words = [
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--",
    "debootstrap",
    `--variant=${variant}`,
    ...packages,
    suite,
    dir,
    mirror,
  ];
  const child = spawn("setpriv", words, {
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C", HOME: "/root" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const last: string[] = [];
  const tell = (line: string): void => {
    last.push(line.slice(0, TOLD_LENGTH));
    if (last.length > TOLD_LINES) last.shift();
  };
  const steps = createInterface({ input: child.stdout }).on("line", (line) => {
    if (line.startsWith("I: ")) request.onStep(line.slice(3));
    else if (/^[EW]: /.test(line)) tell(line);
  });
  createInterface({ input: child.stderr }).on("line", tell);
  const stop = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    const code = await new Promise<number | null>((resolve, reject) => child.once("error", reject).once("close", resolve));
    if (signal.aborted) throw new CorralError("canceled", "debootstrap was stopped");
    if (code !== 0) throw new CorralError("template_failed", `debootstrap ended with ${code}: ${last.join(" | ") || "it did not say why"}`);
  } finally {
    signal.removeEventListener("abort", stop);
    steps.close();
  }
}

/** SAFETY: words from the wire; none may be an option, a path or more than one word. */
function demandPlain(suite: string, include: readonly string[]): void {
  if (!/^[a-z][a-z0-9.-]{0,40}$/.test(suite)) throw new CorralError("request_invalid", "suite: not the name of one");
  const wrong = include.find((name) => !/^[a-z0-9][a-z0-9+.-]{0,100}$/.test(name));
  if (wrong !== undefined) throw new CorralError("request_invalid", `include: ${JSON.stringify(wrong)} is not the name of a package`);
}

function machineMirror(): string {
  const files = ["sources.list", ...namesIn(`${SOURCES}/sources.list.d`).map((name) => `sources.list.d/${name}`)];
  for (const file of files) {
    const text = existsSync(`${SOURCES}/${file}`) ? readFileSync(`${SOURCES}/${file}`, "utf8") : "";
    const mirror = /^deb\s+(?:\[[^\]]*\]\s+)?(https?:\/\/\S+)/m.exec(text)?.[1] ?? /^URIs:\s*(https?:\/\/\S+)/m.exec(text)?.[1];
    if (mirror !== undefined) return mirror;
  }
  throw new CorralError("template_failed", "apt of this machine names no mirror; name one with templates.mirror in the configuration");
}

function namesIn(dir: string): readonly string[] {
  return existsSync(dir) ? readdirSync(dir).sort() : [];
}
