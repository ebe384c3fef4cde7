// The made /etc of the host template: what is written anew and what is copied from the host, row by row.
// Never shadow, keys, machine-id, mail or network secrets. Names a copy of the host's settings, not a view of them.
// Invariant: only what every user of the host can read is copied; a file that is not world-readable stays out whatever the rows say.

export interface EtcRow {
  /** Below the host's /etc: files, links, or whole trees. */
  readonly names: readonly string[];
  readonly why: string;
  /** Entries of a tree that stay out, by name. */
  readonly except?: readonly string[];
}

export const ETC_ROWS: readonly EtcRow[] = [
  {
    names: ["ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld-musl-x86_64.path", "ld-musl-aarch64.path"],
    why: "programs find their libraries",
  },
  {
    names: [
      "ssl",
      "ca-certificates.conf",
      "ca-certificates",
      "pki/tls/certs",
      "pki/tls/cert.pem",
      "pki/tls/openssl.cnf",
      "pki/ca-trust/extracted",
      "pki/java",
      "crypto-policies",
    ],
    except: ["private"],
    why: "certificates of the public",
  },
  { names: ["alternatives"], why: "links of /usr/bin lead through it" },
  { names: ["localtime", "timezone", "locale.alias", "locale.conf", "default/locale"], why: "time and language" },
  { names: ["services", "protocols", "rpc", "networks", "host.conf", "gai.conf", "ethertypes"], why: "names of ports and protocols" },
  {
    names: ["os-release", "debian_version", "lsb-release", "redhat-release", "alpine-release", "shells", "terminfo", "inputrc"],
    why: "programs ask what they run on",
  },
  {
    names: [
      "mime.types",
      "magic",
      "magic.mime",
      "xml",
      "sgml",
      "fonts",
      "OpenCL",
      "vulkan",
      "glvnd",
      "ImageMagick-6",
      "ImageMagick-7",
      "matplotlibrc",
    ],
    why: "tables of libraries",
  },
  {
    names: ["python3", "perl", "php", "ruby", "R", "ghc", "dotnet", "maven/m2.conf", "maven/logging", "ant", "groff", "texmf", "lynx"],
    why: "interpreters that keep part of themselves here",
  },
];

/** Interpreters whose folder carries a version: python3.11, java-17-openjdk. */
export const ETC_PATTERNS: readonly RegExp[] = [/^python3\.\d+$/, /^java-\d+-openjdk$/, /^\.java$/];

/** Never copied, at any depth. SAFETY: a second net under the rows, for trees whose content a distribution or an admin may change. */
export const ETC_NEVER: readonly RegExp[] = [
  /shadow/,
  /^private$/,
  /\.key$/i,
  /passw(or)?d/i,
  /secret/i,
  /credential/i,
  /token/i,
  /^\.?netrc$/,
  /\.p12$/i,
  /\.jks$/i,
];

/** A file that is larger is no setting. */
export const MAX_ETC_BYTES = 16 * 1024 * 1024;

export interface EtcUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
  readonly hostname: string;
}

/** Files written anew: place below /etc to content. */
export function madeEtc(user: EtcUser): ReadonlyMap<string, string> {
  return new Map([
    [
      "passwd",
      `root:x:0:0:root:/root:${user.shell}\n${user.name}:x:${user.uid}:${user.gid}::${user.home}:${user.shell}\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n`,
    ],
    ["group", `root:x:0:\ntty:x:5:\n${user.name}:x:${user.gid}:\nnogroup:x:65534:\n`],
    [
      "nsswitch.conf",
      "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nservices: files\nprotocols: files\nrpc: files\nethers: files\n",
    ],
    ["hosts", `127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 ${user.hostname}\n`],
    ["hostname", `${user.hostname}\n`],
    // Empty: there is no resolver, and a look-up fails at once instead of waiting for one.
    ["resolv.conf", ""],
    // Laid over by each sandbox's own.
    ["machine-id", ""],
    ["profile", 'export PS1="\\u@\\h:\\w\\$ "\n'],
    // The view's directories may belong to another id than the command's; git would refuse to work in them.
    // A view changes the ctime and inode that git's index of the host remembers; without these git reads every file anew once.
    ["gitconfig", "[safe]\n\tdirectory = *\n[core]\n\tcheckStat = minimal\n\ttrustctime = false\n"],
    ["environment", ""],
  ]);
}
