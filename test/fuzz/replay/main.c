/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzzing target without a fuzzer: runs each file that it is given, once, and
 * the empty input.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *
read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    long len;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (len = ftell(file)) < 0) {
        perror(path);
        exit(1);
    }
    rewind(file);
    data = malloc((size_t)len + 1);
    *size = data != NULL ? fread(data, 1, (size_t)len, file) : 0;
    fclose(file);
    return data;
}

int
main(int argc, char **argv)
{
    uint8_t *data;
    size_t size;

    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        fprintf(stderr, "%s\n", argv[i]);
        data = read_file(argv[i], &size);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    printf("%d\n", argc - 1);
    return 0;
}
