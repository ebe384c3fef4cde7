// What a sandbox with a network must do on every runtime, against a proxy that speaks the relay's protocol and judges nothing. Real kernels, real
// programs: a static one that knows no proxy variable, and the resolver and shell of this machine.
// Invariant: nothing here waits for a time to pass; what must not happen is shown by what happens instead.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import type { Container } from "../../src/runtime/runtime.ts";
import { type FakeProxy, fakeProxy } from "../fixtures/egress-proxy.ts";
import { verifies } from "../verifies.ts";
import { hostPid, type Lab, MIB, output, run, start } from "./runtime-lab.ts";

/** The long form by hand: `CORRAL_TEST_EGRESS=50`. */
const SANDBOXES = Number(process.env["CORRAL_TEST_EGRESS"] ?? 5);
const EACH = 20;
const PROXY = "198.18.0.1";
interface Networked {
  readonly container: Container;
  readonly proxy: FakeProxy;
  /** Stub address of a name, as the machine's own resolver finds it. */
  readonly address: (name: string) => Promise<string>;
  /** What the static program says. */
  readonly net: (words: string, input?: string) => Promise<string>;
}

async function networked(lab: Lab, tag = "one"): Promise<Networked> {
  const spec = lab.spec();
  const proxy = await fakeProxy(join(lab.dir, `egress-${spec.id}`), tag);
  onTestFinished(async () => await proxy.stop());
  for (const name of ["echo", "refuse", "stall", "flood", "tag", "late"]) proxy.names.set(`${name}.test`, "yes 7 80");
  const container = await lab.make({ ...spec, network: { socket: proxy.socket } });
  return {
    container,
    proxy,
    address: async (name) => (await output(container, `getent ahostsv4 ${name}`)).split(" ")[0] ?? "",
    net: async (words, input = "") =>
      (await run(container, ["./net", ...words.split(" ")], { input: Buffer.from(input) })).stdout.toString(),
  };
}

export function egress(lab: () => Lab): void {
  describe("with a network", () => {
    beforeAll(() => {
      execFileSync("cc", ["-O1", "-static", "-o", join(lab().dir, "tools/net"), join(import.meta.dirname, "../fixtures/runtime/net.c")]);
    });
    carries(lab);
    names(lab);
    holds(lab);
    ends(lab);
  });
}

