// The tool `walk` (PROTOCOL.md, "Tools"): one pass over a tree, as a stream on stdout. Exits the process on error.
#ifndef CORRAL_WALK_H
#define CORRAL_WALK_H

int tool_walk(int argc, char **argv);

#endif
