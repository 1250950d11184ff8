# SPDX-License-Identifier: Apache-2.0
#
# How tests are built and run. A file that lies in the right place is a test; nothing is listed here.
#
#   test/unit/<module>/<file>.c, test/integration/*.c      in the flavours release, debug, asan, tsan
#   test/crash/*.c                                          in the flavour crash, whose programs can be killed at points
#   test/programs/*.c                                       helpers that tests start: build/<flavour>/test/programs/...
#
# A test may use every function of the libraries and programs, hidden ones too.

TEST_SRCS := $(if $(filter crash,$(FLAVOUR)),$(wildcard test/crash/*.c),\
               $(wildcard test/unit/*/*.c test/integration/*.c))
TEST_PROGRAMS    := $(TEST_SRCS:%.c=$(B)/%) $(patsubst %.c,$(B)/%,$(wildcard test/programs/*.c))
TEST_SUPPORT_OBJS = $(call obj,$(wildcard test/support/*.c))
TEST_LIBS         = $(eval TEST_LIBS := $$(shell $(PKG_CONFIG) --libs check))$(TEST_LIBS)

.PHONY: test tests valgrind

# The programs are needed too: tests start them.
tests: all $(TEST_PROGRAMS)

$(B)/obj/test/%.o: ALL_CFLAGS += -Wno-missing-field-initializers -DBUILD_DIR='"$(CURDIR)/$(B)"' -DSOURCE_DIR='"$(CURDIR)"'

# From an archive, a test takes what it needs and leaves the main functions of the programs. (q: r would take two members
# of one name for the same.)
$(B)/test/everything.a: $(LIBSAGA_OBJS) $(LIBSAGA_KAFKA_OBJS) $(SAGACTL_OBJS) $(RELAY_OBJS) $(TEST_SUPPORT_OBJS)
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)$(AR) qcs $@ $^

# Tests start the helpers, so none is built without them.
$(filter-out $(B)/test/programs/%,$(TEST_PROGRAMS)): | $(filter $(B)/test/programs/%,$(TEST_PROGRAMS))

$(TEST_PROGRAMS): $(B)/%: $(B)/obj/%.o $(B)/test/everything.a
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(TEST_LIBS) $(KAFKA_LIBS) $(PROG_LIBS) $(SAGA_LIBS) -lpthread

test:                                          ## all tests; make test T=pattern: some
	@tools/setup build test
	@test/run

valgrind:                                      ## the unit tests under valgrind
	@tools/setup build test valgrind
	@test/run valgrind
