"""JAX: one GEMM for the input projection, `lax.scan` over time, jit around the whole call."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU is shared with torch

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from ..cases.lookup import get
from ..cases.problem import Problem
from . import jax_steps
from .forms import JAX

# Compilation is never timed; keeping its results makes the next run, or thread count, start sooner.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / "out" / "jax-cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _array(t: torch.Tensor):
    """A torch tensor as a jax array of the same dtype; numpy has no bfloat16."""
    if t.dtype == torch.bfloat16:
        return jnp.asarray(t.float().cpu().numpy(), jnp.bfloat16)
    return jnp.asarray(t.cpu().numpy())


def _tensor(a) -> torch.Tensor:
    wide = a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a
    return torch.from_numpy(np.array(wide))


def _product(weights, suffix):
    """h [B, H] -> r [B, R*H]; None where the cell has no product."""
    weight, bias = weights.get(f"weight_hh_{suffix}"), weights.get(f"bias_hh_{suffix}")
    if weight is None:
        return lambda h: None
    if weight.ndim == 2:
        recurrent = weight.T
        return lambda h: h @ recurrent + bias
    heads, rows, units = weight.shape
    blocks = weight.reshape(heads, rows // units, units, units)

    def in_heads(h):
        r = jnp.einsum("bnk,ngjk->bgnj", h.reshape(-1, heads, units), blocks)
        return r.reshape(h.shape[0], -1) + bias

    return in_heads


def _scan(step, weights, suffix, x, state, reverse, extra):
    """One direction of one layer: x [T, B, I], state S arrays [B, H] -> (y [T, B, H], state)."""
    gx = x @ weights[f"weight_ih_{suffix}"].T + weights[f"bias_ih_{suffix}"]
    gx = gx if extra is None else jnp.concatenate([gx, extra], axis=-1)
    product = _product(weights, suffix)
    params = [weights[f"params_{suffix}"]] if f"params_{suffix}" in weights else []

    def body(carry, row):
        carry = step(row, product(carry[0]), carry, *params)
        return carry, carry[0]

    final, y = lax.scan(body, state, gx, reverse=reverse)
    return y, final


def _layers(case, weights, x, state, extra):
    """The whole stack: x [T, B, I], state S arrays [L*D, B, H] -> (y [T, B, D*H], finals)."""
    finals, step = [], getattr(jax_steps, JAX[case.cell])
    for layer in range(case.layers):
        outputs = []
        for d, mark in enumerate(("", "_reverse")[: case.directions]):
            start = tuple(s[layer * case.directions + d] for s in state)
            y, end = _scan(step, weights, f"l{layer}{mark}", x, start, d == 1, extra)
            outputs.append(y)
            finals.append(end)
        x = jnp.concatenate(outputs, axis=-1) if case.directions == 2 else outputs[0]
    return x, tuple(jnp.stack(s) for s in zip(*finals))


def runner(problem: Problem):
    """(call, read) of a compiled function; its arrays are on jax's device already."""
    case = problem.case
    weights = {name: _array(w) for name, w in problem.weights.items()}
    x, grad = _array(problem.x), _array(problem.grad)
    extra = None if problem.extra is None else _array(problem.extra)
    rows = (case.layers * case.directions, case.B, case.H)
    count = get(case.cell).states
    zeros = tuple(jnp.zeros(rows, x.dtype) for _ in range(count))
    state = zeros if problem.state is None else tuple(_array(s) for s in problem.state)

    if problem.training:

        def loss(weights, x):
            y, final = _layers(case, weights, x, state, extra)
            return (y * grad).sum(), (y, final)

        compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
        return lambda: jax.block_until_ready(compiled(weights, x)), _read_training

    compiled = jax.jit(lambda weights, x, state: _layers(case, weights, x, state, extra))
    return lambda: jax.block_until_ready(compiled(weights, x, state)), _read


def _read(result) -> dict[str, torch.Tensor]:
    output, final = result
    return {"output": _tensor(output), **dict(zip(("h_n", "c_n"), map(_tensor, final)))}


def _read_training(result) -> dict[str, torch.Tensor]:
    (_, outcome), (grads, grad_x) = result
    gradients = {f"grad {name}": _tensor(g) for name, g in grads.items()}
    return _read(outcome) | {"grad x": _tensor(grad_x)} | gradients
