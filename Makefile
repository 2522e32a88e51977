# Segue's commands. `make help` lists them.
#
# Everything that is built goes to build/ (what the machine runs) and target/ (what runs here).

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory
# An interrupted build must leave nothing behind that a later one trips over.
export CARGO_INCREMENTAL := 0

# The system description that `run` and `image` build.
SYSTEM ?= system.xml
# release is silent and fast; debug lets the kernel print and name its own errors.
KERNEL ?= release
# user needs nothing; tap needs root.
NETWORK ?= user
# Port of 127.0.0.1 that leads to the application.
PORT ?= 8080
# More options for `segue-qemu run` (see `cargo run -p segue-qemu -- run --help`).
RUN_OPTIONS ?=
# Only tests whose name holds this text.
ONLY ?=

# make's own functions split names at blanks.
name = $(shell basename '$(1)' .xml)
# The memory a description asks for, in MiB, as the image's report says.
memory = $$(sed -n "s/^ *machine's memory *\([0-9]*\) MiB$$/\1/p" '$(1)/report.txt')
OUTPUT = build/$(call name,$(SYSTEM))

# Protection domains: bare programs for the machine. `-nostdlib`: nothing of the host gets in. The kernel
# keeps no AVX registers apart, so no library may look for AVX.
PD_TARGET := x86_64-unknown-linux-gnu
PD_FLAGS := -Cpanic=abort -Crelocation-model=static -Cforce-frame-pointers=yes \
            -Clink-arg=-nostartfiles -Clink-arg=-nostdlib -Clink-arg=-static -Clink-arg=-no-pie \
            -Clink-arg=-Wl,-z,max-page-size=4096,--build-id=none \
            --cfg curve25519_dalek_backend=\"serial\"
PD_CRATES := segue-init segue-pcie segue-igb-pf segue-director segue-timer segue-console \
             segue-netserver segue-portmap segue-dhcp segue-http segue-kv segue-echo-server segue-updater
# Programs of the description that are crates of this workspace; others lie beside the description.
SYSTEM_CRATES = $(shell sed -n 's/.*<program_image[^>]* path="\([^"]*\)".*/\1/p' '$(SYSTEM)' 2>/dev/null | sort -u | \
                  while read -r program; do grep -x "name = \"$$program\"" Cargo.lock; done | cut -d '"' -f 2)
