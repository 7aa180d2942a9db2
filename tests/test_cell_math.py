"""The maths that cells call: on registers (csrc/cpu/simd/), on single numbers (csrc/cells/math.h).

Compiled here for each instruction set, and compared with long double's in units in the last place.
"""

import ctypes
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from buildtools import native, toolchain

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "tests" / "cpu" / "cell_math.cpp"
SCALAR = "scalar"  # without an instruction set's registers: the functions of csrc/cells/math.h
ISAS = {**{k: v for k, v in native.isas().items() if k not in native.ISA_SOURCES}, SCALAR: None}
DTYPES = {"float": np.float32, "double": np.float64}
PAD = 16  # numbers of the widest register

# Largest errors allowed, in units in the last place: float, double. The largest seen on the slow
# grids: exp 1.02, expm1 1.9, log 0.8, log1p 0.84, sigmoid 2.3, tanh 2.5, sin and cos 1.5, erf 1.4.
ULPS = {
    "abs": (0, 0),
    "sqrt": (0.501, 0.501),
    "exp": (1.25, 1.25),
    "expm1": (2, 2),
    "log": (1, 1),
    "log1p": (1, 1),
    "sigmoid": (2.5, 2.5),
    "tanh": (2.6, 2.6),
    "sin": (1.6, 1.6),
    "cos": (1.6, 1.6),
    "erf": (1.6, 1.6),
}


