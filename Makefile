# Makefile - the reference build of slm: library, program, tests. `make help` lists the targets.
#
# Everything is built below $(BUILD); nothing is fetched. Honoured: CC AR CFLAGS CPPFLAGS LDFLAGS
# PREFIX LIBDIR DESTDIR, V=1 (show commands), WERROR=1, SAN=address,undefined (sanitizers), and
# LIB_FOLDERS='base token' for a library of those folders only (with BUILD=/tmp/x).

# the version stands in the public header; the first number is the binary interface's
VERSION := $(shell sed -n 's/^.define SLM_VERSION "\(.*\)"/\1/p' include/slm.h)
SOVERSION := $(firstword $(subst ., ,$(VERSION)))

BUILD ?= build
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
PKG_CONFIG ?= pkg-config
PYTHON ?= python3
CLANG ?= clang
CLANG_FORMAT ?= clang-format
FUZZ_SECONDS ?= 60
TEST_JOBS ?= 2

ifneq ($(V),1)
Q := @
say = @printf '%-7s %s\n' '$(1)' '$(2)'
endif

# ---- flags ----
# Bits must not depend on the compiler: no -ffast-math, no -march=native, no fused multiply-add
# where the source has none. Kernels that want an instruction set say so with a target attribute.
ifeq ($(origin CFLAGS),undefined)
CFLAGS := -O2 -g
KERNEL_CFLAGS ?= -O3
endif
ifneq ($(SAN),)
SAN_FLAGS := -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
WARN := -Wall -Wextra -Wpedantic -Wconversion -Wshadow $(if $(WERROR),-Werror)
INCLUDES := -Iinclude -Isrc -I.
BASE_FLAGS := -std=c11 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -fvisibility=hidden \
    -pthread $(WARN) $(INCLUDES) $(SAN_FLAGS)
LINK_FLAGS := -pthread -Wl,--as-needed $(SAN_FLAGS)

pkg_cflags = $(shell $(PKG_CONFIG) --silence-errors --cflags $(1))
pkg_libs = $(or $(shell $(PKG_CONFIG) --silence-errors --libs $(1)),$(2))

CORE_LIBS := $(call pkg_libs,jansson libutf8proc,-ljansson -lutf8proc) -lm
PROGRAM_LIBS := $(call pkg_libs,libcurl,-lcurl) $(call pkg_libs,gnutls,-lgnutls) \
    $(call pkg_libs,libedit,-ledit) $(call pkg_libs,sqlite3,-lsqlite3) \
    $(call pkg_libs,libmicrohttpd,-lmicrohttpd) \
    $(call pkg_libs,libjpeg libpng libwebp libwebpdemux,-ljpeg -lpng -lwebp -lwebpdemux) \
    $(call pkg_libs,libseccomp,-lseccomp)
TEST_LIBS := $(call pkg_libs,cmocka,-lcmocka) $(call pkg_libs,zlib,-lz) $(call pkg_libs,libpng,-lpng) \
    $(call pkg_libs,gnutls,-lgnutls)
LIB_CFLAGS := $(call pkg_cflags,jansson libutf8proc)
PROGRAM_CFLAGS := $(call pkg_cflags,libcurl gnutls libedit sqlite3 libmicrohttpd libjpeg libpng libwebp libwebpdemux \
    libseccomp)

