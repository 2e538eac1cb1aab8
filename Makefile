# Switchboard: every command that a developer needs. `make` lists them.

.DEFAULT_GOAL := help
.PHONY: help up down status logs reset restart test check bench fmt

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## install what is missing, build, start everything, wait until all is ready
	@dev/stack up

down: ## stop everything; the data stays
	@dev/stack down

status: ## a line per process: name, state, pid, address, uptime
	@dev/stack status

logs: ## follow the logs; S=mailer: of one process
	@dev/stack logs $(S)

reset: ## stop everything and remove the data
	@dev/stack reset

restart: ## restart the services; S=mailer: one process
	@dev/stack restart $(S)

test: ## all tests, on servers of their own; ARGS='-E test(name)': some; KEEP=1: leave the servers up
	@dev/test $(ARGS)

check: ## format, lints, docs, unused dependencies, the import rule, the shell scripts
	@dev/check

bench: ## measure each path against its floor
	@dev/bench $(ARGS)

fmt: ## format the Rust code
	@cargo fmt --all
