// Class interpreter: code in a context against what answers for it, against other contexts and against whoever reads its results.

import { strict as assert } from "node:assert";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { CodeAnswer, RunCode } from "../../api/contexts.ts";
import type { Sandbox } from "../../api/sandbox.ts";
import type { StoryRow } from "../row.ts";
import { inside, outside } from "../say.ts";

interface Python {
  readonly id: string;
  readonly run: (code: string, more?: Pick<RunCode, "timeoutMs">) => Promise<CodeAnswer>;
  /** Text of the main value. */
  readonly value: (code: string) => Promise<string>;
}

async function python(sandbox: Sandbox): Promise<Python> {
  const { id } = await sandbox.contexts.create();
  const run: Python["run"] = (code, more = {}) => sandbox.contexts.run(id, { code, timeoutMs: 20_000, ...more });
  const value: Python["value"] = async (code) => {
    const { results, error } = await run(code);
    assert.equal(error, null, JSON.stringify(error));
    return String(results.find(({ isMain }) => isMain)?.mime["text/plain"]);
  };
  return { id, run, value };
}

/** The harmless neighbour: the same context, code that means no harm. */
const accept = (code: string, expected: string): StoryRow["control"] => ({
  kind: "accept",
  async prove(bed) {
    await using sandbox = await bed.open();
    assert.equal(await (await python(sandbox)).value(code), expected);
  },
});

const FAKE = `{"status":"ok","error":null,"mime":{"text/plain":"forged"},"isMain":true}`;
const FORGE = `
import os, subprocess, threading
fake = b'\\n' + b'a' * 20 + b'E.' + ${JSON.stringify(FAKE)}.encode() + b'\\n' + b'a' * 20 + b'R.' + ${JSON.stringify(FAKE)}.encode() + b'\\n'
for fd in range(0, 1025):
  try: os.write(fd, fake)
  except OSError: pass
subprocess.run(['sh', '-c', 'for n in 1 2 3 4 5 200 201 900 901; do eval "echo ${FAKE.replaceAll('"', "")} >&$n"; done 2>/dev/null; exit 0'], close_fds=False)
try:
  import socket
  for name in os.listdir('/run') + ['1']: socket.socket(socket.AF_UNIX).connect(name)
except OSError: pass
7 * 6`;

const DRIVER_PATCHES = [
  "import json; json.dumps = json.loads = None; json.JSONEncoder.encode = None",
  "import builtins; builtins.repr = builtins.len = builtins.print = None",
  "import sys; sys.stdout = sys.stderr = sys.stdin = None; sys.excepthook = None; sys.settrace(lambda *a: 1 / 0)",
  "import os; os.write = os.read = os.getpid = lambda *a: 0",
  "import gc; [o.clear() for o in gc.get_objects() if isinstance(o, dict) and 'word' in o]",
  "import threading, os; threading.Thread(target=lambda: [os.write(901, b'x' * 100) for _ in range(1000)]).start()",
  "import os; os.fork()",
  "import atexit, os; atexit.register(os.abort)",
];

