"""Backward beyond the plain case: modes, hooks, checkpointing, repeated and partial backward."""

import pytest
import torch
from helpers import assert_same, backends, each_cell, fast, flat, gradients, hx, randn, twins
from torch.utils.checkpoint import checkpoint


@backends()
@each_cell()
def test_backward_in_eval_mode(cell, backend):
    """cuDNN refuses this."""
    layer = fast(cell, 4, 6, num_layers=2, dropout=0.5, backend=backend)
    x = randn(5, 3, 4, grad=True)
    layer.eval()
    grads = gradients(layer(x), [x, *layer.parameters()])
    layer.train().dropout = 0.0
    assert_same(grads, gradients(layer(x), [x, *layer.parameters()]), 0.0)


@backends()
@each_cell()
def test_backward_twice_gives_the_same_bits(cell, backend):
    layer = fast(cell, 4, 6, num_layers=2, bidirectional=True, backend=backend)
    x, state = randn(5, 3, 4, grad=True), hx(cell, 4, 3, 6, grad=True)
    inputs = [x, *flat(state), *layer.parameters()]
    loss = sum(t.pow(2).sum() for t in flat(layer(x, state)))
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    second = torch.autograd.grad(loss, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second))


@backends()
@each_cell()
def test_gradients_accumulate(cell, backend):
    layer = fast(cell, 4, 6, backend=backend)
    x = randn(5, 3, 4)
    layer(x)[0].sum().backward()
    once = [p.grad.clone() for p in layer.parameters()]
    layer(x)[0].sum().backward()
    assert_same([p.grad for p in layer.parameters()], [2 * g for g in once], 1e-5)


PARTS = {
    "input": lambda x, state, layer: [x],
    "hx": lambda x, state, layer: flat(state),
    "recurrent_weights": lambda x, state, layer: [layer.weight_hh_l0, layer.weight_hh_l1],
    "a_bias": lambda x, state, layer: [layer.bias_ih_l0],
    "second_layer": lambda x, state, layer: [p for n, p in layer.named_parameters() if "l1" in n],
}


@backends()
@each_cell()
@pytest.mark.parametrize("part", PARTS)
def test_only_some_inputs_require_grad(cell, backend, part):
    layer = fast(cell, 4, 6, num_layers=2, backend=backend)
    x, state = randn(5, 3, 4, grad=True), hx(cell, 2, 3, 6, grad=True)
    wanted = PARTS[part](x, state, layer)
    expected = gradients(layer(x, state), wanted)
    everything = [x, *flat(state), *layer.parameters()]
    for tensor in everything:
        tensor.requires_grad_(any(tensor is w for w in wanted))
    sum_of = layer(x, state)
    assert_same(gradients(sum_of, wanted), expected, 1e-6)
    assert all(t.grad is None for t in everything)


@backends()
@each_cell()
def test_no_grad_saves_nothing(cell, backend):
    layer = fast(cell, 4, 6, backend=backend)
    x = randn(5, 3, 4)
    with torch.no_grad():
        assert not any(t.requires_grad for t in flat(layer(x)))
    with torch.inference_mode():
        assert all(t.is_inference() for t in flat(layer(x)))
    layer.requires_grad_(False)
    assert not any(t.requires_grad for t in flat(layer(x)))


