"""torch.func over the layers: each transform against plain autograd or against a loop."""

import pytest
import torch
from helpers import assert_same, backends, each_cell, fast, flat, randn
from torch.func import (
    functional_call,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    stack_module_state,
    vjp,
    vmap,
)

F64 = torch.float64


def layer_and_weights(cell, backend, **options):
    layer = fast(cell, 3, 4, dtype=F64, backend=backend, **options)
    return layer, {n: p.detach() for n, p in layer.named_parameters()}


def loss_of(layer):
    return lambda weights, x: functional_call(layer, weights, (x,))[0].pow(2).sum()


@backends(F64)
@each_cell()
def test_grad(cell, backend):
    layer, weights = layer_and_weights(cell, backend, num_layers=2, bidirectional=True)
    x = randn(4, 2, 3, dtype=F64)
    by_func = grad(loss_of(layer), argnums=(0, 1))(weights, x)
    x.requires_grad_()
    loss_of(layer)(dict(layer.named_parameters()), x).backward()
    assert_same(list(by_func[0].values()), [p.grad for p in layer.parameters()], 1e-12)
    assert_same(by_func[1], x.grad, 1e-12)


@backends(F64)
@each_cell()
def test_vjp(cell, backend):
    layer, _ = layer_and_weights(cell, backend)
    x = randn(4, 2, 3, dtype=F64, grad=True)
    output, pull = vjp(lambda x: layer(x)[0], x.detach())
    v = torch.randn_like(output)
    assert_same(pull(v)[0], torch.autograd.grad(layer(x)[0], x, v)[0], 1e-12)


@backends(F64)
@each_cell()
@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
def test_jvp(cell, backend, ragged):
    """Forward mode, packed too: torch.nn fails there."""
    layer, _ = layer_and_weights(cell, backend, num_layers=2, bidirectional=True)
    x, v = randn(4, 2, 3, dtype=F64), randn(4, 2, 3, dtype=F64)
    options = {"lengths": [2, 4]} if ragged else {}

    def call(x):
        return tuple(flat(layer(x, **options)))

    values, tangents = jvp(call, (x,), (v,))
    eps = 1e-6
    differences = [(a - b) / (2 * eps) for a, b in zip(call(x + eps * v), call(x - eps * v))]
    assert_same(values, call(x), 1e-12)
    assert_same(tangents, differences, 1e-8)


@backends(F64)
@pytest.mark.filterwarnings("ignore")  # torch's own, from its tracer
def test_linearize(backend):
    layer, _ = layer_and_weights("lstm", backend)
    x, v = randn(3, 2, 3, dtype=F64), randn(3, 2, 3, dtype=F64)
    tangent = linearize(lambda x: layer(x)[0], x)[1](v)
    assert_same(tangent, jvp(lambda x: layer(x)[0], (x,), (v,))[1], 1e-12)


@backends(F64)
@each_cell()
def test_forward_mode_outside_torch_func(cell, backend):
    layer, _ = layer_and_weights(cell, backend)
    x, v = randn(4, 2, 3, dtype=F64), randn(4, 2, 3, dtype=F64)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, v)
        tangent = torch.autograd.forward_ad.unpack_dual(layer(dual)[0]).tangent
    assert_same(tangent, jvp(lambda x: layer(x)[0], (x,), (v,))[1], 1e-12)


@backends(F64)
@each_cell()
def test_vmap_over_the_input(cell, backend):
    layer, _ = layer_and_weights(cell, backend, num_layers=2, bidirectional=True)
    xs = randn(5, 4, 2, 3, dtype=F64)
    with torch.no_grad():
        for dim in (0, 2):
            mapped = vmap(lambda x: tuple(flat(layer(x))), in_dims=dim)(xs.movedim(0, dim))
            loop = [torch.stack(ts) for ts in zip(*(flat(layer(x)) for x in xs))]
            assert_same(mapped, loop, 1e-12)


@backends(F64)
@each_cell()
def test_vmap_over_resets(cell, backend):
    layer, _ = layer_and_weights(cell, backend)
    x, resets = randn(4, 2, 3, dtype=F64), torch.rand(5, 4, 2) < 0.5
    mapped = vmap(lambda r: layer(x, resets=r)[0])(resets.to(x.device))
    assert_same(mapped, torch.stack([layer(x, resets=r)[0] for r in resets]), 1e-12)


@backends(F64)
@each_cell()
def test_backward_through_vmap(cell, backend):
    """Plain autograd around vmap."""
    layer, _ = layer_and_weights(cell, backend)
    xs = randn(5, 4, 2, 3, dtype=F64, grad=True)
    a = torch.autograd.grad(vmap(lambda x: layer(x)[0])(xs).pow(2).sum(), [xs, *layer.parameters()])
    loop = torch.stack([layer(x)[0] for x in xs]).pow(2).sum()
    assert_same(a, torch.autograd.grad(loop, [xs, *layer.parameters()]), 1e-12)


@backends(F64)
@each_cell()
def test_per_sample_gradients(cell, backend):
    layer, weights = layer_and_weights(cell, backend, num_layers=2)
    xs = randn(5, 4, 1, 3, dtype=F64)
    mapped = vmap(grad(loss_of(layer)), in_dims=(None, 0))(weights, xs)
    for k, x in enumerate(xs):
        alone = grad(loss_of(layer))(weights, x)
        assert_same([g[k] for g in mapped.values()], list(alone.values()), 1e-12)


@backends(F64)
@each_cell()
def test_ensemble_over_stacked_parameters(cell, backend):
    layers = [fast(cell, 3, 4, dtype=F64, backend=backend) for _ in range(3)]
    weights, buffers = stack_module_state(layers)
    x = randn(4, 2, 3, dtype=F64)

    def call(weights, buffers):
        return functional_call(layers[0], (weights, buffers), (x,))[0]

    mapped = vmap(call)(weights, buffers)
    assert_same(mapped, torch.stack([layer(x)[0] for layer in layers]), 1e-12)
    gradients = vmap(grad(lambda w: functional_call(layers[0], w, (x,))[0].pow(2).sum()))(weights)
    for k, layer in enumerate(layers):
        loss = layer(x)[0].pow(2).sum()
        alone = torch.autograd.grad(loss, list(layer.parameters()))
        assert_same([gradients[n][k] for n, _ in layer.named_parameters()], alone, 1e-12)


@backends(F64)
@each_cell()
def test_jacobians(cell, backend):
    layer, _ = layer_and_weights(cell, backend)
    x = randn(3, 1, 3, dtype=F64)
    reverse = jacrev(lambda x: layer(x)[0])(x)
    assert_same(reverse, torch.autograd.functional.jacobian(lambda x: layer(x)[0], x), 1e-12)
    assert_same(jacfwd(lambda x: layer(x)[0])(x), reverse, 1e-12)


@backends(F64)
@each_cell()
def test_hessian(cell, backend):
    """Forward over reverse, and reverse over reverse."""
    layer, _ = layer_and_weights(cell, backend)
    x = randn(2, 1, 3, dtype=F64)

    def loss(x):
        return layer(x)[0].pow(2).sum()

    expected = torch.autograd.functional.hessian(loss, x)
    assert_same(hessian(loss)(x), expected, 1e-12)
    assert_same(jacrev(jacrev(loss))(x), expected, 1e-12)
    assert_same(grad(lambda x: grad(loss)(x).pow(2).sum())(x), 2 * torch.einsum(
        "abcdef,abc->def", expected, grad(loss)(x)
    ), 1e-11)  # fmt: skip
