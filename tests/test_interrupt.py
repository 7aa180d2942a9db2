"""Ctrl-C, and other signals whose handlers raise, during one long call on a CPU."""

import functools
import signal
import threading
import time

import pytest
import torch
from helpers import assert_same, randn

import fastrnn
from fastrnn import ops

pytestmark = [
    pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built"),
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that sends a signal"),
]
AFTER = 0.15  # s: the signal


class Enough(Exception):
    pass


@pytest.fixture
def alarm():
    """alarm(handler): calls it AFTER seconds from now."""
    before = signal.getsignal(signal.SIGALRM)

    def start(handler):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, AFTER)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=[2, pytest.param(1, marks=pytest.mark.slow)])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def raise_enough(*_):
    raise Enough("of this")


# Rows, or units of one row, shared by threads; both directions. Each with its batch size.
CASES = {
    "rows": (dict(hidden_size=192), 6),
    "units": (dict(hidden_size=512), 1),
    "directions": (dict(hidden_size=160, bidirectional=True), 7),
}
LONG = 0.6  # s: a forward at least; a backward takes longer


def call_of(case, T):
    options, B = CASES[case]
    return fastrnn.FastLSTM(1, **options), torch.zeros(T, B, 1, requires_grad=True)


def forward_seconds(case, T):
    layer, x = call_of(case, T)
    began = time.monotonic()
    with torch.no_grad():
        layer(x)
    return time.monotonic() - began


@functools.cache
def undisturbed(case, threads):
    """(steps enough for a long call on that many threads, seconds of its forward)."""
    T = 2000
    while (took := forward_seconds(case, T)) < LONG:
        T = int(T * min(10, 1.3 * LONG / took))
    return T, took


def long_call(case):
    return call_of(case, undisturbed(case, torch.get_num_threads())[0])


def limit(case):
    """Seconds in which a call that is interrupted must have ended."""
    return 0.6 * undisturbed(case, torch.get_num_threads())[1]


def seconds(call, error):
    began = time.monotonic()
    with pytest.raises(error) as raised:
        call()
    return time.monotonic() - began, raised.value


def ended_early(case, attempt):
    """The exception of an interrupted call, of which attempt() gives the seconds and that.

    One of three is to end early: where other programs run, a call may lose any time to them.
    """
    at_most, tries = limit(case), []
    while len(tries) < 3:
        took, error = attempt()
        tries.append(took)
        assert took >= AFTER
        if took < at_most:
            return error
    raise AssertionError(f"interrupted calls took {tries} s, and may take {at_most}")


@pytest.mark.parametrize("case", CASES)
def test_forward_is_interrupted(case, alarm, threads):
    layer, x = long_call(case)

    def attempt():
        alarm(raise_enough)
        return seconds(lambda: layer(x), Enough)

    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            assert ended_early(case, attempt).args == ("of this",)
    few = randn(5, 2, 1)
    assert_same(layer(few)[0], fastrnn.restore(layer)(few)[0], 1e-5)  # nothing is left behind


@pytest.mark.parametrize("case", CASES)
def test_backward_is_interrupted(case, alarm, threads):
    layer, x = long_call(case)

    def attempt():
        loss = layer(x)[0].sum()
        alarm(signal.default_int_handler)
        return seconds(loss.backward, KeyboardInterrupt)

    ended_early(case, attempt)
    assert layer.weight_hh_l0.grad is None


def test_a_handler_that_returns_changes_nothing(alarm):
    layer, x = fastrnn.FastGRU(1, 192), torch.zeros(60_000, 6, 1)
    ran = []
    with torch.no_grad():
        alarm(lambda *_: ran.append(time.monotonic()))
        output = layer(x)[0]
        assert ran and ran[0] < time.monotonic() - 0.1, "it ran during the call, not after it"
        assert torch.equal(output, layer(x)[0])


def test_other_threads_are_not_asked(alarm):
    """Python runs handlers on its main thread only; a call of another one goes on to its end."""
    layer, x = fastrnn.FastGRU(1, 96), torch.zeros(40_000, 6, 1)
    outputs = []
    thread = threading.Thread(target=lambda: outputs.append(layer(x)[0]))
    alarm(raise_enough)
    thread.start()
    with pytest.raises(Enough):
        time.sleep(10)
    thread.join()
    assert_same(outputs[0], layer(x)[0], 0.0)


def test_a_compiled_graph_says_why(alarm):
    at_most = limit("rows")
    layer, x = long_call("rows")
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    with torch.no_grad():
        compiled(x)
        alarm(raise_enough)
        took, error = seconds(lambda: compiled(x), RuntimeError)
    assert took < at_most and isinstance(error.__cause__, Enough)
