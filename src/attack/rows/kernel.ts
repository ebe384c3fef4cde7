// Class kernel: calls that reach the kernel's privileged or newest parts. Data alone.
// Results are errno names; a call that the kernel of this machine was built without answers ENOSYS outside, which still differs from EPERM inside.

import { all, type CallRow } from "../row.ts";

const EPERM = ["EPERM"] as const;
const ENOSYS = ["ENOSYS"] as const;
const NO_FAMILY = ["EAFNOSUPPORT"] as const;
const NO_PROTOCOL = ["EPERM", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"] as const;
const GONE = ["ENOENT", "ENXIO", "EACCES"] as const;

export const KERNEL_ROWS: readonly CallRow[] = [
  {
    id: "kernel/mount-any",
    what: "mounts, unmounts and changes of root",
    calls: all(EPERM, "mount", "umount", "remount", "bind", "fsopen", "open_tree", "move_mount", "mount_setattr", "pivot_root", "chroot"),
    control: { kind: "plain" },
  },
  {
    id: "kernel/userns-nest",
    what: "new namespaces by unshare, clone, clone3 and setns",
    calls: { ...all(EPERM, "unshare_user", "unshare_mount", "unshare_net", "clone_user", "clone_high", "setns"), clone3: ENOSYS },
    control: { kind: "plain" },
  },
  {
    id: "kernel/overlay-mount",
    what: "a mount inside a user namespace of its own, and an overlay context",
    calls: all(EPERM, "userns_mount", "fsopen_overlay"),
    control: { kind: "plain" },
  },
  {
    id: "kernel/handle-at",
    what: "file handles and fanotify",
    calls: all(EPERM, "name_to_handle", "open_by_handle", "fanotify"),
    control: { kind: "plain" },
  },
  {
    id: "kernel/io-uring",
    what: "io_uring",
    calls: all(ENOSYS, "uring_setup", "uring_enter", "uring_register"),
    control: { kind: "plain" },
  },
  { id: "kernel/keyring", what: "kernel keyrings", calls: all(ENOSYS, "add_key", "request_key", "keyctl"), control: { kind: "plain" } },
  {
    id: "kernel/bpf-perf",
    what: "bpf, perf events, userfaultfd",
    calls: { ...all(EPERM, "bpf", "perf"), userfaultfd: ENOSYS, "open:/dev/userfaultfd": GONE },
    control: { kind: "plain", words: ["bpf", "perf", "userfaultfd"] },
  },
  {
    id: "kernel/modules-power",
    what: "modules, kexec, reboot, swap, accounting, quota, log, clock, host name",
    calls: all(
      EPERM,
      "init_module",
      "finit_module",
      "delete_module",
      "kexec",
      "reboot",
      "swapon",
      "acct",
      "quotactl",
      "syslog",
      "clock_settime",
      "settimeofday",
      "adjtimex",
      "sethostname",
    ),
    control: { kind: "gate" },
  },
  {
    id: "kernel/cpu-tables",
    what: "local descriptor tables and I/O ports",
    calls: { modify_ldt: ENOSYS, ...all(EPERM, "iopl", "ioperm") },
    control: { kind: "gate" },
  },
  {
    id: "kernel/numa-cache",
    what: "page placement, cache figures, secret memory, mount listing",
    calls: all(ENOSYS, "move_pages", "migrate_pages", "mbind", "cachestat", "memfd_secret", "statmount", "listmount"),
    control: { kind: "plain" },
  },
  {
    id: "kernel/device-make",
    what: "device nodes",
    calls: { ...all(EPERM, "mknod_null", "mknod_loop"), mknod_whiteout: ["OK", "EPERM"] },
    control: { kind: "plain", words: ["mknod_null", "mknod_loop"] },
  },
  {
    id: "kernel/device-open",
    what: "device files of the node",
    calls: all(
      GONE,
      ...[
        "mem",
        "kmsg",
        "port",
        "fuse",
        "kvm",
        "vda",
        "sda",
        "loop-control",
        "net/tun",
        "vsock",
        "vhost-net",
        "vhost-vsock",
        "console",
        "tty0",
        "autofs",
      ].map((name) => `open:/dev/${name}`),
    ),
    control: { kind: "plain", words: ["open:/dev/kmsg"] },
  },
  {
    id: "kernel/sys-tree",
    what: "sysfs and the file systems below it",
    calls: all(
      ["ENOENT"],
      "open:/sys",
      "open:/sys/kernel/debug",
      "open:/sys/kernel/tracing",
      "open:/sys/firmware",
      "open:/sys/kernel/security",
      "open:/sys/fs/bpf",
      "open:/sys/fs/cgroup",
    ),
    control: { kind: "plain", words: ["open:/sys", "open:/sys/fs/cgroup"] },
  },
  {
    id: "kernel/socket-family",
    what: "socket families beyond unix, inet, inet6 and route netlink",
    calls: all(
      NO_FAMILY,
      ...[40, 38, 17, 44, 15, 31, 29, 30, 21, 43, 41, 9, 39, 24, 42].map(
        (family) => `socket:${family}:${family === 38 ? 5 : family === 17 ? 3 : 1}:0`,
      ),
    ),
    control: { kind: "plain", words: ["socket:40:1:0", "socket:17:3:0"] },
  },
  {
    id: "kernel/socket-protocol",
    what: "raw and rare protocols, netlink beyond routes",
    calls: all(
      NO_PROTOCOL,
      "socket:2:3:1",
      "socket:2:1:132",
      "socket:2:1:262",
      "socket:2:2:136",
      "socket:2:6:33",
      "socket:16:3:12",
      "socket:16:3:6",
      "socket:16:3:9",
      "socket:16:3:15",
    ),
    control: { kind: "plain", words: ["socket:2:3:1", "socket:16:3:12", "socket:16:3:15"] },
  },
  {
    id: "kernel/route-write",
    what: "addresses and links by route netlink",
    calls: all(EPERM, "add_address", "link_up"),
    control: { kind: "plain" },
  },
  {
    id: "kernel/landlock-own",
    what: "a program may restrict itself further",
    calls: all(["OK"], "landlock", "seccomp_own"),
    control: { kind: "accept", words: [] },
  },
];
