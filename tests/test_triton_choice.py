"""The choice among Triton's launch configurations, on a pretended GPU."""

import math
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import fastrnn
from fastrnn import backends, cells
from fastrnn.backends.triton import Triton

pytest.importorskip("triton")

from fastrnn.triton import choice, config  # noqa: E402

HUNDRED = SimpleNamespace(shared_memory_per_block_optin=232_448, multi_processor_count=100)


@pytest.fixture
def gpu(monkeypatch):
    """State of the pretended GPU: whether a graph is captured, how long each way takes."""
    state = SimpleNamespace(capturing=False, timed=[], times={})
    properties = SimpleNamespace(shared_memory_per_block_optin=232_448, multi_processor_count=9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state.capturing)
    monkeypatch.setattr(choice, "_chosen", {})

    def milliseconds(run, option, device):
        state.timed.append(option)
        return state.times.get((option.warps, option.shares), 9.0)

    monkeypatch.setattr(choice, "_milliseconds", milliseconds)
    return state


def choose(run=lambda option: (option, None), **changes):
    layer = dict(B=4, D=1, H=64, T=100, multiply="bfloat16", spec=cells.get("lstm"),
                 device=torch.device("cuda:0"))  # fmt: skip
    return choice.choose("forward", SimpleNamespace(**layer | changes), run)


def test_times_once_and_remembers(gpu):
    gpu.times[4, 4] = 1.0
    assert choose().shares == 4 and len(gpu.timed) > 1
    count = len(gpu.timed)
    assert choose().shares == 4 and choose(B=3).shares == 4 and len(gpu.timed) == count
    choose(H=32)
    assert len(gpu.timed) > count


def test_times_nothing_while_a_graph_is_captured(gpu):
    gpu.times[4, 4], gpu.capturing = 1.0, True
    assert choose().shares == 1 and not gpu.timed
    gpu.capturing = False
    assert choose().shares == 4
    gpu.capturing = True
    assert choose().shares == 4


def test_times_nothing_where_bits_must_repeat(gpu):
    torch.use_deterministic_algorithms(True)
    choose()
    assert not gpu.timed


