/* Every tool by name. argv[0] is the tool's name; stdin and stdout are its stream; one line on stderr says why it failed. */
#ifndef CORRAL_TOOLS_H
#define CORRAL_TOOLS_H

int tool_remove(int argc, char **argv);
int tool_locked(int argc, char **argv);
int tool_usage(int argc, char **argv);
int tool_layer(int argc, char **argv);
int tool_machine(int argc, char **argv);
/* Weak while their files are being written: a tool that is not linked in is told as missing. */
int tool_walk(int argc, char **argv) __attribute__((weak));
int tool_mask(int argc, char **argv) __attribute__((weak));
int tool_stage(int argc, char **argv) __attribute__((weak));

#endif
