/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names and sentences of the error codes.
 */
#include <saga/base.h>

const char *
saga_error_name(int code)
{
#define NAME(name, number, text)                                                                   \
    case name:                                                                                     \
        return #name;
    switch (code) {
        SAGA_ERRORS(NAME)
    case 0:
        return "SAGA_OK";
    default:
        return "SAGA_E?";
    }
#undef NAME
}

const char *
saga_error_text(int code)
{
#define TEXT(name, number, text)                                                                   \
    case name:                                                                                     \
        return text;
    switch (code) {
        SAGA_ERRORS(TEXT)
    case 0:
        return "no error";
    default:
        return "unknown error code";
    }
#undef TEXT
}