@pytest.mark.parametrize("programs, shared", [(46, 101_376), (108, 166_912), (132, 232_448)])
@pytest.mark.parametrize("multiply", ["bfloat16", "float16", "tf32", "ieee"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_every_size_has_a_configuration_that_fits(direction, multiply, programs, shared):
    size = 4 if multiply in ("tf32", "ieee") else 2
    for gates, h, b, d in product(
        (1, 2, 3, 4), (1, 16, 17, 100, 128, 200, 256, 512, 1000, 5000), (1, 16, 64, 4096), (1, 2)
    ):
        sizes = b, d, programs, shared
        options = config.candidates(config.Need(direction, gates, h, multiply), *sizes)
        assert options and len(set(options)) == len(options) <= 4
        for option in options:
            tiles = -(-b // option.rows) * d
            if option.shares > 1:  # all at once, and together they have all units and columns
                assert tiles * option.programs(h) <= programs
                assert option.units * option.programs(h) >= h <= option.inner * option.shares
                assert option.inner >= 16 and 1 <= option.together <= gates
            elif option.hold == "resident":
                assert option.programs(h) == 1 and option.units == option.inner >= h
            if option.hold == "resident":
                assert gates * option.units * option.inner * option.shares * size <= shared
            else:
                assert len(options) > 1 and option.programs(h) == 1


@pytest.mark.parametrize("b", [1, 3, 4000])
def test_a_cell_without_a_product_shares_units(b):
    need = config.Need("forward", 2, 100, "ieee", product=False)
    for option in config.candidates(need, b, 2, 108, 166_912):
        assert (option.hold, option.shares) == ("nowhere", 1)
        assert option.rows <= max(b, 1) * 2 and option.rows * option.units == 32 * option.warps
        assert (
            option.units * (option.programs(100) - 1) < 100 <= option.units * option.programs(100)
        )


def test_programs_that_wait_for_each_other_are_launched_together():
    alone, sharing = OPTION, replace(OPTION, units=16, inner=16, shares=4)
    assert "launch_cooperative_grid" not in alone.options()
    assert sharing.options()["launch_cooperative_grid"] is True


MILLISECONDS = choice._milliseconds
OPTION = config.Config(16, 64, 64, "resident", 8)


@pytest.fixture
def events(monkeypatch):
    """Pretended CUDA events, which tell on which device, and after how much work, they were."""
    state = SimpleNamespace(device=None, work=0.0)

    @contextmanager
    def on(device):
        state.device, before = device, state.device
        yield
        state.device = before

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            assert state.device == DEVICE
            self.at = state.work

        def synchronize(self):
            assert state.device == DEVICE

        def elapsed_time(self, other):
            return other.at - self.at

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    return state


DEVICE = torch.device("cuda:1")


def test_kernels_are_timed_on_their_device_without_what_surrounds_them(events):
    def run(option, pair=()):
        events.work += 100  # zeroing and copies
        if pair:
            pair[0].record()
        events.work += 3
        if pair:
            pair[1].record()
        return None, SimpleNamespace(n_spills=0)

    assert choice._milliseconds(run, OPTION, DEVICE) == 3


def test_a_kernel_that_spills_is_never_picked(events):
    def spills(option):
        return None, SimpleNamespace(n_spills=2)

    assert choice._milliseconds(spills, OPTION, DEVICE) == math.inf


REFUSED = (
    choice.OutOfResources(300_000, 232_448, "shared memory"),
    RuntimeError("Triton Error [CUDA]: too many blocks in cooperative launch"),
)


@pytest.mark.parametrize("error", REFUSED, ids=["resources", "cooperative"])
def test_a_kernel_that_does_not_fit_is_never_picked(events, error):
    def refused(option):
        raise error

    assert choice._milliseconds(refused, OPTION, DEVICE) == math.inf


def test_another_error_is_not_hidden(events, gpu):
    def broken(option):
        raise RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered")

    gpu.capturing = True
    with pytest.raises(RuntimeError, match="illegal"):
        choose(broken)
    events.device = DEVICE
    with pytest.raises(RuntimeError, match="illegal"):
        MILLISECONDS(broken, OPTION, DEVICE)


@pytest.mark.parametrize("error", REFUSED, ids=["resources", "cooperative"])
def test_where_nothing_is_timed_the_first_that_the_device_takes_serves(gpu, error):
    gpu.capturing = True
    first = choose()

    def run(option):
        if option == first:
            raise error
        return option, None

    assert choose(run) != first

    def never(option):
        raise error

    with pytest.raises(type(error)):
        choose(never)


def test_explain_says_how_r_is_held_and_why(gpu, monkeypatch):
    monkeypatch.setattr(backends, "choose", lambda *args: (Triton(), "as it is asked for"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: HUNDRED)
    module = fastrnn.FastLSTM(4, 200, bidirectional=True)
    with FakeTensorMode():
        x = torch.empty(5, 3, 4, device="cuda:0", dtype=torch.bfloat16)
    text = fastrnn.explain(module, x)
    assert "forward: R stays in 13 programs of 16 units, which share 8 batch rows (the" in text
    assert "likely best of 2, which the first call times)" in text
    gpu.times[8, 8] = 1.0
    choose(B=3, D=2, H=200)
    assert "share 8 batch rows (the fastest when timed)" in fastrnn.explain(module, x)
    assert "R stays in each program; 8 batch rows" in fastrnn.explain(fastrnn.FastRNN(4, 64), x)
    assert "R is read from L2 at every step; 16" in fastrnn.explain(fastrnn.FastLSTM(4, 3000), x)
    text = fastrnn.explain(fastrnn.zoo.MinGRU(4, 100), x)
    assert "backward: no R; 4 batch rows and 32 units a program (the likely best of 2, " in text
