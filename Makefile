# make help lists the targets. Everything runs without a terminal and without questions.
# What needs root: deps, test, test-host, test-uml, test-vm, test-power, realimage, umlkernel, vmimage, vagrant-box, demo, bench and the other bench-*.

.DEFAULT_GOAL := build
.DELETE_ON_ERROR:

export CGO_ENABLED ?= 0
# A clone that belongs to another user than root would stop the build otherwise; the version comes from VERSION.
# -trimpath for all of it, not for bin/blockstore alone: what is compiled with it and without it is compiled twice. Nobody debugs
# these binaries, and what debuggers read takes a quarter of the compiler's time.
export GOFLAGS ?= -buildvcs=false -trimpath -gcflags=all=-dwarf=false

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GO      ?= go
TOOL     = $(GO) tool -modfile=tools/go.mod

# What `make test`, `make test-host`, `make test-uml` and `make test-vm` run; PKG=./dm/... narrows them.
PKG ?= ./...
# Packages whose tests run once more under the race detector, with -short: not those that only start other programs, or draw.
RACE ?= $(shell $(GO) list ./... | grep -vE '/(e2e|internal/lint|perf/(chart|figures)|vagrant/(uml|vm))$$')
# Packages whose tests all run in User Mode Linux too, with the device-mapper driver, and once more with ZFS.
UML_ALL ?= ./e2e
ZFS_ALL ?= ./e2e
# Of those, tests that the run on the machine's own kernel is enough of: the middle one of three containerds, mostly, and Docker's newest engine; and with
# ZFS the oldest as well, and what is not about a driver.
UML_LEAVE ?= /e2e Test(Containerd((Full|Registry|Restart|Run)Debian13|RegistryDebian12)|DockerNewest)$$
ZFS_LEAVE ?= /e2e Test(Containerd\w+Debian1[23]|DockerNewest|DockerRegistry|Dockerd|InitAuto|PowerCut)$$
# Packages whose tests `make test` all runs in the virtual machine too, for Debian's own kernel and ZFS, and `make test-vm`.
VM_ZFS ?= ./zfsds
VM_ALL ?= ./zfsds ./e2e
# Tests that `make test` leaves to `make test-vm`, since they take too long on an emulated processor, where User Mode Linux has
# not run them: LVM beside udev, and where it has no ZFS the doors, the scripts, and of the driver what is not its own or a case.
VM_LEAVE ?= /(graphdriver|snapshotter|snapshotter/differ|cmd/blockstore) |/snapshot/zfs Test(Conformance|Crash|StoreCounts)$$|/snapshot/thin TestDirectLVMBesideUdev$$
# How often test-power ends the machine of each driver, and which machine, uml or vm (as test-vm does; a minute each by emulation).
POWER_CUTS ?= 20
POWER_DRIVERS ?= zfs btrfs devicemapper
POWER_MACHINE ?= uml
# Arguments of test-uml's and test-vm's test binaries: make test-uml PKG=./dm ARGS=-test.run=TestCreate; more flags of
# the benchmarks.
ARGS ?=
# btrfs (by default, or what the machine has) or devicemapper (in User Mode Linux): see scripts/demo.sh.
DRIVER ?=
export DRIVER

# What the end-to-end tests drive; built before them, since the test machine has no compiler.
export BLOCKSTORE_BIN ?= $(CURDIR)/bin/blockstore

.PHONY: help
help: ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

.PHONY: build
build: ## the static binary bin/blockstore
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/blockstore ./cmd/blockstore

# What install puts where: DESTDIR is a staging directory, for packages.
PREFIX  ?= /usr/local
DESTDIR ?=
UNITDIR ?= $(PREFIX)/lib/systemd/system
SHARE    = $(DESTDIR)$(PREFIX)/share

