// Joins a walk of a template's tree with a mask that shows all of it: no policy is asked, every entry keeps its own mode, nothing belongs to
// the sandbox's user. For a root file system, which is read-only whatever its modes say. It touches no disk and writes no bytes.
// Invariant: what it tells the sink is the walk, entry by entry; set-id bits and devices are in neither.

import type { Attributes, PlanNotes, PlanSink } from "./plan.ts";
import type { WalkEntry, WalkEvent } from "./walk.ts";

const MODE_BITS = 0o777;

export class RootPlanner {
  readonly #sink: PlanSink;
  readonly #open: WalkEntry[] = [];
  #visible = 0;

  constructor(sink: PlanSink) {
    this.#sink = sink;
  }

  take(events: readonly WalkEvent[]): void {
    for (const event of events) {
      if (event.event === "dir") this.#enter(event.entry, event.entries);
      else this.#leave();
    }
  }

  notes(): PlanNotes {
    return { root: { own: false, mode: 0o755 }, visible: this.#visible, hidden: 0, remarks: [] };
  }

  #enter(dir: WalkEntry, entries: readonly WalkEntry[]): void {
    this.#sink.enter(dir.name);
    this.#open.push(dir);
    this.#visible += 1 + entries.length;
    for (const entry of entries) {
      const attributes = { own: false, mode: entry.mode & MODE_BITS };
      if (entry.kind === "link") this.#sink.link(entry.name, { ...attributes, mode: 0o777 }, entry.target, entry);
      else if (entry.kind === "file") {
        const placed = entry.place === undefined ? {} : { place: entry.place };
        this.#sink.file(entry.name, { ...attributes, content: true, ...placed }, entry.size, entry);
      }
    }
  }

  #leave(): void {
    const dir = this.#open.pop();
    if (dir !== undefined) this.#sink.leave(attributesOf(dir), dir);
  }
}

function attributesOf({ mode }: WalkEntry): Attributes {
  return { own: false, mode: mode & MODE_BITS };
}
