"""Compiled and exported programs: transforms, training, C++ code, what cannot be right raises."""

import pytest
import torch
from helpers import DEVICE, assert_same, backends, each_cell, fast, flat, randn, slow_but
from torch.autograd import forward_ad


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def loss(layer):
    def function(x):
        output, final = layer(x)
        return output.pow(2).sum() + sum(f.sin().sum() for f in flat(final))

    return function


TRANSFORMS = {
    "grad": lambda f: torch.func.grad(f),
    "vjp": lambda f: lambda x: torch.func.vjp(f, x)[1](torch.tensor(2.0, device=DEVICE))[0],
    "jacrev": lambda f: torch.func.jacrev(lambda x: f(x).reshape(1)),
    "jvp": lambda f: lambda x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
    "vmap": lambda f: lambda x: torch.func.vmap(f)(torch.stack([x, x + 1])),
    "grad_of_grad": lambda f: torch.func.grad(lambda x: torch.func.grad(f)(x).pow(2).sum()),
    "per_sample": lambda f: lambda x: torch.func.vmap(torch.func.grad(f))(torch.stack([x, -x])),
}


@backends(kernels=True)
@each_cell(slow_but(["lstm"], ["rnn_tanh", "lstm", "gru"]))
@pytest.mark.parametrize("compiler", slow_but(["aot_eager"], ["eager", "aot_eager"]))
@pytest.mark.parametrize("name", slow_but(set(TRANSFORMS) - {"grad_of_grad"}, TRANSFORMS))
def test_transforms_inside_a_compiled_function(cell, backend, name, compiler):
    layer, x = fast(cell, 3, 5, backend=backend), randn(4, 2, 3)
    function = TRANSFORMS[name](loss(layer))
    expected = function(x)
    assert expected.abs().max() > 1e-3
    assert_same(torch.compile(function, backend=compiler)(x), expected, 1e-5)


@backends(kernels=True)
def test_functionalize(backend):
    layer, x = fast("lstm", 3, 5, backend=backend), randn(4, 2, 3)
    assert_same(torch.func.functionalize(loss(layer))(x), loss(layer)(x), 1e-6)


@backends(kernels=True)
def test_derivatives_from_outside_raise_or_are_right(backend):
    """Of a compiled layer: second derivatives and dual numbers."""
    layer = fast("gru", 3, 5, backend=backend)
    compiled, x = torch.compile(layer, backend="aot_eager"), randn(4, 2, 3, grad=True)
    with pytest.raises(RuntimeError, match="double backward"):
        (grad,) = torch.autograd.grad(compiled(x)[0].sum(), x, create_graph=True)
        grad.sum().backward()
    tangent = torch.ones_like(x)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.detach(), tangent)
        expected = forward_ad.unpack_dual(layer(dual)[0]).tangent

        def raises_or_is_right(function):
            try:
                tangent = forward_ad.unpack_dual(function(dual)[0]).tangent
            except NotImplementedError as error:  # which graphs have one is up to the torch
                assert "jvp" in str(error)
            else:
                assert_same(tangent, expected, 1e-5)

        raises_or_is_right(compiled)
        layer.requires_grad_(False)
        raises_or_is_right(compiled)
        raises_or_is_right(torch.compile(layer, backend="eager"))


@backends(kernels=True)
def test_an_exported_program_refuses_forward_mode(backend):
    """Rather than lose a tangent."""
    layer, x = fast("gru", 3, 5, backend=backend).requires_grad_(False), randn(4, 2, 3)
    module = torch.export.export(layer, (x,)).module()
    with pytest.raises(RuntimeError, match="has no forward mode"):
        torch.func.jvp(lambda x: module(x)[0], (x,), (torch.ones_like(x),))
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="has no forward mode"):
        module(forward_ad.make_dual(x, torch.ones_like(x)))


@backends(kernels=True)
@each_cell()
@pytest.mark.parametrize("state", ["given", "zeros"])
def test_an_exported_program_trains(cell, backend, state):
    layer = fast(cell, 4, 6, num_layers=2, bidirectional=True, backend=backend)
    x = randn(5, 3, 4)
    module = torch.export.export(layer, (x,)).module()
    module(x)[0].pow(2).sum().backward()
    grads = torch.autograd.grad(layer(x)[0].pow(2).sum(), list(layer.parameters()))
    trained = dict(module.named_parameters())
    for (name, _), grad in zip(layer.named_parameters(), grads):
        assert_same(trained[name].grad, grad, 1e-6)


@backends(kernels=True)
def test_second_derivatives_of_an_exported_program(backend):
    layer, x = fast("gru", 4, 6, backend=backend), randn(5, 3, 4, grad=True)
    module = torch.export.export(layer, (x,)).module()
    results = []
    for model in (module, layer):
        (grad,) = torch.autograd.grad(model(x)[0].pow(2).sum(), x, create_graph=True)
        results += torch.autograd.grad(grad.pow(2).sum(), x)
    assert results[1].abs().max() > 1e-4
    assert_same(results[0], results[1], 1e-5)


@pytest.mark.filterwarnings("ignore")
def test_projection_in_one_graph():
    layer, x = fast("lstm", 3, 5, proj_size=2), randn(4, 2, 3)
    with torch.no_grad():
        compiled = torch.compile(layer, fullgraph=True, backend="eager")
        assert_same(compiled(x), layer(x), 1e-6)


@backends(kernels=True)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", [False, True])
def test_inductor_cpp_code(backend, given):
    """Its C++ wrapper takes no lists of results, and no empty lists."""
    layer, x = fast("lstm", 4, 6, backend=backend), randn(5, 3, 4, grad=True)
    hx = (randn(1, 3, 6), randn(1, 3, 6)) if given else None
    with torch._inductor.config.patch(cpp_wrapper=True):
        compiled = torch.compile(layer, fullgraph=True)
        output, _ = compiled(x, hx)
        got = torch.autograd.grad(output.pow(2).sum(), [x, *layer.parameters()])
    expected = torch.autograd.grad(layer(x, hx)[0].pow(2).sum(), [x, *layer.parameters()])
    assert_same(got, expected, 1e-5)


@pytest.mark.slow
@backends(kernels=True)
@pytest.mark.filterwarnings("ignore")
def test_an_ahead_of_time_package(backend, tmp_path):
    layer, x = fast("gru", 4, 6, num_layers=2, backend=backend), randn(5, 3, 4)
    with torch.no_grad():
        program = torch.export.export(layer, (x,))
        path = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "m.pt2")
        )
        module = torch._inductor.aoti_load_package(path)
        assert_same(module(x), layer(x), 1e-6)
