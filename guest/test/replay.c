/* Runs a harness over files, for machines without libFuzzer: replay FILE … */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file) return perror(argv[i]), 1;
        uint8_t *data = malloc(4u << 20);
        size_t size = data ? fread(data, 1, 4u << 20, file) : 0;
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    printf("%d\n", argc - 1);
    return 0;
}
