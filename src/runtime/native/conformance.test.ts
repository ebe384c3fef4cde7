import { guestProgram } from "../../../guest/test/build.ts";
import { runtimeSuite } from "../../../test/conformance/runtime.ts";
import { filterArch, seccompProgram } from "../seccomp/filter.ts";
import { openNativeRuntime } from "./runtime.ts";

runtimeSuite("native", ({ runDir }) =>
  openNativeRuntime({
    guestBinary: guestProgram(),
    runDir,
    mode: "auto",
    seccomp: seccompProgram({ arch: filterArch() ?? "x64", pid1Clone3: true }),
  }),
);