# ---- sources: found, not listed ----
LIB_FOLDERS := base format token kernels chat constrain sample model session tune
PROGRAM_FOLDERS := cli agent compare picture server
sources = $(sort $(foreach d,$(1),$(wildcard src/$(d)/*.$(2) src/$(d)/*/*.$(2))))
LIB_SRC := $(call sources,$(LIB_FOLDERS),c) $(sort $(wildcard models/*.c))
# every file of models/ but families.c defines the model of its name; models_list.c lists them
MODEL_NAMES := $(filter-out families,$(sort $(notdir $(basename $(wildcard models/*.c)))))
MODELS_LIST := $(if $(MODEL_NAMES),$(BUILD)/models_list.c)
PROGRAM_SRC := $(call sources,$(PROGRAM_FOLDERS),c)
PROGRAM_ASM := $(call sources,$(PROGRAM_FOLDERS),S)
PUBLIC_HEADERS := $(sort $(wildcard include/*.h))
TEST_SRC := $(sort $(wildcard tests/unit/test_*.c tests/golden/test_*.c tests/kernels/*.c))
# these may use the program's own parts too, all but main
PROGRAM_TESTS := cli agent page picture server
CLI_TEST_SRC := $(sort $(foreach d,$(PROGRAM_TESTS),$(wildcard tests/$(d)/test_*.c)))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_NAMES := $(notdir $(FUZZ_SRC:.c=))

object = $(patsubst %,$(BUILD)/obj/%.o,$(basename $(1)))
LIB_OBJ := $(call object,$(LIB_SRC)) $(if $(MODEL_NAMES),$(BUILD)/obj/models_list.o)
PROGRAM_OBJ := $(call object,$(PROGRAM_SRC) $(PROGRAM_ASM))
SUPPORT_OBJ := $(call object,tests/support.c)
DRIVER_OBJ := $(call object,tests/fuzz/driver.c)

STATIC := $(BUILD)/libslm.a
SONAME := libslm.so.$(SOVERSION)
SHARED := $(BUILD)/libslm.so.$(VERSION)
PROGRAM := $(if $(PROGRAM_SRC),$(BUILD)/slm)
test_program = $(addprefix $(BUILD)/tests/,$(notdir $(basename $(1))))
UNIT_TESTS := $(call test_program,$(wildcard tests/unit/test_*.c) $(CLI_TEST_SRC))
GOLDEN_TESTS := $(call test_program,$(wildcard tests/golden/test_*.c))
KERNEL_TESTS := $(call test_program,$(wildcard tests/kernels/*.c))
REPLAY_TESTS := $(call test_program,$(FUZZ_SRC))
TESTS := $(UNIT_TESTS) $(GOLDEN_TESTS) $(KERNEL_TESTS) $(REPLAY_TESTS)
SCRIPT_TESTS := $(sort $(foreach d,$(PROGRAM_TESTS),$(wildcard tests/$(d)/test_*.sh)))
BUILD_TESTS := $(sort $(wildcard tests/build/test_*.sh))
RUN_TESTS := SLM_BUILD=$(BUILD) CC='$(CC)' $(PYTHON) tools/run_tests.py -j $(TEST_JOBS) \
    --logs $(BUILD)/logs

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
.PHONY: all lib program tests help install uninstall check check-full check-kernels check-oom \
    asan ubsan tsan sanitize fuzz fuzz-programs fuzz-run fuzz-replay bench format clean pages FORCE

all: lib program pages ## library (static and shared), program, man page and completions
lib: $(STATIC) $(BUILD)/libslm.so
program: $(PROGRAM)
tests: $(TESTS) ## every test program, not run

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
	    while IFS='	' read -r t d; do printf '  %-16s %s\n' "$$t" "$$d"; done

# ---- compile ----
# A change of compiler or flags rebuilds: objects depend on a file that holds them.
FLAGS_FILE := $(BUILD)/flags
FLAGS_TEXT := $(CC) | $(CPPFLAGS) $(CFLAGS) | $(KERNEL_CFLAGS) | $(BASE_FLAGS) | $(LDFLAGS)
$(FLAGS_FILE): FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(FLAGS_TEXT))' | cmp -s - $@ || \
	    printf '%s\n' '$(subst ','\'',$(FLAGS_TEXT))' > $@
FORCE:

COMPILE = $(CC) $(BASE_FLAGS) $(EXTRA_FLAGS) $(CPPFLAGS) $(CFLAGS) $(OPT_FLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/src/kernels/%.o: OPT_FLAGS = $(KERNEL_CFLAGS)
# clang needs more than ten minutes for these with the fuzzer's instrumentation, and no target of
# the fuzzers reaches them
$(BUILD)/obj/src/kernels/x86/%.o: OPT_FLAGS = $(KERNEL_CFLAGS) \
    $(if $(findstring fuzzer,$(CFLAGS)),-fno-sanitize=all)
$(LIB_OBJ): EXTRA_FLAGS = -fPIC -DSLM_BUILD $(LIB_CFLAGS)
$(PROGRAM_OBJ): EXTRA_FLAGS = $(LIB_CFLAGS) $(PROGRAM_CFLAGS)
$(BUILD)/obj/tests/%.o: EXTRA_FLAGS = -Itests $(LIB_CFLAGS) $(PROGRAM_CFLAGS)

# what the compiler said stays beside the object: the checks look there for warnings
$(BUILD)/obj/%.o: %.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,cc,$<)
	$(Q)$(COMPILE) 2>$@.log || { cat $@.log >&2; exit 1; }
	@cat $@.log >&2

$(BUILD)/models_list.c: FORCE
	@mkdir -p $(@D)
	@{ printf '/* made by the Makefile from the names of models/ */\n#include "models/desc.h"\n'; \
	    printf 'extern const struct model %s;\n' $(MODEL_NAMES); \
	    printf 'const struct model *const models_all[] = {\n'; \
	    printf '    &%s,\n' $(MODEL_NAMES); printf '    NULL,\n};\n'; } > $@.new
	@cmp -s $@.new $@ && rm -f $@.new || mv $@.new $@
$(BUILD)/obj/models_list.o: $(MODELS_LIST) $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,cc,$<)
	$(Q)$(COMPILE)

