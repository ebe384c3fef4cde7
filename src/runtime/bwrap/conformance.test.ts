import { guestProgram } from "../../../guest/test/build.ts";
import { BWRAP_MISSING } from "../../../test/bwrap.ts";
import { runtimeSuite } from "../../../test/conformance/runtime.ts";
import { filterArch, seccompProgram } from "../seccomp/filter.ts";
import { openBwrapRuntime } from "./runtime.ts";

// The same suite as native: bubblewrap builds the root, everything after it is ours.

runtimeSuite(
  "bwrap",
  ({ runDir }) =>
    openBwrapRuntime({
      guestBinary: guestProgram(),
      runDir,
      mode: "auto",
      seccomp: seccompProgram({ arch: filterArch() ?? "x64", pid1Clone3: true }),
    }),
  BWRAP_MISSING,
);
