# The whole developer interface. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo build test test-cgroup2 test-kubernetes lint bench bench-images soak fuzz clean

# runc and nft are in sbin, which `su` and cron leave out; rustup and Go are often not in root's path.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin:$(HOME)/.cargo/bin

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

demo: ## Install what is missing (told first), build, and run examples/tiers.yaml
	@scripts/preflight.sh --install demo
	cargo build --release --locked --package cofferdam-cli
	target/release/cofferdam demo

build: ## Build target/release/cofferdam
	cargo build --release --locked --package cofferdam-cli

test: ## Install what the tests need (told first), run all of them, count them
	@scripts/preflight.sh --install test
	@scripts/test.sh

test-cgroup2: ## Run the root tests that concern cgroups in a virtual machine with the unified hierarchy (emulated: 40 minutes)
	@scripts/preflight.sh --install test
	scripts/cgroup2/run.sh

test-kubernetes: ## Build a real Kubernetes (25 minutes the first time); test against its API server, then as a node's runtime, with upstream's tests
	@scripts/preflight.sh --install kubernetes
	scripts/kubernetes/start.sh --scheduler bash -c 'cargo test --locked --package cofferdam-cluster -- --ignored && scripts/kubernetes/record.sh --check'
	scripts/kubernetes/build.sh e2e.test
	cargo test --locked --package cofferdam-cli --test kubernetes_node --no-run
	scripts/kubernetes/node.sh bash -c 'cargo test --locked --offline --package cofferdam-cli --test kubernetes_node -- --ignored --test-threads 6; status=$$?; scripts/kubernetes/e2e.sh && exit $$status'

lint: ## Clippy on everything, warnings denied; bash -n on the scripts
	cargo clippy --workspace --all-targets --locked --keep-going -- --deny warnings
	for script in scripts/*.sh scripts/*/*.sh .ci/run; do bash -n "$$script" || exit 1; done

bench: ## Measure ours beside containerd and the bare runtimes
	scripts/bench.sh

bench-images: ## Measure pulls of a 500 MB image beside containerd and skopeo with umoci
	@scripts/preflight.sh --install bench
	cargo build --release --locked -p cofferdam-cli -p cofferdam-bench
	target/release/cofferdam-bench --images --rounds 5 --write docs/benchmarks-images.md

soak: ## Start and stop 1,000 pods in one engine, and fail where anything grew
	@scripts/preflight.sh --install bench
	cargo build --release --locked -p cofferdam-bench
	target/release/cofferdam-bench --soak 1000

fuzz: ## Fuzz each parser for FUZZ_SECONDS (default 60)
	@scripts/preflight.sh --install fuzz
	scripts/fuzz.sh

clean: ## Remove what was built
	cargo clean
	rm -rf fuzz/target fuzz/corpus fuzz/artifacts fuzz/coverage