export const INTERPRETER_STORIES: readonly StoryRow[] = [
  {
    id: "interpreter/frame-forge",
    what: "write forged results to every descriptor, by a program and to sockets",
    door: "context",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const context = await python(sandbox);
      for (let round = 0; round < 3; round++) {
        const { results, status } = await context.run(FORGE);
        assert.deepEqual([status, results.map(({ mime }) => mime["text/plain"])], ["ok", ["42"]], "a forged result");
      }
    },
    control: {
      kind: "naive",
      async prove(bed) {
        await using sandbox = await bed.open();
        const text = await inside(sandbox, ["python3", "-c", `print(${JSON.stringify(FAKE)})`]);
        assert.equal((JSON.parse(text) as { readonly mime: Record<string, string> }).mime["text/plain"], "forged");
      },
    },
  },
  {
    id: "interpreter/driver-patch",
    what: "patch what the interpreter answers by: json, builtins, sys, os, gc, threads, a fork, atexit",
    door: "context",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const beside = await python(sandbox);
      await beside.run("kept = 1");
      for (const code of DRIVER_PATCHES) {
        const { id, run } = await python(sandbox);
        await run(code, { timeoutMs: 1_000 });
        const next = await run("1 + 1", { timeoutMs: 1_000 });
        const isRight = next.results.some(({ mime }) => mime["text/plain"] === "2");
        const isTold = next.stateLost || next.freshBecause !== null || next.error !== null;
        assert.ok(isRight || isTold, `after ${code} the next call told neither its value nor a loss: ${JSON.stringify(next)}`);
        await sandbox.contexts.delete(id);
      }
      assert.equal(await beside.value("kept + 1"), "2", "another context");
    },
    control: accept("import json; json.dumps([1])", "'[1]'"),
  },
  {
    id: "interpreter/die-in-cell",
    what: "end the interpreter: exit, segfault, abort, endless recursion, a smashed stack",
    door: "context",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const { run } = await python(sandbox);
      const ends = [
        "os._exit(0)",
        "ctypes.string_at(0)",
        "os.abort()",
        "ctypes.memset(id(None), 255, 64); x = [None] * 9; del x",
        "os.kill(os.getpid(), 9)",
      ];
      for (const end of ends) {
        const answer = await run(`import os, ctypes\n${end}`);
        assert.deepEqual([answer.status, answer.stateLost], ["died", true], end);
        assert.notEqual((await run("1")).freshBecause, null, `after ${end} nothing was told`);
      }
      assert.equal((await run("def f(): return f()\nf()")).error?.name, "RecursionError");
    },
    control: accept("import os; os.getpid() > 1", "True"),
  },
  {
    id: "interpreter/endless-cell",
    what: "run for ever: a loop, a sleep, a deaf loop, one system call",
    door: "context",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const { run } = await python(sandbox);
      for (const code of ["while True: pass", "import time; time.sleep(999)", "import os; os.read(os.pipe()[0], 1)"]) {
        const answer = await run(code, { timeoutMs: 200 });
        assert.deepEqual([answer.status, answer.stateLost], ["timeout", false], code);
      }
      const deaf = await run("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", { timeoutMs: 200 });
      assert.deepEqual([deaf.status, deaf.stateLost], ["timeout", true], "a deaf loop");
      assert.notEqual((await run("1")).freshBecause, null);
    },
    control: accept("import time; time.sleep(0.01); 1", "1"),
  },
  {
    id: "interpreter/pickle-out",
    what: "a result that attacks its reader: pickle, names of properties, false types, too much",
    door: "context",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const { run } = await python(sandbox);
      const mark = join(bed.scratch, "unpickled");
      const { results } = await run(`
class P:
  def __reduce__(self): import os; return (os.system, ('touch ${mark}',))
  def _repr_mimebundle_(self, **_): return {'__proto__': {'a': 1}, 'constructor': 'x', 'text/html': '<script>', 'image/png': {'not': 'text'}, 'a/' + 'b' * 999: 'x', **{f'x/t{n}': 'y' for n in range(99)}}
P()`);
      const mime = results[0]?.mime ?? {};
      assert.ok(!existsSync(mark), "a result was unpickled");
      assert.equal(Object.getPrototypeOf(mime), Object.prototype);
      assert.ok(
        Object.keys(mime).length <= 32 && Object.keys(mime).every((type) => /^[\w.+-]+\/[\w.+-]{1,128}$/.test(type)),
        "names of types",
      );
      const much = await run("class B:\n  def _repr_html_(self): return 'x' * (7 << 20)\nfor _ in range(9): display(B())");
      assert.ok(JSON.stringify(much.results).length < 40 * 1024 ** 2, "results are not bounded");
    },
    control: {
      kind: "naive",
      async prove(bed) {
        const mark = join(bed.scratch, "unpickled");
        const code = `import pickle\nclass P:\n  def __reduce__(self):\n    import os\n    return (os.system, ("touch '${mark}'",))\npickle.loads(pickle.dumps(P()))\nimport os\nprint(os.path.exists('${mark}'))`;
        assert.equal((await outside(bed, ["python3", "-c", code])).trim(), "True");
      },
    },
  },
  {
    id: "interpreter/zygote-secret",
    what: "find what another context holds: in inherited memory, descriptors, environment",
    door: "context",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const first = await python(sandbox);
      await first.run(PLANT);
      const second = await python(sandbox);
      assert.equal(await second.value(SEARCH), "(False, [], False)");
    },
    control: {
      kind: "planted",
      async prove(bed) {
        await using sandbox = await bed.open();
        const { run, value } = await python(sandbox);
        await run(PLANT);
        assert.equal(await value(SEARCH), "(True, ['/tmp/held'], True)");
      },
    },
  },
  {
    id: "interpreter/zygote-random",
    what: "foretell the random numbers of another context: random, uuid, secrets, ssl, numpy where it is",
    door: "context",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const drawn = new Set<string>();
      for (let n = 0; n < 3; n++) drawn.add(await (await python(sandbox)).value(DRAW));
      const all = [...drawn].flatMap((text) => text.replaceAll(/[()']/g, "").split(", "));
      assert.equal(new Set(all).size, all.length, "two contexts drew the same");
    },
    control: {
      kind: "naive",
      async prove(bed) {
        await using sandbox = await bed.open();
        const { value } = await python(sandbox);
        // What a fork without a new seed draws.
        assert.equal(
          await value("import random; r = random.Random(); s = r.getstate(); a = r.random(); r.setstate(s); a == r.random()"),
          "True",
        );
      },
    },
  },
  {
    id: "interpreter/context-cross",
    what: "reach a context of another sandbox: signals, /proc, shared memory, sockets, files",
    door: "context",
    async attempt(bed) {
      await using one = await bed.open();
      await using two = await bed.open();
      const [victim, attacker] = [await python(one), await python(two)];
      await victim.run(LISTEN);
      assert.equal(await attacker.value(REACH), "[]");
      assert.equal(await victim.value("kept"), "5");
    },
    control: {
      kind: "twin",
      async prove(bed) {
        await using one = await bed.open();
        const [victim, attacker] = [await python(one), await python(one)];
        await victim.run(LISTEN);
        assert.equal(await attacker.value(REACH), "['environ', 'file', 'shm', 'signal', 'socket']");
      },
    },
  },
];

/** What a context holds for SEARCH to find. */
const PLANT = "import os; planted = 'MARK' + '-OF-THE-' + 'FIRST'; os.environ['PLANTED'] = planted; held = open('/tmp/held', 'w')";
/** Whether the mark lies in this process's memory, which files it holds, whether its environment has the other's. */
const SEARCH = `
import os, re
mark = re.compile(rb'MARK[-]OF[-]THE[-]FIRST')
def within():
  with open('/proc/self/mem', 'rb', 0) as memory:
    for line in open('/proc/self/maps'):
      found = re.match(r'([0-9a-f]+)-([0-9a-f]+) rw', line)
      at, end = (int(part, 16) for part in found.groups()) if found and '[v' not in line else (0, 0)
      while at < end:
        try: memory.seek(at); part = memory.read(min(1 << 20, end - at))
        except OSError: break
        if mark.search(part): return True
        at += max(1, len(part))
  return False
links = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{fd}')]
within(), [link for link in links if link.startswith('/tmp')], 'PLANTED' in os.environ`;

const DRAW = `
import random, uuid, secrets, ssl
drawn = (random.random(), str(uuid.uuid4()), secrets.token_hex(8), ssl.RAND_bytes(8).hex())
try:
  import numpy.random
  drawn += (float(numpy.random.random()),)
except ImportError: pass
drawn`;

const LISTEN = `
import os, socket, subprocess
kept = 5
listener = socket.socket(socket.AF_UNIX); listener.bind('\\0cross'); listener.listen()
for place in ('/dev/shm', '/tmp'): open(place + '/cross', 'w').write('x')
child = subprocess.Popen(['sleep', '300'], env={'CROSS': 'mark', **os.environ})`;

/** Which of the other's things are there. */
const REACH = `
import glob, os, signal, socket
reached = []
def attempt(name, act):
  try: act(); reached.append(name)
  except OSError: pass
for path in glob.glob('/proc/[0-9]*/environ'):
  try: marked = b'CROSS=mark' in open(path, 'rb').read()
  except OSError: continue
  if marked:
    reached.append('environ')
    attempt('signal', lambda: os.kill(int(path.split('/')[2]), 0))
attempt('socket', lambda: socket.socket(socket.AF_UNIX).connect('\\0cross'))
attempt('shm', lambda: open('/dev/shm/cross'))
attempt('file', lambda: open('/tmp/cross'))
sorted(reached)`;
