# CIMA. `make demo` shows what it does, `make test` tests it; `make help` lists the rest.

VERSION ?= $(shell packaging/version.sh 2>/dev/null || echo unknown)
GO      ?= $(or $(shell packaging/go.sh),$(error no Go to build with))
# Distributions keep the symbols, and take them out into packages for debuggers.
GO_LDFLAGS ?= -s -w
GOFLAGS_BUILD = -trimpath -buildvcs=false -ldflags '$(GO_LDFLAGS) -X main.version=$(VERSION)'

# Tools run at fixed versions and are no dependency of the module.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOTESTSUM   = gotest.tools/gotestsum@v1.13.0

COMMANDS = bin/cimad bin/cima-imds bin/cimad-sim bin/cimactl

# The platforms that cimactl is also built for.
PLATFORMS = linux/arm64 darwin/amd64 darwin/arm64 windows/amd64

.PHONY: all build cross demo golden test test-packages test-clients test-kubernetes test-ear test-vm short lint fuzz soak bench bench-packages packages install clean help FORCE \
	proof-golden proof-soak proof-vm proof-bench proof-kills proof-gate proof-lines proof-start proof-packages proof-fuzz proof-busy \
	proof-closed-world proof-hostile proof-verdict proof-tls proof-spire test-spire packages-spire
.PHONY: proof-verify proof-kubelet proof-vtpm
.PHONY: web pictures test-web release proof-debian proof-selinux proof-vm-selinux proof-architectures proof-boot
all: build

# What root makes in another user's tree (sudo make demo) belongs to that user afterwards.
GIVE_BACK = @[ "$$(id -u)" != 0 ] || [ "$$(stat -c %u Makefile)" = 0 ] || chown -R --reference=Makefile $(wildcard bin) $(wildcard .cache) bin
# By sudo the user whose tree it is builds: root's caches are empty, and would be filled anew.
OWNER := $(shell [ "$$(id -u)" != 0 ] || [ -z "$$SUDO_UID" ] || [ "$$SUDO_UID" = 0 ] || [ "$$(stat -c %u Makefile)" != "$$SUDO_UID" ] || echo sudo -H -u "$$SUDO_USER" --)

## build: the four static binaries, in bin/ (2 min the first time)
build: $(COMMANDS)
	$(GIVE_BACK)

# Static without cgo, and no PIE: they must run in an image made from scratch.
bin/cimad: FORCE
	$(OWNER) env CGO_ENABLED=0 $(GO) build $(GOFLAGS_BUILD) -o $@ ./daemon/cimad
bin/cima-imds: FORCE
	$(OWNER) env CGO_ENABLED=0 $(GO) build $(GOFLAGS_BUILD) -o $@ ./daemon/cima-imds
bin/cimad-sim: FORCE
	$(OWNER) env CGO_ENABLED=0 $(GO) build $(GOFLAGS_BUILD) -o $@ ./daemon/cimad-sim
bin/cima-spire: FORCE
	CGO_ENABLED=0 $(GO) build -C packaging/spire $(GOFLAGS_BUILD) -o $(CURDIR)/$@ .
bin/cimactl: FORCE
	$(OWNER) env CGO_ENABLED=0 $(GO) build $(GOFLAGS_BUILD) -o $@ ./rpc/cimactl

## cross: cimactl for the other platforms, in bin/cross (Linux on arm64: all programs compile)
cross: $(PLATFORMS:%=bin/cross/%/cimactl)
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) build -o /dev/null ./...
bin/cross/%/cimactl: FORCE
	CGO_ENABLED=0 GOOS=$(word 1,$(subst /, ,$*)) GOARCH=$(word 2,$(subst /, ,$*)) $(GO) build $(GOFLAGS_BUILD) -o $@ ./rpc/cimactl

## demo: two containers get evidence about themselves on a simulated TD, and it is appraised (1 min; root, for containers)
##   INSTALL=1 installs podman where no container engine works
demo: build
	$(OWNER) $(GO) build -trimpath -buildvcs=false -o .cache/demo ./packaging/test/demo
	.cache/demo -bin bin $(if $(INSTALL),-install) $(DEMO_FLAGS)
	$(GIVE_BACK)

## test: all tests of Go, race detector on; lists what this machine left out (15 min on 2 processors)
test: build
	@GO="$(GO)" GOTESTSUM="$(GOTESTSUM)" packaging/test.sh $(TEST_FLAGS)
	CGO_ENABLED=0 $(GO) test -C packaging/test/bench -trimpath -vet=off ./...

