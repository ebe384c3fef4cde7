/* Checks of single values, shared by the parsers of the spawner's requests. */
#ifndef CORRAL_PARSE_WORDS_H
#define CORRAL_PARSE_WORDS_H

#include <stdint.h>

#include "parse.h"

/* True (1) for what is in order. */
int path_ok(const char *text);
int relative_ok(const char *text);
int id_ok(const char *text);
int hostname_ok(const char *text);
int overlay_option_ok(const char *text);

/* 0, or anything else for what is malformed or out of range. */
int bad_number(const char *text, uint64_t most, uint64_t *value);
int number32(const char *text, uint32_t most, uint32_t *value);
int flag_parse(const char *text, int *value);
int one_path(const char **slot, const char *text);

#endif
