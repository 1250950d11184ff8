/* SPDX-License-Identifier: Apache-2.0 */
/* release only */
/*
 * What `make install` puts in place is enough to compile every example, shared
 * and static, with nothing but pkg-config; and `make uninstall` takes it out.
 */
#include "test/support/process.h"
#include "test/support/run.h"

START_TEST(test_install_is_complete_and_uninstall_takes_it_out)
{
    struct process *check =
        start_process(ARGS(text_of("%s/tools/check-install", source_dir()), build_dir()), NULL);

    process_expect(check, 0, 120000);
}
END_TEST

int
main(void)
{
    return run_tests(
        &(struct tests){ .name = "install",
                         .tests = TESTS(test_install_is_complete_and_uninstall_takes_it_out),
                         .timeout_s = 150 });
}
