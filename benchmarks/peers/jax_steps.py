"""The cells' steps in JAX: (gx [B, G*H], r [B, G*H], S states [B, H], P params [H]) -> S states."""

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
