// Rows of the client suite: what a sandbox may reach outside, who changes it, what it was refused. Nothing here leaves this machine: names
// end in `.example`, so what is allowed ends at the resolver.

import { expect } from "vitest";
import type { SandboxHandle } from "../../../src/api/client.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf, text } from "./lab.ts";

const SOON = { interval: 50 };
const VALUE = "canary-of-a-network-1";

/** What the proxy says of a plain request for a host. */
async function said(sandbox: SandboxHandle, host: string): Promise<string> {
  const command = `exec 3<>/dev/tcp/198.18.0.1/3128; printf 'GET http://${host}/ HTTP/1.1\\r\\nHost: ${host}\\r\\nConnection: close\\r\\n\\r\\n' >&3; head -1 <&3`;
  return text((await sandbox.exec({ command: ["bash", "-c", command] })).stdout).trim();
}

export function networkRows(lab: () => ClientLab): void {
  verifies(
    "client/network-live",
    "rules of a network are replaced as a whole, hold at once, and a refusal is told with the rule that would allow it",
    async () => {
      const ann = await lab().of("ann");
      const sandbox = await lab().make({ network: { allow: [{ cidr: "10.1.0.0/16" }, "pypi"] } });
      expect((await sandbox.info()).network).toEqual({ version: 1, cut: [{ rule: 0, left: "none" }], viaProxy: [0] });
      expect(await said(sandbox, "no.example")).toMatch(/ 403 /);
      await expect.poll(async () => (await sandbox.network.egress()).items, SOON).not.toEqual([]);
      const [first] = (await sandbox.network.egress()).items;
      expect(first).toMatchObject({
        outcome: "refused",
        reason: "no-rule",
        host: "no.example",
        port: 80,
        version: 1,
        sandboxId: sandbox.id,
      });
      expect(first?.process).toMatch(/^\d+:(bash|head)$/); // both hold the socket
      expect(first?.allow).toEqual({ host: "no.example", ports: [80], tls: false });
      const rows = (await ann.audit.list({ subjectId: sandbox.id })).items.filter(({ action }) => action === "sandbox-egress");
      expect(rows).toMatchObject([{ ownerId: "ann", outcome: "no-rule", count: 1, egress: { host: "no.example", port: 80, version: 1 } }]);
      expect(rows[0]?.egress?.process).toBe(first?.process);
      if (first?.allow === undefined) throw new Error("no rule is told");
      expect(await sandbox.network.set({ allow: [first.allow] })).toMatchObject({ version: 2, cut: [] });
      expect(await said(sandbox, "no.example")).not.toMatch(/ 403 /);
      expect((await sandbox.network.get()).policy).toEqual({ allow: [first.allow] });
      await sandbox.network.set("none");
      expect(await said(sandbox, "no.example")).toMatch(/ 403 /);
      expect(await codeOf(sandbox.network.set({ allow: [{ host: "127.0.0.1" }] }))).toBe("network_policy_invalid");
      expect((await sandbox.network.get()).version).toBe(3);
      const narrow = await lab().ofSandbox("ann", sandbox.id);
      expect(await codeOf(narrow.sandbox(sandbox.id).network.set({ open: true }))).toBe("forbidden");
      const bob = (await lab().of("bob")).sandbox(sandbox.id).network;
      for (const call of [() => bob.get(), () => bob.set("none"), () => bob.egress()])
        expect(await codeOf(call())).toBe("sandbox_not_found");
      const none = await lab().make();
      expect((await none.info()).network).toBeUndefined();
      expect(await codeOf(none.network.set({ open: true }))).toBe("sandbox_state");
      expect((await none.exec({ command: ["bash", "-c", "exec 3<>/dev/tcp/198.18.0.1/3128"] })).exitCode).not.toBe(0);
      expect(await codeOf(ann.create({ network: { allow: [{ host: "*" }] } }))).toBe("network_policy_invalid");
    },
  );

  verifies(
    "client/network-secret",
    "a variable holds a placeholder of its sandbox alone; forks and what is made again keep rules, and forks get new placeholders",
    async () => {
      const ann = await lab().of("ann");
      const secret = await ann.secrets.create({ name: "API_TOKEN", value: VALUE });
      const allow = [{ host: "api.example", secrets: [{ name: "API_TOKEN" }] }];
      expect(await codeOf(ann.create({ network: { allow: [{ host: "api.example", secrets: [{ name: "MISSING" }] }] } }))).toBe(
        "secret_not_found",
      );
      const sandbox = await lab().make({ network: { allow } });
      const held = async (of: SandboxHandle): Promise<string> => text((await of.exec({ command: "printenv API_TOKEN" })).stdout).trim();
      const placeholder = await held(sandbox);
      expect(placeholder).toMatch(/^corral_[a-z0-9]{40}$/);
      expect((await sandbox.network.get()).placeholders).toEqual({ API_TOKEN: placeholder });
      const [fork] = await sandbox.fork();
      if (fork === undefined || fork instanceof Error) throw new Error("no fork");
      expect((await fork.network.get()).policy).toEqual({ allow });
      expect(await held(fork)).toMatch(/^corral_/);
      expect(await held(fork)).not.toBe(placeholder);
      await fork.destroy();
      await sandbox.network.set({ allow: [...allow, "npm"] });
      await sandbox.pause({ memory: false });
      expect(await held(sandbox)).toBe(placeholder);
      expect(await sandbox.network.get()).toMatchObject({ version: 2, policy: { allow: [...allow, "npm"] } });
      expect(await said(sandbox, "no.example")).toMatch(/ 403 /);
      await ann.secrets.rotate(secret.id, `${VALUE}-2`);
      await ann.secrets.delete(secret.id);
      expect(await said(sandbox, "no.example")).toMatch(/ 403 /);
    },
  );
}
