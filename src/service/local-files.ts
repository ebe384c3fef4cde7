// Files of one sandbox for the client in this process: each call asks for the sandbox anew, so one that was destroyed, paused or given to
// another meanwhile is told as over HTTP.

import type { FileCalls } from "../api/files.ts";

export function localFiles(open: () => Promise<FileCalls>): FileCalls {
  return {
    read: async (...args) => (await open()).read(...args),
    readText: async (...args) => (await open()).readText(...args),
    open: async (...args) => (await open()).open(...args),
    write: async (...args) => (await open()).write(...args),
    list: async (...args) => (await open()).list(...args),
    stat: async (...args) => (await open()).stat(...args),
    exists: async (...args) => (await open()).exists(...args),
    move: async (...args) => (await open()).move(...args),
    remove: async (...args) => (await open()).remove(...args),
    mkdir: async (...args) => (await open()).mkdir(...args),
    update: async (...args) => (await open()).update(...args),
    link: async (...args) => (await open()).link(...args),
    watch: async function* (...args) {
      yield* (await open()).watch(...args);
    },
    download: async function* (...args) {
      yield* (await open()).download(...args);
    },
    upload: async (...args) => (await open()).upload(...args),
  };
}