.PHONY: install
install: build ## the binary, systemd's units and the shells' completions, below DESTDIR and PREFIX
	install -D -m 0755 bin/blockstore $(DESTDIR)$(PREFIX)/bin/blockstore
	install -d $(DESTDIR)$(UNITDIR) $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	for unit in blockstore.service blockstore-docker.socket blockstore-containerd.socket; do \
		sed 's|/usr/local/bin/|$(PREFIX)/bin/|' packaging/systemd/$$unit >$(DESTDIR)$(UNITDIR)/$$unit || exit 1; \
	done
	bin/blockstore completion bash >$(SHARE)/bash-completion/completions/blockstore
	bin/blockstore completion zsh >$(SHARE)/zsh/site-functions/_blockstore
	bin/blockstore completion fish >$(SHARE)/fish/vendor_completions.d/blockstore.fish

.PHONY: deps
deps: ## install the Debian packages that tests and demo need, where missing
	scripts/deps

.PHONY: tools
tools:
	@for program in tiers uml vm; do vagrant/build $$program || exit 1; done

.PHONY: realimage
realimage: deps ## make the real three-layer image, once, in the cache; print its directory
	@vagrant/realimage/make

.PHONY: partners
partners: deps ## fetch and build what the tests work with and Debian 12 lacks (containerds, dockerd, kubelet), once, in the cache; print its directory
	@vagrant/partners/make

.PHONY: umlkernel
umlkernel: deps ## build the kernel of User Mode Linux, with ZFS, once, in the cache; print its directory and version
	@dir=$$(vagrant/uml/make) && echo "$$dir: Linux $$("$$dir/linux.uml" --version)"

.PHONY: vmimage
vmimage: deps ## make the virtual machine's image, once, in the cache; print its directory
	@vagrant/vm/make

# Beside each other: each downloads, configures or links for a while, with a processor at most.
.PHONY: caches
caches: deps ## all that is made once and kept in the cache: realimage, partners, umlkernel, vmimage
	@$(MAKE) --no-print-directory -j4 realimage partners umlkernel vmimage

.PHONY: test
test: deps build caches check tools ## everything, on every kernel, with a report and a leak check
	BLOCKSTORE_TEST_OCI=$$(vagrant/realimage/make)/oci:postgres bin/tiers test $(addprefix --uml-all=,$(UML_ALL)) --uml-leave='$(UML_LEAVE)' \
		$(addprefix --zfs-all=,$(ZFS_ALL)) --zfs-leave='$(ZFS_LEAVE)' $(addprefix --vm-all=,$(VM_ZFS)) --vm-leave='$(VM_LEAVE)' $(PKG)

.PHONY: test-host
test-host: build tools ## the tests on this machine's own kernel
	bin/tiers host $(PKG)

.PHONY: test-uml
test-uml: build tools ## in User Mode Linux: the tests that the host skips; all of PKG's with ARGS
ifneq ($(ARGS),)
	bin/tiers gotest $(PKG) -- $(ARGS)
else
	bin/tiers uml $(addprefix --uml-all=,$(UML_ALL)) --uml-leave='$(UML_LEAVE)' $(addprefix --zfs-all=,$(ZFS_ALL)) --zfs-leave='$(ZFS_LEAVE)' $(PKG)
endif

.PHONY: test-vm
test-vm: deps build realimage partners vmimage tools ## in a virtual machine, hours: what wants ZFS, udev or systemd, and VM_ALL; all of PKG's with ARGS
ifneq ($(ARGS),)
	bin/tiers gotest --in-vm --vm-timeout 3h --still 1h $(PKG) -- $(ARGS)
else
	bin/tiers vm --vm-timeout 3h --still 1h $(addprefix --vm-all=,$(VM_ALL)) $(PKG)
ifeq ($(PKG),./...)
	$(MAKE) test-power POWER_MACHINE=vm
endif
endif

.PHONY: test-power
test-power: build $(if $(filter vm,$(POWER_MACHINE)),vmimage,umlkernel) ## end machines in the middle of loads, commits and removals: POWER_CUTS for each of POWER_DRIVERS
	BLOCKSTORE_POWER_CUTS=$(POWER_CUTS) BLOCKSTORE_POWER_DRIVERS='$(POWER_DRIVERS)' BLOCKSTORE_POWER_MACHINE=$(POWER_MACHINE) \
		BSTEST_DIR=$${BSTEST_DIR:-/var/tmp} $(GO) test -count=1 -timeout 12h -v -run PowerCut ./e2e

