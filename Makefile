# Switchboard: every command that a developer needs. `make` lists them.

.DEFAULT_GOAL := help
.PHONY: help up up_build up_scale down status logs reset restart dead-letters test chaos mutants test-compose test-pods check k8s-check bench fmt

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9_-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## build and start everything, wait until all is ready: in containers where an engine answers, else natively; STACK=native or compose chooses
	@dev/system up

up_build: ## the same in containers
	@STACK=compose dev/system up

up_scale: ## the same in containers, with BROKERS=3 behind nginx, and LISTENERS=2
	@BROKERS=$(BROKERS) LISTENERS=$(LISTENERS) dev/compose scale

down: ## stop everything; the data stays
	@dev/system down

status: ## a line per process: name, state, pid, address, uptime
	@dev/system status

logs: ## follow the logs; S=mailer: of one process
	@dev/system logs $(S)

reset: ## stop everything and remove the data
	@dev/system reset

restart: ## restart the services; S=mailer: one process
	@dev/system restart $(S)

dead-letters: ## list the dead letters; ARGS='show ID', 'replay ID', 'replay ID --body FILE', 'replay --all', 'discard ID REASON'
	@dev/dead-letters $(or $(ARGS),list)

test: ## all tests, on servers of their own; ARGS='-E test(name)': some; KEEP=1: leave the servers up
	@dev/test $(ARGS)

chaos: ## MINUTES=30 of chaos: everything is killed, paused and cut off under load, and then counted
	@dev/chaos

mutants: ## break the code of the promise in every small way, and see that a test notices; hours. ARGS='--re Relay::round': some
	@dev/mutants $(ARGS)

test-compose: ## the system in containers: the journeys, replicas, faults; KEEP=1: leave it up
	@dev/test-compose

test-pods: ## the pods of k8s/overlays/dev in Podman: the journeys, faults; ARGS='up test': some parts
	@dev/test-pods $(ARGS)

check: ## format, lints, docs, unused dependencies, the import rule, names of metrics and settings, the shell scripts
	@dev/check

k8s-check: ## the Kubernetes manifests: schemas, policy, hops; and the Dockerfile
	@dev/k8s-check

bench: ## measure each path against its floor
	@dev/bench $(ARGS)

fmt: ## format the Rust code
	@cargo fmt --all
