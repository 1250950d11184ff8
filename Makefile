# SPDX-License-Identifier: Apache-2.0
#
# Builds the two libraries, the two programs, and everything around them.
#
#   make            libraries and programs, in build/release
#   make help       all targets
#
# Honoured: PREFIX, DESTDIR, CC, CFLAGS, LDFLAGS, FLAVOUR (release, debug, asan,
# tsan, crash, fuzz: each has its own folder under build/).

PREFIX  ?= /usr/local
DESTDIR ?=
FLAVOUR ?= release
VERSION := 0.1.0
SOVERSION := 0

B := build/$(FLAVOUR)
Q := $(if $(V),,@)

CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
            -Wwrite-strings -Wvla -Wformat=2 -Wundef
ifneq ($(CI),)
WARNINGS += -Werror
endif

flags_release :=
flags_debug   := -O0
flags_asan    := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
flags_tsan    := -O1 -fno-omit-frame-pointer -fsanitize=thread
flags_fuzz    := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
flags_crash   := -DSAGA_CRASH_POINTS
FLAVOUR_FLAGS := $(flags_$(FLAVOUR))

PKG_CONFIG ?= pkg-config
SAGA_DEPS  := libpq
KAFKA_DEPS := rdkafka hiredis libcrypto
PROG_DEPS  := libmicrohttpd inih
# Asked once, and not by targets that build nothing.
DEPS_CFLAGS = $(eval DEPS_CFLAGS := $$(shell $(PKG_CONFIG) --cflags $(SAGA_DEPS) $(KAFKA_DEPS) $(PROG_DEPS)))$(DEPS_CFLAGS)
SAGA_LIBS   = $(eval SAGA_LIBS := $$(shell $(PKG_CONFIG) --libs $(SAGA_DEPS)))$(SAGA_LIBS)
KAFKA_LIBS  = $(eval KAFKA_LIBS := $$(shell $(PKG_CONFIG) --libs $(KAFKA_DEPS)))$(KAFKA_LIBS)
PROG_LIBS   = $(eval PROG_LIBS := $$(shell $(PKG_CONFIG) --libs $(PROG_DEPS)))$(PROG_LIBS)

ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -fvisibility=hidden -fPIC $(WARNINGS) -Iinclude -I. \
             $(DEPS_CFLAGS) $(CFLAGS) $(FLAVOUR_FLAGS)
ALL_LDFLAGS = $(CFLAGS) $(FLAVOUR_FLAGS) $(LDFLAGS) $(if $(filter tsan,$(FLAVOUR)),-Wl$(comma)-u$(comma)thrd_create)

# --- what belongs to what ---------------------------------------------------
# A public function is in one library only. Private objects that both need
# (base, without its public functions; reading a table of steps; the inbox's
# row) are compiled hidden into both.

