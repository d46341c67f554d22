# What one does with this repository. `make` alone lists it.
#
# run needs only Go. test also needs gcc, Java 17, Maven, Node and Python 3; its first stage,
# scripts/setup, fetches the rest or says which line to paste.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
SEEDS   ?= 10000
KILLS   ?= 20
OUTAGES ?= 6
SEED    ?= 1
DURATION ?= 10m
RATE    ?= 10000
ONLY    ?=
STAGES  ?=
BENCH   ?= .
CASES   ?= batch heard device single latency fleet
COUNT   ?= 3
READINGS ?= 31145914
LAYOUT  ?= rows
SCALE_LAYOUT ?= chunks
# How Cassandra is set up where it is measured: the heap is the least that is used for real, the rest what
# its version 5 recommends for new clusters.
SERVERS ?= --cassandra-heap 4096 --cassandra-latest
OVERLOAD ?= 10m

.PHONY: help build run cluster setup test check format generate bench bench-whole bench-peers chaos chaos-scale outages simulate-faults overload break-laws deploy-check fixture web cover clean headline profile recordings

help: ## list what there is
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Without C: the same static program with a C compiler on the machine and without one, and as in the container image.
build: ## build bin/wellhead
	CGO_ENABLED=0 $(GO) build -trimpath -pgo=cmd/wellhead/wellhead.pgo -ldflags "-X main.version=$(VERSION)" -o bin/wellhead ./cmd/wellhead

run: build ## show a living fleet of 1 000 simulated devices; prints the address to open
	bin/wellhead demo

cluster: build ## run a cluster of MEMBERS=3 on this machine, with NATS, Cassandra and Redis; prints what to try
	scripts/cluster

setup: ## fetch or install what the tests need beside Go
	scripts/setup

test: ## run every test (about half an hour); STAGES="unit contract" runs those only
	scripts/test $(STAGES)

check: ## before each commit: format, lint, import rules, generated files, unit tests with -race
	scripts/test check unit

format: ## format all Go files
	scripts/check format

generate: ## make the generated files anew
	scripts/check generate

bench: ## run the benchmarks; BENCH=regex chooses, COUNT=n repeats (docs/benchmarks.md)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) -timeout 60m $$($(GO) list ./... | grep -v '/tests$$')

bench-whole: build ## measure the whole program; CASES="batch fleet" chooses, cassandra needs real servers
	$(if $(filter cassandra% members,$(CASES)),SERVERS="$(SERVERS)" scripts/with-servers) $(GO) run ./bench -binary bin/wellhead -runs $(COUNT) $(CASES)

bench-peers: CASES = benthos flink-rows flink-million
bench-peers: PEERS = $(GO) run ./bench -binary bin/wellhead -peers .cache/peers -runs $(COUNT)
bench-peers: build ## measure beside Benthos and Apache Flink, CASES="benthos flink-rows flink-million" chooses; 25 minutes, Java 17, Maven, 20 GB of memory
	bench/peers/build .cache/peers
	$(if $(filter benthos flink-rows,$(CASES)),SERVERS="$(SERVERS)" scripts/with-servers $(PEERS) $(filter benthos flink-rows,$(CASES)))
	$(if $(filter flink-million,$(CASES)),$(PEERS) flink-million)

headline: build ## send READINGS=31145914 to real Cassandra (LAYOUT=rows) and Redis, check each, count them; half an hour
	SERVERS="$(SERVERS)" scripts/with-servers $(GO) run ./bench -binary bin/wellhead -readings $(READINGS) -layout $(LAYOUT) headline

profile: build ## make cmd/wellhead/wellhead.pgo anew, by which the compiler optimizes the program; half a minute on a quiet machine
	scripts/profile

recordings: ## replay and verify every recording in WELLHEAD_TESTDATA on Cassandra, Redis and an outside NATS server, all 130 meters
	WELLHEAD_METERS=130 scripts/with-servers $(GO) test -count=1 -timeout 30m ./tests -run '^TestRecordingsOutside$$' -v

chaos: build ## a cluster of three members, NATS servers and Cassandra nodes under load, with the faults of SEED=1 for about DURATION=10m (ONLY="kill -9 member" has those only); prints a table. Cutting parts off needs root
	scripts/fetch-cassandra
	WELLHEAD_BINARY=$(CURDIR)/bin/wellhead WELLHEAD_CHAOS_SEED=$(SEED) WELLHEAD_CHAOS_DURATION=$(DURATION) WELLHEAD_CHAOS_ONLY="$(ONLY)" $(GO) test -count=1 -timeout 24h ./tests -run '^TestChaos$$' -v

chaos-scale: build ## the same cluster has three members, six, and three again, under RATE=10000 readings/s (SCALE_LAYOUT=chunks)
	scripts/fetch-cassandra
	WELLHEAD_BINARY=$(CURDIR)/bin/wellhead WELLHEAD_CHAOS_RATE=$(RATE) WELLHEAD_CHAOS_LAYOUT=$(SCALE_LAYOUT) $(GO) test -count=1 -timeout 1h ./tests -run '^TestChaosScales$$' -v

outages: ## kill -9 the member at KILLS=20 random moments under load, embedded and on Cassandra + Redis, an outside NATS server 10 times; take away disk, Cassandra and Redis OUTAGES=6 times longer
	WELLHEAD_KILLS=$(KILLS) WELLHEAD_NATS_KILLS=10 WELLHEAD_OUTAGES=$(OUTAGES) scripts/test setup system

simulate-faults: ## run the shard's core through SEEDS=10000 seeds of faults; more by SEEDS=100000
	WELLHEAD_SEEDS=$(SEEDS) scripts/test simulation

overload: ## offer ten times what the archive is held to for OVERLOAD=10m, stop it meanwhile, verify all; draws docs/overload.svg
	OVERLOAD=$(OVERLOAD) OVERLOAD_PLOT=$(CURDIR)/docs/overload.svg CGO_ENABLED=0 $(GO) test -count=1 -timeout 60m ./cmd/wellhead -run '^TestOverload$$' -v

break-laws: ## break each law of replay and ownership once and want the simulation to see it
	WELLHEAD_BREAK_LAWS=1 $(GO) test ./actors -run TestBrokenLawsAreSeen -v -timeout 60m

deploy-check: ## check what is in deploy/ with promtool, amtool, kubectl-validate and compose-go, and run its commands
	scripts/deploy-check

fixture: ## keep data of the present version for tests/testdata: make fixture VERSION_OF_DATA=2, before that is raised
	scripts/fixture tests/testdata/data-v$(or $(VERSION_OF_DATA),$(error say which: make fixture VERSION_OF_DATA=2)).tgz

web: ## nothing to build yet
	@echo "The page is one plain file in web/, embedded as it is: nothing to build."

cover: ## unit tests with coverage, written to .cache/cover.html
	@mkdir -p .cache
	$(GO) test -coverprofile .cache/cover.out $$($(GO) list ./... | grep -v '/tests$$')
	$(GO) tool cover -html .cache/cover.out -o .cache/cover.html

clean: ## remove what was built, and what was fetched for the tests
	rm -rf bin .cache web/node_modules examples/clients/node_modules
