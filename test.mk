# SPDX-License-Identifier: Apache-2.0
#
# How tests are built and run. A file that lies in the right place is a test; nothing is listed here.
#
#   test/unit/<module>/<file>.c, test/integration/*.c      in the flavours release, debug, asan, tsan
#   test/crash/*.c                                          in the flavour crash, whose programs can be killed at points
#   test/model/*.c, test/python/*.c, CHAOS                  in the flavour release only
#   test/fuzz/*.c                                           in the flavour fuzz, by clang; elsewhere they run their seeds only
#   test/programs/*.c                                       helpers that tests start: build/<flavour>/test/programs/...
#
# A test may use every function of the libraries and programs, hidden ones too.

CHAOS := test/chaos/relay.c test/chaos/consumer.c
RELEASE_TESTS := $(wildcard test/model/*.c test/python/*.c) $(CHAOS)
TEST_SRCS := $(if $(filter crash,$(FLAVOUR)),$(wildcard test/crash/*.c),\
               $(wildcard test/unit/*/*.c test/integration/*.c) $(if $(filter release,$(FLAVOUR)),$(RELEASE_TESTS)))
TEST_PROGRAMS    := $(TEST_SRCS:%.c=$(B)/%) $(patsubst %.c,$(B)/%,$(wildcard test/programs/*.c))
TEST_SUPPORT_OBJS = $(call obj,$(wildcard test/support/*.c))
TEST_LIBS         = $(eval TEST_LIBS := $$(shell $(PKG_CONFIG) --libs check jansson))$(TEST_LIBS)

.PHONY: test tests test-matrix tsan valgrind fuzz fuzzers model chaos chaos-consumers test-redis

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
	$(Q)$(CC) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(ALL_LDFLAGS) $(TEST_LIBS) $(KAFKA_LIBS) $(PROG_LIBS) $(SAGA_LIBS) -lpthread

$(CHAOS:%.c=$(B)/%): $(call obj,$(filter-out $(CHAOS),$(wildcard test/chaos/*.c))) | $(B)/test/chaos/clock.so
$(B)/test/chaos/clock.so: test/chaos/preload/clock.c
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(ALL_CFLAGS) -shared -fvisibility=default -o $@ $< -ldl

test:                                          ## all tests; make test T=pattern: some
	@tools/setup build test
	@test/run

tsan:                                          ## the unit tests, and the relay's, under ThreadSanitizer
	@tools/setup build test
	@test/run tsan

valgrind:                                      ## the unit tests under valgrind
	@tools/setup build test valgrind
	@test/run valgrind

# Says its seed; give it back as SEED. What happened is in build/chaos/SEED.
chaos:                                         ## relay, PostgreSQL and Kafka killed under load: DURATION=600 SEED=n
chaos-consumers:                               ## consumers joining, leaving, stopped and killed; Redis and PostgreSQL hurt
chaos: CHAOS_OF = relay
chaos-consumers: CHAOS_OF = consumer
chaos chaos-consumers:
	@tools/setup build test
	@$(MAKE) --no-print-directory -j$$(nproc) all build/release/test/chaos/$(CHAOS_OF)
	@CHAOS_DURATION=$(or $(DURATION),600) CHAOS_SEED=$(SEED) tools/servers -- build/release/test/chaos/$(CHAOS_OF)

model:                                         ## the models with more crashes, takeovers and faults than make test (minutes)
	@tools/setup build test
	test/model/check relay -DEPOCHS=3
	test/model/check consumer -DFAULTS=2
	test/model/check consumer -DFAULTS=1 -DELSEWHERE=0 -DKEYS=2 -DN=3
	test/model/check consumer -DFAULTS=1 -DELSEWHERE=0 -DKEYS=2 -DFAILOVERS=2
	test/model/check barrier -DFAULTS=6

# The runtime of libFuzzer has the main function. In other flavours a target only runs what it is given.
FUZZERS := $(patsubst %.c,$(B)/%,$(wildcard test/fuzz/*.c))
FUZZ_MAIN = $(if $(filter fuzz,$(FLAVOUR)),,$(call obj,test/fuzz/replay/main.c))
$(FUZZERS): $(B)/%: $(B)/obj/%.o $(FUZZ_MAIN) $(B)/test/everything.a
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(if $(FUZZ_MAIN),,-fsanitize=fuzzer) -o $@ $^ $(ALL_LDFLAGS) $(TEST_LIBS) $(KAFKA_LIBS) $(PROG_LIBS) $(SAGA_LIBS) -lpthread

fuzzers: $(FUZZERS)
tests: $(if $(filter crash fuzz,$(FLAVOUR)),,$(FUZZERS))
$(B)/test/unit/fuzz/seeds: | $(FUZZERS)

fuzz:                                          ## test/fuzz: every target for DURATION=30 seconds; F=name: only this one
	@tools/setup build test fuzz
	@$(MAKE) --no-print-directory FLAVOUR=fuzz CC=clang fuzzers
	@for fuzzer in $(or $(F),$(patsubst test/fuzz/%.c,%,$(wildcard test/fuzz/*.c))); do \
	    mkdir -p build/fuzz/corpus/$$fuzzer && \
	    build/fuzz/test/fuzz/$$fuzzer -max_total_time=$(or $(DURATION),30) -print_final_stats=1 -verbosity=0 \
	        -artifact_prefix=build/fuzz/$$fuzzer- build/fuzz/corpus/$$fuzzer test/fuzz/seeds/$$fuzzer || exit 1; \
	done

test-redis:                                    ## the consumer's tests with Redis absent, flushed, small. REDIS_IS=small: one
	@tools/setup build test
	@test/redis

test-matrix:                                   ## the outbox's tests on PostgreSQL 14 to 18. V="14 18", T=pattern: some
	@tools/setup build test matrix
	@tools/postgres/matrix