## test-packages: the packages and source packages are built, installed, upgraded and removed (10 min the first time)
test-packages:
	$(GO) test -tags packages -timeout 30m ./packaging

## test-clients: the Python and Rust clients, alone and in containers, and the vectors that all clients pass
test-clients: bin/cimad-sim bin/cimactl
	@GO="$(GO)" rpc/vectors/test-clients.sh

## test-kubernetes: pods by a real containerd (root), the chart, manifests and compose file by their readers' libraries, the device plug-in
test-kubernetes:
	$(GO) test -C packaging/kubernetes/plugin ./...
	$(GO) test -C packaging/test/kubernetes ./...

## test-ear: veraison/ear and OPA, as published, read our attestation results
test-ear:
	$(GO) test -C packaging/test/ear ./...

# The page grows with what is linked into it, and nothing else says so.
WEB_MOST = 8000000
## web: the verifier as one page of HTML, in .cache/web: it works offline, by the same Go code as WebAssembly
web:
	@mkdir -p .cache/wasm
	GOOS=js GOARCH=wasm $(GO) build $(GOFLAGS_BUILD) -o .cache/wasm/web.wasm ./packaging/web
	$(GO) run ./packaging/web/pack -wasm .cache/wasm/web.wasm -exec "$$($(GO) env GOROOT)/lib/wasm/wasm_exec.js" -version "$(VERSION)" -to .cache/web -most $(WEB_MOST)

## pictures: the documentation's pictures, of the texts in man/pictures
pictures:
	$(GO) run ./man/pictures

## test-web: the pages in a real browser (chromium, npm), with axe-core; 3 min
test-web: bin/cimactl web
	@test -e .cache/axe/node_modules/axe-core/axe.min.js || npm install --silent --no-audit --no-fund --prefix .cache/axe axe-core@4.14.1
	$(GO) test -C packaging/test/web -count=1 . $(WEB_FLAGS)

## test-spire: SPIRE's plug-ins, a module of their own, by the SDK's kit (1 min the first time)
test-spire:
	$(GO) vet -C packaging/spire ./...
	$(GO) test -C packaging/spire ./...

## golden: what the programs print is what they printed at a14dc83, save what its README names (root, 1 min)
golden: build
	packaging/test/golden/golden.py --bin bin

## proof-golden: golden, then with the programs in OLD (a directory) and these as each other's client and verifier
proof-golden: golden
	packaging/test/golden/golden.py --bin bin --old $(or $(OLD),$(error give OLD=DIR, where the old programs are))

## test-vm: the released cimad in a Debian VM: systemd, docker, podman, IMA (root, 6 min; 12 the first time)
test-vm: build
	GO="$(GO)" PATH="$(dir $(GO)):$$PATH" packaging/test/vm/run

## short: the quick loop
short:
	$(GO) test -short ./...

## lint: gofmt, go vet, staticcheck, man pages, builds for other platforms
lint: cross
	@bad=$$(git ls-files -z '*.go' | xargs -0 "$$($(GO) env GOROOT)/bin/gofmt" -l) && test -z "$$bad" || { echo "$$bad"; echo 'lint: run gofmt -w on the files above' >&2; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) run $(STATICCHECK) -tags packages ./packaging
	$(GO) vet -C packaging/test/bench ./...
	$(GO) vet -C packaging/test/kubernetes ./...
	$(GO) vet -C packaging/test/ear ./...
	$(GO) vet -C packaging/test/web ./...
	$(GO) vet -C packaging/kubernetes/plugin ./...
	$(GO) vet -C packaging/spire ./...
	cd packaging/test/bench && $(GO) run $(STATICCHECK) ./...
	GO="$(GO)" man/build.sh "$(CURDIR)/.cache/man"

FUZZTIME ?= 15s
## fuzz: every fuzz target for FUZZTIME (15s), with random inputs; tests run seeds and corpora
fuzz:
	@GO="$(GO)" FUZZTIME="$(FUZZTIME)" packaging/fuzz.sh

## bench: the real daemon compared with the limit of a Unix socket and with gRPC; report in .cache/bench (BENCH_FLAGS=-short: 1 min)
bench: build
	@mkdir -p .cache/bench
	CGO_ENABLED=0 $(GO) build -C packaging/test/bench -trimpath -buildvcs=false -o "$(CURDIR)/.cache/bench/bench" .
	.cache/bench/bench -bin bin -out .cache/bench $(BENCH_FLAGS) \
		-ccel "$$($(GO) list -m -f '{{.Dir}}' github.com/google/go-eventlog)/testdata/eventlogs/ccel/ubuntu-2404-intel-tdx.bin"
	GO="$(GO)" packaging/test/bench/appraiser

