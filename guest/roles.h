/* The roles that main.c dispatches to. argv[0] is the role's name. */
#ifndef CORRAL_ROLES_H
#define CORRAL_ROLES_H

int spawner_main(int argc, char **argv);
int init_main(int argc, char **argv);
int launched_main(int argc, char **argv);
int tool_main(int argc, char **argv);
/* Inside, by any command: argv[0] is its path. */
int connect_main(int argc, char **argv);

#endif
