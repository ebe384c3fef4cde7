// Classes egress, reuse and covert, the rows that need no proxy: no network by default, no trace of another sandbox, no shared lock.

import { strict as assert } from "node:assert";
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import type { Sandbox } from "../../api/sandbox.ts";
import type { StoryRow } from "../row.ts";
import { attempt, inside, outside } from "../say.ts";

const ADDRESSES = ["1.1.1.1 443", "10.0.0.1 80", "169.254.169.254 80", "224.0.0.1 5353", "2606:4700::1 443", "fd00:ec2::254 80"] as const;

/** Runs `act` while a listener of this process is open on loopback. */
async function withListener(host: string, act: (port: number) => Promise<void>): Promise<void> {
  const server = createServer((socket) => socket.end("hello"));
  server.listen(0, host);
  await once(server, "listening");
  try {
    await act((server.address() as AddressInfo).port);
  } finally {
    server.close();
  }
}

export const NETWORK_STORIES: readonly StoryRow[] = [
  {
    id: "egress/no-route",
    what: "connect to public, private, link-local and multicast addresses",
    async attempt(bed) {
      await using sandbox = await bed.open();
      for (const address of ADDRESSES) {
        assert.match(await inside(sandbox, [attempt("doors"), "connect", ...address.split(" ")]), /^(ENETUNREACH|EADDRNOTAVAIL)$/, address);
        assert.match(
          await inside(sandbox, [attempt("doors"), "udp", ...address.split(" ")]),
          /^(ENETUNREACH|EADDRNOTAVAIL)$/,
          `${address} udp`,
        );
      }
    },
    control: {
      kind: "planted",
      async prove(bed) {
        await withListener("127.0.0.1", async (port) => {
          const { stdout } = await bed.outside([
            "/bin/sh",
            "-c",
            `ip link set lo up 2>/dev/null; "$0" connect 127.0.0.1 ${port}`,
            bed.program("doors"),
          ]);
          assert.match(stdout, /ECONNREFUSED|ENETUNREACH/, "a namespace of its own reaches the listener");
        });
      },
    },
  },
  {
    id: "egress/no-dns",
    what: "resolve a name",
    async attempt(bed) {
      await using sandbox = await bed.open();
      const result = await sandbox.exec({ command: ["/usr/bin/getent", "hosts", "example.com"], timeoutMs: 20_000 });
      assert.equal(result.exitCode, 2);
    },
    control: {
      kind: "accept",
      async prove(bed) {
        await using sandbox = await bed.open();
        assert.match(await inside(sandbox, ["/usr/bin/getent", "hosts", "localhost"]), /localhost/);
      },
    },
  },
  {
    id: "egress/loopback-own",
    what: "reach a listener of the node on loopback",
    async attempt(bed) {
      await using sandbox = await bed.open();
      await withListener("127.0.0.1", async (port) =>
        assert.equal(await inside(sandbox, [attempt("doors"), "connect", "127.0.0.1", String(port)]), "ECONNREFUSED"),
      );
      await withListener("::1", async (port) =>
        assert.match(await inside(sandbox, [attempt("doors"), "connect", "::1", String(port)]), /ECONNREFUSED|ENETUNREACH|EADDRNOTAVAIL/),
      );
    },
    control: {
      kind: "plain",
      prove: async () => {
        await withListener("127.0.0.1", async (port) => {
          const answer = await fetch(`http://127.0.0.1:${port}`).then(
            () => "answered",
            (error: Error) => (error.cause instanceof Error ? error.cause.message : error.message),
          );
          assert.ok(!answer.includes("ECONNREFUSED"), answer);
        });
      },
    },
  },
  {
    id: "egress/abstract-own",
    what: "reach an abstract unix socket of the node",
    runtimes: ["native"],
    async attempt(bed) {
      const name = `corral-test-${process.pid}`;
      const server = createServer().listen(`\0${name}`);
      await once(server, "listening");
      try {
        await using sandbox = await bed.open();
        assert.equal(await inside(sandbox, [attempt("doors"), "abstract", name]), "ECONNREFUSED");
      } finally {
        server.close();
      }
    },
    control: {
      kind: "weak:6",
      async prove(bed) {
        const name = `corral-test-${process.pid}`;
        const server = createServer().listen(`\0${name}`);
        await once(server, "listening");
        try {
          await using sandbox = await bed.open({ weaken: [6] });
          assert.equal(await inside(sandbox, [attempt("doors"), "abstract", name]), "OK");
        } finally {
          server.close();
        }
      },
    },
  },
  {
    id: "reuse/traces",
    what: "marks left in /tmp, /dev/shm, home and the codebase by a sandbox that is gone",
    async attempt(bed) {
      const mark = "for d in /tmp /dev/shm /home/user /workspace/output; do echo left > $d/mark-of-the-last; done";
      await (async () => {
        await using first = await bed.open();
        await inside(first, mark);
      })();
      await using second = await bed.open();
      assert.equal(
        await inside(
          second,
          "find / -xdev -name 'mark-of-the-last' 2>/dev/null; find /tmp /dev/shm /home /workspace -name 'mark-of-the-last'",
          { anyExit: true },
        ),
        "",
      );
    },
    control: {
      kind: "planted",
      async prove(bed) {
        await using sandbox = await bed.open();
        await inside(sandbox, "echo left > /tmp/mark-of-the-last");
        assert.equal(await inside(sandbox, "find /tmp -name 'mark-of-the-last'"), "/tmp/mark-of-the-last");
      },
    },
  },
  {
    id: "reuse/sibling-live",
    what: "a sandbox looks for what a live sibling writes",
    async attempt(bed) {
      await using first = await bed.open();
      await using second = await bed.open();
      await inside(first, "echo mine > /workspace/output/of-the-sibling; echo mine > /tmp/of-the-sibling");
      assert.equal(await inside(second, "ls /workspace/output /tmp | grep -c of-the-sibling", { anyExit: true }), "0");
    },
    control: {
      kind: "planted",
      async prove(bed) {
        await using first = await bed.open();
        await inside(first, "echo mine > /tmp/of-the-sibling");
        assert.equal(await inside(first, "ls /tmp | grep -c of-the-sibling"), "1");
      },
    },
  },
  {
    id: "covert/lock-signal",
    what: "a lock on a file of the template and of the base, seen from a sibling",
    runtimes: ["native"],
    async attempt(bed) {
      await using first = await bed.open();
      await using second = await bed.open();
      for (const path of ["/usr/bin/env", "/workspace/plain.txt"]) {
        const holder = await first.start({ command: [attempt("doors"), "hold", path] });
        await new Promise((resolve) => setTimeout(resolve, 200));
        assert.equal(await inside(second, [attempt("doors"), "lock", path]), "OK", `${path}: a sibling's lock is felt`);
        holder.signal("SIGKILL");
        await holder.result;
      }
    },
    control: {
      kind: "planted",
      async prove(bed) {
        await using sandbox = await bed.open();
        const holder = await sandbox.start({ command: [attempt("doors"), "hold", "/usr/bin/env"] });
        await new Promise((resolve) => setTimeout(resolve, 200));
        assert.equal(await inside(sandbox, [attempt("doors"), "lock", "/usr/bin/env"]), "EAGAIN");
        holder.signal("SIGKILL");
        await holder.result;
      },
    },
  },
  {
    id: "covert/futex-signal",
    what: "wake a sibling that sleeps on a page of a file of the base which both see",
    open: "N3, sandboxes that want to talk and share a codebase",
    async attempt(bed) {
      await using first = await bed.open();
      await using second = await bed.open();
      assert.equal(await wakes(first, second), "0", "a sibling was woken");
    },
    control: {
      kind: "planted",
      async prove(bed) {
        await using sandbox = await bed.open();
        assert.equal(await wakes(sandbox, sandbox), "1");
      },
    },
  },
  {
    id: "covert/load-figures",
    // What sysinfo and statfs tell is not promised.
    what: "figures of /proc while a sibling works",
    async attempt(bed) {
      await using first = await bed.open();
      await using second = await bed.open();
      const figures = (): Promise<string> => inside(first, FIGURES);
      const before = await figures();
      await inside(second, [attempt("resource"), "spin", "1"]);
      assert.equal(await figures(), before);
      assert.equal(await inside(first, "cat /proc/pressure/* 2>/dev/null", { anyExit: true }), "", "pressure on the node is told");
    },
    control: {
      kind: "plain",
      async prove(bed) {
        const twice = await outside(bed, ["/bin/sh", "-c", `${FIGURES}; sleep 0.1; echo then; ${FIGURES}`]);
        const [before, after] = twice.split("\nthen\n");
        assert.notEqual(after, before);
      },
    },
  },
];

const FIGURES = "cat /proc/loadavg /proc/stat /proc/meminfo /proc/uptime";
const SHARED = "/workspace/plain.txt";

/** Whether a command of one sandbox wakes one of the other: `1` or `0`. */
async function wakes(sleeping: Sandbox, waking: Sandbox): Promise<string> {
  const sleeper = await sleeping.start({ command: [attempt("doors"), "sleep-on", SHARED] });
  try {
    return await inside(waking, [attempt("doors"), "wake", SHARED]);
  } finally {
    sleeper.signal("SIGKILL");
    await sleeper.result;
  }
}
