// Classes control, transfer, terminal and reuse, as they look from a sandbox: what of the control plane can be found or handed things inside, and
// what an old handle, a file name or a terminal reaches. Invariant: what is searched for is found by the same words where it was planted.

import { strict as assert } from "node:assert";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync, statSync } from "node:fs";
import { errorCode } from "../../api/errors.ts";
import type { Sandbox } from "../../api/sandbox.ts";
import { processesIn } from "../memory.ts";
import type { StoryRow } from "../row.ts";
import { attempt, inside, outside, stdout, stillAnswers } from "../say.ts";

/** Where a control plane puts its sockets. */
const SOCKETS = ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/containerd/runsc", "/var/lib/corral"];

/** What a search inside finds: unix sockets by name, variables and files that hold the token, well-known paths. */
function find(sandbox: Sandbox, token: string): Promise<string> {
  return inside(
    sandbox,
    [
      "find / \\( -path /proc -o -path /usr \\) -prune -o -type s -print 2>/dev/null",
      // Names of sockets that lie outside may stand there; a name alone reaches nothing.
      'grep -o \'/.*\' /proc/net/unix | while read -r p; do [ ! -e "$p" ] || echo "$p"; done',
      `cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep '${token}'`,
      `grep -rl '${token}' /etc /run /tmp /home /dev/shm /workspace 2>/dev/null`,
      `ls -d ${SOCKETS.join(" ")} 2>/dev/null`,
    ].join("; "),
    { anyExit: true, timeoutMs: 60_000 },
  );
}

const BIND = 'import socket,sys,time;s=socket.socket(socket.AF_UNIX);s.bind("/tmp/docker.sock");print("bound",flush=True);time.sleep(60)';

const TOKEN_INSIDE: StoryRow = {
  id: "control/token-inside",
  what: "search for a token or a socket of the control plane",
  async attempt(bed) {
    const token = randomBytes(16).toString("hex");
    process.env["CORRAL_TEST_TOKEN"] = token;
    try {
      await using sandbox = await bed.open();
      assert.equal(await find(sandbox, token), "");
      assert.equal(await inside(sandbox, [attempt("doors"), "memory", token]), "0", "the token stands in memory");
    } finally {
      delete process.env["CORRAL_TEST_TOKEN"];
    }
  },
  control: {
    kind: "planted",
    async prove(bed) {
      const token = randomBytes(16).toString("hex");
      await using sandbox = await bed.open();
      const env = { PLANTED: token };
      const { promise: bound, resolve } = Promise.withResolvers<void>();
      const holder = await sandbox.start({ command: ["/usr/bin/env", "python3", "-c", BIND], env, onStdout: () => resolve() });
      await Promise.race([bound, holder.result]);
      await inside(sandbox, `echo '${token}' > /tmp/planted`);
      const found = await find(sandbox, token);
      for (const what of ["/tmp/docker.sock", `PLANTED=${token}`, "/tmp/planted"]) assert.ok(found.includes(what), `${what} is not found`);
      holder.signal("SIGKILL");
      await holder.result;
    },
  },
};

const HANDED = 2_000;
/** Sends `HANDED` descriptors in pieces of a hundred over a socket. */
const HAND =
  "import array,os,socket\ndef hand(s):\n n=os.open('/dev/null',0)\n for _ in range(20): s.sendmsg([b'x'],[(socket.SOL_SOCKET,socket.SCM_RIGHTS,array.array('i',[n]*100))])\n";
/** Over whatever a program has: its standard streams, and what a context is born with. */
const HAND_ALL = `${HAND}for fd in range(10):\n try: hand(socket.socket(fileno=os.dup(fd)))\n except OSError: pass\n`;
/** To whoever connects from outside. */
const HAND_VISITOR = `${HAND}l=socket.create_server(('127.0.0.1',8200))\nprint('listens',flush=True)\nc,_=l.accept()\nhand(c)\n`;

/** Descriptors of this process and of those of a sandbox, as far as they can be counted. */
function descriptors(namespace: string): number {
  const count = (pid: string): number => {
    try {
      return readdirSync(`/proc/${pid}/fd`).length;
    } catch {
      return 0; // it ended, or belongs to somebody whom an ordinary user may not ask
    }
  };
  return ["self", ...processesIn(namespace)].reduce((sum, pid) => sum + count(pid), 0);
}

