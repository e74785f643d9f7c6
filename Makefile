# `make` lists what there is to do. Everything is built in one profile, release, so that RocksDB is compiled once.

.DEFAULT_GOAL := help
.NOTPARALLEL:

# One target directory for all clones on a machine: RocksDB is in it, and takes minutes.
ifeq ($(strip $(CARGO_TARGET_DIR)),)
CARGO_TARGET_DIR := $(if $(HOME),$(HOME)/.cache/tidegate,$(CURDIR))/target
endif
export CARGO_TARGET_DIR

CARGO_FLAGS := --release --workspace --locked $(if $(strip $(FEATURES)),--features $(FEATURES))
BIN := $(CARGO_TARGET_DIR)/release

KILLS ?= 500
ifeq ($(strip $(CHAOS_SEED)),)
CHAOS_SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif
CLUSTER_SECONDS ?= 3600
KAFKA_SECONDS ?= 1800
FUZZ_SECONDS ?= 60
NODES ?= 1
ifeq ($(strip $(LINK_SEED)),)
LINK_SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif

# What matters most with Kafka, in a minute.
SHORT_KAFKA_STORM := --transaction-timeout 5 --faults kill-broker,pause-broker,partition-broker,outage,kill-process,kill-all

.PHONY: help demo demo-kafka kafka new test test-abomonation test-hostile check bench chaos fuzz storm storm-kafka fix setup setup-kafka build print-target-dir

help: ## Lists what there is to do
	@echo "usage: make TARGET"
	@echo
	@awk -F ' *:.*## *' '/^[a-z-]+:.*## /{ printf "  %-18s%s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Programs are built in $(BIN)."

demo: setup ## Kills a taskmanager of a local cluster under a running job and checks every row of its output (under a minute)
	cargo build $(CARGO_FLAGS) --bin demo --bin tidegate --bin predictive-maintenance --bin sensor-data
	@$(BIN)/demo

demo-kafka: setup setup-kafka ## The same from topic to topic: the broker is killed, too, and everything for longer than transactions last (under three minutes)
	cargo build $(CARGO_FLAGS) --bin demo --bin tidegate --bin predictive-maintenance --bin sensor-data
	@$(BIN)/demo --kafka

new: ## Makes a project for a job of your own: make new JOB=my-job DIR=../my-job (DIR is ../JOB by default)
	@scripts/new-job.sh "$(JOB)" "$(DIR)"

test: setup-kafka build ## All tests, 20 kills of a job and storms over a cluster, without Kafka and with it, among them; TEST="--test storm" for some
	cargo test $(CARGO_FLAGS) $(TEST)
	@$(if $(strip $(TEST)),:,$(MAKE) --no-print-directory test-abomonation)
	@$(if $(strip $(TEST)),:,$(MAKE) --no-print-directory test-hostile)
	@$(if $(strip $(TEST)),:,$(MAKE) --no-print-directory storm CLUSTER_SECONDS=120 CLUSTER="--store-away 15 $(CLUSTER)")
	@$(if $(strip $(TEST)),:,$(MAKE) --no-print-directory storm-kafka KAFKA_SECONDS=60 KAFKA_STORM="$(SHORT_KAFKA_STORM) $(KAFKA_STORM)")

test-abomonation: ## A job whose records cross as they lie in memory: the feature abomonation, off by default
	cargo test $(CARGO_FLAGS) --features tidegate/abomonation --test abomonated

test-hostile: ## The engine's tests over a link that delays, repeats and reorders messages; LINK_SEED=7
	TIDEGATE_TEST_LINK=hostile:$(LINK_SEED) cargo test $(CARGO_FLAGS) --test engine

check: ## Format, lints, unused dependencies, documentation and its examples; writes nothing into the tree
	@scripts/setup.sh lints
	cargo fmt --all --check
	rustfmt --edition 2024 --check template/src/main.rs
	@scripts/absences.sh
	"$(CARGO_TARGET_DIR)/tools/bin/cargo-machete" --skip-target-dir
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --no-deps
	cargo test $(CARGO_FLAGS) --doc

fix: ## Formats, and repairs what the lints can repair
	@scripts/setup.sh lints
	cargo fmt --all
	rustfmt --edition 2024 template/src/main.rs
	cargo clippy $(CARGO_FLAGS) --all-targets --fix --allow-dirty --allow-staged

bench: build ## CPU, rows/s, memory and restart, compared with a loop by hand; BENCH="--help" for the choices, FEATURES=tidegate-bench/abomonation for a row more of BENCH=codec
	@$(BIN)/bench $(BENCH)

chaos: build ## 500 kills, damaged files, a slow disk and a full one (6 minutes), then an hour of storm, and half an hour with Kafka; KILLS=50, CHAOS_SEED=7
	@echo "seed $(CHAOS_SEED); the same again: make chaos KILLS=$(KILLS) CHAOS_SEED=$(CHAOS_SEED)$(if $(CHAOS), CHAOS='$(CHAOS)')"
	@$(BIN)/chaos --kills $(KILLS) --seed $(CHAOS_SEED) --damage --slow-disk --full-disk $(CHAOS)
	@$(MAKE) --no-print-directory storm CHAOS_SEED=$(CHAOS_SEED)
	@$(MAKE) --no-print-directory storm-kafka CHAOS_SEED=$(CHAOS_SEED)

fuzz: build ## cargo-fuzz over every decoder, a minute each; FUZZ_SECONDS=3600, FUZZ=batch. Needs a nightly toolchain
	@scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ)

storm: build ## Faults of all kinds in a cluster under load, an hour of them; CLUSTER_SECONDS=120, CHAOS_SEED=7, CLUSTER="--help"
	@$(BIN)/cluster-storm --seconds $(CLUSTER_SECONDS) --seed $(CHAOS_SEED) $(CLUSTER)

storm-kafka: build setup-kafka ## The same with a job from topic to topic, and faults of the brokers, half an hour of them; KAFKA_SECONDS=60, KAFKA_STORM="--brokers 3"
	@$(BIN)/cluster-storm --kafka --partitions 3 --seconds $(KAFKA_SECONDS) --seed $(CHAOS_SEED) $(KAFKA_STORM)

setup: ## Installs the C++ compiler, libclang and headers that RocksDB and librdkafka need, or says what to install
	@scripts/setup.sh

setup-kafka:
	@scripts/setup.sh kafka

kafka: setup-kafka ## Starts Apache Kafka at 127.0.0.1:19092, without Docker; NODES=3, KAFKA_VERSION=3.9.1. scripts/kafka.sh down ends it
	@scripts/kafka.sh up $(NODES)

build: setup ## Builds every program
	cargo build $(CARGO_FLAGS)

print-target-dir: ## Where cargo builds: CARGO_TARGET_DIR, or ~/.cache/tidegate/target
	@echo "$(CARGO_TARGET_DIR)"