function carries(lab: () => Lab): void {
  verifies("egress/relay-bytes", "bytes of the proxy's port and of a name go both ways, each direction with its own end", async () => {
    const { container, proxy, address, net } = await networked(lab());
    expect(await output(container, "curl -s http://some.test/; printenv https_proxy NO_PROXY")).toBe(
      `corral: egress to http://some.test/ is not allowed\nhttp://${PROXY}:3128\nlocalhost,127.0.0.1,::1\n`,
    );
    expect(await net(`talk ${await address("late.test")} 7`, "x".repeat(3 * MIB))).toBe(`${3 * MIB} bytes\n`);
    const text = "both ways ".repeat(100_000);
    expect(await net(`talk ${await address("echo.test")} 80`, text)).toBe(text);
    expect(proxy.heads.map(({ line }) => line.replace(/ \d+:/, " PID:"))).toEqual(
      expect.arrayContaining(["proxy PID:curl", "resolve PID:getent", "name late.test 7 PID:net", "name echo.test 80 PID:net"]),
    );
  });

  verifies(
    "egress/connect",
    "corral-connect, found on PATH, is a connection through the proxy, and passes on why there is none",
    async () => {
      const { container } = await networked(lab());
      const text = "both ways ".repeat(10_000);
      expect((await run(container, ["corral-connect", "echo.test", "22"], { input: Buffer.from(text) })).stdout.toString()).toBe(text);
      const refused = await run(container, ["corral-connect", "refuse.test", "22"]);
      expect([refused.exit.code, refused.stderr.toString()]).toEqual([1, "corral: egress to refuse.test:22 is not allowed\n"]);
      expect((await run(container, ["corral-connect", "a\r\nb", "22"])).exit.code).toBe(2);
      expect(
        await output(
          container,
          "grep -c corral-connect /proc/self/mountinfo; ls -A /run/corral; flock -n /run/corral/corral-connect true; echo $?",
        ),
      ).toBe("0\ncorral-connect\n0\n");
    },
  );

  verifies("egress/relay-reset", "what the proxy refuses, or cannot take because it is gone, is reset, not ended", async () => {
    const { container, proxy, address, net } = await networked(lab());
    const [refuse, echo] = [await address("refuse.test"), await address("echo.test")];
    expect(await net(`talk ${refuse} 7`, "words")).toBe("ECONNRESET\n");
    expect(await output(container, `mkfifo /tmp/open; ./net talk ${refuse} 7 <>/tmp/open; true`)).toBe("ECONNRESET\n");
    await proxy.stop();
    expect(await net(`talk ${echo} 7`, "words")).toBe("ECONNRESET\n");
    expect(await net(`talk ${PROXY} 3128`, "words")).toBe("ECONNRESET\n");
    expect((await run(container, "getent hosts echo.test")).exit.code).toBe(2);
  });

  verifies("egress/relay-apart", `${SANDBOXES * EACH} connections of ${SANDBOXES} sandboxes reach each its own proxy, whole`, async () => {
    const all = await Promise.all(Array.from({ length: SANDBOXES }, (_, n) => networked(lab(), `tag-${n}`)));
    const said = await Promise.all(all.map(async ({ net, address }, n) => net(`many ${EACH} ${await address("tag.test")} 7 tag-${n}`)));
    expect(said).toEqual(all.map(() => `${EACH} whole\n`));
    for (const [n, { proxy }] of all.entries()) {
      expect(proxy.heads.filter(({ line }) => line.startsWith("name tag.test 7 ")).length).toBe(EACH);
      expect(proxy.heads.every(({ tag }) => tag === `tag-${n}`)).toBe(true);
    }
  });

  verifies("egress/relay-memory", "readers that take nothing stop the senders, and cost a bounded amount of memory", async () => {
    const { container, proxy, address, net } = await networked(lab());
    const [flood, stall] = [await address("flood.test"), await address("stall.test")];
    const readers = start(container, `mkfifo /tmp/open; ./net hold ${flood} 7 40 <>/tmp/open`);
    await readers.said("held");
    const writers = start(container, `for n in 1 2 3 4 5 6 7 8; do ./net talk ${stall} 7 </dev/zero & done; wait`);
    // The relay serves others meanwhile.
    expect(await net(`talk ${await address("echo.test")} 7`, "lively")).toBe("lively");
    const rss = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${await relayPid(container)}/status`, "latin1"))?.[1]);
    expect(rss).toBeLessThan(16 * 1024);
    expect(proxy.heads.length).toBeGreaterThan(45);
    readers.process.signal(9, true);
    writers.process.signal(9, true);
  });
}

/** Pid outside of the relay, which is the child of PID 1 with that name. */
async function relayPid(container: Container): Promise<string> {
  const pid = await hostPid(container);
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim().split(" ");
  const relay = children.find((child) => readFileSync(`/proc/${child}/comm`, "latin1") === "egress\n");
  if (relay === undefined) throw new Error(`PID 1 has no relay among ${children.join(" ")}`);
  return relay;
}

function names(lab: () => Lab): void {
  verifies(
    "egress/stub-names",
    "only names that the proxy knows are found, each at one address of its own, at the ports that it tells",
    async () => {
      const { container, proxy, address, net } = await networked(lab());
      const [echo, late] = [await address("echo.test"), await address("LATE.test")];
      expect(echo).toMatch(/^198\.1[89]\./);
      expect(late).not.toBe(echo);
      expect(await address("echo.test")).toBe(echo);
      for (const name of ["other.test", "test", "localhost.test", "1.2.3.4.5"])
        expect((await run(container, ["getent", "ahosts", name])).exit.code).toBe(2);
      expect(await net(`talk ${echo} 81`)).toBe("ECONNREFUSED\n");
      proxy.names.set("echo.test", "yes 81");
      expect(await address("echo.test")).toBe(echo);
      expect(await net(`talk ${echo} 81`, "moved")).toBe("moved");
      expect(await net(`talk ${echo} 80`)).toBe("ECONNREFUSED\n");
      proxy.names.set("echo.test", "yes");
      expect(await address("echo.test")).toBe(echo);
      expect(await net(`talk ${echo} 443`, "default")).toBe("default");
      proxy.names.delete("echo.test");
      expect((await run(container, ["getent", "ahosts", "echo.test"])).exit.code).toBe(2);
    },
  );

  it("answers questions for other things, by TCP too, strictly, and takes a mad proxy for a failed one", async () => {
    const { proxy, net } = await networked(lab());
    const question = (name: string, tail: string): string =>
      `abcd01000001000000000000${[...name.split("."), ""].map((label) => Buffer.from([label.length, ...Buffer.from(label)]).toString("hex")).join("")}${tail}`;
    const flags = (answer: string): string => answer.slice(4, 8);
    expect(flags(await net(`ask ${question("echo.test", "00010001")}`))).toBe("8180");
    expect(flags(await net(`ask ${question("echo.test", "00010001")} tcp`))).toBe("8180");
    expect((await net(`ask ${question("echo.test", "001c0001")}`)).slice(4, 16)).toBe("818000010000");
    for (const tail of ["00100001", "000f0001", "00ff0001", "00010003"])
      expect(flags(await net(`ask ${question("echo.test", tail)}`))).toBe("8185");
    expect(flags(await net(`ask ${question("echo.test", "0001000100")}`))).toBe("8181");
    expect(flags(await net("ask abcd01000001000000000000c00c00010001"))).toBe("8181");
    for (const mad of ["maybe", "yes 0", "yes 65536", "yes  80", "yes 80\nyes", "y".repeat(300)]) {
      proxy.names.set("echo.test", mad);
      expect(flags(await net(`ask ${question("echo.test", "00010001")}`))).toBe("8182");
    }
  });
}

function holds(lab: () => Lab): void {
  verifies("egress/no-other-way", "addresses that stand for no name are out of reach at once, as without a network", async () => {
    const { net } = await networked(lab());
    for (const address of ["1.1.1.1", "10.0.0.1", "169.254.169.254", "198.20.0.1"])
      expect(await net(`talk ${address} 443`)).toBe("ENETUNREACH\n");
    expect(await net("talk 198.19.7.7 443")).toBe("ECONNREFUSED\n");
    const plain = await lab().make();
    for (const address of [PROXY, "198.19.7.7", "1.1.1.1"])
      expect((await run(plain, ["./net", "talk", address, "3128"])).stdout.toString()).toBe("ENETUNREACH\n");
    expect(await output(plain, "cat /etc/resolv.conf; env | grep -ci proxy; true")).toBe("0\n");
  });

  verifies("egress/relay-untouchable", "no command can signal, trace or read the relay, or see the proxy's socket", async () => {
    const { container, proxy } = await networked(lab());
    // Once it has answered it is what it stays.
    expect(await output(container, "curl -s http://some.test/")).toContain("not allowed");
    const found = await output(
      container,
      "p=$(pgrep -x egress); echo $p; kill -9 $p; kill -STOP $p; ls /proc/$p/fd /proc/$p/cwd/ 2>&1; head -c1 /proc/$p/mem; grep -c egress.sock /proc/net/unix; ls -R /run /tmp; grep -E '^(Uid|Cap...|Seccomp|NoNewPrivs):' /proc/$p/status; true",
    );
    expect(found).toMatch(/^\d+$/m);
    expect(found).not.toContain("egress.sock");
    expect(found).toMatch(/^Uid:\t(65534)\t\1\t\1\t1000$/m);
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) expect(found).toMatch(new RegExp(`^${set}:\t0{16}$`, "m"));
    expect(found).toMatch(/^Seccomp:\t2$/m);
    expect(await output(container, "curl -s http://some.test/")).toContain("not allowed");
    expect(proxy.heads.length).toBe(2);
    expect((await container.usage()).pids?.count ?? 0).toBeLessThanOrEqual(1);
  });
}

function ends(lab: () => Lab): void {
  verifies("egress/relay-dies", "when the relay is gone nothing is carried any more, and the sandbox lives", async () => {
    const { container, address, net } = await networked(lab());
    const echo = await address("echo.test");
    process.kill(Number(await relayPid(container)), "SIGKILL");
    await expect.poll(() => net(`talk ${PROXY} 3128`, "x")).toBe("ECONNREFUSED\n");
    expect(await net(`talk ${echo} 7`, "x")).toBe("ECONNREFUSED\n");
    expect((await run(container, ["getent", "hosts", "echo.test"])).exit.code).toBe(2);
    expect(await output(container, "echo lively")).toBe("lively\n");
  });
}
