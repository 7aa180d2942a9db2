"""The host code that GPU backends share, around a scan in plain torch."""

from types import SimpleNamespace

import pytest
import torch
from helpers import CELLS, assert_same, each_cell, oracle, problem

from fastrnn import ops
from fastrnn.gpu import host, layer, scan
from fastrnn.reference import FORWARD, REVERSE

NEED_ALL = ops.NEED_ALL


class PlainScan:
    """`host.Scan` by autograd: what it must be given and must return, and nothing clever."""

    @staticmethod
    def _walk(layer, gx, r_extra, states):
        """One list [D] of (outputs [N, H], S finals [B, H]), differentiable in all arguments."""
        spec, results = layer.spec, []
        begin = [t * layer.B for t in range(layer.T)]
        length = [layer.T] * layer.B
        if layer.offsets is not None:
            begin, length = layer.offsets.tolist(), layer.lengths.tolist()
        for d in range(layer.D):
            current = [[s[d, b] for b in range(layer.B)] for s in states]
            out = [None] * layer.N
            order = range(layer.T)
            for t in reversed(order) if layer.reverse or d == 1 else order:
                for b in (b for b in range(layer.B) if t < length[b]):
                    line = begin[t] + b
                    entering = [c[b] for c in current]
                    if layer.resets is not None and layer.resets[line]:
                        entering = [torch.zeros_like(e) for e in entering]
                    r = layer.w_hh[d] @ entering[0] + r_extra[line].chunk(layer.D)[d]
                    if layer.b_hh is not None:
                        r = r + layer.b_hh[d]
                    x = gx[line].chunk(layer.D)[d].view(spec.gates, layer.H)
                    after = spec.step(x, r.view(spec.gates, layer.H), tuple(entering))
                    for c, a in zip(current, after):
                        c[b] = a
                    out[line] = after[0]
            results.append((torch.stack(out), [torch.stack(c) for c in current]))
        output = torch.cat([r[0] for r in results], -1)
        return output, [torch.stack(f) for f in zip(*(r[1] for r in results))]

    def forward(self, layer, gx, save):
        assert gx.shape == (layer.N, layer.D * layer.spec.gates * layer.H) and gx.is_contiguous()
        assert layer.w_hh.is_contiguous() and all(s.is_contiguous() for s in layer.state)
        assert layer.resets is None or layer.resets.shape == (layer.N,)
        self.gx = gx.detach().requires_grad_()
        self.r = torch.zeros_like(gx).requires_grad_()
        self.state = [s.detach().requires_grad_() for s in layer.state]
        with torch.enable_grad():
            self.results = self._walk(layer, self.gx, self.r, self.state)
        kept = (layer.D, layer.N, layer.spec.saved + layer.spec.states - 1, layer.H)
        output, final = self.results
        saved = gx.new_empty(kept if save else 0)
        return output.detach().clone(), [f.detach().clone() for f in final], saved

    def backward(self, layer, grad_output, grad_final, output, saved):
        assert grad_output.is_contiguous() and output.is_contiguous() and saved.is_contiguous()
        assert grad_output.shape == output.shape == (layer.N, layer.D * layer.H)
        leaves = [self.gx, self.r, *self.state]
        output, final = self.results
        dx, dr, *dstate = torch.autograd.grad([output, *final], leaves, [grad_output, *grad_final])
        return dx, dr if layer.cell == "gru" else dx, None, list(dstate)


FORMS = {
    "dense": dict(),
    "reverse": dict(directions=2),
    "both": dict(directions=3, resets=True),
    "ragged": dict(sizes=[3, 3, 1]),
    "ragged_reverse": dict(sizes=[3, 2, 2], directions=2, resets=True),
    "ragged_both": dict(sizes=[2, 2, 1, 1], directions=3, resets=True),
    "no_bias": dict(bias=False, directions=3),
    "ready": dict(project=False, resets=True),
}


def run(cell, scan, sizes=None, directions=1, resets=False, bias=True, project=True):
    """(ours, exact): [output, *final, *gradients of everything]."""
    input, weights, state = problem(
        cell, t=3, b=4, i=3, h=5, directions=directions, bias=bias, project=project
    )
    if sizes is not None:
        input = input.detach().flatten(0, 1)[: sum(sizes)].requires_grad_()
        sizes = torch.tensor(sizes)
    drop = torch.rand(input.shape[:-1]) < 0.3 if resets else None
    arguments = input, weights, state, sizes, drop, directions, project
    exact = oracle(cell, *arguments)
    grads = [torch.randn_like(e) for e in exact]
    leaves = [input, *weights, *state]
    expected = torch.autograd.grad(exact, leaves, grads)
    with torch.no_grad():
        output, final, saved = host.forward(scan, cell, *arguments, True)
        given = cell, grads[0], grads[1:], *arguments[:3], output, saved, *arguments[3:]
        g_input, g_weights, g_state = host.backward(scan, *given, NEED_ALL)
    return [output, *final, g_input, *g_weights, *g_state], [*exact, *expected]