const FD_SMUGGLE: StoryRow = {
  id: "control/fd-smuggle",
  what: "send descriptors over the standard streams, over those of a context, and to a visitor from outside",
  async attempt(bed) {
    await using sandbox = await bed.open();
    const namespace = await inside(sandbox, ["/bin/readlink", "/proc/self/ns/pid"]);
    const before = descriptors(namespace);
    await inside(sandbox, ["/usr/bin/env", "python3", "-c", HAND_ALL], { anyExit: true });
    // What it says there is no message of a context: that this one context is given up is what may happen.
    await sandbox.contexts.runAlone({ language: "python", code: HAND_ALL, timeoutMs: 20_000 }).catch(() => undefined);
    const { promise: listens, resolve } = Promise.withResolvers<void>();
    const server = await sandbox.start({ command: ["/usr/bin/env", "python3", "-c", HAND_VISITOR], onStdout: () => resolve() });
    await Promise.race([listens, server.result]);
    const { readable } = await sandbox.connect(8200);
    for await (const piece of readable) assert.match(Buffer.from(piece).toString("latin1"), /^x+$/);
    await server.result;
    const more = descriptors(namespace) - before;
    assert.ok(more < HANDED / 10, `${more} more descriptors are open than before`);
    await stillAnswers(sandbox);
  },
  control: {
    kind: "plain",
    async prove(bed) {
      const code = `${HAND}a,b=socket.socketpair()\nhand(a)\nk=[]\nfor _ in range(20): k+=socket.recv_fds(b,1,100)[1]\nprint(len(set(k)))`;
      assert.equal(await outside(bed, ["/bin/sh", "-c", 'ulimit -n 4096; exec /usr/bin/env python3 -c "$0"', code]), String(HANDED));
    },
  },
};

/** Names that a careless tool takes for an option, a path or the end of a line. */
const NAMES = ["-rf", "--output=stolen", "..\\up", "two\nlines", "$(touch stolen)", "*"] as const;

const INSIDE_LISTS: StoryRow = {
  id: "transfer/inside-lists",
  what: "file names that look like options, paths and lines, listed, moved, removed and told as changes",
  async attempt(bed) {
    await using sandbox = await bed.open();
    const dir = "/workspace/output";
    await inside(sandbox, `cd ${dir}; mkdir kept; : > kept/file`);
    const { files } = sandbox;
    for (const name of NAMES)
      await inside(sandbox, ["/usr/bin/env", "python3", "-c", "import sys;open(sys.argv[1],'x')", `${dir}/${name}`]);
    const listed = async (): Promise<string[]> => (await files.list(dir)).items.map(({ name }) => name).sort();
    assert.deepEqual(await listed(), [...NAMES, "kept"].sort());
    const { changes } = await bed.corral.deltas.changes(sandbox.id);
    assert.equal(changes.length, NAMES.length + 2, `the changes are ${JSON.stringify(changes.map(({ path }) => path))}`);
    for (const name of NAMES) {
      await files.move(`${dir}/${name}`, `${dir}/moved`);
      await files.remove(`${dir}/moved`);
    }
    assert.deepEqual(await listed(), ["kept"], "a name was taken for more than a name");
    assert.equal(await inside(sandbox, `ls ${dir}/kept`), "file");
  },
  control: {
    kind: "naive",
    async prove(bed) {
      assert.equal(
        await outside(bed, ["/bin/sh", "-c", 'd=$(mktemp -d); cd "$d"; mkdir kept; : > ./-rf; rm * 2>/dev/null; ls; rm -rf "$d"']),
        "-rf",
        "a name that looks like an option is none to a careless rm",
      );
    },
  },
};

/** Devices of the file systems that the descriptors and the controlling terminal of a program are on. */
const TERMINALS =
  "import os\nfor p in ['/proc/self/fd/%d'%n for n in range(20)]+['/dev/tty']:\n try: print(os.fstat(os.open(p,os.O_RDWR|os.O_NOCTTY)).st_dev if p=='/dev/tty' else os.stat(p).st_dev)\n except OSError: pass\nprint(*[os.stat('/dev/pts').st_dev])";