SOAK_TIME ?= 2m
SOAK_FLAGS ?=
## soak: containers, hostile callers, kills, upgrades and failing hardware for SOAK_TIME (2m); root.
##   SOAK_FLAGS="-old FILE" begins with FILE, a cimad-sim of evidence profile v1
soak: bin/cimad-sim
	@mkdir -p .cache/soak
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o .cache/soak/soak ./packaging/test/soak
	.cache/soak/soak -bin bin -time $(SOAK_TIME) $(SOAK_FLAGS)

# Proofs take long, or need a machine that does nothing else. They run before an
# issue is resolved, and not in CI.
WHOLE = -count=1 -v -timeout 60m

## proof-soak: the soak for 10 minutes
proof-soak:
	$(MAKE) soak SOAK_TIME=10m
## proof-vm: the VM, and one launch digest there and on this machine
proof-vm: test-vm
	GO="$(GO)" PATH="$(dir $(GO)):$$PATH" packaging/test/vm/same-digest
## proof-bench: the whole bench, each target met (idle machine)
proof-bench:
	$(MAKE) bench BENCH_FLAGS=-strict
## proof-kills: 1,000 kills of the daemon, 5,000 containers, and latencies next to a flood (idle machine; root)
proof-kills:
	$(GO) test $(WHOLE) ./daemon/cimad-sim -args -kills 1000 -containers 5000 -alternations 10
## proof-gate: the daemon's tests at full size, with costs (idle machine; root)
proof-gate:
	$(GO) test $(WHOLE) ./daemon -args -whole
## proof-closed-world: attacks, twins, pairs of equal lines, usual lines, swapped sources, by docker, podman and containerd (root, 20 min)
proof-closed-world:
	$(GO) test $(WHOLE) ./daemon/launch ./daemon/power ./daemon/records
	$(GO) test $(WHOLE) ./daemon/launch/predict -args -whole
	$(GO) test $(WHOLE) -run '^Test($(CLOSED_WORLD))' ./daemon -args -whole
CLOSED_WORLD = Attacks|Twins|Members|Pairs|UsualLines|Swapped|AnothersID|IDIsDockers|Judged|Unseen|Hanging|Inherited|RestartBefore|EachClassOfPower|PowerIn|PredictIn|LaunchDigestsIn
## proof-lines: each of the 200 lines twice in the VM, with its engines, systemd and AppArmor: equal digests (root, 40 min)
proof-lines: build
	VM_LINES=1 GO="$(GO)" PATH="$(dir $(GO)):$$PATH" packaging/test/vm/run
## proof-hostile: hostile containers of each kind by docker and podman, one after the other, beside a bystander; then the soak, with hostile callers (idle machine; root, 20 min)
proof-hostile: bin/cimad-sim
	@mkdir -p .cache/hostile
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o .cache/hostile/hostile ./packaging/test/hostile
	.cache/hostile/hostile -bin bin -times
	$(MAKE) soak
## proof-tls: sessions of attested TLS a second at a quote a second, and 10,000 that must be refused (idle machine; root, 5 min)
proof-tls: bin/cimad-sim bin/cimactl
	@mkdir -p .cache/tls
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o .cache/tls/tls ./packaging/test/tls
	.cache/tls/tls -bin bin -times
## proof-spire: SPIRE 1.13.3's own server and agents give docker's containers identities by their launches, while daemons
##   are killed, hang and are restarted; its kit for plug-ins (root, network; 5 min for SPIRE's programs, without the
##   plug-ins for clouds that SPIRE_WHOLE=1 adds, then 10)
proof-spire: bin/cimad-sim bin/cimactl bin/cima-spire
	GO="$(GO)" packaging/spire/proof/programs .cache/spire
	$(GO) test -C packaging/spire/proof -count=1 ./...
	CGO_ENABLED=0 $(GO) build -C packaging/spire/proof -trimpath -buildvcs=false -o $(CURDIR)/.cache/spire/proof .
	.cache/spire/proof -bin $(CURDIR)/bin -spire $(CURDIR)/.cache/spire/v1.13.3 $(SPIRE_FLAGS)
