# make setup: what building, testing and the demo need, see scripts/setup
.PHONY: setup
setup:
	@scripts/setup