# assembly embeds the files of the demo model and of the web page with .incbin, which -MMD does not see
$(BUILD)/obj/%.o: %.S $(FLAGS_FILE) $(wildcard demo-model/* src/server/page/* packaging/*)
	@mkdir -p $(@D)
	$(call say,as,$<)
	$(Q)$(CC) $(INCLUDES) $(CPPFLAGS) -Wa,--noexecstack -MMD -MP -c $< -o $@

# ---- link ----
$(STATIC): $(LIB_OBJ)
	$(call say,ar,$@)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^

$(SHARED): $(LIB_OBJ)
	$(call say,link,$@)
	$(Q)$(CC) -shared -Wl,-soname,$(SONAME) $(if $(SAN),,-Wl,-z,defs) $(LINK_FLAGS) $(CFLAGS) \
	    $(LDFLAGS) $^ $(CORE_LIBS) -o $@

$(BUILD)/libslm.so: $(SHARED)
	$(Q)ln -sf $(notdir $(SHARED)) $(BUILD)/$(SONAME)
	$(Q)ln -sf $(SONAME) $@

$(BUILD)/slm: $(PROGRAM_OBJ) $(STATIC)
	$(call say,link,$@)
	$(Q)$(CC) $(LINK_FLAGS) $(CFLAGS) $(LDFLAGS) $^ $(CORE_LIBS) $(PROGRAM_LIBS) -o $@

$(BUILD)/tests/libsupport.a: $(SUPPORT_OBJ)
	@mkdir -p $(@D)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^

LINK_TEST = $(CC) $(LINK_FLAGS) $(CFLAGS) $(LDFLAGS) $(filter %.o,$^) $(BUILD)/tests/libsupport.a \
    $(STATIC) $(TEST_LIBS) $(CORE_LIBS)
LINK_PART_TEST = $(CC) $(LINK_FLAGS) $(CFLAGS) $(LDFLAGS) $(filter %.o,$^) \
    $(BUILD)/tests/libsupport.a $(PROGRAM_PARTS) $(STATIC) $(TEST_LIBS) $(CORE_LIBS) $(PROGRAM_LIBS)

define test_rule
$(call test_program,$(1)): $(call object,$(1)) $(STATIC) $(BUILD)/tests/libsupport.a
	$$(call say,link,$$@)
	$$(Q)$$(LINK_TEST) -o $$@
endef
$(foreach t,$(TEST_SRC),$(eval $(call test_rule,$(t))))

# what uses tile registers once more, on a model of the instructions
AMX_MODEL_OBJ := $(patsubst %,$(BUILD)/obj/tests/kernels/%_model.o,matmul_amx peak_amx)
$(AMX_MODEL_OBJ): EXTRA_FLAGS = -Itests -DSLM_AMX_MODEL_REPLACES -include tests/kernels/amx_model.h
$(AMX_MODEL_OBJ): OPT_FLAGS = $(KERNEL_CFLAGS)
$(BUILD)/obj/tests/kernels/%_model.o: src/kernels/x86/%.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,cc,$< (model))
	$(Q)$(COMPILE) 2>$@.log || { cat $@.log >&2; exit 1; }
	@cat $@.log >&2
$(BUILD)/tests/check_matmul $(BUILD)/tests/check_amx: $(AMX_MODEL_OBJ)

# the program without its main, for tests of its parts
PROGRAM_PARTS := $(BUILD)/tests/libprogram.a
$(PROGRAM_PARTS): $(filter-out %/cli/main.o,$(PROGRAM_OBJ))
	@mkdir -p $(@D)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^

define cli_test_rule
$(call test_program,$(1)): $(call object,$(1)) $(PROGRAM_PARTS) $(STATIC) $(BUILD)/tests/libsupport.a
	$$(call say,link,$$@)
	$$(Q)$$(LINK_PART_TEST) -o $$@
endef
$(foreach t,$(CLI_TEST_SRC),$(eval $(call cli_test_rule,$(t))))

# a fuzz target with the replaying driver in the fuzzer's place
define replay_rule
$(call test_program,$(1)): $(call object,$(1)) $(DRIVER_OBJ) $(PROGRAM_PARTS) $(STATIC) \
    $(BUILD)/tests/libsupport.a
	$$(call say,link,$$@)
	$$(Q)$$(LINK_PART_TEST) -o $$@
endef
$(foreach t,$(FUZZ_SRC),$(eval $(call replay_rule,$(t))))

-include $(patsubst %.o,%.d,$(LIB_OBJ) $(PROGRAM_OBJ) $(SUPPORT_OBJ) $(DRIVER_OBJ) \
    $(AMX_MODEL_OBJ) $(call object,$(TEST_SRC) $(CLI_TEST_SRC) $(FUZZ_SRC)))

# ---- man page and completions: written by the program from its own table of commands ----
COMPLETIONS := $(addprefix $(BUILD)/completions/,slm.bash _slm slm.fish)
pages: $(if $(PROGRAM),$(BUILD)/slm.1 $(COMPLETIONS))
$(BUILD)/slm.1: $(BUILD)/slm
	$(call say,page,$@)
	$(Q)$(BUILD)/slm help --man > $@
$(BUILD)/completions/slm.bash: SHELL_NAME = bash
$(BUILD)/completions/_slm: SHELL_NAME = zsh
$(BUILD)/completions/slm.fish: SHELL_NAME = fish
$(COMPLETIONS): $(BUILD)/slm
	@mkdir -p $(@D)
	$(call say,page,$@)
	$(Q)$(BUILD)/slm help --completions $(SHELL_NAME) > $@

# ---- checks ----
check: all $(UNIT_TESTS) $(KERNEL_TESTS) $(REPLAY_TESTS) ## quick tests, no weights needed
	$(Q)$(RUN_TESTS) $(UNIT_TESTS) $(KERNEL_TESTS) $(REPLAY_TESTS) $(SCRIPT_TESTS) \
	    $(filter-out %/test_make.sh %/test_sanitize.sh %/test_tsan.sh %/test_fuzz_build.sh \
	    %/test_cmake.sh %/test_install.sh,$(BUILD_TESTS))

check-full: all $(TESTS) ## check, the goldens of every model, install and CMake
	$(Q)$(RUN_TESTS) $(TESTS) $(SCRIPT_TESTS) $(filter-out %/test_tsan.sh,$(BUILD_TESTS))

check-kernels: $(KERNEL_TESTS) ## kernels of each instruction set against the reference
	$(Q)$(RUN_TESTS) $(KERNEL_TESTS)

check-oom: $(TESTS) ## fails the k-th allocation for every k
	$(Q)$(RUN_TESTS) $(filter %_oom,$(TESTS))

# The reference kernels as well: tests read SLM_ISA and hand it to the library.
SANITIZED := $(GOLDEN_TESTS) $(UNIT_TESTS) $(KERNEL_TESTS) $(REPLAY_TESTS) # longest first
sanitized: $(SANITIZED)
	$(Q)$(RUN_TESTS) $(SANITIZED) $(foreach t,$(GOLDEN_TESTS),'SLM_ISA=ref $(t)')
list-tests: # names for ./check, a line each: programs of this BUILD
	@printf '%s\n' $(if $(KIND),$($(KIND)_TESTS),$(SANITIZED))
.PHONY: sanitized list-tests
SAN_MAKE = $(MAKE) --no-print-directory BUILD=build-$@ CFLAGS='-O1 -g'

asan: ## all test programs under AddressSanitizer
	$(Q)$(SAN_MAKE) SAN=address sanitized
ubsan: ## all test programs under UndefinedBehaviorSanitizer
	$(Q)$(SAN_MAKE) SAN=undefined sanitized
tsan: ## all test programs under ThreadSanitizer
	$(Q)$(SAN_MAKE) SAN=thread sanitized
sanitize: ## both of asan and ubsan in one build
	$(Q)$(SAN_MAKE) SAN=address,undefined sanitized

# ---- fuzzing ----
fuzz: ## fuzz targets with clang's libFuzzer, into build/fuzz
	$(Q)$(MAKE) --no-print-directory BUILD=build/fuzz CC=$(CLANG) SAN=address,undefined \
	    CFLAGS='-O1 -g -fsanitize=fuzzer-no-link' fuzz-programs
fuzz-programs: $(addprefix $(BUILD)/,$(FUZZ_NAMES))
$(BUILD)/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(PROGRAM_PARTS) $(STATIC) $(BUILD)/tests/libsupport.a
	$(call say,link,$@)
	$(Q)$(CC) -fsanitize=fuzzer $(LINK_FLAGS) $(CFLAGS) $(LDFLAGS) $< $(BUILD)/tests/libsupport.a \
	    $(PROGRAM_PARTS) $(STATIC) $(TEST_LIBS) $(CORE_LIBS) $(PROGRAM_LIBS) -o $@

fuzz-run: fuzz ## each target for FUZZ_SECONDS; new inputs in build/fuzz/found, crashes kept there
	$(Q)for t in $(FUZZ_NAMES); do \
	    n=$${t#fuzz_}; mkdir -p build/fuzz/found/$$n tests/fuzz/corpus/$$n; \
	    build/fuzz/$$t -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 \
	        -artifact_prefix=build/fuzz/found/$$n- build/fuzz/found/$$n tests/fuzz/corpus/$$n \
	        > build/fuzz/$$n.log 2>&1 || { tail -40 build/fuzz/$$n.log; exit 1; }; \
	    tail -1 build/fuzz/$$n.log; \
	done

fuzz-replay: $(REPLAY_TESTS) ## every file of the fuzz corpora as a regression test
	$(Q)$(RUN_TESTS) $(REPLAY_TESTS)

# ---- measuring, formatting ----
bench: all ## prefill and decode at growing context, to CSV
	$(Q)bench/run.sh

format: ## clang-format over the C sources
	$(Q)$(CLANG_FORMAT) -i $(LIB_SRC) $(PROGRAM_SRC) $(PUBLIC_HEADERS) $(TEST_SRC) $(FUZZ_SRC) \
	    $(CLI_TEST_SRC) $(wildcard src/*/*.h src/*/*/*.h models/*.h tests/*.[ch] tests/*/*.h)

