import { describe, expect, it } from "vitest";
import type { ContainerSpec } from "../runtime.ts";
import { createRecords } from "./create-records.ts";

const IDS = { base: 5000, count: 65_536, uid: 1000, gid: 1001, trusted: true };

function spec(changes: Partial<ContainerSpec> = {}): ContainerSpec {
  return {
    id: "sb1",
    mounts: [{ kind: "bind", target: "/", source: "/srv", readOnly: true, exec: false }],
    hostname: "h",
    limits: { memoryBytes: 1024, cpus: 0.5, pids: 3, openFiles: 64 },
    env: { A: "1=2" },
    journalFile: "/j",
    ...changes,
  };
}

describe("createRecords", () => {
  it("names every containment fact once", () => {
    expect(createRecords(spec(), IDS, "/s")).toEqual([
      ["id", "sb1"],
      ["socket", "/s"],
      ["journal", "/j"],
      ["hostname", "h"],
      ["idmap", "0", "5000", "65536"],
      ["user", "1000", "1001"],
      ["root", "0"],
      ["memory", "1024"],
      ["pids", "3"],
      ["nofile", "64"],
      ["cpu", "50000", "100000"],
      ["env", "A=1=2"],
      ["bind", "/", "/srv", "1", "0"],
    ]);
  });

  it("keeps the order of mounts, and of the layers of one", () => {
    const records = createRecords(
      spec({
        root: true,
        weaken: [12],
        limits: { memoryBytes: 1, cpus: null, pids: 1, openFiles: 16 },
        env: {},
        mounts: [
          {
            kind: "overlay",
            target: "/",
            lowers: ["/a", "/b"],
            dataOnly: ["/c"],
            upper: "/u",
            work: "/w",
            idmap: { fromUid: 1, fromGid: 2, toUid: 3, toGid: 4 },
            options: ["metacopy=on"],
            exec: true,
          },
          { kind: "proc", target: "/proc", hide: ["keys"], readOnly: ["sys"], files: { uptime: "1 1\n" } },
          { kind: "devpts", target: "/dev/pts" },
          { kind: "tmpfs", target: "/tmp", sizeBytes: 5, inodes: 6, mode: 0o1777, own: true },
          { kind: "file", target: "/etc/x", mode: 0o444, content: "y" },
        ],
      }),
      IDS,
      "/s",
    );
    expect(records.slice(records.findIndex(([verb]) => verb === "overlay"))).toEqual([
      ["overlay", "/", "1"],
      ["lower", "/a"],
      ["lower", "/b"],
      ["data", "/c"],
      ["upper", "/u"],
      ["work", "/w"],
      ["opt", "metacopy=on"],
      ["idmap-lower", "1", "2", "3", "4"],
      ["end"],
      ["proc", "/proc"],
      ["procro", "sys"],
      ["prochide", "keys"],
      ["procfile", "uptime", "1 1\n"],
      ["devpts", "/dev/pts"],
      ["tmpfs", "/tmp", "5", "6", "1023", "1"],
      ["file", "/etc/x", "292", "y"],
      ["weaken", "12"],
    ]);
    expect(records).toContainEqual(["root", "1"]);
    expect(records.some(([verb]) => verb === "cpu")).toBe(false);
  });

  it("never asks for less processor time than the kernel can give", () => {
    expect(createRecords(spec({ limits: { memoryBytes: 1, cpus: 0.001, pids: 1, openFiles: 16 } }), IDS, "/s")).toContainEqual([
      "cpu",
      "1000",
      "100000",
    ]);
  });

  it("refuses a variable whose name would cut the record differently", () => {
    for (const name of ["", "A=B"])
      expect(() => createRecords(spec({ env: { [name]: "x" } }), IDS, "/s")).toThrow(expect.objectContaining({ code: "request_invalid" }));
  });
});
