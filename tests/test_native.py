"""What only native CPU kernels promise: instruction sets, vectorised cells, threads, strides."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from helpers import (
    TORCH_CELLS,
    assert_same,
    backend_of,
    each_cell,
    fast,
    flat,
    gradients,
    oracle,
    problem,
    randn,
    run_python,
    slow_but,
    twins,
)

from buildtools import native, toolchain
from fastrnn import ops
from fastrnn.autograd import recurrent_scan

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")

ISAS = ops.BUILD_INFO.get("isas", [])
X86 = "avx2" in native.isas()


@pytest.mark.parametrize("isa", slow_but(ISAS[1:], ISAS))
def test_every_instruction_set_is_right(isa):
    flags = Path("/proc/cpuinfo").read_text()
    needs = {"avx2": "avx2", "avx512": "avx512vl"}
    needs |= {"avx512vnni": "avx512_vnni", "avx512bf16": "avx512_bf16"}
    if needs.get(isa, "") not in flags:
        pytest.skip(f"this CPU has no {isa}")
    run = run_python("native_worker.py", cwd=ROOT / "tests", FASTRNN_ISA=isa)
    assert run.returncode == 0, run.stderr
    ran, *errors = run.stdout.split()
    assert ran == isa
    float32, float64, bfloat16, denormal, changed_rows = map(float, errors)
    assert changed_rows == 0
    assert float32 < 3e-6
    assert float64 < 3e-15
    assert bfloat16 < 0.02
    assert (denormal == 0) == (isa == "avx512bf16")  # the instruction itself ran, or did not


def test_an_unknown_instruction_set_is_refused():
    run = run_python("-c", "import fastrnn", cwd=ROOT, FASTRNN_ISA="avx1024")
    assert run.returncode != 0
    assert "FASTRNN_ISA must be one of base" in run.stderr and "avx1024" in run.stderr


def test_unknown_value_for_threads_is_an_error():
    call = "import fastrnn, torch; fastrnn.FastRNN(2, 2)(torch.zeros(3, 2))"
    run = run_python("-c", call, cwd=ROOT, FASTRNN_STEADY_THREADS="always")
    assert run.returncode != 0
    assert "FASTRNN_STEADY_THREADS must be 0 or 1, got 'always'" in run.stderr


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """float32.cpp as it is compiled for AVX2."""
    if not X86 or not all(map(shutil.which, ("objdump", "nm"))):
        pytest.skip("needs an x86-64 compiler, objdump and nm")
    target = tmp_path_factory.mktemp("objects") / "float32.o"
    flags = [*native.OPTIMISE, *native.FLAGS, *native.ISAS_X86_64["avx2"], "-DFASTRNN_ISA=avx2"]
    source = ROOT / "csrc/cpu/isa/float32.cpp"
    command = [*toolchain.find_compiler(), *flags, f"-I{ROOT / 'csrc'}"]
    subprocess.run([*command, "-c", source, "-o", target], check=True)
    return target


# The work of one register of units, beside loads and stores: at least so many packed
# multiplications, additions and FMAs, and exactly so many divisions (one a sigmoid or tanh).
PACKED = {
    "Elman<fastrnn::Tanh>": (10, 1),
    "Elman<fastrnn::Relu>": (0, 0),
    "Elman<fastrnn::Identity>": (0, 0),
    "Lstm": (50, 5),
    "Gru": (30, 3),
}


@pytest.mark.slow  # as is the next: both compile the largest source once more
@pytest.mark.parametrize("cell", PACKED)
def test_cell_loops_are_vectorised(cell, compiled):
    """The forward cell loop of a cell has packed arithmetic on 256-bit registers and no calls to
    libm; a scalar fallback would show as vmulss, vdivss or a call of expf."""
    listing = subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", compiled],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    name = re.escape(f"fastrnn::avx2::Forward<fastrnn::{cell}, float, ") + r"[^\n]*?>::cells<2>"
    head = rf"^[0-9a-f]+ <void {name}\([^\n]*>:\n"
    bodies = re.findall(rf"{head}(.*?)(?:\n\n|\Z)", listing, re.M | re.S)
    assert len(bodies) == 1
    kinds = ("mulps", "addps", "subps", "divps", r"fn?m(?:add|sub)\d+ps")
    count = {kind: len(re.findall(rf"\bv{kind}\b.*ymm", bodies[0])) for kind in kinds}
    arithmetic, divisions = PACKED[cell]
    assert count.pop("divps") == divisions
    assert sum(count.values()) >= arithmetic + 1  # and the addition of x and r
    assert not re.search(r"\bv(mul|add|sub|div|fmadd\d+)ss\b", bodies[0])
    assert not re.search(r"call.*(exp|tanh)", bodies[0])


@pytest.mark.slow
def test_instruction_sets_cannot_merge_at_link_time(compiled):
    """Every symbol that the linker may merge is in the instruction set's own namespace."""
    symbols = subprocess.run(["nm", "-C", compiled], capture_output=True, text=True, check=True)
    weak = re.findall(r"^[0-9a-f]+ [WVu] (.*)$", symbols.stdout, re.M)
    assert weak and all("fastrnn::avx2::" in symbol for symbol in weak), weak