# How much of the fault programme `make soak` runs, and which part: make soak RUN=TestKill KILLS=5000. docs/reliability.md
# says what each number is.
RUN            ?= .
SEED           ?= 1
POWER_ROUNDS   ?= 10
POWER_POINTS   ?= 500
KILLS          ?= 1000
ERROR_CYCLES   ?= 20
ERROR_FS       ?= ext4
SNAPSHOTS      ?= 100000
POOL_SNAPSHOTS ?= 100000
# Not empty: the kernel's largest metadata, on the machine's own kernel.
METADATA       ?= 1

.PHONY: soak
soak: build tools ## the fault programme at length, in User Mode Linux: hours; and the reader of metadata on 16 GiB
	BLOCKSTORE_SOAK_METADATA=$(METADATA) $(GO) test -count=1 -timeout 1h -v -run '$(RUN)' ./thinpool/metadata
	BLOCKSTORE_SOAK_SEED=$(SEED) BLOCKSTORE_SOAK_POWER_ROUNDS=$(POWER_ROUNDS) BLOCKSTORE_SOAK_POWER_POINTS=$(POWER_POINTS) \
	BLOCKSTORE_SOAK_KILLS=$(KILLS) BLOCKSTORE_SOAK_ERROR_CYCLES=$(ERROR_CYCLES) \
	BLOCKSTORE_SOAK_ERROR_FS=$(ERROR_FS) \
	BLOCKSTORE_SOAK_SNAPSHOTS=$(SNAPSHOTS) BLOCKSTORE_SOAK_POOL_SNAPSHOTS=$(POOL_SNAPSHOTS) \
		bin/tiers gotest --log --timeout 12h --still 3h ./faults -- -test.v '-test.run=$(RUN)'

# The box of the Vagrant machine: a public one by default, local/blockstore is ours. See vagrant/Vagrantfile.
BLOCKSTORE_BOX ?= debian/bookworm64
export BLOCKSTORE_BOX

.PHONY: vagrant-box
vagrant-box: ## make a Vagrant box for libvirt of the virtual machine's image, and add it as local/blockstore
	scripts/deps vagrant
	vagrant box add --force --name local/blockstore $$(vagrant/box/make)

# Emulation where libvirt's KVM would not boot our box.
.PHONY: vagrant-up
vagrant-up: ## start and provision the Vagrant machine; BLOCKSTORE_BOX=local/blockstore takes our box
	export BLOCKSTORE_DRIVER=$${BLOCKSTORE_DRIVER:-$$([ $(BLOCKSTORE_BOX) != local/blockstore ] || vagrant/vm/run driver)}; \
	cd vagrant && bash -o pipefail -c 'vagrant up | grep -v Progress:'

.PHONY: vagrant-test
vagrant-test: build tools ## all tests of PKG in the Vagrant machine that is up, with a report; ARGS are the test binaries'
	mkdir -p out/vagrant
	TMPDIR=$(CURDIR)/out/vagrant bin/tiers gotest --in-vm --vm vagrant/ssh --machines 1 --vm-timeout 3h $(PKG) $(if $(ARGS),-- $(ARGS))

.PHONY: vagrant-down
vagrant-down: ## destroy the Vagrant machine
	cd vagrant && vagrant destroy --force

.PHONY: check
check: fmt vet staticcheck shellcheck generated race ## format, vet, staticcheck, shellcheck, generated files, race detector

.PHONY: fmt
fmt: ## files that gofumpt would change fail
	@files=$$($(TOOL) gofumpt -l .); [ -z "$$files" ] || { echo "run: $(TOOL) gofumpt -w" $$files; exit 1; }

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: staticcheck
staticcheck:
	$(TOOL) staticcheck ./...

.PHONY: shellcheck
shellcheck: deps
	shellcheck --external-sources --severity=warning $$(grep -rlE --exclude='*.go' '^#!/bin/(ba)?sh' .ci scripts vagrant)