## proof-kubelet: Kubernetes' own kubelet and containerd run the DaemonSet's pod and pods that ask for the socket (root, network; 10 CPU minutes for the kubelet the first time)
proof-kubelet:
	GO="$(GO)" packaging/test/kubernetes/kubelet .cache/kubelet
	$(GO) vet -C packaging/test/kubernetes -tags kubelet ./...
	$(GO) test -C packaging/test/kubernetes $(WHOLE) -tags kubelet -run 'TestKubelet$$' . -args -kubelet "$$(ls -d $(CURDIR)/.cache/kubelet/v*/kubelet)"
## proof-verdict: 16 MiB of any evidence against a policy of 1 MiB, and what 1,000 events cost beside bare hashing (idle machine)
proof-verdict:
	$(GO) test $(WHOLE) -run 'TestMemory|TestKinds' -bench 'ThousandEvents/ratio' ./hw/verify -args -whole
## proof-verify: 100,000 appraisals of 1,000 different bundles by --jobs 2, 200 killed writers of collateral, what an appraiser costs beside three ECDSA verifications, and beside dcap-qvl (idle machine, 5 min)
proof-verify:
	$(GO) test $(WHOLE) -run 'TestStream|Processes|TestOnline' ./rpc/cimactl -args -whole
	GO="$(GO)" packaging/test/bench/appraiser
## proof-boot: boots by -kernel, UKI, shim and grub under OVMF with a software TPM are as predicted; real logs; a policy
##   made from files alone trusts a container that is started afterwards in the VM (root, 20 min)
proof-boot: build
	GO="$(GO)" packaging/test/boot/run
	VM_REFERENCE=1 packaging/test/vm/run
## proof-vtpm: the VM as one of Azure's: the real cimad on /dev/tpmrm0, its units, kills, a root that resets or extends PCRs (root, 10 min)
proof-vtpm: build
	VM_AZURE=1 packaging/test/vm/run
## proof-start: how long the daemon takes to start (idle machine; root)
proof-start:
	$(GO) test $(WHOLE) -run TestStart ./packaging -args -whole
## proof-packages: two builds of the packages are equal
proof-packages:
	$(GO) test $(WHOLE) -tags packages -run TestPackages ./packaging -args -whole
## proof-debian: the source package in chroots of trixie, trixie-backports and sid: built offline, lintian, autopkgtests that can fail, install to purge (root, network, 30 min; CHROOTS=DIR keeps them)
proof-debian:
	GO="$(GO)" packaging/test/distributions/debian $(SUITES)
## proof-selinux: what the SELinux module allows, by Debian's policy (root, network; CHROOTS=DIR keeps the chroot)
proof-selinux:
	packaging/test/distributions/selinux
## proof-vm-selinux: the VM with SELinux in force: cimad in its domain, its containers, and nobody denied what must be (root, network, 12 min)
proof-vm-selinux: build
	VM_SELINUX=1 GO="$(GO)" PATH="$(dir $(GO)):$$PATH" packaging/test/vm/run
## proof-architectures: cimactl of amd64, arm64, i386 and s390x says the same of every vector, byte by byte (needs qemu-user-static)
proof-architectures:
	GO="$(GO)" packaging/test/distributions/architectures
## proof-fuzz: every fuzz target for 10 minutes
proof-fuzz:
	$(MAKE) fuzz FUZZTIME=10m
## proof-busy: make test three times while burners use the processors and containers come and go; root
proof-busy:
	packaging/test/busy sh -c 'for n in 1 2 3; do $(MAKE) test TEST_FLAGS=-count=1 || exit 1; done'

## bench-packages: the benchmarks of each package
bench-packages:
	$(GO) test -run '^$$' -bench . -benchmem ./...

## packages: deb, rpm, wheel, crate, an image with cimactl, and checksums, in dist/ (4 min); two builds of a commit are equal
packages:
	GO="$(GO)" packaging/build.sh

## packages-spire: deb and rpm of cima-spire, in dist/, beside the others (1 min)
packages-spire:
	GO="$(GO)" packaging/spire/package.sh

## release: VERSION=1.2.0 RELEASE_KEY=FILE: source, packages, SBOM, checksums, signature, in dist/release; built twice
release:
	GO="$(GO)" packaging/release.sh "$(VERSION)"

## install: what was built, into DESTDIR (for packagers; PREFIX=/usr)
install: build .cache/man/cimad.8
	GO="$(GO)" packaging/completions.sh "$(CURDIR)/.cache/completions"
	DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" packaging/install.sh all

.cache/man/cimad.8: $(wildcard man/*.md) man/build.sh
	GO="$(GO)" man/build.sh "$(CURDIR)/.cache/man"

clean:
	rm -rf bin dist .cache

## help: this list
help:
	@sed -n 's/^## //p' Makefile
