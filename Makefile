# Every target works from a fresh clone once `pip install -c constraints.txt -e .[dev]` has run.
PYTHON ?= python

.PHONY: build test test-slow fuzz lint format docs docs-site bench bench-compare sanitize gpu cuda-check clean

build:  ## compile what has changed into fastrnn/_C.abi3.so
	$(PYTHON) setup.py --quiet build_ext --inplace

test: build
	$(PYTHON) -m pytest -n 2 --dist loadfile

test-slow: build  ## the tests that `make test` leaves out
	$(PYTHON) -m pytest -n 2 --dist loadfile --slow -m slow

fuzz: build  ## random lives of layers beside torch.nn's, an hour or FASTRNN_FUZZ_SECONDS long
	FASTRNN_FUZZ_SECONDS=$${FASTRNN_FUZZ_SECONDS:-3600} $(PYTHON) -m pytest -s tests/test_fuzz.py

lint:
	ruff check .
	ruff format --check .
	find csrc tests examples -name '*.cpp' -o -name '*.h' -o -name '*.c' -o -name '*.cu' -o -name '*.cuh' | xargs clang-format --dry-run -Werror

format:
	ruff check --fix .
	ruff format .
	find csrc tests examples -name '*.cpp' -o -name '*.h' -o -name '*.c' -o -name '*.cu' -o -name '*.cuh' | xargs clang-format -i

docs docs-site:  ## the documentation as a site, in site/
	$(PYTHON) -m mkdocs build --strict

bench: build
	$(PYTHON) -m benchmarks --quick

bench-compare: build  ## this tree against another revision: make bench-compare BASE=<rev>
	$(PYTHON) -m benchmarks compare $(BASE)

sanitize:  ## the CPU kernels, and the CUDA kernels in the simulator, under sanitizers
	.ci/sanitize

gpu:  ## on a machine with a GPU: build, all checks that need one, then its benchmark
	PYTHON=$(PYTHON) .ci/gpu

cuda-check:  ## compile every CUDA kernel for sm_80 and sm_90: registers, spills, instructions
	$(PYTHON) tests/cuda_compile.py

clean:
	rm -rf build dist site fastrnn/_C.abi3.so *.egg-info
