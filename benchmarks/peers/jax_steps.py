"""The cells' steps in JAX: (gx [B, X*H], r [B, R*H], S states [B, H], P params [H]) -> S states.

Extra slots come at the end of gx; a cell without a recurrent product has None for r.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def tanh_step(gx, r, state):
    return (jnp.tanh(gx + r),)


def relu_step(gx, r, state):
    return (jax.nn.relu(gx + r),)


def identity_step(gx, r, state):
    return (gx + r,)


def lstm_step(gx, r, state):
    i, f, g, o = jnp.split(gx + r, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru_step(gx, r, state):
    x_r, x_z, x_n = jnp.split(gx, 3, axis=-1)
    r_r, r_z, r_n = jnp.split(r, 3, axis=-1)
    z = jax.nn.sigmoid(x_z + r_z)
    n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + r_r) * r_n)
    return (n + z * (state[0] - n),)


def light_gru_step(gx, r, state):
    z, n = jnp.split(gx + r, 2, axis=-1)
    n = jax.nn.relu(n)
    return (n + jax.nn.sigmoid(z) * (state[0] - n),)


def janet_step(gx, r, state):
    s, n = jnp.split(gx + r, 2, axis=-1)
    return (jax.nn.sigmoid(s) * state[0] + (1 - jax.nn.sigmoid(s - 1)) * jnp.tanh(n),)


def peephole_lstm_step(gx, r, state, p):
    i, f, g, o = jnp.split(gx + r, 4, axis=-1)
    i, f = jax.nn.sigmoid(i + p[0] * state[1]), jax.nn.sigmoid(f + p[1] * state[1])
    c = f * state[1] + i * jnp.tanh(g)
    return jax.nn.sigmoid(o + p[2] * c) * jnp.tanh(c), c


def _normalised(numbers, eps=1e-5):
    mean = numbers.mean(-1, keepdims=True)
    variance = ((numbers - mean) ** 2).mean(-1, keepdims=True)
    return (numbers - mean) * jax.lax.rsqrt(variance + eps)


def layer_norm_lstm_step(gx, r, state, p):
    gates = _normalised(gx + r) * p[:4].reshape(-1) + p[4:8].reshape(-1)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    c = _normalised(c) * p[8] + p[9]
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def layer_norm_gru_step(gx, r, state, p):
    u = _normalised(gx) * p[:3].reshape(-1) + p[3:6].reshape(-1)
    v = _normalised(r) * p[6:9].reshape(-1) + p[9:].reshape(-1)
    return gru_step(u, v, state)


def slstm_step(gx, r, state):
    i, f, z, o = jnp.split(gx + r, 4, axis=-1)
    _, c, n, m = state
    log_f = jnp.where(n == 0, -1e30, jax.nn.log_sigmoid(f) + m)
    m = jnp.maximum(log_f, i)
    i, f = jnp.exp(i - m), jnp.exp(log_f - m)
    c, n = f * c + i * jnp.tanh(z), f * n + i
    return jax.nn.sigmoid(o) * (c / n), c, n, m


def zoneout_lstm_step(gx, r, state):
    gates, keeps_h, keeps_c = jnp.split(gx, (r.shape[-1], r.shape[-1] + state[0].shape[-1]), -1)
    h, c = lstm_step(gates, r, state)
    return h + keeps_h * (state[0] - h), c + keeps_c * (state[1] - c)


def min_gru_step(gx, r, state):
    z, n = jnp.split(gx, 2, axis=-1)
    n = jnp.where(n >= 0, n + 0.5, jax.nn.sigmoid(n))
    return (state[0] + jax.nn.sigmoid(z) * (n - state[0]),)
