// Policies that are written to cost, over a real server: its other owners are served meanwhile.

import { describe, expect } from "vitest";
import { clientLab, codeOf } from "../../test/conformance/client/lab.ts";
import { verifies } from "../../test/verifies.ts";
import { MAX_POLICY_TEXT_BYTES } from "../api/limits.ts";

/** Each pattern can go on in many ways at each name of a long path. */
const HOSTILE = Array.from({ length: 200 }, (_, n) => ({ pattern: `/${"**/a*b*c*d*/".repeat(300)}x${n}`, permission: "read" as const }));
const LONG = "/abcd".repeat(800);

describe("a server", () => {
  const lab = clientLab("remote", "native");

  verifies("server/policy-cost", "judges no policy that is written to cost for long, and serves other owners meanwhile", async () => {
    const [ann, sandbox] = [await lab().of("ann"), await lab().make({}, await lab().of("bob"))];
    const question = { isOver: false };
    const ask = async (): Promise<string | undefined> => {
      // Refused while the same owner's question below is under way.
      for (;;) {
        const code = await codeOf(ann.policies.explain({ rules: HOSTILE }, LONG));
        if (code !== "limit_reached") return code;
      }
    };
    const asked = ask().finally(() => (question.isOver = true));
    // It is under way when the same owner may not ask again.
    const again = async (): Promise<string | undefined> => await codeOf(ann.policies.check("read **")).catch(() => undefined);
    while ((await again()) !== "limit_reached") expect(question.isOver).toBe(false);
    let served = 0;
    while (!question.isOver) {
      expect((await sandbox.exec({ command: "echo served" })).exitCode).toBe(0);
      if (!question.isOver) served += 1;
    }
    expect(await asked).toBe("policy_too_complex");
    expect(served).toBeGreaterThan(0);
    // The thread that it ended is there anew.
    expect((await ann.policies.check("read **")).counts).toEqual({ errors: 0, warnings: 0 });
    expect(await codeOf(ann.policies.check("#".repeat(MAX_POLICY_TEXT_BYTES + 1)))).toBe("request_invalid");
  });
});
