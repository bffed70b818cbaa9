# What you run while changing Hodi. Everything is pinned: Go by go.mod, the tools by go.tool.mod.

GO        ?= go
TOOL       = $(GO) tool -modfile=go.tool.mod
FUZZ      ?= 20s
# SQLite is C that was translated to Go: watched by the race detector it takes ten times as long, and what the detector
# is for is our code, which reaches SQLite through database/sql.
RACE       = -race -gcflags='modernc.org/...=-race=false'
PLATFORMS ?= linux/amd64 linux/arm64 linux/arm darwin/arm64 windows/amd64

.PHONY: all build test lint bench fuzz cross packages packages-test systemd-test powercut storm chaos chaos-short

all: lint test

build: ## one static binary, ./hodi
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o hodi ./cmd/hodi

test: ## everything, with the race detector; ends with what failed, and with what was skipped and why
	$(TOOL) gotestsum --format pkgname -- $(RACE) -timeout 20m $(TESTFLAGS) ./...

lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt these: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

bench: ## the speed of each part, and of the whole path
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(GO) run ./cmd/hodi bench

storm: ## 1,000 sidecars come back to a restarted edge at once; then they come and go 10,000 times
	HODI_STORM_SIDECARS=1000 HODI_STORM_RECONNECTS=10000 $(GO) test -count=1 -timeout 30m -run Storm -v ./cmd/hodi

powercut: ## the power cut of the tests, at every write of a longer day
	HODI_POWERCUT_PAYMENTS=40 $(GO) test -count=1 -timeout 30m -run AnsweredIsLostInAPowerCut -v ./cmd/hodi

chaos: build ## break everything for a quarter of an hour, and account for 1,000,000 callbacks; CHAOS='--seed 7 --callbacks 100000'
	$(GO) run ./cmd/chaos --hodi ./hodi $(CHAOS)

chaos-short: build ## the same for a minute
	$(GO) run ./cmd/chaos --hodi ./hodi --duration 60s --rate 300 --sidecars 3 --calm 5s $(CHAOS)

fuzz: ## every fuzz target for $(FUZZ)
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZ) -fuzzminimizetime 20x $$package || exit 1; \
		done; \
	done

packages: ## binaries, .deb and .rpm for amd64, arm64 and arm, with their sums and what they are built of, into dist/
	systemd/package/build dist

systemd-test: ## the life of the packages under the systemds of two Debians, as long as it takes
	HODI_PACKAGES=1 HODI_SYSTEMD=1 $(GO) test -count=1 -timeout 30m -run PackagesLive -v ./systemd

packages-test: ## two builds are the same; the packages come, live under systemd, and go in a fresh Debian
	HODI_PACKAGES=1 $(GO) test -count=1 -timeout 20m -run 'Packages$$' -v ./systemd

cross: ## the platforms of shops (linux) and of developers (macOS, Windows)
	@for platform in $(PLATFORMS); do \
		echo "$$platform"; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} GOARM=7 $(GO) build -o /dev/null ./cmd/hodi || exit 1; \
	done
