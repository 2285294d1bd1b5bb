"""Weights in the layout of another project, recognised by their files."""

from __future__ import annotations

import pathlib

from flanjax.interop import hf, t5x
from flanjax.interop.tensors import Weights


def is_folder(path: pathlib.Path) -> bool:
  """Whether this is a model of transformers, or checkpoints of T5X."""
  return hf.is_folder(path) or t5x.is_folder(path)


def open_folder(path: pathlib.Path) -> Weights:
  """The model in it; UserError when it cannot be used."""
  return hf.open_folder(path) if hf.is_folder(path) else t5x.open_path(path)
