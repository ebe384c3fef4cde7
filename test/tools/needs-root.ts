// Test files that an ordinary user cannot run, and why. The runner leaves them out for such a user, prints each as a skip and counts it.
// Invariant: the way of a user through view, delta and commit is still walked, by test/e2e.

const MOUNTS = "its lab mounts layers and maps ids as root";

const NEEDS_ROOT: Readonly<Record<string, string>> = {
  "guest/test/exec.test.ts": MOUNTS,
  "guest/test/init.test.ts": MOUNTS,
  "guest/test/tree.test.ts": MOUNTS,
  "src/view/kernel-codebases.test.ts": MOUNTS,
  "src/view/kernel.test.ts": MOUNTS,
  "src/view/masks.test.ts": MOUNTS,
  "src/view/walk.test.ts": "it makes devices and mounts",
  "test/conformance/view-native.test.ts": MOUNTS,
  "test/security/security.test.ts": "its controls run unsandboxed as root",
};

/** Path to reason of what this user leaves out; empty as root. */
export function leftOut(uid: number | undefined): ReadonlyMap<string, string> {
  return new Map(uid === 0 ? [] : Object.entries(NEEDS_ROOT));
}
