/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migrations that this program knows: embedded in it, or read from a
 * folder. Knows nothing of any database.
 */
#include "ops/migration_set.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Made by tools/embed from migrations/; ends with a NULL name. */
struct embedded {
    const char *name, *text;
};
extern const struct embedded migrations[];

enum { NUMBER_LEN = 4, FILE_MAX = 16 << 20 };

static bool
ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len > end_len && strcmp(text + len - end_len, end) == 0;
}

static int
name_of(char *name, size_t size, const char *file, struct saga_error *err)
{
    size_t len = strlen(file) - strlen(ends_with(file, ".up.sql") ? ".up.sql" : ".down.sql");
    bool right = ends_with(file, ".up.sql") || ends_with(file, ".down.sql");

    for (size_t i = 0; right && i < NUMBER_LEN; i++)
        right = isdigit((unsigned char)file[i]) != 0;
    if (!right || len <= NUMBER_LEN + 1 || len >= size || file[NUMBER_LEN] != '_')
        return error_set(err, SAGA_EINVAL,
                         "%s is not called NNNN_name.up.sql or NNNN_name.down.sql", file);
    memcpy(name, file, len);
    name[len] = '\0';
    return 0;
}

static struct migration *
find(struct migration_set *set, int32_t number)
{
    for (size_t i = 0; i < set->n; i++)
        if (set->items[i].number == number)
            return &set->items[i];
    return NULL;
}

static struct migration *
append(struct migration_set *set)
{
    struct migration *items = realloc(set->items, (set->n + 1) * sizeof *items);

    if (items == NULL)
        return NULL;
    set->items = items;
    items[set->n] = (struct migration){ 0 };
    return &items[set->n++];
}

int
migration_set_add(struct migration_set *set, const char *file, const char *text,
                  struct saga_error *err)
{
    char name[sizeof set->items->name];
    struct migration *migration;
    char **slot;
    int rc = name_of(name, sizeof name, file, err);

    if (rc != 0)
        return rc;
    migration = find(set, atoi(name));
    if (migration != NULL && strcmp(migration->name, name) != 0)
        return error_set(err, SAGA_EINVAL, "two migrations have one number: %s and %s",
                         migration->name, name);
    if (migration == NULL) {
        migration = append(set);
        if (migration == NULL)
            return error_set(err, SAGA_ENOMEM, "out of memory");
        migration->number = atoi(name);
        strcpy(migration->name, name);
    }
    slot = ends_with(file, ".up.sql") ? &migration->up : &migration->down;
    free(*slot);
    *slot = strdup(text);
    return *slot != NULL ? 0 : error_set(err, SAGA_ENOMEM, "out of memory");
}

static int
by_number(const void *a, const void *b)
{
    return ((const struct migration *)a)->number - ((const struct migration *)b)->number;
}

int
migration_set_finish(struct migration_set *set, struct saga_error *err)
{
    if (set->n == 0)
        return error_set(err, SAGA_EINVAL, "there are no migrations");
    qsort(set->items, set->n, sizeof *set->items, by_number);
    for (size_t i = 0; i < set->n; i++)
        if (set->items[i].up == NULL)
            return error_set(err, SAGA_EINVAL, "%s has a .down.sql and no .up.sql",
                             set->items[i].name);
    return 0;
}

void
migration_set_clear(struct migration_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        free(set->items[i].up);
        free(set->items[i].down);
    }
    free(set->items);
    *set = (struct migration_set){ NULL, 0 };
}

/* --- from a folder ------------------------------------------------------- */

static char *
read_file(const char *path, struct saga_error *err)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t len = 0;

    if (file != NULL)
        text = malloc(FILE_MAX + 1);
    if (text != NULL)
        len = fread(text, 1, FILE_MAX + 1, file);
    if (text == NULL || ferror(file) != 0) {
        error_set(err, SAGA_EINVAL, "cannot read %s: %s", path, strerror(errno));
        free(text);
        text = NULL;
    } else if (len > FILE_MAX || memchr(text, '\0', len) != NULL) {
        error_set(err, SAGA_EINVAL, "%s is too long, or is no text", path);
        free(text);
        text = NULL;
    } else {
        text[len] = '\0';
    }
    if (file != NULL)
        fclose(file);
    return text;
}

static int
load_folder(struct migration_set *set, const char *folder, struct saga_error *err)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int rc = 0;

    if (dir == NULL)
        return error_set(err, SAGA_EINVAL, "cannot read %s: %s", folder, strerror(errno));
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        char path[4096];
        char *text;

        if (!ends_with(entry->d_name, ".sql"))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        text = read_file(path, err);
        rc = text == NULL ? SAGA_EINVAL : migration_set_add(set, entry->d_name, text, err);
        free(text);
    }
    closedir(dir);
    return rc;
}

int
migration_set_load(struct migration_set *set, const char *folder, struct saga_error *err)
{
    int rc = 0;

    *set = (struct migration_set){ NULL, 0 };
    error_clear(err);
    if (folder != NULL)
        rc = load_folder(set, folder, err);
    for (size_t i = 0; folder == NULL && rc == 0 && migrations[i].name != NULL; i++)
        rc = migration_set_add(set, migrations[i].name, migrations[i].text, err);
    if (rc == 0)
        rc = migration_set_finish(set, err);
    if (rc != 0)
        migration_set_clear(set);
    return rc;
}
