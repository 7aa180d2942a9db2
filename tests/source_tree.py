"""A copy of the source tree that compiles in a second, for the tests of the build."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("buildtools", "fastrnn", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md")
BESIDE = ("LICENSE", "constraints.txt")

# one source of each kind; scale() exists once per instruction set
SOURCES = {
    "csrc/op/module.cpp": """
        #include <Python.h>
        #include <torch/headeronly/core/ScalarType.h>
        #include "cells/scale.h"
        namespace fastrnn { float dispatch(float); }
        static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", 0, 0, 0, 0, 0, 0, 0};
        PyMODINIT_FUNC PyInit__C(void) { return PyModuleDef_Init(&module); }
        extern "C" __attribute__((visibility("default"))) float probe(float x) {
          return fastrnn::dispatch(x);
        }
        #ifdef FASTRNN_CUDA
        extern "C" __attribute__((visibility("default"))) const char* archs() {
          return FASTRNN_CUDA_ARCHS;
        }
        #endif
    """,
    "csrc/cpu/dispatch.cpp": """
        namespace fastrnn {
        namespace base { float scale(float); }
        #ifdef FASTRNN_HAVE_AVX512
        namespace avx512 { float scale(float); }
        #endif
        float dispatch(float x) {
        #ifdef FASTRNN_HAVE_AVX512
          if (x < 0) return avx512::scale(x);
        #endif
          return base::scale(x);
        }
        }
    """,
    "csrc/cpu/isa/scale.cpp": """
        #include "cells/scale.h"
        namespace fastrnn::FASTRNN_ISA { float scale(float x) { return FACTOR * x; } }
    """,
    "csrc/cells/scale.h": "#define FACTOR 2\n",
    "csrc/cpu/engine/forward.h": "#pragma once\n",
    "csrc/op/private.h": "#pragma once\n",
    "csrc/c/fastrnn.h": "int open(void);\n",
    "csrc/c/fastrnn.cpp": '#include "fastrnn.h"\n',
}


def make(root: Path, sources: dict[str, str] = SOURCES) -> Path:
    """Copies what the build reads to `root`, with `sources` in the place of csrc/."""
    root.mkdir(parents=True)
    for name in (*SHIPPED, *BESIDE):
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(ROOT / name, root / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, root / name)
    for name, text in sources.items():
        write(root / name, text)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Runs this Python in `cwd`, with those of the build's own variables that are given."""
    ours = ("FASTRNN_", "CXX", "MAX_JOBS", "TORCH_CUDA", "PYTHONPATH")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**env, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
