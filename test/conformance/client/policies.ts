// Rows of the client suite: questions about policies.

import { expect } from "vitest";
import { errorCode } from "../../../src/api/errors.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf } from "./lab.ts";

export function policyRows(lab: () => ClientLab): void {
  verifies("client/policy-check", "a policy's text is told its problems by place, and one without errors its rules", async () => {
    const { policies } = await lab().of("ann");
    const good = await policies.check("read /src/**\nnone *.key\nread *.key\n");
    expect(good.policy).toEqual({
      rules: ["/src/**", "*.key", "*.key"].map((pattern, at) => ({ pattern, permission: at === 1 ? "none" : "read" })),
    });
    expect(good.counts).toEqual({ errors: 0, warnings: 1 });
    expect(good.problems).toMatchObject([{ severity: "warning", line: 2 }]);
    const bad = await policies.check("read /src/[\nopen /x\n", { format: "lines" });
    expect([bad.policy, bad.counts.errors, bad.problems.map(({ line }) => line)]).toEqual([undefined, 2, [1, 2]]);
    const long = await policies.check("x\n".repeat(5_000));
    expect([long.problems.length, long.counts.errors]).toEqual([1_000, 5_000]);
    const sandbox = await lab().make({ policy: good.policy ?? "" });
    expect((await sandbox.explain("/src/a.key")).permission).toBe("read");
  });

  verifies(
    "client/policy-explain",
    "what a preset, rules, or a sandbox's own policy say of a path is told with the rule that says it",
    async () => {
      const ann = await lab().of("ann");
      const own = {
        rules: [
          { pattern: "**", permission: "read" },
          { pattern: "secrets/", permission: "none" },
        ],
      } as const;
      const told = await ann.policies.explain(own, "/workspace/secrets/a");
      expect(told).toMatchObject({
        path: "/secrets/a",
        kind: "file",
        permission: "none",
        passage: false,
        rule: { index: 1, pattern: "secrets/" },
      });
      expect(told.outranked).toEqual([{ index: 0, permission: "read", pattern: "**" }]);
      expect(told.text).toContain("does not exist for the sandbox");
      const sandbox = await lab().make({ policy: own });
      expect(await sandbox.explain("/secrets/a")).toEqual(told);
      expect((await ann.policies.explain("agent-safe", "/output/x")).permission).toBe("write");
      expect((await sandbox.explain("secrets", { kind: "file" })).permission).toBe("read");
      expect((await sandbox.explain("secrets", { kind: "dir" })).permission).toBe("none");
      const none = await lab().make();
      expect((await none.explain("/.env")).permission).toBe("write");
      expect(await codeOf(ann.policies.explain("no-such-preset", "/a"))).toBe("preset_unknown");
      const refused = await ann.policies
        .explain({ rules: [{ pattern: "/a/[", permission: "read" }] }, "/a")
        .catch((error: unknown) => error);
      expect([errorCode(refused), (refused as { details: { problems: object[] } }).details.problems]).toMatchObject([
        "policy_invalid",
        [{ line: 1 }],
      ]);
      expect(await codeOf((await lab().of("bob")).sandbox(sandbox.id).explain("/a"))).toBe("sandbox_not_found");
      const inside = await lab().ofSandbox("ann", sandbox.id);
      expect(await codeOf(inside.sandbox(sandbox.id).explain("/secrets/a"))).toBe("forbidden");
      expect(await codeOf(inside.policies.check("read **"))).toBe("forbidden");
    },
  );
}
