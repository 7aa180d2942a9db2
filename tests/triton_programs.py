"""Lets the programs of a launch run side by side in Triton's interpreter, which runs them in a row.

Each program is a thread, but only one runs at a time: until it ends, or waits for others, which it
says by calling `fastrnn.triton.exchange.pause`. Who goes on is drawn by chance, from a seed.
"""

import inspect
import random
import threading

from triton.runtime import interpreter

from fastrnn.triton import exchange

MOST_TURNS = 2_000  # of one launch; programs that wait for each other for ever take more


class Program:
    """One program: a thread that runs only while it has its turn."""

    def __init__(self, function, arguments, index):
        self.index, self.turn, self.back = index, threading.Event(), threading.Event()
        self.ended, self.error = False, None
        self.thread = threading.Thread(target=self._run, args=(function, arguments), daemon=True)
        self.thread.start()

    def _run(self, function, arguments):
        self._await_turn()
        try:
            function(**arguments)
        except BaseException as error:
            self.error = error
        self.ended = True
        self.back.set()

    def _await_turn(self):
        self.turn.wait()
        self.turn.clear()
        interpreter.interpreter_builder.set_grid_idx(*self.index)

    def pause(self):
        self.back.set()
        self._await_turn()

    def run(self):
        """Lets the program go on until it pauses or ends."""
        self.turn.set()
        self.back.wait()
        self.back.clear()
        if self.error:
            raise self.error


class Together:
    """Stands for a kernel's function: collects the calls for all programs, then runs them."""

    def __init__(self, function, seed):
        self.function, self.seed, self.programs = function, seed, []
        self.__globals__, self.__name__ = function.__globals__, function.__name__
        self.__signature__ = inspect.signature(function)

    def __call__(self, **arguments):
        builder = interpreter.interpreter_builder
        self.programs.append(Program(self.function, arguments, builder.grid_idx))
        x, y, z = builder.grid_dim
        if len(self.programs) == x * y * z:
            self._run_all()

    def _run_all(self):
        draw, running = random.Random(self.seed), self.programs
        for _ in range(MOST_TURNS):
            program = draw.choice(running)
            CURRENT.append(program)
            program.run()
            CURRENT.pop()
            running = [p for p in running if not p.ended]
            if not running:
                return
        raise AssertionError(f"{len(running)} programs wait for ever")


CURRENT: list[Program] = []


def run_together(monkeypatch, seed: int) -> None:
    """From now on, the programs of every launch run side by side."""
    begin = interpreter.GridExecutor.__init__

    def init(self, fn, *args, **kwargs):
        begin(self, fn, *args, **kwargs)
        self.fn = Together(self.fn, seed)

    monkeypatch.setattr(interpreter.GridExecutor, "__init__", init)
    monkeypatch.setattr(exchange, "pause", lambda: CURRENT[-1].pause())
