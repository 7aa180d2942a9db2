# Every target works from a fresh clone once `pip install -c constraints.txt -e .[dev]` has run.
PYTHON ?= python

.PHONY: build test lint format bench bench-compare sanitize gpu clean

build:  ## compile what has changed into fastrnn/_C.abi3.so
	$(PYTHON) setup.py --quiet build_ext --inplace

test: build
	$(PYTHON) -m pytest

lint:
	ruff check .
	ruff format --check .
	find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' | xargs clang-format --dry-run -Werror

format:
	ruff check --fix .
	ruff format .
	find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' | xargs clang-format -i

bench: build
	$(PYTHON) -m benchmarks --quick

bench-compare: build  ## this tree against another revision: make bench-compare BASE=<rev>
	$(PYTHON) -m benchmarks compare $(BASE)

sanitize:  ## the CPU kernels under AddressSanitizer, UBSan and ThreadSanitizer
	.ci/sanitize

gpu: build  ## all checks that need a GPU, then its benchmark
	FASTRNN_TEST_DEVICE=cuda $(PYTHON) -m pytest tests/gpu tests/test_ops.py tests/test_parity.py \
	  tests/test_gradients.py tests/test_ragged.py tests/test_resets.py
	$(PYTHON) -m benchmarks --quick --device cuda --out benchmarks/out/gpu

clean:
	rm -rf build dist fastrnn/_C.abi3.so *.egg-info