# Compared with itself, not with the last commit: work in progress is no failure.
.PHONY: generated
generated: ## generated files and go.mod are as the generators leave them
	@before=$$(git diff | sha256sum); $(GO) generate ./...; \
	[ "$$before" = "$$(git diff | sha256sum)" ] || { echo "go generate changed files: commit them"; exit 1; }
	@$(GO) mod tidy -diff || { echo "run: go mod tidy"; exit 1; }

.PHONY: figures
figures: ## README.md's figures and charts, from the reports in perf/figures; `generated` does it too
	$(GO) generate ./perf/figures

.PHONY: race
# Each process would sleep for a second at its end, so that others of its threads may still be caught in a race: the
# scripts of the command line start hundreds. One package more than there are processors: some of them wait for the disk.
race: ## tests under the race detector
	GORACE=atexit_sleep_ms=50 CGO_ENABLED=1 $(GO) test -race -short -p=$$(($$(nproc) + 1)) $(RACE)

.PHONY: demo
demo: deps build realimage ## load a real image, change a container, show, commit, save; DRIVER=devicemapper in User Mode Linux
	scripts/demo.sh

# scripts/bench says what PARTS, OUT and ARGS are: make bench PARTS=matrix ARGS='--workloads W5,W6 --rounds 3'.
PARTS ?=
OUT   ?=
BENCHERS = -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

.PHONY: benchers
benchers: deps build realimage
	CGO_ENABLED=1 $(GO) build $(BENCHERS) -tags libbtrfs -o bin/containerdbench ./perf/containerdbench
	CGO_ENABLED=0 $(GO) build $(BENCHERS) -o bin/containerdbench.static ./perf/containerdbench
	CGO_ENABLED=0 $(GO) build $(BENCHERS) -o bin/dockerbench ./perf/dockerbench

.PHONY: bench
bench: benchers ## every rival side by side on this machine's kernel, Docker's and containerd's too, two hours; OUT=DIR keeps JSON
	PARTS='$(PARTS)' OUT='$(OUT)' ARGS='$(ARGS)' scripts/bench host

.PHONY: bench-uml
bench-uml: benchers umlkernel ## the same in User Mode Linux, with device-mapper: less of it
	PARTS='$(PARTS)' OUT='$(OUT)' ARGS='$(ARGS)' scripts/bench uml

.PHONY: bench-vm
bench-vm: benchers vmimage ## the same in a virtual machine, with two processors, and with ZFS: less of it, hours
	PARTS='$(PARTS)' OUT='$(OUT)' ARGS='$(ARGS)' scripts/bench vm

.PHONY: bench-docker
bench-docker: benchers ## Docker's storage drivers alone, on this machine's kernel and in User Mode Linux
	PARTS=docker OUT='$(OUT)' ARGS='$(ARGS)' scripts/bench host
	PARTS=docker OUT='$(OUT)' ARGS='$(ARGS)' scripts/bench uml

.PHONY: bench-containerd
bench-containerd: benchers ## containerd's snapshotters alone, likewise
	PARTS=containerd OUT='$(OUT)' ARGS='$(ARGS)' scripts/bench host
	PARTS=containerd OUT='$(OUT)' ARGS='$(ARGS)' scripts/bench uml

# Counts are what a run costs whatever the machine; three runs, since what goes on in the background only adds to them.
.PHONY: bench-gate
bench-gate: deps build ## count what our snapshotter calls on btrfs, against perf/counts; RENEW=1 writes that anew. 20 seconds
	$(GO) build -trimpath -o bin/containerdbench ./perf/containerdbench
	@mkdir -p out
	for run in 1 2 3; do \
		bin/containerdbench --snapshotters blockstore/btrfs --rounds 1 --warm-up 0 --operations 1 --layers 1 --crowds 1 --concurrent 1 \
			--usage-files 4 --out out/counts-$$run.json >/dev/null || exit 1; \
	done
	bin/blockstore bench gate $(if $(RENEW),--renew) perf/counts/containerd-btrfs.json out/counts-1.json out/counts-2.json out/counts-3.json

.PHONY: clean
clean: ## remove what was built; the cache with the images stays
	rm -rf bin out
