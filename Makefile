# Everything a person types. `make help` lists it.
SHELL := /bin/sh
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.tools/bin:$(PATH)
export CXX := $(CURDIR)/setup/g++17
export SPARK_LOCAL_IP ?= 127.0.0.1
READY := .venv/.ready
LAKE ?= .demo/lake
QUERY ?=

.PHONY: help setup demo test night bench lint sql clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(READY) ## checks the system, installs the locked environment into .venv (minutes, once)

$(READY): pyproject.toml uv.lock $(wildcard setup/*)
	@setup/system.sh
	@echo "setup: installing the locked environment; Horovod is compiled, which takes a few minutes the first time"
	@uv sync --frozen --quiet --compile-bytecode
	@echo "setup: resolving Delta's jars"
	@python setup/delta_jars.py
	@touch $(READY)

demo: setup ## set-up, then a whole night on MovieLens ratings into .demo/
	@spark-submit jobs/nightly.py --conf-file conf/demo.yaml --ds 2018-09-24

night: setup ## slow tests: killed nights and stages, a cluster, maintenance, the page on your own logs
	@python -m pytest -m night

test: setup ## the tests, on both cores
	@python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

bench: setup ## benchmarks, beside their peers, into benchmarks/results/ (most of an hour, on a quiet machine)
	@for name in sequences maintenance quantizers embedding training; do python benchmarks/$$name.py --out benchmarks/results/$$name.json; done

lint: setup ## ruff, check and format
	@ruff check . && ruff format --check .

sql: setup ## spark-sql on the tables of .demo/lake (LAKE=folder for another; QUERY="..." for one query)
	@python -m akt_spark.catalog --lake $(LAKE) > $(LAKE)/catalog.sql
	@spark-sql --silent -i $(LAKE)/catalog.sql $(if $(QUERY),-e "$(QUERY)") \
	  --conf spark.sql.warehouse.dir=$(LAKE)/warehouse \
	  --conf "spark.hadoop.javax.jdo.option.ConnectionURL=jdbc:derby:memory:catalog;create=true" \
	  --driver-java-options "-Dquiet=error -Dderby.stream.error.file=$(LAKE)/derby.log"

clean: ## removes the demo (.demo/), not the environment
	rm -rf .demo