const PTY = 'import pty,sys;pty.spawn([sys.executable,"-c",sys.argv[1]])';

const TERMINAL_FD: StoryRow = {
  id: "terminal/terminal-fd",
  what: "find a terminal of the node by descriptor and by /dev/tty",
  async attempt(bed) {
    await using sandbox = await bed.open();
    const node = String(statSync("/dev/pts").dev);
    const command = ["/usr/bin/env", "python3", "-c", TERMINALS];
    for (const pty of [undefined, { rows: 24, cols: 80 }]) {
      const result = await sandbox.exec({ command, timeoutMs: 30_000, ...(pty === undefined ? {} : { pty }) });
      assert.equal(result.exitCode, 0);
      assert.ok(!stdout(result).split(/\s+/).includes(node), "a descriptor is on the node's own terminals");
    }
    assert.equal(await inside(sandbox, "exec 2>/dev/null; (: < /dev/tty) && echo opened; ls /dev/pts", { anyExit: true }), "ptmx");
  },
  control: {
    kind: "naive",
    async prove(bed) {
      // A runner that has its program inherit the terminal.
      const told = await outside(bed, ["/usr/bin/env", "python3", "-c", PTY, TERMINALS]);
      assert.ok(told.split(/\s+/).includes(String(statSync("/dev/pts").dev)), `no descriptor is on the node's terminals: ${told}`);
    },
  },
};

const PORT = 8300;
/** What the planted server answers, or why nothing came. */
async function ask(sandbox: Sandbox): Promise<string> {
  try {
    let said = "";
    const { readable } = await sandbox.connect(PORT);
    for await (const piece of readable) said += Buffer.from(piece).toString("latin1");
    return said;
  } catch (error) {
    return errorCode(error) ?? String(error);
  }
}

const LISTEN = `import socket\nl=socket.create_server(('127.0.0.1',${PORT}))\nprint('listens',flush=True)\nwhile 1:\n c,_=l.accept()\n c.sendall(b'planted')\n c.close()`;

async function listening(sandbox: Sandbox): Promise<{ readonly signal: (name: string) => void; readonly ended: Promise<string> }> {
  const said = new EventTarget();
  const listens = once(said, "listens");
  const command = ["/usr/bin/env", "python3", "-c", LISTEN];
  const server = await sandbox.start({ command, onStdout: () => void said.dispatchEvent(new Event("listens")) });
  const ended = server.result.then(() => "ended", errorCode).then(String);
  assert.notEqual(await Promise.race([listens.then(() => "listens"), ended]), "ended");
  return { signal: (name) => server.signal(name), ended };
}

const NAMES_REUSED: StoryRow = {
  id: "reuse/names-reused",
  what: "old handles of a sandbox that is gone, after another got its id, pid and port",
  async attempt(bed) {
    const first = await bed.open();
    const old = await listening(first);
    await first.destroy();
    assert.notEqual(await old.ended, "");
    await using second = await bed.open({ id: first.id });
    const server = await listening(second);
    // Pids begin anew in each sandbox, so most likely they are the same too.
    try {
      old.signal("SIGKILL");
    } catch {
      // refused is as good
    }
    assert.notEqual(await ask(first), "planted", "the old handle reaches the new sandbox's port");
    await assert.rejects(first.exec({ command: ["/bin/echo"] }), "the old handle runs a command");
    await assert.rejects(first.files.readText("/workspace/plain.txt"), "the old handle reads a file");
    await first.destroy();
    assert.equal(await ask(second), "planted", "the new sandbox's server is gone");
    await stillAnswers(second);
    server.signal("SIGKILL");
    await server.ended;
  },
  control: {
    kind: "accept",
    async prove(bed) {
      await using sandbox = await bed.open();
      const server = await listening(sandbox);
      assert.equal(await ask(sandbox), "planted");
      server.signal("SIGKILL");
      assert.equal(await server.ended, "ended", "a signal by the handle ends nothing");
    },
  },
};

export const CONTROL_STORIES: readonly StoryRow[] = [TOKEN_INSIDE, FD_SMUGGLE, INSIDE_LISTS, TERMINAL_FD, NAMES_REUSED];
