// Rows of the client suite: templates, and sandboxes that are made from them.

import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, onTestFinished } from "vitest";
import type { Client } from "../../../src/api/client.ts";
import type { CreateTemplateBody, TemplateResource } from "../../../src/api/templates.ts";
import { smallRoot } from "../../fixtures/small-root.ts";
import { verifies } from "../../verifies.ts";
import { type ClientLab, codeOf, text } from "./lab.ts";

const UNKNOWN = "tpl01234567890123456789";

export function templateRows(lab: () => ClientLab): void {
  async function make(body: Partial<CreateTemplateBody> = {}, client?: Client): Promise<TemplateResource> {
    const by = client ?? (await lab().of("ann"));
    const made = await by.templates.create({ name: "small", ...body });
    onTestFinished(async () => void (await codeOf(by.templates.delete(made.id))));
    return made;
  }

  verifies(
    "client/template-root",
    "a sandbox of a template has its programs and files as root, the sandbox's own user, and nothing of this machine",
    async () => {
      const ann = await lab().of("ann");
      const { id, state, source } = await make();
      expect([state, source]).toEqual(["empty", "empty"]);
      expect(await codeOf(lab().make({ template: id }))).toBe("template_state");
      const ready = await ann.templates.importTar(id, gzipSync(smallRoot()));
      expect(ready).toMatchObject({ state: "ready", source: "tar" });
      expect(await codeOf(ann.templates.importTar(id, smallRoot()))).toBe("template_state");
      const sandbox = await lab().make({ template: id });
      expect((await sandbox.info()).template).toBe(id);
      const script = [
        "id -un; id -u; pwd; cat /etc/release /var/release; ls /usr/bin; ls /dev/disk /tmp/fifo 2>&1",
        "cat /etc/shadow 2>&1; touch /usr/x 2>&1; touch /tmp/t /workspace/w && echo wrote; stat -c %a /usr/bin/setid; cat /etc/passwd /etc/hosts; echo $HOME $SHELL",
      ];
      const lines = text((await sandbox.exec({ command: script.join("; ") })).stdout).split("\n");
      expect(lines).toEqual([
        "user",
        "1000",
        "/workspace",
        "small",
        "small",
        ...["cat", "dash", "env", "id", "ls", "setid", "sh", "stat", "touch"],
        "ls: cannot access '/dev/disk': No such file or directory",
        "ls: cannot access '/tmp/fifo': No such file or directory",
        "cat: /etc/shadow: Permission denied",
        "touch: cannot touch '/usr/x': Read-only file system",
        "wrote",
        "755",
        "root:x:0:0:root:/root:/bin/sh",
        "user:x:1000:1000::/home/user:/bin/sh",
        "daemon:x:1:1::/:/bin/false",
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "127.0.1.1 corral",
        "/home/user /bin/sh",
        "",
      ]);
      expect((await sandbox.exec({ command: ["python3", "-V"] })).exitCode).toBe(127);
      expect(await codeOf(ann.templates.delete(id))).toBe("template_state");
      await sandbox.destroy();
      await ann.templates.delete(id);
      expect(await codeOf(ann.templates.get(id))).toBe("template_not_found");
      expect(await codeOf(lab().make({ template: id }))).toBe("template_not_found");
    },
  );

  verifies(
    "client/template-defaults",
    "a sandbox gets its template's limits, policy and environment unless it asks otherwise",
    async () => {
      const ann = await lab().of("ann");
      const codebase = await ann.codebases.create({ name: "root" });
      onTestFinished(async () => void (await codeOf(ann.codebases.delete(codebase.id))));
      await ann.codebases.importTar(codebase.id, smallRoot({ plain: true }));
      const defaults = { limits: { pids: 50 }, policy: "read-only", env: { WHO: "template", KEEP: "1" } };
      const { id } = await make({ from: { codebase: { id: codebase.id } }, defaults });
      const project = await ann.codebases.create({ name: "project" });
      onTestFinished(async () => void (await codeOf(ann.codebases.delete(project.id))));
      await ann.codebases.put(project.id, ".env", Buffer.from("shown\n"));
      const usual = await lab().make({ template: id, codebase: { id: project.id } });
      const command = "cat .env; echo $WHO $KEEP; touch x 2>&1";
      expect(text((await usual.exec({ command })).stdout)).toMatch(/^shown\ntemplate 1\ntouch: .*(Permission denied|Read-only)/);
      const other = await lab().make({ template: id, codebase: { id: project.id }, policy: "full-access", env: { WHO: "me" } });
      expect(text((await other.exec({ command })).stdout)).toBe("shown\nme 1\n");
      expect(await codeOf(ann.templates.create({ name: "x", defaults: { policy: "/etc/passwd" } }))).toBe("preset_unknown");
    },
  );

  verifies("client/template-apart", "a sandbox does not stand on the code that its template was made of", async () => {
    const { admin, dir } = lab();
    const codebase = await admin.codebases.create({ name: "root" });
    onTestFinished(async () => void (await codeOf(admin.codebases.delete(codebase.id))));
    await admin.codebases.put(codebase.id, ".env", Buffer.from("secret\n"));
    const stored = await make({ from: { codebase: { id: codebase.id } } }, admin);
    expect(await codeOf(admin.create({ template: stored.id, codebase: { id: codebase.id } }))).toBe("request_invalid");
    const place = join(dir, `apart-${Math.random()}`);
    mkdirSync(join(place, "src"), { recursive: true });
    writeFileSync(join(place, ".env"), "secret\n");
    symlinkSync(place, `${place}-link`);
    const copied = await make({ from: { dir: place } }, admin);
    for (const codebaseDir of [place, `${place}-link`, join(place, "src"), dir])
      expect(await codeOf(admin.create({ template: copied.id, codebaseDir }))).toBe("request_invalid");
  });

  verifies(
    "client/template-owners",
    "a template is its owner's unless it is shared, and what is made of the machine takes an admin",
    async () => {
      const { admin, dir } = lab();
      const [ann, bob] = [await lab().of("ann"), await lab().of("bob")];
      const mine = await make();
      for (const id of [mine.id, UNKNOWN, "../x"]) {
        expect(await codeOf(bob.templates.get(id))).toBe("template_not_found");
        expect(await codeOf(bob.templates.importTar(id, new Uint8Array(0)))).toBe("template_not_found");
        expect(await codeOf(lab().make({ template: id }, bob))).toBe("template_not_found");
      }
      for (const from of [{ dir: "/" }, { debootstrap: { suite: "bookworm" } }])
        expect(await codeOf(ann.templates.create({ name: "x", from }))).toBe("forbidden");
      expect(await codeOf(ann.templates.create({ name: "x", shared: true }))).toBe("forbidden");
      const place = join(dir, `root-${Math.random()}`);
      mkdirSync(join(place, "etc"), { recursive: true });
      writeFileSync(join(place, "etc/motd"), "hello");
      const shared = await make({ shared: true, from: { dir: place } }, admin);
      expect(shared).toMatchObject({ state: "ready", files: 1, shared: true });
      expect((await bob.templates.list()).items.map(({ id }) => id)).toEqual([shared.id, "host"]);
      expect(await codeOf(bob.templates.delete(shared.id))).toBe("forbidden");
      await (await lab().make({ template: shared.id }, bob)).destroy();
      expect((await ann.templates.get("host")).state).toBe("ready");
      expect(await codeOf(admin.templates.delete("host"))).toBe("template_not_found");
      expect((await (await lab().make({ template: "host" })).exec({ command: "true" })).exitCode).toBe(0);
      const narrow = await lab().ofSandbox("ann", (await lab().make()).id);
      expect(await codeOf(narrow.templates.list())).toBe("forbidden");
    },
  );

  verifies(
    "client/template-refused",
    "a tar that is hostile or holds no file makes no root, and the template waits for another",
    async () => {
      const ann = await lab().of("ann");
      const { id } = await make();
      for (const tar of [Buffer.from("no tar".repeat(200)), Buffer.alloc(1024)])
        expect(await codeOf(ann.templates.importTar(id, tar))).toBe("codebase_unreadable");
      expect((await ann.templates.get(id)).state).toBe("empty");
      expect((await ann.templates.importTar(id, smallRoot())).state).toBe("ready");
    },
  );

  verifies(
    "client/template-debootstrap",
    "packages are taken by name alone, and a suite that is unknown fails with its reason",
    async () => {
      const { admin } = lab();
      const settled = async (body: CreateTemplateBody): Promise<TemplateResource> => {
        const { id, state } = await make(body, admin);
        expect(state).toBe("building");
        await expect.poll(async () => (await admin.templates.get(id)).state).toBe("failed");
        return await admin.templates.get(id);
      };
      expect((await settled({ name: "x", from: { debootstrap: { suite: "no-such-suite" } } })).reason).toMatch(/no-such-suite|debootstrap/);
      expect((await settled({ name: "x", from: { debootstrap: { suite: "bookworm", include: ["--help"] } } })).reason).toMatch(
        /--help|include/,
      );
      expect((await settled({ name: "x", from: { debootstrap: { suite: "--foreign" } } })).reason).toMatch(/suite/);
    },
  );
}
