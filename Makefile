# Two commands do everything on a fresh Debian machine, as root:
#   make demo   build, run a hardened container, see three refusals
#   make test   everything that is checked, as in CI

TARGET := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RELEASE := $(or $(CARGO_TARGET_DIR),target)/$(TARGET)/release
GABION := $(RELEASE)/gabion
SHIM := $(RELEASE)/containerd-shim-gabion-v2
PREFIX ?= /usr/local
# What `gabion --version` says it was built from.
export GABION_COMMIT ?= $(shell git describe --always --dirty --abbrev=12 2>/dev/null)

.PHONY: build demo test conformance software engines bench vm rules install uninstall deb prerequisites help
.DEFAULT_GOAL := help

help: ## say what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

# These put it beside other runtimes, and into engines.
test software engines bench vm: export GABION_PREREQUISITES = all

prerequisites: ## install what is missing to build and test (Debian)
	@scripts/prerequisites.sh

build: prerequisites ## the static programs: gabion, and its shim for containerd
	@cargo build --release --locked -p gabion -p gabion-shim
	@for program in $(GABION) $(SHIM); do \
		echo "$$program: $$(stat -c %s $$program) bytes, $$(file -b $$program | cut -d, -f1,4,5)"; done

demo: build ## a container under the baseline, and three refusals
	@GABION=$(abspath $(GABION)) scripts/demo.sh

test: build ## everything that is checked
	@GABION=$(abspath $(GABION)) scripts/test.sh

conformance: build ## the runtime-spec, against RUNTIME (default: gabion)
	@GABION=$(abspath $(GABION)) scripts/conformance.sh

vm: build ## the tests in a virtual machine with systemd, cgroup v2 and AppArmor
	@integration/vm/prerequisites.sh
	@GABION=$(abspath $(GABION)) integration/vm/suite.sh

software: build ## Debian's packages under the default profile, and what they need; writes docs/software.md
	@GABION=$(abspath $(GABION)) python3 -B integration/software/suite.py --learn --write docs/software.md

engines: build ## real engines on gabion, and on runc as a control; writes the matrix of docs/engines.md
	@GABION=$(abspath $(GABION)) bash -o pipefail -c 'scripts/engines.sh | tee $(RELEASE)/engines.log'
	@scripts/engines-matrix.py $(RELEASE)/engines.log

bench: build ## whole commands beside runc and crun, as ratios
	@GABION=$(abspath $(GABION)) bench/run.sh
	@GABION=$(abspath $(GABION)) bench/gate.sh

rules: build ## write docs/rules again from the program
	@GABION=$(abspath $(GABION)) scripts/rules.sh

install: build ## into PREFIX (default /usr/local)
	install -D -m 0755 $(GABION) $(DESTDIR)$(PREFIX)/bin/gabion
	ln -sf gabion $(DESTDIR)$(PREFIX)/bin/gabion-restricted
	install -D -m 0755 $(SHIM) $(DESTDIR)$(PREFIX)/bin/containerd-shim-gabion-v2
	ln -sf containerd-shim-gabion-v2 $(DESTDIR)$(PREFIX)/bin/containerd-shim-gabion-restricted-v2
	rm -rf $(RELEASE)/manual && $(GABION) manual $(RELEASE)/manual
	install -d $(DESTDIR)$(PREFIX)/share/man/man8 && install -m 0644 $(RELEASE)/manual/man/man8/* crates/shim/containerd-shim-gabion-v2.8 $(DESTDIR)$(PREFIX)/share/man/man8
	install -D -m 0644 $(RELEASE)/manual/bash-completion/gabion $(DESTDIR)$(PREFIX)/share/bash-completion/completions/gabion
	install -D -m 0644 $(RELEASE)/manual/zsh/_gabion $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_gabion
	install -D -m 0644 $(RELEASE)/manual/fish/gabion.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/gabion.fish

deb: build ## a Debian package below target/debian
	@GABION=$(abspath $(GABION)) scripts/deb.sh

uninstall: ## what install installed
	rm -f $(DESTDIR)$(PREFIX)/bin/gabion $(DESTDIR)$(PREFIX)/bin/gabion-restricted
	rm -f $(DESTDIR)$(PREFIX)/bin/containerd-shim-gabion-v2 $(DESTDIR)$(PREFIX)/bin/containerd-shim-gabion-restricted-v2
	rm -f $(DESTDIR)$(PREFIX)/share/man/man8/gabion.8 $(DESTDIR)$(PREFIX)/share/man/man8/gabion-*.8 $(DESTDIR)$(PREFIX)/share/man/man8/containerd-shim-gabion-v2.8
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/gabion $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_gabion
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/gabion.fish
