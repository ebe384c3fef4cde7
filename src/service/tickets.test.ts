// One-time tickets against a clock that the test moves.

import { expect } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { errorCode } from "../api/errors.ts";
import { MAX_TICKETS_PER_OWNER, TICKET_MS } from "../api/limits.ts";
import type { Token } from "../store/tokens.ts";
import { Tickets } from "./tickets.ts";

const ann: Token = { id: "tok1", ownerId: "ann", scope: "user", sandboxId: null, name: "", createdAt: 0, expiresAt: null };
const bob: Token = { ...ann, id: "tok2", ownerId: "bob" };

verifies("server/tickets", "a ticket opens one thing, once, within half a minute, and an owner has a bounded number", () => {
  let now = 0;
  const tickets = new Tickets<string>({ wallMs: () => 0, monotonicMs: () => now });
  const take = (ticket: string): string | undefined => {
    try {
      return tickets.take(ticket).grant;
    } catch (error) {
      return errorCode(error);
    }
  };
  const first = tickets.issue(ann, "first").ticket;
  expect([take(`${first}x`), take(first), take(first)]).toEqual(["ticket_invalid", "first", "ticket_invalid"]);
  const late = tickets.issue(ann, "late").ticket;
  now = TICKET_MS;
  expect(take(late)).toBe("ticket_invalid");
  for (let n = 0; n < MAX_TICKETS_PER_OWNER; n++) tickets.issue(ann, "many");
  expect(() => tickets.issue(ann, "one more")).toThrow(expect.objectContaining({ code: "limit_reached" }) as Error);
  expect(take(tickets.issue(bob, "bob's").ticket)).toBe("bob's");
  now += TICKET_MS;
  expect(take(tickets.issue(ann, "again").ticket)).toBe("again");
});
