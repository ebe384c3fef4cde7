// Rows of the client suite: ports of a sandbox. What comes by a port is test/e2e/ports.test.ts's: that takes HTTP.

import { expect } from "vitest";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf } from "./lab.ts";

export function portRows(lab: () => ClientLab): void {
  verifies("client/port-ticket", "a ticket for a port is given to whoever reaches the sandbox, and is told once", async () => {
    const sandbox = await lab().make({ publicPorts: [8080] });
    expect(await sandbox.info()).toMatchObject({ publicPorts: [8080] });
    const one = await sandbox.portTicket(3000);
    const two = await sandbox.portTicket(3000);
    expect(one).toMatchObject({ ticket: expect.stringMatching(/^ct[a-z0-9]{40}$/) as string, expiresInMs: 30_000 });
    expect(one.ticket).not.toBe(two.ticket);
    expect(await codeOf(sandbox.portTicket(0))).toBe("request_invalid");
    const bob = await lab().of("bob");
    expect(await codeOf(bob.sandbox(sandbox.id).portTicket(3000))).toBe("sandbox_not_found");
  });
}