@backends()
@each_cell()
@pytest.mark.parametrize("reentrant", [False, True], ids=["non_reentrant", "reentrant"])
def test_activation_checkpointing(cell, backend, reentrant):
    layer = fast(cell, 4, 6, num_layers=2, dropout=0.3, backend=backend)
    x = randn(5, 3, 4, grad=True)
    torch.manual_seed(1)
    expected = gradients(layer(x)[0], [x, *layer.parameters()])
    torch.manual_seed(1)
    output = checkpoint(lambda x: layer(x)[0], x, use_reentrant=reentrant)
    weights = torch.randn(
        output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    (output * weights.to(output)).sum().backward()
    assert_same([x.grad, *(p.grad for p in layer.parameters())], expected, 0.0)


@backends()
@each_cell()
def test_hooks(cell, backend):
    layer = fast(cell, 4, 6, backend=backend)
    seen = []
    x = randn(5, 3, 4, grad=True)
    layer.register_full_backward_hook(lambda m, gi, go: seen.append(("module", gi[0].shape)))
    layer.weight_hh_l0.register_hook(lambda g: seen.append(("weight", g.shape)))
    x.register_hook(lambda g: 2 * g)
    output, _ = layer(x)
    output.register_hook(lambda g: seen.append(("output", g.shape)))
    output.sum().backward()
    assert {kind for kind, _ in seen} == {"module", "weight", "output"}
    doubled = x.grad.clone()
    assert_same(doubled, 2 * torch.autograd.grad(layer(x)[0].sum(), x)[0] / 2, 1e-5)


@backends()
@each_cell()
def test_saved_tensor_hooks(cell, backend):
    """Offloading of what forward saved (torch.autograd.graph.save_on_cpu) works."""
    layer = fast(cell, 4, 6, backend=backend)
    x = randn(5, 3, 4, grad=True)
    expected = gradients(layer(x), [x, *layer.parameters()])
    with torch.autograd.graph.save_on_cpu():
        result = layer(x)
    assert_same(gradients(result, [x, *layer.parameters()]), expected, 0.0)


@backends(kernels=True)
@each_cell()
def test_a_changed_weight_is_noticed(cell, backend):
    """Autograd's own error, rather than a gradient of a model that no longer exists."""
    layer = fast(cell, 4, 6, backend=backend)
    output, _ = layer(randn(5, 3, 4, grad=True))
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@backends(kernels=True)
@each_cell()
@pytest.mark.parametrize("batch_first", [False, True])
def test_output_may_be_changed_before_backward(cell, backend, batch_first):
    """Gradients are those of the output as it was, in whole, in part, and of states that follow."""
    layer = fast(
        cell, 4, 6, num_layers=2, bidirectional=True, batch_first=batch_first, backend=backend
    )
    x = randn(5, 3, 4, grad=True)
    inputs = [x, *layer.parameters()]

    def loss(in_place: bool):
        output, final = layer(x)
        if in_place:
            output.mul_(output.detach() + 2)
            output[1].clamp_(min=-0.01)
        else:
            output = output * (output.detach() + 2)
            output = torch.cat([output[:1], output[1:2].clamp(min=-0.01), output[2:]])
        return output.pow(2).sum() + sum(f.sum() for f in flat(final))

    expected = torch.autograd.grad(loss(False), inputs)
    assert_same(torch.autograd.grad(loss(True), inputs), expected, 1e-6)


def test_output_changed_under_no_grad():
    layer, x = fast("gru", 4, 6), randn(5, 3, 4)
    expected = torch.autograd.grad(layer(x)[0].sum(), layer.weight_hh_l0)
    output, _ = layer(x)
    with torch.no_grad():
        output.zero_()
    assert_same(torch.autograd.grad(output.sum(), layer.weight_hh_l0), expected, 0.0)


@backends()
@each_cell()
def test_truncated_backpropagation(cell, backend):
    """A detached state carried over equals torch.nn's, window after window."""
    if cell == "rnn_identity":
        layer, other = fast(cell, 4, 6, backend=backend), fast(cell, 4, 6, backend="reference")
        other.load_state_dict(layer.state_dict())
    else:
        layer, other = twins(cell, 4, 6, backend=backend)
    a = b = None
    for window in randn(3, 5, 2, 4):
        out_a, a = layer(window, a)
        out_b, b = other(window, b)
        (out_a.sum() + out_b.sum()).backward()
        a, b = (tuple(s.detach() for s in h) if cell == "lstm" else h.detach() for h in (a, b))
    assert_same(a, b, 1e-5)
    assert_same([p.grad for p in layer.parameters()], [p.grad for p in other.parameters()], 1e-4)


@backends(torch.float64)
@each_cell()
def test_gradient_penalty(cell, backend):
    """A loss on the gradient itself, trained through: WGAN-GP and the like. cuDNN refuses this."""
    layer = fast(cell, 3, 4, num_layers=2, dtype=torch.float64, backend=backend)
    other = fast(cell, 3, 4, num_layers=2, dtype=torch.float64, backend="reference")
    other.load_state_dict(layer.state_dict())
    x = randn(4, 2, 3, dtype=torch.float64, grad=True)
    seconds = []
    for m in (layer, other):
        (g,) = torch.autograd.grad(m(x)[0].pow(2).sum(), x, create_graph=True)
        seconds.append(
            torch.autograd.grad((g.norm() - 1).pow(2), [x, *m.parameters()], allow_unused=True)
        )
    a, b = ([g for g in s if g is not None] for s in seconds)
    assert_same(a, b, 1e-11)
