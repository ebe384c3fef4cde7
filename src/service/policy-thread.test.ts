// Policies that are written to cost, over a real server: its other owners are served meanwhile.

import { describe, expect } from "vitest";
import { clientLab, codeOf } from "../../test/conformance/client/lab.ts";
import { verifies } from "../../test/verifies.ts";
import { MAX_POLICY_TEXT_BYTES } from "../api/limits.ts";

/** Each pattern can go on in many ways at each name, and each is compared with each. */
function hostile(): string {
  let text = "";
  for (let n = 0; text.length < MAX_POLICY_TEXT_BYTES - 1_000; n++) text += `read  /${"**/a*b*c*d*/".repeat(40)}x${n}\n`;
  return text;
}

describe("a server", () => {
  const lab = clientLab("remote", "native");

  verifies("server/policy-cost", "judges no policy that is written to cost for long, and serves other owners meanwhile", async () => {
    const [ann, sandbox] = [await lab().of("ann"), await lab().make({}, await lab().of("bob"))];
    const check = { isOver: false };
    const asked = codeOf(ann.policies.check(hostile())).finally(() => (check.isOver = true));
    // It is under way when the same owner may not ask again.
    const again = async (): Promise<string | undefined> => await codeOf(ann.policies.check("read **")).catch(() => undefined);
    while ((await again()) !== "limit_reached") expect(check.isOver).toBe(false);
    let served = 0;
    while (!check.isOver) {
      expect((await sandbox.exec({ command: "echo served" })).exitCode).toBe(0);
      if (!check.isOver) served += 1;
    }
    expect(await asked).toBe("policy_too_complex");
    expect(served).toBeGreaterThan(0);
    // The thread that it ended is there anew.
    expect((await ann.policies.check("read **")).counts).toEqual({ errors: 0, warnings: 0 });
    expect(await codeOf(ann.policies.check("#".repeat(MAX_POLICY_TEXT_BYTES + 1)))).toBe("request_invalid");
  });
});
