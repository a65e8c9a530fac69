# SPDX-License-Identifier: GPL-2.0-only
#
# Every entry point of the project; `make help` lists them. The work is done by
# tools/testing/memtype/, which takes the variables below from the environment.

BUILD	?= build
OUT	?= out
JOBS	?= 2
KERNEL	?= patched
export BUILD OUT JOBS BASE KERNEL KSRC CONFIG MACHINE TEST HOOK SENDER KCONFIG ARCH

TOOLS	:= tools/testing/memtype
PYTHON	:= python3 -B

# kbuild refuses whitespace and colons in its paths.
build_path := $(if $(filter /%,$(BUILD)),$(BUILD),$(CURDIR)/$(BUILD))
ifneq ($(filter-out help list report,$(or $(MAKECMDGOALS),help)),)
ifneq ($(words $(build_path))$(findstring :,$(build_path)),1)
$(error the build path '$(build_path)' has whitespace or a colon, which kbuild refuses: set BUILD= to another one)
endif
endif

.PHONY: help
help:		## Print this list
	@sed -n 's/^#@ /\n/p; s/^\([a-z-]*\):.*## /  \1\t/p; s/^#: /  /p' Makefile | expand -t 17

#@ Run the tests

.PHONY: matrix
matrix: setup	## Build the kernels, boot every machine, run the tests, print the matrix
	@$(PYTHON) $(TOOLS)/matrix.py matrix

.PHONY: test
test: setup	## Run everything that must pass: the matrix, unit tests, checks
	@$(PYTHON) $(TOOLS)/check.py test

.PHONY: list
list:		## List the machines and the tests
	@$(PYTHON) $(TOOLS)/matrix.py list

.PHONY: shell
shell: setup	## Open a shell in MACHINE= (QEMU machines)
	@$(PYTHON) $(TOOLS)/matrix.py shell

.PHONY: report
report:		## Write table, report.html and junit.xml again from OUT/matrix.json
	@$(PYTHON) $(TOOLS)/matrix.py report

#@ Use it

.PHONY: tool
tool:		## Build kvm-memtype and the example for VMM authors; BUILD
	@mkdir -p $(build_path)
	@$(MAKE) -s -C tools/kvm/memtype OUTPUT=$(build_path)/

.PHONY: tree
tree: setup	## Write a patched kernel tree to DEST=, for a configuration of your own
	@$(PYTHON) $(TOOLS)/tree.py export '$(DEST)'

.PHONY: deb
deb: setup	## Write Debian packages of the kernel and the tools for real machines; OUT/deb
	@$(PYTHON) $(TOOLS)/deb.py write

.PHONY: deb-boot
deb-boot: setup	## Write packages for QEMU, install them in a fresh Debian there, boot it
	@KCONFIG=small $(PYTHON) $(TOOLS)/deb.py write
	@KCONFIG=small $(PYTHON) $(TOOLS)/deb.py boot

.PHONY: qemu
qemu: setup	## Build a QEMU that asks KVM for memory types; BUILD/qemu
	@$(PYTHON) $(TOOLS)/qemu.py make

.PHONY: selftests-tar
selftests-tar: setup	## Pack the selftests for real hardware, for each architecture; OUT
	@$(PYTHON) $(TOOLS)/tarball.py write

.PHONY: ci-jobs
ci-jobs: setup	## Write jobs for LAVA, tuxrun and KernelCI to OUT/ci
	@$(PYTHON) $(TOOLS)/ci.py write

#@ Prove more

.PHONY: check
check: setup	## Check style and builds: checkpatch, sparse, W=1, kernel-doc, exit barrier ...
	@$(PYTHON) $(TOOLS)/check.py check

.PHONY: unit
unit: setup	## Run the unit tests of the runner
	@$(PYTHON) $(TOOLS)/check.py unit

.PHONY: mutate
mutate: setup	## Prove that the tests can fail: drop each patch, add each defect, see red
	@$(PYTHON) $(TOOLS)/mutate.py mutate

.PHONY: bench
bench: setup	## Count instructions of faults and DMA mappings, time cache maintenance
	@KERNEL=base $(PYTHON) $(TOOLS)/bench.py measure
	@KERNEL=patched $(PYTHON) $(TOOLS)/bench.py measure
	@$(PYTHON) $(TOOLS)/bench.py loops
	@$(PYTHON) $(TOOLS)/bench.py report

.PHONY: compat
compat: setup	## Compare upstream's KVM, IOMMUFD and VFIO selftests with and without us
	@KERNEL=base $(PYTHON) $(TOOLS)/compat.py measure
	@KERNEL=patched $(PYTHON) $(TOOLS)/compat.py measure
	@$(PYTHON) $(TOOLS)/compat.py report

.PHONY: vmm
vmm: setup	## Boot Linux in Debian's QEMU and in ours on the patched kernel; OUT/vmm
	@CONFIG=vmm OUT='$(or $(OUT),out)/vmm' $(PYTHON) $(TOOLS)/matrix.py matrix

#@ Change it and send it

.PHONY: refresh
refresh:	## Turn the commits of BUILD/linux back into overlay files and patches
	@$(PYTHON) $(TOOLS)/tree.py refresh

.PHONY: series
series: setup	## Write the patches as a mailbox with a cover letter; OUT/series
	@$(PYTHON) $(TOOLS)/series.py series

.PHONY: bisect
bisect: setup	## Build every commit of the series, boot the last one of each group
	@$(PYTHON) $(TOOLS)/series.py bisect

.PHONY: picture
picture: setup	## Draw README's picture and that of the documents from its source
	@$(PYTHON) $(TOOLS)/picture.py write

#@ The clone itself

# What setup.sh is asked for, by the goals.
NEEDS = $(strip $(if $(filter-out qemu ci-jobs deb deb-boot,$(MAKECMDGOALS)),matrix) \
	$(if $(filter test check unit mutate picture,$(MAKECMDGOALS)),test) \
	$(sort $(filter vmm,$(MAKECMDGOALS) $(CONFIG))) \
	$(if $(filter qemu vmm,$(MAKECMDGOALS) $(CONFIG)),qemu) \
	$(if $(filter deb deb-boot,$(MAKECMDGOALS)),deb) \
	$(filter ci-jobs,$(MAKECMDGOALS)))

.PHONY: setup
setup:		## Show what is needed and install missing packages
	@$(TOOLS)/setup.sh $(NEEDS)

.PHONY: clean
clean:		## Remove what was built and the results
	@$(PYTHON) $(TOOLS)/matrix.py clean

#@ Variables
#: BUILD=DIR        where everything is built (build)
#: OUT=DIR          where results go (out)
#: BASE=7.3         another kernel as the base, as Debian has it (6.12); in BUILD/7.3, OUT/7.3
#: KSRC=DIR         a kernel tree of your own as the base; it is only read
#: KERNEL=base      the base without our patches, with the test instruments only
#: CONFIG=debug     lockdep, KASAN, kmemleak and atomic-sleep checks (QEMU machines)
#: CONFIG=coverage  gcov: prints which lines of our kernel code no test reached
#: MACHINE=, TEST=  only these, as shell patterns, comma-separated
#: HOOK=            for mutate and bisect: only these patches and defects; numbers, or patterns of
#:                  file names
#: DEST=            for tree: a directory that does not exist yet
#: SENDER=          for series: who sends it, as "Name <address>"
#: KCONFIG=         for deb: debian (Debian's own configuration), small (for QEMU), or a file
#: ARCH=            for deb and deb-boot: x86_64 or arm64 alone
#: JOBS=N           machines at a time (2)