# Programs of systems with <fault_injection/>.
FAULTY_CRATES := $(PD_CRATES) segue-metronome segue-spinner segue-binder segue-visitor
TEST_PD_CRATES := segue-kernel-holes $(addprefix segue-,$(notdir $(patsubst %/,%,$(wildcard tests/pds/*/))))
# Tools and tests that run here.
CARGO_TARGET_DIR ?= target
TOOLS := $(CARGO_TARGET_DIR)/debug
PROGRAMS := build/pd/$(PD_TARGET)/pd
FAULTY_PROGRAMS := build/faulty/$(PD_TARGET)/pd
# Those in build/test-systems are made from system.xml by the target test-files.
TEST_SYSTEMS := $(sort $(wildcard tests/systems/*.xml)) \
                $(addprefix build/test-systems/,files.xml large.xml rogue-application.xml kv.xml echo.xml http-kv.xml \
                  four.xml many.xml switching.xml bench.xml seven.xml attacked.xml forty-eight.xml addresses.xml visitors.xml dhcp.xml binder.xml metronome.xml recovery.xml outages.xml upgraded.xml)

pd_build = RUSTFLAGS="$(PD_FLAGS)" CARGO_TARGET_DIR=build/pd \
           cargo build --locked --profile pd --target $(PD_TARGET) $(addprefix -p ,$(1))
# The same programs with their fault points. The feature reaches all of them since all are built at once.
faulty_build = RUSTFLAGS="$(PD_FLAGS)" CARGO_TARGET_DIR=build/faulty \
           cargo build --locked --profile pd --target $(PD_TARGET) $(addprefix -p ,$(1)) \
             -p segue-fault-points --features segue-fault-points/enabled
# The folder of programs for the description $(1).
programs_for = $$(if grep -q '<fault_injection' $(1); then echo '$(FAULTY_PROGRAMS)'; else echo '$(PROGRAMS)'; fi)
# What to do when a step fails; the step's own message stands above it.
otherwise = || { printf '\n%s\n' "make: $(1)" >&2; exit 1; }

.PHONY: help setup tools kernel kernels programs test-programs faulty-programs test-files image run test campaign \
        figures test-images bench bench-quick bench-image fuzz check clean

help:
	@echo 'make run        boot the system; its page is http://127.0.0.1:8080/ (PORT=, NETWORK=user|tap, SYSTEM=)'
	@echo 'make test       all tests, ends in "N passed, 0 failed" (ONLY=text for some)'
	@echo 'make image      build one description: make image SYSTEM=system.xml'
	@echo 'make campaign   the system tests at full counts (STEPS="load floods": only these); results in docs/campaign.md'
	@echo 'make figures    measure again what docs/figures.md says (root)'
	@echo 'make bench      Segue and Linux side by side, half an hour (root); bench-quick: a few minutes; results in bench/results'
	@echo 'make fuzz       fuzz one target: make fuzz TARGET=http SECONDS=600'
	@echo 'make check      formatting and lints'
	@echo 'make setup      install what is missing (the others do it themselves)'
	@echo 'make clean      remove build/ and target/'

setup:
	@scripts/setup

tools: setup
	@echo '== tools that run here'
	@cargo build --locked -p segue-kernel -p segue-image -p segue-qemu -p segue-qemu-plugin \
	  $(call otherwise,the tools were not built. Cargo says above why.)

kernel: tools
	@echo '== kernel ($(KERNEL))'
	@$(TOOLS)/segue-kernel build --variant $(KERNEL) --output build/kernel/$(KERNEL) \
	  $(call otherwise,the kernel was not built. If a fix no longer applies$(comma) adapt it in crates/kernel/fixes.)

kernels: tools
	@echo '== kernels'
	@for variant in debug release plain; do \
	  $(TOOLS)/segue-kernel build --variant $$variant --output build/kernel/$$variant || exit 1; \
	done $(call otherwise,a kernel was not built. If a fix no longer applies$(comma) adapt it in crates/kernel/fixes.)

programs: setup
	@echo '== protection domains'
	@$(call pd_build,$(sort $(PD_CRATES) $(SYSTEM_CRATES))) $(call otherwise,a protection domain was not built. Cargo says above why.)

test-programs: programs
	@$(if $(TEST_PD_CRATES),$(call pd_build,$(TEST_PD_CRATES)),true) \
	  $(call otherwise,a test program was not built. Cargo says above why.)

faulty-programs: setup
	@echo '== protection domains with fault points'
	@$(call faulty_build,$(FAULTY_CRATES)) $(call otherwise,a protection domain with fault points was not built. Cargo says above why.)

image: kernel programs
	@! grep -q '<fault_injection' '$(SYSTEM)' || $(MAKE) faulty-programs
	@echo '== image of $(SYSTEM)'
	@$(TOOLS)/segue-image --system '$(SYSTEM)' --programs $(call programs_for,'$(SYSTEM)') --output '$(OUTPUT)' \
	  $(call otherwise,no image was written. Correct $(SYSTEM) where the messages above point to.)

run: image
	@echo '== run'
	@exec $(TOOLS)/segue-qemu run --kernel build/kernel/$(KERNEL)/k32.elf --image '$(OUTPUT)/image.elf' \
	  --memory "$(call memory,$(OUTPUT))" --network $(NETWORK) --port $(PORT) $(RUN_OPTIONS)

# Files that the test systems serve: too large for git, the same bytes every time.
test-files: tools
	@cargo run --locked -q -p segue-system-tests --bin segue-test-files

test-images: kernels test-programs faulty-programs test-files
	@echo '== images of the test systems'
	@for system in system.xml $(TEST_SYSTEMS); do \
	  $(TOOLS)/segue-image --system "$$system" --programs $(call programs_for,"$$system") \
	    --output "build/$$(basename "$$system" .xml)" || exit 1; \
	done $(call otherwise,a test image was not written. Correct the description where the messages above point to.)

test: test-images
	@cargo run --locked -q -p segue-system-tests --bin segue-test -- --only '$(ONLY)'

campaign: test-images
	@cargo run --locked -q -p segue-system-tests --bin segue-campaign -- $(STEPS)

figures: test-images
	@cargo run --locked -q -p segue-system-tests --bin segue-figures

bench-image: kernel programs test-files
	@echo '== images to be measured'
	@for system in bench many; do \
	  $(TOOLS)/segue-image --system build/test-systems/$$system.xml --programs '$(PROGRAMS)' --output build/$$system || exit 1; \
	done $(call otherwise,an image was not written. The messages above say why.)

bench bench-quick: bench-image
	@echo '== segue-bench'
	@cargo build --locked -p segue-bench $(call otherwise,segue-bench was not built. Cargo says above why.)
	@$(TOOLS)/segue-bench $(if $(filter bench-quick,$@),--quick) $(call otherwise,the comparison did not come to its end: see above.)

fuzz: setup
	@$(if $(TARGET),fuzz/run --build >/dev/null)
	@fuzz/run $(TARGET) $(SECONDS)

check: setup
	@cargo fmt --all --check $(call otherwise,run cargo fmt --all.)
	@cargo clippy --locked --all-targets -- -D warnings

clean:
	rm -rf build $(CARGO_TARGET_DIR)

comma := ,