@pytest.mark.parametrize("batch", [1, 3, 16], ids="B{}".format)
@each_cell()
def test_threads_change_no_bit_of_the_forward_pass(cell, batch):
    """Rows are shared among threads, or units where rows are too few (H is large enough for that):
    each number is computed by one thread in one order. Gradients agree to rounding."""
    layer = fast(cell, 24, 272, bidirectional=True, backend="native")
    x = randn(40, batch, 24, grad=True)
    runs = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        result = layer(x)
        runs.append((flat(result), gradients(result, [x, *layer.parameters()])))
    for outputs, grads in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(outputs, runs[0][0]))
        for a, b in zip(grads, runs[0][1]):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2], ids="{}t".format)
@each_cell()
def test_gradients_of_large_weights(cell, threads):
    """Backward packs a large W_ih a panel at a time, and W_hh where its own gradient will be."""
    torch.set_num_threads(threads)
    case = problem(cell, 5, 3, 1100, 512, directions=3, dtype=torch.float32)
    exact = [leaf.detach().double().requires_grad_() for leaf in flat(case)]
    weights = len(case[1])
    ours = recurrent_scan(cell, *case, None, None, 3, True, backend_of("native"))
    theirs = oracle(cell, exact[0], exact[1 : 1 + weights], exact[1 + weights :], directions=3)
    for a, b in zip(gradients(ours, flat(case)), gradients(theirs, exact)):
        assert (a.double() - b).abs().max() < 3e-6 * b.abs().max()


@each_cell()
def test_ragged_rows_are_shared_by_work(cell):
    layer = fast(cell, 24, 272, bidirectional=True, backend="native")
    x = randn(60, 9, 24)
    lengths = [60, 1, 0, 3, 2, 41, 1, 1, 0]
    with torch.no_grad():
        torch.set_num_threads(1)
        alone = flat(layer(x, lengths=lengths))
        torch.set_num_threads(3)
        shared = flat(layer(x, lengths=lengths))
    assert all(torch.equal(a, b) for a, b in zip(alone, shared))


@pytest.mark.parametrize("sizes", [(19, 300), (64, 48), (1, 5)], ids="I{0[0]}-H{0[1]}".format)
@pytest.mark.parametrize("steps", [1, 2, 4, 5, 40], ids="T{}".format)
@each_cell()
def test_batch_invariance(cell, steps, sizes):
    """A row's result is the same to the last bit alone and among others, however short the call."""
    layer = fast(cell, *sizes, backend="native")  # H = 300: sums longer than a block of gemm.h
    x = randn(steps, 60, sizes[0])
    with torch.no_grad():
        whole = layer(x)[0]
        for row in (0, 7, 59):
            assert torch.equal(layer(x[:, row : row + 1])[0], whole[:, row : row + 1])


@each_cell()
def test_batch_first_input_is_read_where_it_lies(cell):
    """A transposed input and its copy give the same bits, in values and gradients."""
    layer = fast(cell, 9, 20, backend="native")
    x = randn(6, 13, 9).transpose(0, 1).detach().requires_grad_()
    y = x.detach().contiguous().requires_grad_()
    a, b = layer(x), layer(y)
    assert all(torch.equal(p, q) for p, q in zip(flat(a), flat(b)))
    ours, theirs = gradients(a, [x, *layer.parameters()]), gradients(b, [y, *layer.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs))


