"""The matrix product of a projection, with a gradient that is laid out for speed."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def project(x: jax.Array, kernel: jax.Array, dtype: jnp.dtype | None = None) -> jax.Array:
  """x @ kernel, [..., in], [in, out] -> [..., out], computed in the type of `x`.

  The gradient of the kernel is summed in the kernel's own type, float32, whatever that of `x`.
  Of its two operands, over whose rows it sums, the narrower one is turned: XLA would turn the
  gradient of the output, which of a feed-forward's first projection is the wider by far.

  Args:
    x: [..., in].
    kernel: [in, out].
    dtype: of the result, which products are summed in; None: that of `x`.
  """
  return jnp.matmul(x, kernel.astype(x.dtype), preferred_element_type=dtype)


def _forward(x, kernel, dtype):
  return project(x, kernel, dtype), (x, kernel)


def _backward(dtype, saved, gradient):
  del dtype
  x, kernel = saved
  gradient = gradient.astype(x.dtype)
  rows = tuple(range(x.ndim - 1))
  over_rows = lambda a, b: jax.lax.dot_general(
      a, b, ((rows, rows), ((), ())), preferred_element_type=kernel.dtype)
  turn_x = kernel.shape[0] <= kernel.shape[1]
  kernel_gradient = over_rows(x, gradient) if turn_x else over_rows(gradient, x).T
  return jnp.matmul(gradient, kernel.astype(x.dtype).T), kernel_gradient


project.defvjp(_forward, _backward)
