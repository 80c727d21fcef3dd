# make setup: what building, testing and the demo need, see scripts/setup
.PHONY: setup
setup:
	@scripts/setup

# make demo: a site with a real Butler, from nothing to proof; make demo KAFKA=1: through a real Kafka
.PHONY: demo
demo:
	@scripts/setup build python $(if $(KAFKA),kafka)
	@$(if $(KAFKA),cargo run --quiet --package dbb-test-services --example with_kafka --) \
		cargo run --quiet --package dbb -- demo --python .venv/bin/python $(if $(KAFKA),--kafka '{brokers}')

# make federation: Rucio moves files from one facility to another, a hub tells of it, a Butler has them; links break
.PHONY: federation
federation:
	@scripts/setup build python kafka postgres activemq rucio
	@cargo test --quiet --locked --package dbb-tests --test end_to_end usdf_to_frdf -- --nocapture

# make test: every test, against real services that it starts and stops itself
.PHONY: test
test: setup
	@cargo test --workspace --locked --no-fail-fast

# Optimised builds are for processors of 2013 or later.
FAST = RUSTFLAGS='-C target-cpu=x86-64-v3' cargo
# Built as part of the workspace the program would have what tests alone may have: the fault points.
INSTALLED = --locked --release --package dbb --bin dbb
OPTIMISED = --locked --release --workspace

# make release: the program that a site installs, target/release/dbb
.PHONY: release
release:
	@scripts/setup build
	$(FAST) build $(INSTALLED)
	@! grep --quiet DBB_FAULT target/release/dbb || { echo "target/release/dbb has the fault points of the tests"; exit 1; }

# make soak: Kafka fed at 20,000 events a second, all views, clients that ask in SQL; SECONDS=60 for a short one
SECONDS ?= 600
.PHONY: soak
soak:
	@scripts/setup build kafka
	$(FAST) build $(INSTALLED)
	$(FAST) build $(OPTIMISED) --bin soak
	target/release/soak --seconds $(SECONDS) --dbb target/release/dbb $(if $(CI),,--assert-age) $(SOAK)

# make chaos: everything breaks while a site of two processes works; the last line says what came of it. ROUNDS=20 for a short one
ROUNDS ?= 500
.PHONY: chaos
chaos:
	@scripts/setup build python kafka
	$(FAST) build $(OPTIMISED) --bin dbb_under_test --bin chaos
	target/release/chaos --rounds $(ROUNDS) $(CHAOS)

# make attack: a stranger, a client, a statement do what they can to a running site; the last line says what came of it
.PHONY: attack
attack:
	@scripts/setup build python kafka
	$(FAST) build $(OPTIMISED) --bin dbb_under_test --bin attack
	target/release/attack $(ATTACK)
	DBB_HOSTILE=all cargo test --quiet --locked --package dbb-serving --test asked no_statement_ends

# make bench BENCH=decode: one of the measurements in bench/benches
BENCH ?= decode
.PHONY: bench
bench:
	@scripts/setup build kafka activemq
	$(FAST) build $(INSTALLED)
	$(FAST) bench --locked --workspace --bench $(BENCH)
