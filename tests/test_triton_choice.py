"""The choice among Triton's launch configurations, on a pretended GPU."""

import math
from types import SimpleNamespace

import pytest
import torch

from fastrnn import cells

pytest.importorskip("triton")

from fastrnn.triton import config  # noqa: E402


@pytest.fixture
def gpu(monkeypatch):
    """State of the pretended GPU: whether a graph is captured, how long each way takes."""
    state = SimpleNamespace(capturing=False, timed=[], times={})
    properties = SimpleNamespace(shared_memory_per_block_optin=232_448, multi_processor_count=9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state.capturing)
    monkeypatch.setattr(config, "_chosen", {})

    def milliseconds(run, option):
        state.timed.append(option)
        return state.times.get((option.hold, option.warps), 9.0)

    monkeypatch.setattr(config, "_milliseconds", milliseconds)
    return state


def choose(**changes):
    layer = dict(B=4, D=1, H=64, T=100, multiply="bfloat16", spec=cells.get("lstm"),
                 device=torch.device("cuda:0"))  # fmt: skip
    return config.choose("forward", SimpleNamespace(**layer | changes), lambda o: (o, None))


def test_times_once_and_remembers(gpu):
    gpu.times["shared", 8] = 1.0
    assert choose().hold == "shared" and len(gpu.timed) > 1
    count = len(gpu.timed)
    assert choose().hold == "shared" and len(gpu.timed) == count
    choose(H=32)
    assert len(gpu.timed) > count


def test_times_nothing_while_a_graph_is_captured(gpu):
    gpu.times["shared", 8], gpu.capturing = 1.0, True
    assert choose().hold == "registers" and not gpu.timed
    gpu.capturing = False
    assert choose().hold == "shared"
    gpu.capturing = True
    assert choose().hold == "shared"


def test_times_nothing_where_bits_must_repeat(gpu):
    torch.use_deterministic_algorithms(True)
    choose()
    assert not gpu.timed


@pytest.mark.parametrize("shared", [101_376, 166_912, 232_448])
@pytest.mark.parametrize("multiply", ["bfloat16", "float16", "tf32", "ieee"])
def test_every_size_has_a_configuration_that_fits(multiply, shared):
    for gates in (1, 3, 4):
        for h in (1, 16, 17, 100, 128, 200, 256, 1000, 5000):
            for tiles in (1, 2, 64):
                options = config.candidates("forward", gates, h, multiply, tiles, shared)
                assert options and len(set(options)) == len(options) <= 3
                for option in options:
                    size = 4 if multiply in ("tf32", "ieee") else 2
                    if option.hold != "streamed":
                        assert option.units >= h and option.inner >= h
                        assert gates * option.units**2 * size < shared


OPTION = config.Config(16, 64, 64, "shared", 8, 1)


def test_a_kernel_that_spills_is_never_picked():
    def spills(option):
        return None, SimpleNamespace(n_spills=2)

    assert config._milliseconds(spills, OPTION) == math.inf


def test_a_kernel_that_does_not_fit_is_never_picked():
    def too_large(option):
        raise config.OutOfResources(300_000, 232_448, "shared memory")

    assert config._milliseconds(too_large, OPTION) == math.inf
