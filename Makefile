# SPDX-License-Identifier: GPL-2.0-only
#
# Every entry point of the project; `make help` lists them. The work is done by
# tools/testing/memtype/, which takes the variables below from the environment.

BUILD	?= build
OUT	?= out
JOBS	?= 2
KERNEL	?= patched
export BUILD OUT JOBS BASE KERNEL KSRC CONFIG MACHINE TEST HOOK SENDER

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
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 15 | sed 's/^/  /'
	@echo 'Variables:'
	@sed -n 's/^#: /  /p' Makefile
#: BUILD=DIR     where everything is built (build)
#: OUT=DIR       where results go (out)
#: BASE=7.3      another kernel as the base, as Debian has it (6.12); below BUILD/7.3 and OUT/7.3
#: KSRC=DIR      a kernel tree of your own as the base; it is only read
#: KERNEL=base   the base without our patches, with the test instruments only
#: CONFIG=debug  lockdep, KASAN, kmemleak and atomic-sleep checks (QEMU machines)
#: CONFIG=coverage  gcov: prints which lines of our kernel code no test reached
#: MACHINE=, TEST=  only these; shell patterns, comma-separated
#: HOOK=         of make mutate and bisect: only these patches and defects; patterns of file names
#:               or numbers
#: SENDER=       of make series: who sends it, as "Name <address>"
#: JOBS=N        machines at a time (2)

.PHONY: matrix
matrix: setup	## Build the kernels, boot all machines, run the tests, print the matrix
	@$(PYTHON) $(TOOLS)/matrix.py matrix

.PHONY: test
test: setup	## Everything that must pass: unit tests, checks, the matrix
	@$(PYTHON) $(TOOLS)/check.py test

.PHONY: check
check: setup	## Style and static checks: checkpatch, sparse, W=1, modules, kernel-doc, exit barrier ...
	@$(PYTHON) $(TOOLS)/check.py check

.PHONY: unit
unit: setup	## The runner's own unit tests
	@$(PYTHON) $(TOOLS)/check.py unit

.PHONY: mutate
mutate: setup	## Prove that the tests can fail: take each patch away, put each defect in, see a test go red
	@$(PYTHON) $(TOOLS)/mutate.py mutate

.PHONY: bench
bench: setup	## Count what guest faults, queries and DMA mappings cost, time cache maintenance
	@KERNEL=base $(PYTHON) $(TOOLS)/bench.py measure
	@KERNEL=patched $(PYTHON) $(TOOLS)/bench.py measure
	@$(PYTHON) $(TOOLS)/bench.py loops
	@$(PYTHON) $(TOOLS)/bench.py report

.PHONY: compat
compat: setup	## Run upstream's KVM, IOMMUFD and VFIO selftests with and without our patches, print what differs
	@KERNEL=base $(PYTHON) $(TOOLS)/compat.py measure
	@KERNEL=patched $(PYTHON) $(TOOLS)/compat.py measure
	@$(PYTHON) $(TOOLS)/compat.py report

.PHONY: vmm
vmm: setup	## Run Debian's own QEMU, with Linux in it, on the patched kernel; results in OUT/vmm
	@CONFIG=vmm OUT='$(or $(OUT),out)/vmm' $(PYTHON) $(TOOLS)/matrix.py matrix

.PHONY: qemu
qemu: setup	## Build a QEMU that asks KVM for memory types, of Debian's source; BUILD/qemu
	@$(PYTHON) $(TOOLS)/qemu.py make

.PHONY: selftests-tar
selftests-tar: setup	## Pack our selftests for real hardware, for each architecture
	@$(PYTHON) $(TOOLS)/tarball.py write

.PHONY: list
list:		## List machines and tests
	@$(PYTHON) $(TOOLS)/matrix.py list

.PHONY: shell
shell: setup	## A shell in the machine MACHINE= (QEMU machines)
	@$(PYTHON) $(TOOLS)/matrix.py shell

.PHONY: report
report:		## Make table, report.html and junit.xml again from out/matrix.json
	@$(PYTHON) $(TOOLS)/matrix.py report

.PHONY: tool
tool:		## Build kvm-memtype, which prints a running VM's memory types, and the VMM example
	@mkdir -p $(build_path)
	@$(MAKE) -s -C tools/kvm/memtype OUTPUT=$(build_path)/

.PHONY: tree
tree: setup	## Write a patched kernel tree to DEST=, for a configuration of your own
	@$(PYTHON) $(TOOLS)/tree.py export '$(DEST)'

.PHONY: series
series: setup	## Write the patches as one would mail them, with a cover letter, to OUT/series
	@$(PYTHON) $(TOOLS)/series.py series

.PHONY: bisect
bisect: setup	## Build each patch of the series, boot the last one of each group
	@$(PYTHON) $(TOOLS)/series.py bisect

.PHONY: refresh
refresh:	## Turn the commits of BUILD/linux back into overlay files and patches
	@$(PYTHON) $(TOOLS)/tree.py refresh

# What setup.sh is asked for, by the goals.
NEEDS = $(strip $(if $(filter-out qemu,$(MAKECMDGOALS)),matrix) \
	$(if $(filter test check unit mutate,$(MAKECMDGOALS)),test) \
	$(sort $(filter vmm,$(MAKECMDGOALS) $(CONFIG))) $(filter qemu,$(MAKECMDGOALS)))

.PHONY: setup
setup:		## Print what is needed and install missing packages
	@$(TOOLS)/setup.sh $(NEEDS)

.PHONY: clean
clean:		## Remove what was built and the results
	@$(PYTHON) $(TOOLS)/matrix.py clean