def runs_here(isa):
    wanted = {"avx2": ("AVX2", "AVX512"), "avx512": ("AVX512",)}.get(isa)
    return wanted is None or torch.backends.cpu.get_cpu_capability() in wanted


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Instruction set -> object file and shared library."""
    try:
        compiler = toolchain.find_compiler()
    except toolchain.BuildError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("cell_math")

    def build(isa):
        target, library = folder / f"{isa}.o", folder / f"{isa}.so"
        flags = [f for f in native.FLAGS if f != "-fvisibility=hidden"]
        flags += [] if ISAS[isa] is None else [*ISAS[isa], f"-DFASTRNN_ISA={isa}"]
        source = [f"-I{ROOT / 'csrc'}", "-c", str(SOURCE), "-o", str(target)]
        for command in ["-O2", *flags, "-Werror", *source], ["-shared", str(target), "-o", library]:
            subprocess.run([*compiler, *command], check=True, timeout=300)
        return target, library

    with ThreadPoolExecutor() as pool:
        return dict(zip(ISAS, pool.map(build, ISAS), strict=True))


class Maths:
    """The functions of one library, over arrays."""

    def __init__(self, library):
        self.library = ctypes.CDLL(str(library))

    def __call__(self, name, *args):
        dtype = args[0].dtype
        suffix = next(k for k, v in DTYPES.items() if v == dtype)
        function = getattr(self.library, f"{name}_{suffix}")
        size = len(args[0])
        padded = [np.pad(a, (0, -size % PAD)) for a in (*args, *[args[0]] * (3 - len(args)))]
        out = np.full(len(padded[0]), np.nan, dtype)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*padded, out)]
        function(*pointers, ctypes.c_int64(len(out)))
        return out[:size]


@pytest.fixture(params=ISAS)
def maths(request, built):
    if not runs_here(request.param):
        pytest.skip(f"this CPU has no {request.param}")
    return Maths(built[request.param][1])


@pytest.fixture(scope="module")
def exact(built):
    """The functions in long double."""
    erf = ctypes.CDLL(str(built[SCALAR][1])).exact_erf

    def function(name, x):
        with np.errstate(all="ignore"):
            x = x.astype(np.longdouble)
            if name == "sigmoid":
                return 1 / (1 + np.exp(-x))
            if name == "erf":
                out = np.empty_like(x)
                erf(*(ctypes.c_void_p(a.ctypes.data) for a in (x, out)), ctypes.c_int64(len(x)))
                return out
            return getattr(np, name)(x)

    return function


def ulps(y, expected):
    """Errors of y in units in the last place; infinite where only one of the two is finite."""
    info = np.finfo(y.dtype)
    with np.errstate(all="ignore"):
        rounded = expected.astype(y.dtype)
        exponent = np.maximum(np.frexp(expected)[1] - 1, info.minexp)
        error = np.abs(y.astype(np.longdouble) - expected) / np.ldexp(
            np.longdouble(1), exponent - info.nmant
        )
    same = (rounded == y) | (np.isnan(rounded) & np.isnan(y))
    finite = np.isfinite(rounded) & np.isfinite(y)
    return np.where(finite, error, np.where(same, 0, np.inf)).astype(np.float64)


def points(name, dtype, count):
    """Dense grids where the function bends, magnitudes of all sizes, and random bit patterns."""
    info, generator = np.finfo(dtype), np.random.default_rng(0)
    largest = 110 if dtype == np.float32 else 800  # exp is 0 or infinite beyond
    reach = {"exp": largest, "expm1": largest, "sin": 1e5, "cos": 1e5}.get(name, 50)
    grids = [np.linspace(-r, r, count) for r in (0.5, 1.1, 6, reach)]
    sizes = np.exp2(generator.uniform(info.minexp - info.nmant, info.maxexp - 0.01, count))
    x = np.concatenate([*grids, sizes, -sizes]).astype(dtype)
    bits = generator.integers(0, 256, (count, dtype().itemsize), np.uint8).view(dtype)[:, 0]
    x = np.concatenate([x, bits])
    if name in ("sin", "cos"):
        turns = np.arange(-count // 2, count // 2) * (np.longdouble(np.pi) / 2)
        x = np.concatenate([x, turns.astype(dtype)])
        x = x[(np.abs(x) <= 1e8) | ~np.isfinite(x)]
    if name == "sigmoid":  # whose denormal results are not kept: see below
        x = x[~(x < -(87 if dtype == np.float32 else 708))]
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ULPS)
@pytest.mark.parametrize("count", [3000, pytest.param(300_000, marks=pytest.mark.slow)])
def test_errors_are_units_in_the_last_place(maths, exact, name, dtype, count):
    x = points(name, DTYPES[dtype], count)
    error = ulps(maths(name, x), exact(name, x))
    worst = error.argmax()
    assert error[worst] <= ULPS[name][dtype == "double"], (x[worst], maths(name, x)[worst])


def test_registers_call_no_library(built):
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm to list the symbols with")
    for isa, (target, _) in built.items():
        output = subprocess.run([nm, "-u", target], check=True, capture_output=True, text=True)
        called = set(output.stdout.split()) & {"exp", "expf", "sin", "sinf", "sqrt", "sqrtf"}
        if isa == SCALAR:
            assert called >= {"exp", "expf", "sin", "sinf"}
        else:
            assert not output.stdout.split(), f"{isa} calls {output.stdout}"


SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 0.5, 1e30, -1e30, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ULPS)
def test_limits_are_torchs(maths, name, dtype):
    """Infinities, NaN and the sign of zero; numbers to 1e-6."""
    info = np.finfo(DTYPES[dtype])
    x = np.array([*SPECIAL, info.max, -info.max, info.tiny, -info.tiny], info.dtype)
    if name in ("sin", "cos"):
        x = x[~((np.abs(x) > 1e8) & np.isfinite(x))]
    if name == "tanh":  # which gives 0 of -0
        x = x[(x != 0) | ~np.signbit(x)]
    y, expected = maths(name, x), getattr(torch, name)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=0)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(y)[known], np.signbit(expected)[known])


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_ends_in_zero_and_in_infinity(maths, dtype):
    x = np.array([-1e30, -1000, -745, -110, -100, 110, 745, 1000, 1e30], DTYPES[dtype])
    with np.errstate(over="ignore"):
        expected = np.exp(x)
    np.testing.assert_allclose(
        maths("exp", x), expected, 1e-6, np.finfo(x.dtype).smallest_subnormal
    )
    np.testing.assert_array_equal(maths("exp", x) == 0, expected == 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_may_be_zero_where_it_is_denormal(maths, exact, dtype):
    x = np.linspace(-120 if dtype == "float" else -750, -87, 4000).astype(DTYPES[dtype])
    expected = exact("sigmoid", x).astype(x.dtype)
    y, normal = maths("sigmoid", x), np.finfo(x.dtype).tiny
    np.testing.assert_allclose(y, expected, 3 * np.finfo(x.dtype).eps, 3 * normal)
    assert (maths("sigmoid", np.array([-1000, -1e30, -np.inf], x.dtype)) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_sines_of_large_numbers_are_bounded(maths, dtype):
    x = np.exp2(np.linspace(20, np.finfo(DTYPES[dtype]).maxexp - 1, 999)).astype(DTYPES[dtype])
    for name in ("sin", "cos"):
        assert (np.abs(maths(name, x)) <= 1).all()


PAIRS = [(a, b) for a in SPECIAL for b in SPECIAL]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_larger_and_the_smaller_let_nan_through(maths, dtype):
    a, b = np.array(PAIRS, DTYPES[dtype]).T.copy()
    for name in ("maximum", "minimum"):
        expected = getattr(torch, name)(torch.from_numpy(a), torch.from_numpy(b)).numpy()
        np.testing.assert_array_equal(maths(name, a, b), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_comparisons_and_masks(maths, dtype):
    a, b = np.array(PAIRS, DTYPES[dtype]).T.copy()
    c = np.resize(np.array([2.0, -3.0, 0.25], DTYPES[dtype]), len(a))
    for name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"):
        expected = np.where(getattr(np, name)(a, b), c, -c)
        np.testing.assert_array_equal(maths(name, a, b, c), expected)
    np.testing.assert_array_equal(maths("both", a, b, c), np.where((a < b) & (b < c), a, c))
    np.testing.assert_array_equal(maths("either", a, b, c), np.where((a < b) | (b < c), a, c))
    np.testing.assert_array_equal(maths("inverse", a, b, c), np.where(~(a < b), a, b))
