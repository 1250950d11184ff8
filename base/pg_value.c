/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values on their way to PostgreSQL and back: parameters, binary arrays and
 * the columns of binary results. Sends and receives nothing.
 */
#include "base/pg.h"

#include <string.h>

struct pg_arg
pg_arg_text(const char *text)
{
    return (
        struct pg_arg){ .type = PG_OID_TEXT, .data = text, .len = text != NULL ? strlen(text) : 0 };
}

struct pg_arg
pg_arg_untyped(const char *text)
{
    struct pg_arg arg = pg_arg_text(text);

    arg.type = 0;
    return arg;
}

struct pg_arg
pg_arg_bytea(struct saga_bytes bytes)
{
    return (struct pg_arg){ .type = PG_OID_BYTEA, .data = bytes.data, .len = bytes.len };
}

struct pg_arg
pg_arg_uuid(const struct saga_uuid *id)
{
    return (struct pg_arg){ .type = PG_OID_UUID, .data = id, .len = id != NULL ? sizeof *id : 0 };
}

struct pg_arg
pg_arg_number(Oid type, int64_t number, int len)
{
    return (struct pg_arg){ .type = type, .number = number, .number_len = len };
}

/* The array's header: dimensions, whether it has NULLs, element type, length,
 * lower bound (src/backend/utils/adt/arrayfuncs.c, array_recv). */
enum { ARRAY_HEADER_LEN = 20 };

void
pg_array_init(struct pg_array *array, Oid type)
{
    static const uint8_t room[ARRAY_HEADER_LEN];

    *array = (struct pg_array){ .type = type };
    array->element = type == PG_OID_TEXT_ARRAY          ? PG_OID_TEXT
                     : type == PG_OID_BYTEA_ARRAY       ? PG_OID_BYTEA
                     : type == PG_OID_UUID_ARRAY        ? PG_OID_UUID
                     : type == PG_OID_INT8_ARRAY        ? PG_OID_INT8
                     : type == PG_OID_TIMESTAMPTZ_ARRAY ? PG_OID_TIMESTAMPTZ
                                                        : PG_OID_INT4;
    buffer_add(&array->bytes, room, sizeof room);
}

void
pg_array_add(struct pg_array *array, const void *data, size_t len)
{
    array->n++;
    if (data == NULL) {
        array->has_null = true;
        buffer_add_u32(&array->bytes, UINT32_MAX);
        return;
    }
    buffer_add_u32(&array->bytes, (uint32_t)len);
    buffer_add(&array->bytes, data, len);
}

void
pg_array_add_text(struct pg_array *array, const char *text)
{
    pg_array_add(array, text, text != NULL ? strlen(text) : 0);
}

void
pg_array_add_int8(struct pg_array *array, int64_t number)
{
    uint8_t bytes[8];

    put_u64(bytes, (uint64_t)number);
    pg_array_add(array, bytes, sizeof bytes);
}

void
pg_array_add_int4(struct pg_array *array, int32_t number)
{
    uint8_t bytes[4];

    put_u32(bytes, (uint32_t)number);
    pg_array_add(array, bytes, sizeof bytes);
}

void
pg_array_add_time(struct pg_array *array, int64_t unix_us)
{
    pg_array_add_int8(array, unix_us - PG_EPOCH_US);
}

void
pg_array_clear(struct pg_array *array)
{
    buffer_clear(&array->bytes);
}

struct pg_arg
pg_arg_array(struct pg_array *array)
{
    uint8_t *header = array->bytes.data;

    if (!array->bytes.failed) {
        put_u32(header, array->n > 0 ? 1 : 0);
        put_u32(header + 4, array->has_null ? 1 : 0);
        put_u32(header + 8, array->element);
        put_u32(header + 12, array->n);
        put_u32(header + 16, 1);
    }
    /* An empty array has no dimension, and then no length and bound either. */
    return (struct pg_arg){ .type = array->type,
                            .data = array->bytes.data,
                            .len = array->n > 0 ? array->bytes.len : 12 };
}

void
pg_rows_clear(struct pg_rows *rows)
{
    PQclear(rows->result);
    *rows = (struct pg_rows)PG_ROWS_INIT;
}

bool
pg_is_null(const struct pg_rows *rows, int row, int column)
{
    return PQgetisnull(rows->result, row, column) != 0;
}

const char *
pg_text(const struct pg_rows *rows, int row, int column)
{
    return pg_is_null(rows, row, column) ? NULL : PQgetvalue(rows->result, row, column);
}

int64_t
pg_int(const struct pg_rows *rows, int row, int column)
{
    const uint8_t *value = (const uint8_t *)PQgetvalue(rows->result, row, column);

    if (pg_is_null(rows, row, column))
        return 0;
    switch (PQgetlength(rows->result, row, column)) {
    case 2:
        return (int16_t)((value[0] << 8) | value[1]);
    case 4:
        return (int32_t)get_u32(value);
    case 8:
        return (int64_t)get_u64(value);
    default:
        return 0;
    }
}

bool
pg_bool(const struct pg_rows *rows, int row, int column)
{
    return !pg_is_null(rows, row, column) && PQgetvalue(rows->result, row, column)[0] != 0;
}

int64_t
pg_time_us(const struct pg_rows *rows, int row, int column)
{
    return pg_is_null(rows, row, column) ? 0 : pg_int(rows, row, column) + PG_EPOCH_US;
}

struct saga_bytes
pg_bytes(const struct pg_rows *rows, int row, int column)
{
    if (pg_is_null(rows, row, column))
        return (struct saga_bytes){ NULL, 0 };
    return (struct saga_bytes){ PQgetvalue(rows->result, row, column),
                                (size_t)PQgetlength(rows->result, row, column) };
}

struct saga_uuid
pg_uuid(const struct pg_rows *rows, int row, int column)
{
    struct saga_uuid id = { { 0 } };

    if (PQgetlength(rows->result, row, column) == (int)sizeof id.bytes)
        memcpy(id.bytes, PQgetvalue(rows->result, row, column), sizeof id.bytes);
    return id;
}

struct pg_elements
pg_elements_of(struct saga_bytes array)
{
    if (array.len <= ARRAY_HEADER_LEN) /* none: without a dimension it is shorter */
        return (struct pg_elements){ NULL, 0 };
    return (struct pg_elements){ (const uint8_t *)array.data + ARRAY_HEADER_LEN,
                                 array.len - ARRAY_HEADER_LEN };
}

bool
pg_elements_next(struct pg_elements *rest, struct saga_bytes *element)
{
    uint32_t len = rest->left >= 4 ? get_u32(rest->at) : 0;

    if (rest->left < 4)
        return false;
    rest->at += 4;
    rest->left -= 4;
    *element = (struct saga_bytes){ NULL, 0 };
    if (len == UINT32_MAX)
        return true;
    if (len > rest->left)
        return false;
    *element = (struct saga_bytes){ rest->at, len };
    rest->at += len;
    rest->left -= len;
    return true;
}
