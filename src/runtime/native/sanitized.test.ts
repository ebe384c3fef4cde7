// The spawner and PID 1 built with AddressSanitizer and UBSan: a report ends the process, which fails these tests.

import { join } from "node:path";
import { describe, expect, it, onTestFinished, type TestContext } from "vitest";
import { fakeProxy } from "../../../test/fixtures/egress-proxy.ts";
import { openNativeLab, output, start, tracesOf } from "../../../test/fixtures/native-lab.ts";

const BUILD_TIMEOUT_MS = 120_000;

function rootOnly(context: TestContext): void {
  if (process.geteuid?.() !== 0) context.skip("as root alone");
}

describe("the sanitized guest", () => {
  it(
    "makes, runs, fails and ends sandboxes without a report",
    async (context) => {
      rootOnly(context);
      const lab = await openNativeLab({ asan: true, allowWeaken: true });
      onTestFinished(() => lab.dispose());
      const containers = await Promise.all([lab.make(), lab.make({ root: true }), lab.make({ weaken: [12, 20] })]);
      expect(await Promise.all(containers.map((container, n) => output(container, `echo ${n}; head -c 300000 /dev/zero | wc -c`)))).toEqual(
        ["0\n300000\n", "1\n300000\n", "2\n300000\n"],
      );
      await expect(
        lab.make({ mounts: [{ kind: "bind", target: "/", source: "/no/such/place", readOnly: true, exec: true }] }),
      ).rejects.toThrow(/step 4/);
      await expect(lab.make({ mounts: [...lab.spec().mounts, { kind: "devpts", target: "/absent" }] })).rejects.toThrow(/step 11/);
      const busy = start(containers[0] ?? (await lab.make()), "yes");
      await busy.spoke;
      await using proxy = await fakeProxy(join(lab.dir, "egress"), "asan");
      const networked = await lab.make({ network: { socket: proxy.socket } });
      proxy.names.set("late.test", "yes 7");
      const late = "exec 3<>/dev/tcp/late.test/7; head -c 300000 /dev/zero >&3; getent hosts other.test; curl -s http://some.test/ | wc -l";
      expect(await output(networked, ["bash", "-c", late])).toBe("1\n");
      await networked.destroy();
      const tree = lab.runtime.tool(["remove", `${lab.dir}/no-such-tree`]);
      await tree.done;
      await Promise.all(
        containers.map((container) => container.destroy([`${lab.dir}/${container.id}.upper`, `${lab.dir}/${container.id}.work`])),
      );
      expect(containers.flatMap(({ id }) => tracesOf(lab, id))).toEqual([]);
      await lab.runtime[Symbol.asyncDispose]();
    },
    BUILD_TIMEOUT_MS,
  );
});
