// Limits of a sandbox that a command can be told to have hit. Types alone.

export type LimitHit = "memory" | "pids" | "disk" | "inodes" | "output";
