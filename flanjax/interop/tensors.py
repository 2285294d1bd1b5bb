"""Tensors that stay on disk and pass through memory in blocks, so that xxl fits a small host."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flanjax.models.t5 import T5Config

BLOCK_BYTES = 1 << 26

Index = tuple[slice, ...]
Blocks = Iterator[tuple[Index, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Tensor:
  """An array that can be read in blocks, each with its place in the whole.

  Args:
    shape: of the whole.
    dtype: of the whole.
    read: gives the blocks; together they cover the whole, each number once.
    where: file and name, for errors.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], Blocks]
  where: str = ''

  @property
  def nbytes(self) -> int:
    return math.prod(self.shape) * self.dtype.itemsize


@dataclasses.dataclass
class Weights:
  """A model on disk: its sizes, its tensors by flanjax's names, what model.json says besides.

  `opt_state` is that of Adafactor, by `t5x_state`'s names, where it is at hand and asked for.
  """

  config: T5Config
  tensors: dict[str, Tensor]
  info: dict[str, Any] = dataclasses.field(default_factory=dict)
  opt_state: dict[str, Tensor] = dataclasses.field(default_factory=dict)


def row_ranges(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[int, int]]:
  """Ranges of the first axis, of about BLOCK_BYTES each.

  >>> list(row_ranges((5, BLOCK_BYTES // 8), 4))
  [(0, 2), (2, 4), (4, 5)]
  """
  row = max(1, math.prod(shape[1:]) * itemsize)
  rows = max(1, BLOCK_BYTES // row)
  for start in range(0, shape[0], rows):
    yield start, min(start + rows, shape[0])


def from_rows(
    shape: tuple[int, ...], dtype: Any, rows: Callable[[int, int], np.ndarray], where: str = ''
) -> Tensor:
  """A tensor of which `rows(start, stop)` reads a part of the first axis."""
  dtype, shape = np.dtype(dtype), tuple(shape)
  rest = tuple(slice(0, n) for n in shape[1:])

  def read() -> Blocks:
    if not shape:
      yield (), rows(0, 1)
    else:
      for start, stop in row_ranges(shape, dtype.itemsize):
        yield (slice(start, stop), *rest), rows(start, stop)

  return Tensor(shape, dtype, read, where)


def from_array(array: np.ndarray, where: str = '') -> Tensor:
  """A tensor that is in memory already."""
  return from_rows(array.shape, array.dtype,
                   lambda start, stop: array[start:stop] if array.ndim else array, where)


def to_array(tensor: Tensor) -> np.ndarray:
  """The whole in memory."""
  whole = np.empty(tensor.shape, tensor.dtype)
  for index, block in tensor.read():
    whole[index] = block
  return whole


def transposed(tensor: Tensor) -> Tensor:
  """The matrix turned over; its blocks become blocks of columns."""
  def read() -> Blocks:
    for index, block in tensor.read():
      yield index[::-1], block.T

  return dataclasses.replace(tensor, shape=tensor.shape[::-1], read=read)


def cast(tensor: Tensor, dtype: Any) -> Tensor:
  """The same numbers, rounded to `dtype`."""
  dtype = np.dtype(dtype)

  def read() -> Blocks:
    for index, block in tensor.read():
      yield index, block.astype(dtype)

  return tensor if tensor.dtype == dtype else dataclasses.replace(tensor, dtype=dtype, read=read)


def reshaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
  """The same numbers in another shape, where blocks of whole rows stay such blocks."""
  shape = tuple(shape)

  def read() -> Blocks:
    per_row = tensor.nbytes // tensor.dtype.itemsize // tensor.shape[0]
    own = math.prod(shape[1:])
    for index, block in tensor.read():
      start, stop = index[0].start * per_row // own, index[0].stop * per_row // own
      yield ((slice(start, stop), *(slice(0, n) for n in shape[1:])),
             block.reshape(stop - start, *shape[1:]))

  return tensor if tensor.shape == shape else dataclasses.replace(tensor, shape=shape, read=read)


def scaled(tensor: Tensor, factor: float) -> Tensor:
  """Every number times `factor`."""
  def read() -> Blocks:
    for index, block in tensor.read():
      yield index, block * np.asarray(factor, block.dtype)

  return dataclasses.replace(tensor, read=read)


def resized(tensor: Tensor, rows: int) -> Tensor:
  """The first `rows` rows; where there are fewer, rows of zeros follow."""
  shape = (rows, *tensor.shape[1:])
  rest = tuple(slice(0, n) for n in shape[1:])

  def read() -> Blocks:
    for index, block in tensor.read():
      stop = min(index[0].stop, rows)
      if index[0].start < stop:
        yield (slice(index[0].start, stop), *index[1:]), block[:stop - index[0].start]
    if rows > tensor.shape[0]:
      zeros = np.zeros((rows - tensor.shape[0], *shape[1:]), tensor.dtype)
      yield (slice(tensor.shape[0], rows), *rest), zeros

  if rows == tensor.shape[0]:
    return tensor
  return dataclasses.replace(tensor, shape=shape, read=read)
