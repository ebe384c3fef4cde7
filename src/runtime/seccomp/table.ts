// What the kernel answers to each system call of a sandbox: one row per answer and reason, for both architectures.
// Data alone: filter.ts compiles it to BPF, a docker profile can be written from it. Names that only one architecture has are fine.
// Invariant: every name of numbers.ts stands in exactly one row (tested); a number that has no name is answered ENOSYS.

export const ERRNO = { EPERM: 1, ENOSYS: 38, EPROTONOSUPPORT: 93, ESOCKTNOSUPPORT: 94, EAFNOSUPPORT: 97 } as const;

export type Errno = keyof typeof ERRNO;
export type Answer = "allow" | Errno;

/** A look at the low 32 bits of one argument, which is all that the kernel reads of those listed here. */
export interface ArgTest {
  readonly arg: number;
  /** Bits that are looked at; absent = all 32. */
  readonly mask?: number;
  /** `in`: equals one of the values. `not-in`: equals none of them. */
  readonly is: "in" | "not-in";
  readonly values: readonly number[];
}

/** The first clause whose test is met answers; without one `otherwise` does. */
export interface Clause {
  readonly when: readonly ArgTest[];
  readonly answer: Answer;
  readonly why: string;
}

export interface Row {
  readonly calls: string;
  /** Answer when no clause is met. */
  readonly answer: Answer;
  readonly why: string;
  readonly clauses?: readonly Clause[];
  /** Also allowed to who knows the secret words; see filter.ts. */
  readonly secret?: true;
}

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
const NETLINK_ROUTE = 0;
const SOCK_TYPE_MASK = 0xf;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. CLONE_NEWTIME lies in the signal byte and is clone3's alone. */
const CLONE_NEW_ANY = 0x7e020000;
const PR_SET_MM = 35;

/** SAFETY: without it AF_VSOCK reaches the hypervisor, AF_ALG and others reach kernel code that no program of a sandbox needs. */
const SOCKET_CLAUSES: readonly Clause[] = [
  { when: [{ arg: 0, is: "in", values: [AF_UNIX] }], answer: "allow", why: "stays inside the sandbox's own namespace" },
  {
    when: [
      { arg: 0, is: "in", values: [AF_NETLINK] },
      { arg: 2, is: "in", values: [NETLINK_ROUTE] },
    ],
    answer: "allow",
    why: "getifaddrs; writing needs a capability that nobody inside holds over the network namespace",
  },
  {
    when: [{ arg: 0, is: "in", values: [AF_NETLINK] }],
    answer: "EPROTONOSUPPORT",
    why: "netfilter, xfrm, audit, uevent: kernel parsers without a use here",
  },
  {
    when: [{ arg: 0, is: "not-in", values: [AF_INET, AF_INET6] }],
    answer: "EAFNOSUPPORT",
    why: "vsock, alg, packet, xdp and the like: several open without any privilege",
  },
  {
    when: [{ arg: 1, mask: SOCK_TYPE_MASK, is: "in", values: [SOCK_RAW] }],
    answer: "EPERM",
    why: "what a kernel without CAP_NET_RAW answers; here also to uid 0 inside",
  },
  {
    when: [{ arg: 1, mask: SOCK_TYPE_MASK, is: "not-in", values: [SOCK_STREAM, SOCK_DGRAM] }],
    answer: "ESOCKTNOSUPPORT",
    why: "SOCK_SEQPACKET and SOCK_DCCP with protocol 0 would pick sctp and dccp where the kernel has them",
  },
  {
    when: [{ arg: 2, is: "not-in", values: [0, IPPROTO_TCP, IPPROTO_UDP] }],
    answer: "EPROTONOSUPPORT",
    why: "icmp, sctp, mptcp, udplite, dccp, smc: kernel code without a use here",
  },
];

