// Exit codes of the command line, one name each. `run` ends with the program's own code; these are ours.

/** Done as asked. */
export const EXIT_OK = 0;
/** The command failed. */
export const EXIT_FAILED = 1;
/** The command line is wrong. */
export const EXIT_USAGE = 2;
/** `run`: Corral itself failed, a refused or conflicting commit included. */
export const EXIT_CORRAL = 125;
/** Added to a signal's number. */
export const EXIT_SIGNAL = 128;
