"""A layer's life (hypothesis): whatever is done to it is done to torch.nn's, and they agree.

`make fuzz` goes on for an hour, with other random programs each time.
"""

import functools
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from fuzz_calls import Run, calls
from fuzz_twins import Twins
from helpers import DEVICE, TORCH_CELLS
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

SECONDS = float(os.environ.get("FASTRNN_FUZZ_SECONDS", 0))
few = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),  # as for any state machine without settings
)

pytestmark = pytest.mark.skipif(
    DEVICE != "cpu", reason="cuDNN's layers refuse half of this: torch.nn's are yardsticks on a CPU"
)


def in_a_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def refused(function):
    """What a function returns, or None where autograd says that something was changed in place."""
    try:
        return function()
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
    return None


class Life(Twins):
    """Calls of the twins and their derivatives."""

    @rule(call=calls(), mode=st.sampled_from([torch.no_grad, torch.inference_mode]))
    def forward(self, call, mode):
        with mode():
            self.runs(call._replace(wants="nothing"))

    @rule(call=calls(), times=st.integers(1, 2), thread=st.booleans())
    def backward(self, call, times, thread):
        """Gradients add up in .grad, which the invariant compares for the weights."""
        runs = self.runs(call)
        for run in runs:
            loss = run.loss()
            for left in reversed(range(times if loss.requires_grad else 0)):
                step = functools.partial(loss.backward, retain_graph=left > 0)
                in_a_thread(step) if thread else step()
        self.agree(*([t.grad for t in run.arguments()] for run in runs), "gradients of arguments")

    @rule(call=calls())
    def second_derivatives(self, call):
        found = []
        for run in self.runs(call):
            first = run.gradients(create_graph=True)
            norm = sum((g.pow(2).sum() for g in first if g is not None), torch.zeros(()))
            second = []
            if norm.requires_grad:
                second = torch.autograd.grad(norm, run.leaves(), materialize_grads=True)
            found.append([*first, *second])
        self.agree(*found, "first and second derivatives")

    @rule(call=calls(), by=st.sampled_from([-1.5, 0.0, 2.0]), part=st.booleans())
    def output_changed_in_place(self, call, by, part):
        """torch.nn.LSTM refuses: there a new tensor is made, as it is for the others."""
        ours, theirs = self.runs(call)
        steps = slice(1) if part else slice(None)
        changed = theirs.tensors[0].clone()
        for output in (ours.tensors[0], changed):
            output[steps].mul_(by).add_(1)
        theirs.tensors[0] = changed
        self.agree(ours.gradients(), theirs.gradients(), "gradients of a changed output")

    @rule(call=calls(), what=st.sampled_from(["final", "input", "hx"]))
    def other_changed_in_place(self, call, what):
        """Noticed, or without consequence."""
        ours, theirs = self.runs(call)
        expected = theirs.gradients()
        loss = ours.loss()
        changed = {"final": ours.tensors[1:], "input": [ours.x], "hx": ours.states()}[what]
        with torch.no_grad():
            for tensor in changed:
                tensor.mul_(2)
        if loss.requires_grad:
            found = refused(lambda: torch.autograd.grad(loss, ours.leaves(), allow_unused=True))
            if found is not None:
                self.agree(found, expected, f"gradients after a change of {what}")

    @rule(call=calls())
    def forward_for_later(self, call):
        ours, theirs = self.runs(call)
        loss, wanted = ours.loss(), ours.leaves()
        if loss.requires_grad:
            versions = [w._version for w in self.layers[0].parameters()]
            weights = list(self.layers[0].parameters())
            self.later = loss, wanted, theirs.gradients(), weights, versions

    @precondition(lambda self: self.later)
    @rule(retain=st.booleans())
    def backward_of_earlier(self, retain):
        """Gradients of the layer as it was, or an error if the weights are others by now."""
        loss, wanted, expected, weights, versions = self.later
        self.later = self.later if retain else None
        kept = [k for k, t in enumerate(wanted) if t.requires_grad]  # not frozen since
        if not kept:
            return
        options = {"allow_unused": True, "retain_graph": retain}
        found = refused(lambda: torch.autograd.grad(loss, [wanted[k] for k in kept], **options))
        if found is None:
            assert [w._version for w in weights] != versions, "refused without a change"
        else:
            self.agree(found, [expected[k] for k in kept], "gradients of an earlier call")

    @rule(call=calls())
    def checkpointed(self, call):
        runs = self.runs(call)
        expected = runs[1].gradients()
        ours = Run(self.layers[0], call)
        ours.tensors = checkpoint(lambda: ours.forward().tensors, use_reentrant=False)
        self.agree(ours.gradients(), expected, "gradients of a checkpoint")

    @rule(call=calls(["dense", "unbatched"], shortest=2), at=st.integers(1, 4))
    def in_chunks(self, call, at):
        """A sequence in two parts with the state passed on, against the whole of it."""
        whole = Run(self.layers[0], call).forward()
        runs = [Run(layer, call).forward_in_chunks(min(at, call.t - 1)) for layer in self.layers]
        self.agree(*(run.tensors for run in runs), "chunks")
        found = [run.gradients() for run in runs]
        self.agree(*found, "gradients through chunks")
        if not self.layers[0].bidirectional and not self.draws():
            self.agree(runs[0].tensors, whole.tensors, "chunks, whole")
            self.agree(found[0], whole.gradients(), "gradients of chunks, whole")

    @rule(call=calls(["dense", "packed"]), by=st.sampled_from([0.5, -1.0]))
    def called_with_other_weights(self, call, by):
        runs = [Run(layer, call) for layer in self.layers]
        for run in runs:
            weights = {name: w * by for name, w in run.layer.named_parameters()}
            run.forward(lambda *a, **k: functional_call(run.layer, weights, a, k))  # noqa: B023
        self.agree(*(run.tensors for run in runs), "functional_call")
        self.agree(*(run.gradients() for run in runs), "gradients through functional_call")

    @precondition(lambda self: not self.draws())
    @rule(call=calls(["dense", "unbatched"]), samples=st.integers(1, 3))
    def mapped(self, call, samples):
        """vmap over inputs against a loop of torch.nn's: results, and gradients of each sample."""
        ours, theirs = self.layers
        runs = [Run(theirs, call._replace(seed=call.seed + k)) for k in range(samples)]
        xs = torch.stack([run.x.detach() for run in runs])
        weights = {n: w.detach() for n, w in ours.named_parameters()}

        def loss(weights, x):
            output, final = functional_call(ours, weights, (x,))
            return output.pow(2).sum(), output

        output = vmap(lambda x: loss(weights, x)[1])(xs)
        per_sample = vmap(grad(lambda w, x: loss(w, x)[0]), in_dims=(None, 0))(weights, xs)
        for k, x in enumerate(xs):
            single = {n: w.detach().clone().requires_grad_() for n, w in theirs.named_parameters()}
            alone = functional_call(theirs, single, (x,))[0]
            expected = torch.autograd.grad(alone.pow(2).sum(), list(single.values()))
            self.agree([output[k]], [alone], "vmap")
            self.agree([g[k] for g in per_sample.values()], expected, "gradients of a sample")

    @precondition(lambda self: not self.draws())
    @rule(call=calls())
    def in_two_threads(self, call):
        call = call._replace(wants="nothing")
        runs = [Run(self.layers[0], call) for _ in range(2)]
        expected = Run(self.layers[1], call)
        with torch.no_grad():
            expected.forward()
        with ThreadPoolExecutor(2) as pool:
            for result in pool.map(Run.results, runs):
                self.agree(result, expected.tensors, "results in a thread")


