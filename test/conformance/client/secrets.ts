// Rows of the client suite: secrets, which go in and never come out.

import { expect } from "vitest";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf } from "./lab.ts";

const VALUE = "canary-of-a-value-1";
const OTHER = "canary-of-a-value-2";

export function secretRows(lab: () => ClientLab): void {
  verifies("client/secret-life", "a secret is set once per name, told without its value, given another one, and deleted", async () => {
    const ann = await lab().of("ann");
    const options = { idempotencyKey: "a secret" };
    const made = await ann.secrets.create({ name: "TOKEN", value: VALUE }, options);
    expect(Object.keys(made).sort()).toEqual(["createdAt", "id", "name", "ownerId", "updatedAt"]);
    expect(made).toMatchObject({ name: "TOKEN", ownerId: "ann" });
    expect((await ann.secrets.create({ name: "TOKEN", value: VALUE }, options)).id).toBe(made.id);
    expect(await codeOf(ann.secrets.create({ name: "TOKEN", value: OTHER }, options))).toBe("idempotency_conflict");
    expect(await codeOf(ann.secrets.create({ name: "TOKEN", value: OTHER }))).toBe("secret_state");
    for (const body of [
      { name: "1A", value: VALUE },
      { name: "A-B", value: VALUE },
      { name: "A", value: "short" },
      { name: "A", value: `${VALUE} ` },
      { name: "A", value: `${VALUE}\r\nx: y` },
    ])
      expect(await codeOf(ann.secrets.create(body)), body.name).toBe("request_invalid");
    expect((await ann.secrets.rotate(made.id, OTHER)).id).toBe(made.id);
    expect(await codeOf(ann.secrets.rotate(made.id, "short"))).toBe("request_invalid");
    await ann.secrets.create({ name: "SECOND", value: VALUE });
    const page = await ann.secrets.list({ limit: 1 });
    const rest = await ann.secrets.list({ limit: 1, ...(page.next === undefined ? {} : { cursor: page.next }) });
    expect([...page.items, ...rest.items].map(({ name }) => name).sort()).toEqual(["SECOND", "TOKEN"]);
    for (const { id } of [...page.items, ...rest.items]) await ann.secrets.delete(id);
    expect((await ann.secrets.list()).items).toEqual([]);
    expect(await codeOf(ann.secrets.delete(made.id))).toBe("secret_not_found");
    const events = (await ann.events.list({ sandboxId: made.id })).items;
    expect(events.map(({ kind }) => kind)).toEqual(["secret-create", "secret-rotate", "secret-delete"]);
    const told = JSON.stringify([events, await ann.audit.list(), await lab().admin.audit.list()]);
    expect(told).not.toContain("canary-of");
  });

  verifies("client/secret-owners", "a secret of another owner is as one that never was; a key for one sandbox reaches none", async () => {
    const [ann, bob] = [await lab().of("ann"), await lab().of("bob")];
    const { id } = await ann.secrets.create({ name: "MINE", value: VALUE });
    expect((await bob.secrets.list()).items).toEqual([]);
    expect(await codeOf(bob.secrets.rotate(id, OTHER))).toBe("secret_not_found");
    expect(await codeOf(bob.secrets.delete(id))).toBe("secret_not_found");
    await bob.secrets.create({ name: "MINE", value: OTHER });
    const narrow = await lab().ofSandbox("ann", (await lab().make()).id);
    expect(await codeOf(narrow.secrets.list())).toBe("forbidden");
    expect(await codeOf(narrow.secrets.delete(id))).toBe("forbidden");
    expect(await codeOf(narrow.secrets.create({ name: "OF_ONE", value: VALUE }))).toBe("forbidden");
    await ann.secrets.delete(id);
  });
}
