# SPDX-License-Identifier: Apache-2.0
#
# The shop: the example as four services, the broker that the demo brings along,
# and the outside checker. Included by the Makefile.

SHOP_SERVICES := $(addprefix $(B)/examples/services/,order inventory payment shipping)
SHOP_TOOLS := $(B)/mock-broker $(B)/make-topics $(B)/check-shop
SHOP := $(SHOP_SERVICES) $(SHOP_TOOLS)

# What these tests start. By way of a phony target: of files that are secondary (all are), make does not miss one.
$(addprefix $(B)/test/,crash/sweep integration/demo_run integration/demo_check python/participant): | shop

.PHONY: shop demo
all: $(SHOP_SERVICES)
shop: $(SHOP) $(PROGRAMS)                      ## the four services, the mock broker, the checker
	@:

$(B)/examples/services/order: $(call obj,examples/services/order.c examples/services/place.c)
$(SHOP_SERVICES): $(B)/examples/services/%: $(B)/obj/examples/services/%.o \
                  $(B)/obj/examples/services/service.o $(LIBSAGA_KAFKA_OBJS) $(LIBSAGA_OBJS)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) -o $@ $(sort $^) $(ALL_LDFLAGS) $(KAFKA_LIBS) $(SAGA_LIBS) -lpthread

$(B)/mock-broker: $(call obj,tools/mock-broker.c)
$(B)/make-topics: $(call obj,tools/make-topics.c)
$(B)/check-shop: $(call obj,$(wildcard test/check/*.c) test/support/pace.c)
$(SHOP_TOOLS):
	@echo "  LINK $@"
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(KAFKA_LIBS) $(SAGA_LIBS) -lpthread

# Tests start them.
tests: shop

# ORDERS=500, KILLS=0, KEEP=1, KAFKA=real, BROKERS=host:port, SHIPPING=python: see tools/demo.
demo:                                          ## orders through four services, some killed, every cent counted
	@tools/setup build demo $(if $(filter real,$(KAFKA)),kafka) $(if $(filter python,$(SHIPPING)),python)
	@$(MAKE) --no-print-directory -j$$(nproc) shop
	@BUILD=$(B) tools/demo
