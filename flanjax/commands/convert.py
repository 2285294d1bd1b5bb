"""`flanjax convert`: weights from one project's layout into another's, tensor by tensor."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.commands.train import find_checkpoint, mini_base
from flanjax.errors import UsageError, UserError

LAYOUTS = ('flanjax', 'hf', 't5x')
ACTIVATIONS = ('gelu', 'relu', 'silu')
DTYPES = ('float32', 'bfloat16')


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, (
      '  flanjax convert --from=hf --to=flanjax downloads/flan-t5-base weights/flan-t5-base\n'
      '  flanjax convert --from=flanjax --to=hf runs/mine exported/mine\n'
      '  flanjax convert --from=flanjax --to=flanjax --adapters runs/lora adapters/mine\n'
      '  flanjax convert --from=t5x --to=flanjax t5_1_1_base/checkpoint_1000000 weights/base\n'))
  parser.add_argument('--from', dest='source_layout', choices=LAYOUTS, required=True,
                      help="whose layout SRC has; hf is transformers'")
  parser.add_argument('--to', dest='target_layout', choices=LAYOUTS, required=True)
  parser.add_argument('--dtype', choices=DTYPES, default='float32',
                      help='of the numbers written (default: %(default)s)')
  parser.add_argument('--scanned', action='store_true',
                      help="to t5x: for T5X's scalable_t5, whose layers are stacked")
  parser.add_argument('--activation', choices=ACTIVATIONS, help='from t5x: of the feed-forward '
                      'layers, which a checkpoint does not say (default: relu in T5 1.0, or gelu)')
  parser.add_argument('--adapters', action='store_true', help='from a run of LoRA, a soft prompt '
                      'or TRAINABLE, to flanjax: only what was trained (default: merged with '
                      'its base)')
  parser.add_argument('source', metavar='SRC', help='a folder of transformers; a checkpoint of '
                      "T5X; a run's folder, one of its checkpoints or a converted folder")
  parser.add_argument('target', metavar='DST', help='a folder that is not there yet')
  common.add_flags(parser, 'json')


def run(args: argparse.Namespace) -> int:
  ours = args.source_layout == args.target_layout == 'flanjax'
  if args.adapters and not ours:
    raise UsageError('--adapters is from flanjax to flanjax.', where='flanjax convert',
                     got=f'--from={args.source_layout} --to={args.target_layout}')
  if args.source_layout == args.target_layout and not ours:
    raise UsageError('Both layouts are the same.', where='flanjax convert',
                     got=f'--from={args.source_layout} --to={args.target_layout}')
  for flag, given, layout in (('--scanned', args.scanned, args.target_layout),
                              ('--activation', args.activation, args.source_layout)):
    if given and layout != 't5x':
      raise UsageError(f'{flag} is for checkpoints of T5X.', where='flanjax convert', got=layout)
  source, target = _paths(args)
  weights = _open(args, source, target)
  _check_space(target, weights, args.dtype)
  part = target.with_name(target.name + '.part')
  shutil.rmtree(part, ignore_errors=True)
  common.writable(part)
  try:
    with terminal.bar('converting MB') as bar:
      _write(args, dataclasses.replace(weights, tensors=_watched(weights.tensors, bar)), part)
    copied = _write_tokenizer(args, source, weights, part)
    part.replace(target)
  finally:
    shutil.rmtree(part, ignore_errors=True)
  count = sum(_size(t) for t in weights.tensors.values())
  if args.target_layout == 'flanjax' and not weights.info.get('vocabulary'):
    terminal.note('No SentencePiece model is among the files: say VOCABULARY when training.')
  common.answer(args, {'target': str(target), 'parameters': count,
                       'config': dataclasses.asdict(weights.config), 'tokenizer': copied},
                f'{count:,} parameters: {target}')
  return 0


def _paths(args: argparse.Namespace) -> tuple[pathlib.Path, pathlib.Path]:
  if args.source_layout == 'flanjax':
    source = pathlib.Path(find_checkpoint(args.source, 'SRC'))
  else:
    source = pathlib.Path(args.source).expanduser().absolute()
  if not source.exists():
    raise UserError('There is no such file or folder.', where=str(source))
  target = pathlib.Path(args.target).expanduser().absolute()
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise UserError('DST is there already.', where=str(target),
                    hint='name another folder, or remove this one')
  return source, target


def _open(args: argparse.Namespace, source: pathlib.Path, target: pathlib.Path) -> Any:
  if args.source_layout == 't5x':
    from flanjax.interop import t5x

    return t5x.open_path(source, args.activation)
  if args.source_layout == 'hf':
    from flanjax.interop import hf, tokenizer_files

    weights = hf.open_folder(source)
    weights.info.update(tokenizer_files.describe(source, target))
    return weights
  from flanjax.interop import native

  weights = native.open_path(source, args.adapters)
  if weights.config.prompt_length and args.target_layout != 'flanjax':
    raise UserError('A soft prompt has no place in this layout.', where=str(source),
                    got=f'--to={args.target_layout}', expected='--to=flanjax')
  return weights


def _write(args: argparse.Namespace, weights: Any, folder: pathlib.Path) -> None:
  if args.target_layout == 't5x':
    from flanjax.interop import t5x

    t5x.write_folder(folder, weights, args.dtype, args.scanned)
    return
  if args.target_layout == 'hf':
    from flanjax.interop import hf as writer
  else:
    from flanjax.interop import native as writer
  writer.write_folder(folder, weights, args.dtype)


def _write_tokenizer(
    args: argparse.Namespace, source: pathlib.Path, weights: Any, folder: pathlib.Path
) -> list[str]:
  from flanjax.interop import tokenizer_files

  if args.source_layout == 'hf':
    return tokenizer_files.copy_all(source, folder) if args.target_layout == 'flanjax' else []
  vocabulary = weights.info.get('vocabulary')
  if not vocabulary or args.target_layout != 'hf':
    return []
  file = _vocabulary_file(vocabulary, source)
  if file is None and vocabulary != 'bytes':
    terminal.note(f"The vocabulary '{vocabulary}' is not on this machine: no tokenizer is written.")
    return []
  return tokenizer_files.write(vocabulary, file, folder)


def _vocabulary_file(name: str, source: pathlib.Path) -> pathlib.Path | None:
  """The SentencePiece model of a vocabulary, where it is on this machine."""
  if name == 'mini':
    return mini_base() / 'sentencepiece.model'
  if name == 't5':
    path = common.default_workdir() / 'vocabularies' / 't5' / 'sentencepiece.model'
    return path if path.is_file() else None
  # A folder that was moved holds its vocabulary still.
  candidates = [pathlib.Path(name).expanduser(), source / pathlib.Path(name).name]
  return next((path for path in candidates if path.is_file()), None)


def _size(tensor: Any) -> int:
  return tensor.nbytes // tensor.dtype.itemsize


def _check_space(target: pathlib.Path, weights: Any, dtype: str) -> None:
  folder = next(p for p in target.parents if p.exists())
  needed = sum(map(_size, weights.tensors.values())) * (2 if dtype == 'bfloat16' else 4)
  free = shutil.disk_usage(folder).free
  if needed > free:
    raise UserError('There is no room for the weights.', where=str(folder),
                    got=f'{terminal.size(free)} free', expected=f'{terminal.size(needed)}')


def _watched(tensors: dict[str, Any], bar: terminal.Bar) -> dict[str, Any]:
  """The same tensors, which move `bar` when they are read."""
  total = max(1, sum(t.nbytes for t in tensors.values()) // 10**6)
  done = 0

  def read(name: str, tensor: Any) -> Iterator[Any]:
    nonlocal done
    for index, block in tensor.read():
      done += block.nbytes
      bar(done // 10**6, total, name)
      yield index, block

  return {name: dataclasses.replace(tensor, read=lambda n=name, t=tensor: read(n, t))
          for name, tensor in tensors.items()}