export const ROWS: readonly Row[] = [
  // Argument rules.
  {
    calls: "clone",
    answer: "allow",
    why: "threads and processes",
    clauses: [
      {
        // SAFETY: a nested user namespace hands out every capability over fresh kernel objects: most local root exploits begin there.
        when: [{ arg: 0, mask: CLONE_NEW_ANY, is: "not-in", values: [0] }],
        answer: "EPERM",
        why: "no new namespaces",
      },
    ],
  },
  {
    // SAFETY: its flags lie in memory where a filter cannot read them; libc falls back to clone, whose flags can be checked.
    calls: "clone3",
    answer: "ENOSYS",
    why: "flags cannot be read by a filter",
    secret: true,
  },
  { calls: "socket socketpair", answer: "allow", why: "tcp and udp over IPv4 and IPv6", clauses: SOCKET_CLAUSES },
  {
    calls: "ioctl",
    answer: "allow",
    why: "device and file controls; devices are the six harmless ones",
    clauses: [
      {
        // SAFETY: TIOCSTI types into a terminal that outlives the sandbox (CVE-2017-5226); the kernel reads 32 bits of the command, so do we.
        when: [{ arg: 1, is: "in", values: [0x5412, 0x541c, 0x541d, 0x5423] }],
        answer: "EPERM",
        why: "TIOCSTI, TIOCLINUX, TIOCCONS type into or take over a terminal; TIOCSETD loads line disciplines",
      },
    ],
  },
  {
    calls: "personality",
    answer: "EPERM",
    why: "ADDR_NO_RANDOMIZE and READ_IMPLIES_EXEC weaken what runs next",
    clauses: [
      {
        when: [{ arg: 0, is: "in", values: [0, 8, 0x20000, 0x20008, 0xffffffff] }],
        answer: "allow",
        why: "PER_LINUX, PER_LINUX32, UNAME26, and the query",
      },
    ],
  },
  {
    calls: "prctl",
    answer: "allow",
    why: "names, death signals, own restrictions",
    clauses: [
      {
        // SAFETY: it rewrites where the kernel thinks a process's arguments and program lie, which outside observers then believe.
        when: [{ arg: 0, is: "in", values: [PR_SET_MM] }],
        answer: "EPERM",
        why: "forges /proc/PID/{exe,cmdline} for readers outside",
      },
    ],
  },

  // Refused: privileges. SAFETY for all of them: capabilities already refuse most; these rows hold when a capability is held after all.
  {
    calls: `mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick open_tree open_tree_attr move_mount mount_setattr`,
    answer: "EPERM",
    why: "the mount table is the view: changing it uncovers what was hidden",
  },
  { calls: "unshare setns", answer: "EPERM", why: "namespaces are made once, before anything hostile runs" },
  {
    calls: "ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp",
    answer: "EPERM",
    why: "reaching into another process: PID 1 shares the uid on machines that map one id",
  },
  { calls: "bpf perf_event_open", answer: "EPERM", why: "programs inside the kernel, and a view of what runs beside us" },
  {
    calls: "name_to_handle_at open_by_handle_at fanotify_init fanotify_mark",
    answer: "EPERM",
    why: "file handles reach below the view's mounts; fanotify watches whole filesystems",
  },
  { calls: "init_module finit_module delete_module kexec_load kexec_file_load reboot", answer: "EPERM", why: "the kernel itself" },
  { calls: "swapon swapoff acct syslog quotactl quotactl_fd vhangup", answer: "EPERM", why: "the node's administration" },
  {
    calls: "settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname",
    answer: "EPERM",
    why: "clocks are the node's; the name is set once",
  },
  { calls: "iopl ioperm", answer: "EPERM", why: "ports of the hardware" },

  // Missing: features that programs can do without; ENOSYS makes them take the older way.
  { calls: "io_uring_setup io_uring_enter io_uring_register", answer: "ENOSYS", why: "runs calls that this filter never sees" },
  { calls: "keyctl add_key request_key", answer: "ENOSYS", why: "keyrings are not cut by namespaces alone" },
  { calls: "userfaultfd memfd_secret modify_ldt", answer: "ENOSYS", why: "building blocks of kernel exploits" },
  {
    calls: "mbind get_mempolicy set_mempolicy set_mempolicy_home_node move_pages migrate_pages",
    answer: "ENOSYS",
    why: "placement in memory is the node's; with none of them libnuma says that there is no NUMA",
  },
  { calls: "cachestat", answer: "ENOSYS", why: "tells which base files other sandboxes read" },
  { calls: "statmount listmount listns", answer: "ENOSYS", why: "mount and namespace tables beyond one's own" },
  { calls: "process_mrelease", answer: "ENOSYS", why: "for the node's memory killer" },
  { calls: "lsm_get_self_attr lsm_set_self_attr lsm_list_modules", answer: "ENOSYS", why: "security modules are the node's" },
  { calls: "file_getattr file_setattr", answer: "ENOSYS", why: "new and unproved; the ioctl of the same meaning remains" },
  { calls: "rseq_slice_yield", answer: "ENOSYS", why: "newer than this table's kernels" },
  {
    calls: `lookup_dcookie nfsservctl uselib sysfs ustat _sysctl create_module get_kernel_syms query_module getpmsg putpmsg
      afs_syscall tuxcall security epoll_ctl_old epoll_wait_old vserver set_thread_area get_thread_area`,
    answer: "ENOSYS",
    why: "dead: no kernel of today does anything useful with them",
  },

  // Allowed: what ordinary programs use.
  {
    calls: `read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 open openat openat2 creat close close_range
      lseek dup dup2 dup3 fcntl flock pipe pipe2 sendfile splice tee vmsplice copy_file_range readahead fadvise64 fallocate
      truncate ftruncate fsync fdatasync sync syncfs sync_file_range`,
    answer: "allow",
    why: "files and descriptors",
  },
  {
    calls: `stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat getdents getdents64
      getcwd chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir link linkat unlink unlinkat symlink symlinkat
      mknod mknodat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat umask utime utimes utimensat futimesat`,
    answer: "allow",
    why: "names; the view's owners and modes decide, devices are refused by the user namespace",
  },
  {
    calls: `setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr
      fremovexattr setxattrat getxattrat listxattrat removexattrat`,
    answer: "allow",
    why: "user.* alone works unprivileged; user.overlay.* is stripped before a delta becomes a layer",
  },
  { calls: "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch", answer: "allow", why: "watchers of build tools" },
  {
    calls: `poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2
      signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime`,
    answer: "allow",
    why: "waiting",
  },
  {
    calls: "io_setup io_destroy io_getevents io_pgetevents io_submit io_cancel",
    answer: "allow",
    why: "the old asynchronous I/O of databases",
  },
  {
    calls: `mmap munmap mprotect mremap msync mincore madvise brk mlock mlock2 mlockall munlock munlockall remap_file_pages
      pkey_mprotect pkey_alloc pkey_free membarrier map_shadow_stack mseal memfd_create`,
    answer: "allow",
    why: "own memory",
  },
  {
    calls: "shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl",
    answer: "allow",
    why: "System V objects of the own ipc namespace",
  },
  {
    calls: "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
    answer: "allow",
    why: "POSIX queues of the own ipc namespace",
  },
  {
    calls: `connect accept accept4 bind listen shutdown sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg getsockname getpeername
      setsockopt getsockopt`,
    answer: "allow",
    why: "sockets that the socket row let through",
  },
  {
    calls: `fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill pidfd_open pidfd_send_signal getpid getppid
      gettid getpgid getpgrp setpgid getsid setsid set_tid_address set_robust_list get_robust_list arch_prctl rseq restart_syscall`,
    answer: "allow",
    why: "processes; signals and pidfds reach the own pid namespace alone",
  },
  { calls: "futex futex_waitv futex_wake futex_wait futex_requeue", answer: "allow", why: "locks" },
  {
    calls: `rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo rt_sigsuspend
      sigaltstack pause`,
    answer: "allow",
    why: "signals",
  },
  {
    calls: `nanosleep clock_gettime clock_getres clock_nanosleep gettimeofday time times getitimer setitimer alarm
      timer_create timer_settime timer_gettime timer_getoverrun timer_delete`,
    answer: "allow",
    why: "time, read only",
  },
  {
    calls: `sched_yield sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_get_priority_max
      sched_get_priority_min sched_rr_get_interval sched_setaffinity sched_getaffinity sched_setattr sched_getattr
      getpriority setpriority ioprio_set ioprio_get getcpu`,
    answer: "allow",
    why: "own priority; rlimits and capabilities refuse raising it",
  },
  {
    calls: `getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid
      setgroups setfsuid setfsgid capget capset`,
    answer: "allow",
    why: "ids; only mapped ones exist and no capability is held (uid 0 inside: its own namespace)",
  },
  {
    calls: "getrlimit setrlimit prlimit64 getrusage sysinfo uname getrandom",
    answer: "allow",
    why: "limits, usage, identity; hard limits only sink",
  },
  {
    calls: "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    answer: "allow",
    why: "a program may restrict itself further (browsers do); it can loosen nothing",
  },
  {
    calls: "uretprobe uprobe",
    answer: "allow",
    why: "the kernel's own trampolines: refusing them kills programs that the node traces; called from elsewhere they raise SIGILL",
  },
];