# ---- install ----
substitute = sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
    -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|'
MAN := $(DESTDIR)$(DATADIR)/man/man1/slm.1
COMPLETE_BASH := $(DESTDIR)$(DATADIR)/bash-completion/completions/slm
COMPLETE_ZSH := $(DESTDIR)$(DATADIR)/zsh/site-functions/_slm
COMPLETE_FISH := $(DESTDIR)$(DATADIR)/fish/vendor_completions.d/slm.fish

install: all ## into DESTDIR and PREFIX
	$(Q)install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR)
	$(Q)install -m 644 $(PUBLIC_HEADERS) $(DESTDIR)$(INCLUDEDIR)/
	$(Q)install -m 644 $(STATIC) $(DESTDIR)$(LIBDIR)/
	$(Q)install -m 755 $(SHARED) $(DESTDIR)$(LIBDIR)/
	$(Q)ln -sf $(notdir $(SHARED)) $(DESTDIR)$(LIBDIR)/$(SONAME)
	$(Q)ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libslm.so
	$(Q)$(substitute) packaging/slm.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/slm.pc
	$(Q)chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/slm.pc
	$(Q)if [ -f $(BUILD)/slm ]; then install -D -m 755 $(BUILD)/slm $(DESTDIR)$(BINDIR)/slm; fi
	$(Q)if [ -f $(BUILD)/slm.1 ]; then install -D -m 644 $(BUILD)/slm.1 $(MAN); fi
	$(Q)c=$(BUILD)/completions; \
	if [ -f $$c/slm.bash ]; then install -D -m 644 $$c/slm.bash $(COMPLETE_BASH); fi; \
	if [ -f $$c/_slm ]; then install -D -m 644 $$c/_slm $(COMPLETE_ZSH); fi; \
	if [ -f $$c/slm.fish ]; then install -D -m 644 $$c/slm.fish $(COMPLETE_FISH); fi

uninstall: ## takes away what install put there
	$(Q)rm -f $(DESTDIR)$(BINDIR)/slm $(addprefix $(DESTDIR)$(LIBDIR)/,libslm.a libslm.so \
	    $(SONAME) $(notdir $(SHARED)) pkgconfig/slm.pc) $(MAN) $(COMPLETE_BASH) $(COMPLETE_ZSH) \
	    $(COMPLETE_FISH) $(addprefix $(DESTDIR)$(INCLUDEDIR)/,$(notdir $(PUBLIC_HEADERS)))

clean: ## removes build/ and the sanitizers' build folders
	$(Q)rm -rf build build-asan build-ubsan build-tsan build-sanitize
