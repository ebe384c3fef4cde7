// Class process: what a program may do to other processes, to its own privileges and to the terminal. Data; stories stand in process-stories.ts.

import { all, type CallRow } from "../row.ts";

const EPERM = ["EPERM"] as const;
const CLOSED = ["EACCES", "EPERM", "ENOENT"] as const;

/** Top-level names of /proc that tell of the node; each is covered, replaced or gone. */
const MASKED_PROC = [
  "kcore",
  "keys",
  "key-users",
  "kallsyms",
  "kmsg",
  "timer_list",
  "sched_debug",
  "sysrq-trigger",
  "latency_stats",
  "kpagecount",
  "iomem",
  "ioports",
  "config.gz",
  "interrupts",
  "slabinfo",
  "vmallocinfo",
  "modules",
  "diskstats",
  "cmdline",
  "partitions",
  "swaps",
];

export const PROCESS_ROWS: readonly CallRow[] = [
  {
    id: "process/trace-pid1",
    what: "attach to, read from and take descriptors of PID 1",
    calls: all(EPERM, "attach_pid1", "seize_pid1", "vm_readv", "pidfd_getfd", "traceme"),
    control: { kind: "plain", words: ["traceme"] },
  },
  {
    id: "process/proc-of-pid1",
    what: "the files of PID 1 in /proc",
    calls: all(CLOSED, ...["environ", "maps", "mem", "auxv", "fd/3", "root/etc", "cwd/etc", "exe"].map((name) => `open:/proc/1/${name}`)),
    control: { kind: "plain", words: ["open:/proc/1/environ", "open:/proc/1/maps", "open:/proc/1/exe"] },
  },
  {
    id: "process/proc-masked",
    what: "files of /proc that tell of the node",
    calls: { ...all([...CLOSED, "EMPTY"], ...MASKED_PROC.map((name) => `peek:/proc/${name}`)) },
    control: { kind: "plain", words: ["peek:/proc/iomem", "peek:/proc/cmdline", "peek:/proc/interrupts", "peek:/proc/diskstats"] },
  },
  {
    id: "process/proc-write",
    what: "write to the kernel's settings",
    calls: all(
      ["EACCES", "EROFS", "ENOENT", "EPERM"],
      ...[
        "sys/kernel/core_pattern",
        "sys/kernel/modprobe",
        "sys/kernel/hostname",
        "sys/vm/drop_caches",
        "sys/vm/overcommit_memory",
        "sysrq-trigger",
        "sys/fs/binfmt_misc/register",
      ].map((name) => `write:/proc/${name}`),
    ),
    control: { kind: "plain", words: ["write:/proc/sys/kernel/core_pattern", "write:/proc/sys/vm/overcommit_memory"] },
  },
  {
    id: "process/self-exe",
    what: "overwrite the guest's own program",
    calls: { "write:/proc/self/exe": ["ETXTBSY", "EACCES", "EPERM", "EROFS"], ...all(CLOSED, "write:/proc/1/exe", "rw:/proc/1/exe") },
    control: { kind: "gate", words: ["write:/proc/1/exe", "rw:/proc/1/exe"] },
  },
  {
    id: "process/uid-change",
    what: "become another user or gain a capability",
    calls: all(["EPERM", "EINVAL", "EACCES", "ENOENT"], "setresuid", "setgroups", "capset", "ambient", "uid_map"),
    control: { kind: "plain", words: ["setresuid", "capset"] },
  },
  {
    id: "process/seccomp-undo",
    what: "loosen the filter or no_new_privs from inside",
    calls: { seccomp_undo: EPERM, nnp_clear: ["EINVAL"] },
    control: { kind: "plain", words: ["seccomp_undo"] },
  },
  {
    id: "process/tty-inject",
    what: "type into a terminal",
    calls: all(EPERM, "tiocsti", "tiocsti_high", "tioclinux", "tioccons", "tiocsetd"),
    control: { kind: "plain", words: ["tiocsti"] },
  },
  {
    id: "process/aslr-off",
    what: "switch address randomisation off",
    calls: all(EPERM, "no_aslr", "read_exec"),
    control: { kind: "plain" },
  },
  {
    id: "process/foreign-abi",
    what: "other system call tables and unknown numbers",
    calls: { int80: ["SIGSYS"], x32: ["ENOSYS"], number_999: ["ENOSYS"] },
    control: { kind: "plain", words: ["int80"] },
  },
  {
    id: "resource/priority-raise",
    what: "raise limits and priority",
    calls: { ...all(EPERM, "raise_nofile", "raise_core", "fifo"), nice: ["EACCES", "EPERM"], ioprio: EPERM, oom_adj: ["EACCES", "EPERM"] },
    control: { kind: "plain", words: ["nice", "fifo", "ioprio", "raise_core"] },
  },
];
