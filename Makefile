# eduai: build, install and check the extension.
#
#   make                build the library and the SQL script
#   make install        install both into PostgreSQL (PG_CONFIG says which one)
#   make help           list everything else

EXTENSION = eduai
EXTVERSION = 0.1.0

# The rooms in the order in which their SQL is loaded: a room may use what the
# rooms before it define. A room without a folder in sql/ is passed over.
ROOMS = core events projections queue ratelimit gateway cache privacy

# PGVERSION picks a major version among Debian's packages; PG_CONFIG picks any
# installation. Without either, the pg_config on the path decides.
ifdef PGVERSION
PG_CONFIG ?= /usr/lib/postgresql/$(PGVERSION)/bin/pg_config
else
PG_CONFIG ?= pg_config
endif

all:

# ----------------------------------------------------------------------------
# The SQL script

SQL_SCRIPT = $(EXTENSION)--$(EXTVERSION).sql
FUNCTION_FILES = $(wildcard $(foreach room,$(ROOMS),sql/$(room)/functions.sql))
FINISH_FILE = $(wildcard sql/finish.sql)
SQL_FILES = $(wildcard $(foreach room,$(ROOMS),sql/$(room)/schema.sql sql/$(room)/functions.sql)) $(FINISH_FILE)

# An upgrade changes state by hand and then replays every function, so that an
# upgraded database cannot differ from a fresh one.
UPGRADE_SCRIPTS = $(patsubst sql/upgrades/%,$(EXTENSION)--%,$(wildcard sql/upgrades/*--*.sql))

DATA_built = $(SQL_SCRIPT) $(UPGRADE_SCRIPTS)

# ----------------------------------------------------------------------------
# The library

MODULE_big = $(EXTENSION)
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))
DEPS = $(OBJS:.o=.d)

LIBRARIES = libcurl libcrypto libzstd
LIBRARY_CFLAGS := $(shell pkg-config --cflags $(LIBRARIES) 2>/dev/null)
LIBRARY_LIBS := $(shell pkg-config --libs $(LIBRARIES) 2>/dev/null || echo -lcurl -lcrypto -lzstd)

# Empty WERROR to build with a compiler that knows newer warnings.
WERROR = -Werror

PG_CPPFLAGS = -Isrc $(LIBRARY_CFLAGS) -DEDUAI_VERSION='"$(EXTVERSION)"'
# PostgreSQL's own headers and callbacks leave parameters unused and compare
# int with Size; C99 declarations are this project's style.
PG_CFLAGS = -Wall -Wextra $(WERROR) -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-declaration-after-statement -MMD -MP $(EXTRA_CFLAGS)
SHLIB_LINK = $(LIBRARY_LIBS) $(EXTRA_LIBS)

EXTRA_CLEAN = $(DEPS) src/.build-options tmp_check tmp_check_iso results output_iso log \
	regression.diffs regression.out

# The library needs no bitcode for inlining, and so no clang to build.
override with_llvm = no

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)

# Choices and simulations are the same on every platform: a compiler may fuse
# a multiplication and an addition where the machine can, and round once less.
src/gateway/balance.o src/gateway/balance_adaptive.o src/gateway/simulate.o \
	src/gateway/simulate_world.o src/gateway/simulate_chance.o: CFLAGS += -ffp-contract=off

# Objects are rebuilt when the server version or the flags change, headers
# being seen to by the compiler's dependency files.
BUILD_OPTIONS = $(VERSION) $(CC) $(CFLAGS) $(CPPFLAGS)
$(OBJS): src/.build-options
src/.build-options: FORCE
	@printf '%s\n' '$(subst ','\'',$(BUILD_OPTIONS))' | cmp -s - $@ || \
		printf '%s\n' '$(subst ','\'',$(BUILD_OPTIONS))' > $@

-include $(DEPS)
else
all install uninstall clean:
	@echo "make: no PostgreSQL server headers found by $(PG_CONFIG); run scripts/setup.sh" >&2; exit 1
endif

GUARD = \echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit
UPGRADE_GUARD = \echo Use "ALTER EXTENSION $(EXTENSION) UPDATE" to load this file. \quit

$(SQL_SCRIPT): $(SQL_FILES) Makefile
	@{ printf '%s\n' '$(GUARD)'; for f in $(SQL_FILES); do printf '\n-- %s\n\n' "$$f"; cat "$$f"; done; } > $@.tmp && mv $@.tmp $@

$(UPGRADE_SCRIPTS): $(EXTENSION)--%: sql/upgrades/% $(FUNCTION_FILES) $(FINISH_FILE) Makefile
	@{ printf '%s\n' '$(UPGRADE_GUARD)'; for f in $< $(FUNCTION_FILES) $(FINISH_FILE); do printf '\n-- %s\n\n' "$$f"; cat "$$f"; done; } > $@.tmp && mv $@.tmp $@

# ----------------------------------------------------------------------------
# Checks and the rest: each is a script, so that it can be read and run alone.

export PG_CONFIG PGVERSION EXTVERSION ROOMS

setup:          ; @scripts/setup.sh all          ## install what is missing on this machine
test:           ; @scripts/test.sh               ## setup, build, lint and every suite (SUITES="regress tap" for some)
lint:           ; @scripts/lint.sh               ## house rules, cppcheck, shellcheck, formatting
format:         ; @scripts/format.sh             ## apply clang-format to src/ and test/
demo:           ; @scripts/demo.sh               ## a private server with the extension and a simulated provider
demo-stop:      ; @scripts/demo-stop.sh          ## stop and remove the demo
bench:          ; @scripts/bench.sh              ## the benchmarks of test/bench
bench-balancer: ; @scripts/bench-balancer.sh     ## the balancing algorithms over ten scenarios, beside a clairvoyant
soak:           ; @scripts/soak.sh               ## a long run under failures
fuzz:           ; @scripts/fuzz.sh               ## the fuzzers of test/fuzz
asan:           ; @scripts/asan.sh               ## regress and tap under AddressSanitizer
valgrind:       ; @scripts/valgrind.sh           ## regress under valgrind
test-fresh:     ; @scripts/test-fresh.sh         ## demo and test, twice, on a Debian with nothing installed
test-pg17:      ; @scripts/test-version.sh 17    ## compile and regress with PostgreSQL 17
test-pg18:      ; @scripts/test-version.sh 18    ## compile and regress with PostgreSQL 18
help:
	@sed -n 's/^\([a-z0-9-]*\): *; @[^#]*## /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

FORCE:
.PHONY: FORCE setup test lint format demo demo-stop bench bench-balancer soak fuzz asan valgrind test-fresh test-pg17 test-pg18 help