BASE_PUBLIC_SRCS  := base/error_text.c base/transaction.c base/uuid.c
PRIVATE_SRCS      := $(filter-out $(BASE_PUBLIC_SRCS),$(wildcard base/*.c)) saga/definition.c \
                     idempotency/inbox_row.c outbox/headers.c
SAGA_SRCS    := outbox/enqueue.c idempotency/inbox.c idempotency/guard.c $(wildcard idempotency/barrier*.c) \
                $(filter-out saga/kafka% $(PRIVATE_SRCS),$(wildcard saga/*.c))
KAFKA_SRCS   := $(filter-out $(SAGA_SRCS) $(PRIVATE_SRCS) outbox/daemon%,$(wildcard outbox/*.c idempotency/*.c)) \
                $(wildcard saga/kafka*.c)
SAGACTL_SRCS := $(wildcard ops/*.c)
RELAY_SRCS   := $(wildcard outbox/daemon*.c)
EXAMPLES     := $(patsubst examples/%.c,%,$(wildcard examples/*.c))
HEADERS      := $(wildcard include/saga/*.h)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
PRIVATE_OBJS       := $(call obj,$(PRIVATE_SRCS))
LIBSAGA_OBJS       := $(PRIVATE_OBJS) $(call obj,$(BASE_PUBLIC_SRCS) $(SAGA_SRCS))
LIBSAGA_KAFKA_OBJS := $(call obj,$(KAFKA_SRCS) $(if $(filter tsan,$(FLAVOUR)),test/support/threads_tsan.c))
SAGACTL_OBJS       := $(call obj,$(SAGACTL_SRCS)) $(B)/obj/migrations.o
RELAY_OBJS         := $(call obj,$(RELAY_SRCS))

LIBS     := $(B)/libsaga.so.$(SOVERSION) $(B)/libsaga-kafka.so.$(SOVERSION) \
            $(B)/libsaga.a $(B)/libsaga-kafka.a
PROGRAMS := $(B)/sagactl $(B)/outbox-relay

.PHONY: all mutants demo bench lint format asan install uninstall clean help
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules

all: $(LIBS) $(PROGRAMS) $(addprefix $(B)/examples/,$(EXAMPLES))  ## libraries, programs, examples

# --- rules --------------------------------------------------------------------

# Other flags than the last time: everything of the flavour is made anew.
FLAGS_NOW = $(CC) $(ALL_CFLAGS) $(LDFLAGS)
$(B)/flags: FORCE
	@mkdir -p $(B); echo '$(FLAGS_NOW)' | cmp -s - $@ || echo '$(FLAGS_NOW)' > $@
FORCE:

$(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC   $@"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# The migrations, as they are, inside the program.
$(B)/gen/migrations.S: $(wildcard migrations/*.sql) tools/embed
	@mkdir -p $(@D)
	$(Q)tools/embed migrations $(sort $(wildcard migrations/*.sql)) > $@
$(B)/obj/migrations.o: $(B)/gen/migrations.S $(B)/flags
	@mkdir -p $(@D)
	@echo "  AS   $@"
	$(Q)$(CC) -c -o $@ $<

# The numbers of the migrations that this build knows.
$(B)/gen/base/schema_known.h: migrations $(wildcard migrations/*.up.sql)
	@mkdir -p $(@D)
	$(Q)printf '#define SCHEMA_KNOWN "{%s}"\n' \
	    "$$(ls migrations/*.up.sql | sed 's,^migrations/0*\([0-9]*\)_.*,\1,' | paste -sd,)" > $@
$(B)/obj/base/schema.o: $(B)/gen/base/schema_known.h
$(B)/obj/base/schema.o: ALL_CFLAGS += -I$(B)/gen

$(B)/libsaga.so.$(SOVERSION): $(LIBSAGA_OBJS)
	@echo "  LINK $@"
	$(Q)$(CC) -shared -Wl,-soname,$(@F) -Wl,-z,defs -o $@ $^ $(ALL_LDFLAGS) $(SAGA_LIBS) -lpthread
	$(Q)ln -sf $(@F) $(B)/libsaga.so

$(B)/libsaga-kafka.so.$(SOVERSION): $(LIBSAGA_KAFKA_OBJS) $(PRIVATE_OBJS) $(B)/libsaga.so.$(SOVERSION)
	@echo "  LINK $@"
	$(Q)$(CC) -shared -Wl,-soname,$(@F) -Wl,-z,defs -o $@ $(filter %.o,$^) $(ALL_LDFLAGS) \
	    -L$(B) -lsaga $(KAFKA_LIBS) $(SAGA_LIBS) -lpthread
	$(Q)ln -sf $(@F) $(B)/libsaga-kafka.so

# An archive is one object in which only the public functions are global.
$(B)/%.a:
	@echo "  AR   $@"
	$(Q)$(LD) -r -o $(B)/obj/$*.whole.o $(filter %.o,$^)
	$(Q)objcopy --localize-hidden $(B)/obj/$*.whole.o
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(B)/obj/$*.whole.o
$(B)/libsaga.a: $(LIBSAGA_OBJS)
$(B)/libsaga-kafka.a: $(LIBSAGA_KAFKA_OBJS) $(PRIVATE_OBJS)

$(B)/sagactl: $(SAGACTL_OBJS) $(LIBSAGA_OBJS)
	@echo "  LINK $@"
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(SAGA_LIBS) -lpthread

$(B)/outbox-relay: $(RELAY_OBJS) $(LIBSAGA_KAFKA_OBJS) $(LIBSAGA_OBJS)
	@echo "  LINK $@"
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(KAFKA_LIBS) $(PROG_LIBS) $(SAGA_LIBS) -lpthread

$(B)/examples/%: examples/%.c $(LIBSAGA_KAFKA_OBJS) $(LIBSAGA_OBJS)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $(filter %.c %.o,$^) $(ALL_LDFLAGS) $(KAFKA_LIBS) $(PROG_LIBS) $(SAGA_LIBS) -lpthread

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# --- flavours and tests -------------------------------------------------------

asan:                                          ## the same under AddressSanitizer
	$(MAKE) FLAVOUR=$@ all

-include test.mk
include demo.mk

# N=100000 REPEAT=3 ONLY="drain latency": see bench/table.
BENCH := $(patsubst bench/%.c,$(B)/bench/%,$(wildcard bench/*.c))
bench: $(PROGRAMS) $(B)/make-topics $(BENCH)   ## what the outbox costs, beside what bounds it
	@tools/setup build test
	@tools/servers --postgres --kafka -- bench/table $(B)
	@case " $${ONLY:-consumers} " in *" consumers "*) \
	    tools/servers --postgres --redis --kafka -- bench/consumers $(B) ;; esac

$(B)/bench/%: bench/%.c $(LIBSAGA_KAFKA_OBJS) $(LIBSAGA_OBJS)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $(filter %.c %.o,$^) $(ALL_LDFLAGS) $(KAFKA_LIBS) $(PROG_LIBS) $(SAGA_LIBS) -lpthread

mutants:                                       ## takes each protection out; its test must fail. M="O1 O21": only these
	@tools/setup build test
	@test/mutants/run $(M)

# --- keeping it tidy ----------------------------------------------------------

C_FILES = $(shell git ls-files '*.c' '*.h')

lint:                                          ## layers, exported names, format, cppcheck
	@tools/setup build lint
	@$(MAKE) --no-print-directory CI=1 all
	@tools/lint $(B)

format:                                        ## rewrites the sources in the pinned style
	@tools/setup lint
	clang-format-14 -i $(C_FILES)

clean:                                         ## removes build/
	rm -rf build

help:                                          ## this list
	@grep -hE '^[a-z][a-z -]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## ?/\t/' | expand -t 12

# --- installing ---------------------------------------------------------------

LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR    ?= $(PREFIX)/share/saga
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
UNITDIR    ?= $(PREFIX)/lib/systemd/system

define pc_file
prefix=$(PREFIX)
libdir=$(LIBDIR)
includedir=$(INCLUDEDIR)
migrations=$(DATADIR)/migrations

Name: $(1)
Description: $(2)
Version: $(VERSION)
Requires: $(3)
Requires.private: $(4)
Libs: -L$${libdir} -l$(1:lib%=%)
Libs.private: -lpthread
Cflags: -I$${includedir}
endef
export PC_SAGA  = $(call pc_file,libsaga,sagas$(comma) outbox and inbox on PostgreSQL,$(SAGA_DEPS),)
export PC_KAFKA = $(call pc_file,libsaga-kafka,relay and consumers of libsaga on Kafka and Redis,libsaga = $(VERSION),$(KAFKA_DEPS))
comma := ,

# Settings that are there already are not overwritten, and changed ones are not taken out.
install: all                                   ## headers, libraries, .pc files, programs, migrations, settings, systemd unit
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR)/pkgconfig \
	    $(DESTDIR)$(INCLUDEDIR)/saga $(DESTDIR)$(DATADIR)/migrations
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(HEADERS) $(DESTDIR)$(INCLUDEDIR)/saga
	install -m 644 $(LIBS) $(DESTDIR)$(LIBDIR)
	ln -sf libsaga.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/libsaga.so
	ln -sf libsaga-kafka.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/libsaga-kafka.so
	printf '%s\n' "$$PC_SAGA" > $(DESTDIR)$(LIBDIR)/pkgconfig/libsaga.pc
	printf '%s\n' "$$PC_KAFKA" > $(DESTDIR)$(LIBDIR)/pkgconfig/libsaga-kafka.pc
	install -m 644 migrations/*.sql $(DESTDIR)$(DATADIR)/migrations
	install -d $(DESTDIR)$(SYSCONFDIR)/saga $(DESTDIR)$(UNITDIR)
	install -m 644 outbox/outbox-relay.ini $(DESTDIR)$(DATADIR)
	[ -e $(DESTDIR)$(SYSCONFDIR)/saga/outbox-relay.ini ] || \
	    install -m 644 outbox/outbox-relay.ini $(DESTDIR)$(SYSCONFDIR)/saga
	sed 's|@BINDIR@|$(PREFIX)/bin|; s|@SYSCONFDIR@|$(SYSCONFDIR)|' outbox/outbox-relay.service \
	    > $(DESTDIR)$(UNITDIR)/outbox-relay.service

uninstall:                                     ## takes out what install put in
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(notdir $(PROGRAMS))) \
	    $(addprefix $(DESTDIR)$(LIBDIR)/,$(notdir $(LIBS)) libsaga.so libsaga-kafka.so) \
	    $(addprefix $(DESTDIR)$(LIBDIR)/pkgconfig/,libsaga.pc libsaga-kafka.pc)
	! cmp -s $(DESTDIR)$(DATADIR)/outbox-relay.ini $(DESTDIR)$(SYSCONFDIR)/saga/outbox-relay.ini || \
	    rm -f $(DESTDIR)$(SYSCONFDIR)/saga/outbox-relay.ini
	rm -f $(DESTDIR)$(UNITDIR)/outbox-relay.service
	rm -rf $(DESTDIR)$(INCLUDEDIR)/saga $(DESTDIR)$(DATADIR)
