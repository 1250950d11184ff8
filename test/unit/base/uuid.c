/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Version-7 ids and their text form.
 */
#include "base/bytes.h"
#include "base/clock.h"
#include "test/support/run.h"

#include <saga/base.h>
#include <string.h>

static int64_t
a_known_moment(void)
{
    return INT64_C(1645557742000) * 1000; /* the example of RFC 9562, appendix A.6 */
}

START_TEST(test_uuid_make_has_version_variant_and_time)
{
    struct saga_uuid id;

    clock_replace(a_known_moment, NULL);
    ck_assert_int_eq(saga_uuid_make(&id, NULL), 0);
    ck_assert_uint_eq(get_u64(id.bytes) >> 16, 0x017F22E279B0);
    ck_assert_uint_eq(id.bytes[6] >> 4, 7);
    ck_assert_uint_eq(id.bytes[8] >> 6, 2);
}
END_TEST

START_TEST(test_uuid_make_never_gives_the_same_twice)
{
    struct saga_uuid one, other;

    clock_replace(a_known_moment, NULL);
    ck_assert_int_eq(saga_uuid_make(&one, NULL), 0);
    ck_assert_int_eq(saga_uuid_make(&other, NULL), 0);
    ck_assert_int_ne(memcmp(&one, &other, sizeof one), 0);
}
END_TEST

START_TEST(test_uuid_text_and_parse_are_inverse)
{
    static const char text[] = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
    struct saga_uuid id;
    char back[37];

    ck_assert_int_eq(saga_uuid_parse(&id, "017F22E2-79B0-7CC3-98C4-DC0C0C07398F", NULL), 0);
    saga_uuid_text(&id, back);
    ck_assert_str_eq(back, text);
}
END_TEST

START_TEST(test_uuid_parse_malformed_is_refused_and_leaves_the_output)
{
    static const char *const wrong[] = {
        "",
        "x",
        "017f22e279b07cc398c4dc0c0c07398f",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f0",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
        "017f22e2-79b0-7cc3-98c4+dc0c0c07398f",
        "{17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
    };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct saga_uuid id = { .bytes = { 42 } };
        struct saga_error err;

        ck_assert_int_eq(saga_uuid_parse(&id, wrong[i], &err), SAGA_EINVAL);
        ck_assert_int_eq(err.code, SAGA_EINVAL);
        ck_assert_uint_eq(id.bytes[0], 42);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "base/uuid",
        .tests =
            TESTS(test_uuid_make_has_version_variant_and_time,
                  test_uuid_make_never_gives_the_same_twice, test_uuid_text_and_parse_are_inverse,
                  test_uuid_parse_malformed_is_refused_and_leaves_the_output) });
}