@pytest.mark.parametrize("form", FORMS)
@each_cell()
def test_values_and_gradients(cell, form):
    if cell not in CELLS[:5]:
        pytest.skip("the scan of this test knows only the cells of the package")
    ours, exact = run(cell, PlainScan(), **FORMS[form])
    assert_same(ours, exact, 1e-12)
    pointers = [t.data_ptr() for t in ours if t.numel()]
    assert len(set(pointers)) == len(pointers), "results share memory"


@pytest.mark.parametrize("shape", [dict(t=0, b=3), dict(t=3, b=0)])
def test_no_lines(shape):
    input, weights, state = problem("lstm", i=3, h=5, **shape)
    exact = oracle("lstm", input, weights, state)
    with torch.no_grad():
        output, final, saved = host.forward(
            None, "lstm", input, weights, state, None, None, 1, True, True
        )
        grads = host.backward(
            None, "lstm", output, final, input, weights, state, output, saved, None, None, 1, True,
            NEED_ALL,
        )  # fmt: skip
    assert_same([output, *final], exact, 0.0)
    assert_same([*grads[0:1], *grads[1], *grads[2]],
                [torch.zeros_like(t) for t in (input, *weights)] + final, 0.0)  # fmt: skip
    assert final[0].data_ptr() != state[0].data_ptr() or not final[0].numel()


@pytest.mark.parametrize("t", [0, 3])
def test_only_gradients_that_are_wanted(t):
    arguments = *problem("lstm", t=t, b=2, i=3, h=5), None, None, 1, True

    def call(wanted):
        scan = PlainScan()
        with torch.no_grad():
            output, final, saved = host.forward(scan, "lstm", *arguments, True)
            given = "lstm", output, final, *arguments[:3], output, saved, *arguments[3:]
            return host.backward(scan, *given, wanted)

    every, part = call(NEED_ALL), call(ops.NEED_WEIGHTS)
    assert every[0].shape == arguments[0].shape and len(every[2]) == 2
    assert not part[0].numel() and part[2] == []
    assert_same(every[1], part[1], 0.0)


def test_steps_are_remembered_with_their_batch_sizes():
    sizes = torch.tensor([3, 3, 1])
    cpu = torch.device("cpu")
    offsets, lengths = layer.steps(sizes, 5, cpu)
    assert offsets.tolist() == [0, 3, 6] and lengths.tolist() == [3, 2, 2, 0, 0]
    assert layer.steps(sizes, 5, cpu)[0] is offsets
    assert layer.steps(sizes, 4, cpu)[1].tolist() == [3, 2, 2, 0]
    sizes[2] = 2  # the same tensor with other values
    assert layer.steps(sizes, 4, cpu)[1].tolist() == [3, 3, 2, 0]
    count = len(layer._cached_steps)
    del sizes
    assert len(layer._cached_steps) == count - 1


def test_steps_under_inference_mode():
    """Tensors made there do not count their changes: nothing is remembered."""
    with torch.inference_mode():
        sizes = torch.tensor([3, 3, 1])
        count = len(layer._cached_steps)
        assert layer.steps(sizes, 5, sizes.device)[1].tolist() == [3, 2, 2, 0, 0]
        sizes[2] = 2
        assert layer.steps(sizes, 4, sizes.device)[1].tolist() == [3, 3, 2, 0]
        assert len(layer._cached_steps) == count


def test_autocast_changes_nothing():
    """The caller has cast: a GEMM under autocast keeps the dtype of its tensors."""
    scan = PlainScan()
    arguments = *problem("gru", dtype=torch.float32), None, None, 1, True

    def call():
        output, final, saved = host.forward(scan, "gru", *arguments, True)
        given = "gru", output, final, *arguments[:3], output, saved, *arguments[3:]
        grads = host.backward(scan, *given, NEED_ALL)
        return [output, *final, grads[0], *grads[1], *grads[2]]

    with torch.no_grad():
        plain = call()
        with torch.autocast("cpu", torch.bfloat16):
            cast = call()
    assert {t.dtype for t in cast} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(plain, cast))


@pytest.mark.skipif(not ops.NATIVE_BUILT, reason="the native library is not built")
def test_the_ops_get_a_kernel_for_cuda_tensors():
    scan.register()
    for op in ("fastrnn::forward", "fastrnn::backward"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(op, "CUDA")


@pytest.mark.parametrize("split", [True, False])
def test_an_empty_dr_is_dx(split):
    dx, dr = torch.ones(2, 4), torch.zeros(2, 4) if split else torch.empty(0)
    library = SimpleNamespace(scan_backward=lambda *args: (dx, dr, torch.empty(0), []))
    plain = SimpleNamespace(
        device=torch.device("cpu"), cell="gru", w_hh=None, params=None, state=[],
        batch_sizes=None, offsets=None, lengths=None, resets=None, directions=FORWARD | REVERSE,
        multiply="ieee",
    )  # fmt: skip
    found = scan.CudaScan(library, "auto").backward(plain, dx, [], dx, dx)
    assert found[0] is dx and found[1] is (dr if split else dx)
