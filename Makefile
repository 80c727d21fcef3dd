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