def life_of(cell: str) -> type:
    return type(f"LifeOf_{cell}", (Life,), {"cell": cell})


@pytest.mark.skipif(SECONDS > 0, reason="make fuzz draws other programs")
@pytest.mark.parametrize("programs", [few.max_examples, pytest.param(70, marks=pytest.mark.slow)])
@pytest.mark.parametrize("cell", TORCH_CELLS)
def test_a_layers_life(cell, programs):
    run_state_machine_as_test(life_of(cell), settings=settings(few, max_examples=programs))


@pytest.mark.skipif(SECONDS == 0, reason="FASTRNN_FUZZ_SECONDS says for how long: make fuzz")
def test_for_long():
    """Programs at random, longer ones too, until the time is over or one fails.

    A relu whose float32 sum rounds to either side of 0 has another gradient: expect that to fail
    once in some ten hours. A program that fails in float64 has found something.
    """
    start, rounds = time.monotonic(), 0
    while (spent := time.monotonic() - start) < SECONDS:
        cell = TORCH_CELLS[rounds % len(TORCH_CELLS)]
        print(f"{spent:6.0f} s of {SECONDS:.0f}, round {rounds}: {cell}", flush=True)
        many = settings(few, derandomize=False, max_examples=50, stateful_step_count=60)
        run_state_machine_as_test(life_of(cell), settings=many)
        rounds += 1