def test_blocks_of_time_join_without_a_seam():
    """More rows than a block of steps holds, in both passes, against one step at a time."""
    layer = fast("lstm", 3, 200, backend="native")
    x = randn(700, 3, 3)
    with torch.no_grad():
        whole, (h, c) = layer(x)
        state, parts = None, []
        for chunk in x.split(100):
            part, state = layer(chunk, state)
            parts.append(part)
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(state[0], h) and torch.equal(state[1], c)


@each_cell(TORCH_CELLS)
def test_a_last_block_of_one_row(cell):
    """A block of weight gradients holds 1,024 rows, and one row alone goes another way."""
    ours, theirs = twins(cell, 3, 5, dtype=torch.float64, backend="native")
    x = randn(1025, 1, 3, dtype=torch.float64, grad=True)
    grads = [gradients(m(x), [x, *m.parameters()]) for m in (ours, theirs)]
    assert_same(*grads, 1e-9)


def test_the_cell_list_is_the_libraries():
    assert set(ops.NATIVE_CELLS) >= {"rnn_tanh", "rnn_relu", "rnn_identity", "lstm", "gru"}
    assert len(ops.NATIVE_CELLS) == len(set(ops.NATIVE_CELLS))


ADDRESSES = """
#include <cassert>
#include "cpu/engine/rows.h"
#include "cpu/engine/shares.h"
using namespace fastrnn;
using namespace fastrnn::base;

// Bytes from a base pointer, without touching memory: what a kernel would add to it.
template <class P> int64_t offset(const P* p) { return reinterpret_cast<int64_t>(p); }

int main() {
  ScanParams s{};
  s.T = 1000000, s.B = 20000, s.I = 4096, s.H = 4096, s.P = s.P_row = s.H;
  s.N = s.T * s.B, s.directions = 2;
  s.input_t = s.B * s.I, s.input_b = s.I;
  const Rows<float> rows{s};
  const void* nothing = nullptr;
  assert(offset(rows.input(999999, 19999)) == (999999LL * 20000 + 19999) * 4096 * 4);
  assert(offset(rows.output(1, 999999, 19999)) == ((s.N - 1) * 2 + 1) * 4096 * 4);
  assert(offset(rows.state(nothing, 0, 19999)) == 19999LL * 4096 * 4);
  assert(rows.before(0, 999999, 19999) == 999998);
  const int64_t begin[] = {0, 3000000000}, sizes[] = {3000000000, 2500000000};
  s.T = 2, s.batch_sizes = sizes, s.step_begin = begin, s.B = 3000000000;
  assert(offset(rows.input(1, 2499999999)) == 5499999999 * 4096 * 4);
  assert(rows.active(1, {0, s.B}) == 2500000000);
  const int64_t order[] = {2900000000};
  s.order = order, s.input_t = s.B * s.I;
  assert(offset(rows.input(1, 0)) == 5900000000 * 4096 * 4);
  assert(offset(rows.output(1, 1, 0)) == (5900000000 * 2 + 1) * 4096 * 4);
  assert(offset(rows.state(nothing, 0, 0)) == 2900000000 * 4096 * 4);
  assert(row_part(s, 1, 2).begin > 1000000000);
  const Panels<float> panels(3000000000, 4);
  assert(panels.column(panels.count()) >= 12000000000);
  assert(panels.unit(panels.count() - 1) < panels.H);
}
"""


def test_indices_are_64_bits_wide(tmp_path):
    """The kernels' addresses where T * B * G * H passes 2^31 many times over."""
    compiler = toolchain.find_compiler()
    source = tmp_path / "addresses.cpp"
    source.write_text(ADDRESSES)
    flags = [*native.FLAGS, "-O1", "-fno-delete-null-pointer-checks", "-DFASTRNN_ISA=base"]
    flags += [f"-I{ROOT / 'csrc'}", "-include", "cpu/gemm/pack.h"]
    subprocess.run([*compiler, *flags, source, "-o", tmp_path / "addresses"], check=True)
    run = subprocess.run([tmp_path / "addresses"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
