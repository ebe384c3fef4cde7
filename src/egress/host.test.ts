// Names and addresses: one reading for each, and none for what others read in two ways.

import fc from "fast-check";
import { domainToASCII } from "node:url";
import { isIP } from "node:net";
import { expect, it } from "vitest";
import { verifies } from "../../test/verifies.ts";
import { address, parseAddress, parseRange, range } from "./address.ts";
import { Host } from "./host.ts";
import { isNeverName, kindOf, ownRanges } from "./never.ts";

const REFUSED = [
  "",
  ".",
  "a..b",
  ".example.com",
  "example.com.",
  "-a.com",
  "a-.com",
  "under_score.com",
  "bücher.example",
  "ＥＸＡＭＰＬＥ.com",
  "KELVIN-\u212a.com",
  "user@example.com",
  "example.com#",
  "example.com?",
  "example.com/",
  "exa\\mple.com",
  "example.com\0.evil.com",
  "example.com\r\n",
  "exa\tmple.com",
  " example.com",
  "example.com ",
  "%65xample.com",
  "a".repeat(64),
  `${"a.".repeat(126)}ab`,
  "x".repeat(300),
  "2130706433",
  "0x7f000001",
  "0x7f.1",
  "0177.0.0.1",
  "127.1",
  "127.0.0.01",
  "1.2.3.4.5",
  "256.1.1.1",
  "a.0x",
  "example.1",
  "[::1]",
  "::ffff:127.0.0.1",
  "fe80::1%eth0",
  "0:0:0:0:0:0:0:1",
  "2001:DB8::1",
  "2001:db8::0:1",
  ":::",
  "1::2::3",
];

verifies("egress/one-reading", "a host that could be read in a second way is no host", () => {
  for (const text of REFUSED) expect(Host.parse(text), JSON.stringify(text)).toBeUndefined();
  expect(Host.parse("API.GitHub.com")?.text).toBe("api.github.com");
  expect(Host.parse("192.0.2.1")?.address?.family).toBe(4);
  expect(Host.parse("2001:db8::1")?.inUrl).toBe("[2001:db8::1]");
});

verifies("egress/one-reading", "what is taken as a name is what a browser reads, and no address", () => {
  const text = fc.oneof(fc.domain(), fc.string({ maxLength: 40 }), fc.stringMatching(/^[a-z0-9x.:-]{1,24}$/));
  fc.assert(
    fc.property(text, (some) => {
      const host = Host.parse(some);
      if (host === undefined) return;
      if (host.address !== undefined) expect(isIP(some)).toBe(host.address.family);
      else expect([domainToASCII(some), isIP(some)]).toEqual([host.text, 0]);
      expect(Host.parse(host.text)?.text).toBe(host.text);
    }),
    { numRuns: 2_000 },
  );
});

it("reads a port and brackets of an authority, and nothing more", () => {
  const read = (text: string): string | undefined => {
    const found = Host.parseAuthority(text, 80);
    return found === undefined ? undefined : `${found.host.text} ${found.port}`;
  };
  expect([read("example.com"), read("example.com:8443"), read("[2001:db8::1]:1")]).toEqual([
    "example.com 80",
    "example.com 8443",
    "2001:db8::1 1",
  ]);
  const wrong = [
    "example.com:",
    "example.com:0",
    "example.com:080",
    "example.com:65536",
    "[example.com]",
    "2001:db8::1",
    "[192.0.2.1]",
    "a:1:2",
    "a@b",
  ];
  for (const text of wrong) expect(read(text), text).toBeUndefined();
});

it("prints every address as node does, but for IPv4 within IPv6", () => {
  const value = fc.oneof(
    fc.bigInt(0n, (1n << 128n) - 1n),
    fc.bigInt(0n, 0xffffn).map((low) => (0x2001n << 112n) | low),
  );
  fc.assert(
    fc.property(value, (some) => {
      const { text } = address(6, some);
      expect(parseAddress(text)?.value).toBe(some);
      const { hostname } = new URL(`http://[${text}]/`);
      expect(hostname).toBe(`[${text}]`);
    }),
    { numRuns: 2_000 },
  );
});

it("takes a range only without bits behind its prefix", () => {
  expect(parseRange("10.1.0.0/16")?.text).toBe("10.1.0.0/16");
  expect(parseRange("2001:db8::/32")?.prefix).toBe(32);
  expect(parseRange("192.0.2.7")?.prefix).toBe(32);
  for (const text of ["10.1.0.1/16", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "10.0.0.0/8/8", "::/129", "x/8"])
    expect(parseRange(text), text).toBeUndefined();
});

verifies("egress/never", "loopback, link-local, metadata, multicast and own addresses are never reached, in no form", () => {
  const own = [range("203.0.113.9"), range("172.17.0.0/16")];
  const never =
    "0.0.0.0 0.1.2.3 127.0.0.1 127.255.0.1 169.254.169.254 169.254.0.1 100.100.100.200 168.63.129.16 192.0.0.192 198.18.0.5 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:1.1.1.1 ::ffff:0:a9fe:a9fe 64:ff9b::a9fe:a9fe 64:ff9b::7f00:1 64:ff9b:1::1 2002:7f00:1::1 2002:a9fe:a9fe:: 2001::1 fd00:ec2::254 fd20:ce::254 fe80::1 febf::1 fec0::1 ff02::1 203.0.113.9 172.17.0.5 64:ff9b::cb00:7109".split(
      " ",
    );
  const kind = (text: string): string => {
    const parsed = parseAddress(text);
    return parsed === undefined ? "no address" : kindOf(parsed, own);
  };
  for (const text of never) expect(kind(text), text).toBe("never");
  for (const text of ["10.0.0.1", "100.64.0.1", "172.31.0.1", "192.168.1.1", "fd12::1", "64:ff9b::a00:1", "2002:a00:1::"])
    expect(kind(text), text).toBe("private");
  for (const text of ["1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::"])
    expect(kind(text), text).toBe("public");
});

verifies("egress/never", "names of metadata services and of the machine are never reached", () => {
  for (const name of ["localhost", "a.localhost", "metadata.google.internal", "metadata", "host.docker.internal"])
    expect(isNeverName(name), name).toBe(true);
  expect(isNeverName("notlocalhost")).toBe(false);
});

it("takes the node's own addresses one by one, and networks of its containers whole", () => {
  const entry = { netmask: "", mac: "", internal: false };
  const found = ownRanges({
    eth0: [{ ...entry, family: "IPv4", address: "192.0.2.10", cidr: "192.0.2.10/24" }],
    docker0: [{ ...entry, family: "IPv4", address: "172.18.0.1", cidr: "172.18.0.1/16" }],
    veth1: [{ ...entry, family: "IPv6", address: "fd01::1", cidr: "fd01::1/64", scopeid: 0 }],
  });
  expect(found.map(({ text }) => text)).toEqual(["192.0.2.10/32", "172.18.0.1/32", "172.18.0.0/16", "fd01::1/128", "fd01::/64"]);
});
