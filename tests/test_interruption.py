"""Ctrl-C during one long call on a CPU is answered between blocks of steps."""

import pytest
from helpers import run_python

# A call of some seconds; the signal comes after 0.3 s of it. Prints the exception, its cause, and
# how long after the signal it came.
PROGRAM = """
import os, signal, sys, threading, time
import fastrnn, torch
torch.set_num_threads(int(sys.argv[2]))
layer = fastrnn.FastLSTM(64, 384)
x, short = torch.randn(8000, 8, 64), torch.randn(5, 8, 64)
call = torch.compile(layer, backend="eager", fullgraph=True) if sys.argv[1] == "compiled" else layer
call(short)[0].sum().backward()
loss = call(x)[0].sum() if sys.argv[1] == "backward" else None

def press():
    time.sleep(0.3)
    pressed.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

pressed = []
threading.Thread(target=press).start()
try:
    if sys.argv[1] == "backward":
        loss.backward()
    else:
        with torch.no_grad():
            call(x)
    print("finished")
except BaseException as error:
    late = time.monotonic() - pressed[0]
    print(type(error).__name__, type(error.__cause__).__name__, "slow" if late > 1 else "soon")
layer(short)[0].sum().backward()  # goes on working
"""


@pytest.mark.parametrize("what, threads", [("forward", 1), ("backward", 2), ("compiled", 2)])
def test_ctrl_c_is_answered_between_blocks(what, threads, tmp_path):
    run = run_python("-c", PROGRAM, what, str(threads), cwd=tmp_path)
    raised = (
        "RuntimeError KeyboardInterrupt" if what == "compiled" else "KeyboardInterrupt NoneType"
    )
    assert run.stdout.strip() == f"{raised} soon", run.stdout + run.stderr
