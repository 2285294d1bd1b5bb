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
from flanjax.commands.train import find_checkpoint
from flanjax.errors import UsageError, UserError
from flanjax.input import pieces

LAYOUTS = ('flanjax', 'hf', 't5x', 'peft')
ACTIVATIONS = ('gelu', 'relu', 'silu')
DTYPES = ('float32', 'bfloat16')


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, (
      '  flanjax convert --from=hf --to=flanjax downloads/flan-t5-base weights/flan-t5-base\n'
      '  flanjax convert --from=flanjax --to=hf runs/mine exported/mine\n'
      '  flanjax convert --from=flanjax --to=flanjax --adapters runs/lora adapters/mine\n'
      '  flanjax convert --from=flanjax --to=peft --base=google/flan-t5-base runs/lora exported/lora\n'
      '  flanjax convert --from=peft --to=flanjax --base=downloads/flan-t5-base their/lora weights/it\n'
      '  flanjax convert --from=t5x --to=flanjax t5_1_1_base/checkpoint_1000000 weights/base\n'))
  parser.add_argument('--from', dest='source_layout', choices=LAYOUTS, required=True,
                      help="whose layout SRC has; hf is transformers', peft an adapter of PEFT")
  parser.add_argument('--to', dest='target_layout', choices=LAYOUTS, required=True)
  parser.add_argument('--dtype', choices=DTYPES, default='float32',
                      help='of the numbers written (default: %(default)s)')
  parser.add_argument('--scanned', action='store_true',
                      help="to t5x: for T5X's scalable_t5, whose layers are stacked")
  parser.add_argument('--activation', choices=ACTIVATIONS, help='from t5x: of the feed-forward '
                      'layers, which a checkpoint does not say (default: relu in T5 1.0, or gelu)')
  parser.add_argument('--adapters', action='store_true', help='from a run of LoRA, a soft prompt '
                      'or TRAINABLE, or from peft, to flanjax: only what was trained (default: '
                      'merged with its base)')
  parser.add_argument('--base', metavar='MODEL', help='from peft: the model that the adapter was '
                      'made for, in any layout; to peft: what base_model_name_or_path says '
                      "(default: the run's own base, where transformers can read it)")
  parser.add_argument('--params_only', action='store_true', help='leave out the step and the '
                      "state of the optimizer, with which T5X, or a run with "
                      'Restoring.optimizer_state, goes on training: it begins at step 0')
  parser.add_argument('source', metavar='SRC', help='a folder of transformers; a checkpoint of '
                      "T5X; a run's folder, one of its checkpoints or a converted folder")
  parser.add_argument('target', metavar='DST', help='a folder that is not there yet')
  common.add_flags(parser, 'json')


def run(args: argparse.Namespace) -> int:
  _check_layouts(args)
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
      watched = _watched({'params': weights.tensors, 'state': weights.opt_state}, bar)
      _write(args, dataclasses.replace(
          weights, tensors=watched['params'], opt_state=watched['state']), part)
    copied = _write_tokenizer(args, source, weights, part)
    part.replace(target)
  finally:
    shutil.rmtree(part, ignore_errors=True)
  count = sum(_size(t) for t in weights.tensors.values())
  _tell_state(args, weights)
  common.answer(args, {'target': str(target), 'parameters': count,
                       'config': dataclasses.asdict(weights.config), 'tokenizer': copied,
                       'step': int(weights.info.get('step', 0)),
                       'optimizer_state': bool(weights.opt_state)},
                f'{count:,} parameters: {target}')
  return 0


def _check_layouts(args: argparse.Namespace) -> None:
  source, target = args.source_layout, args.target_layout
  ours = source == target == 'flanjax'
  if args.adapters and not ours and (source, target) != ('peft', 'flanjax'):
    what = '--adapters is from flanjax or peft, to flanjax.'
  elif source == target and not ours:
    what = 'Both layouts are the same.'
  elif target == 'peft' and source != 'flanjax':
    what = 'Only a run of flanjax has adapters to be written for PEFT.'
  elif args.base and 'peft' not in (source, target):
    what = '--base is for adapters of PEFT.'
  else:
    return
  raise UsageError(what, where='flanjax convert', got=f'--from={source} --to={target}')


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


def _keeps_state(args: argparse.Namespace) -> bool:
  """Whether the state of the optimizer is taken along: transformers has no place for it."""
  return 'hf' not in (args.source_layout, args.target_layout) and not args.params_only


def _tell_state(args: argparse.Namespace, weights: Any) -> None:
  if args.target_layout == 't5x' and weights.info.get('step') and not weights.opt_state:
    terminal.note('There is no state of Adafactor for all parameters, and T5X does not train '
                  'without: --params_only begins at step 0, with a fresh one.')
  elif args.target_layout == 't5x' and weights.opt_state:
    terminal.note('To go on, LOSS_NORMALIZING_FACTOR in T5X must be what it was in the run: '
                  "'NUM_REAL_TARGET_TOKENS' is the default here, None in T5X.")


def _open(args: argparse.Namespace, source: pathlib.Path, target: pathlib.Path) -> Any:
  weights = _open_layout(args, source, target)
  if args.params_only:
    weights.info.pop('step', None)
  return weights


def _open_layout(args: argparse.Namespace, source: pathlib.Path, target: pathlib.Path) -> Any:
  if args.source_layout == 't5x':
    from flanjax.interop import t5x

    return t5x.open_path(source, args.activation, _keeps_state(args))
  if args.source_layout == 'hf':
    from flanjax.interop import hf, tokenizer_files

    weights = hf.open_folder(source)
    weights.info.update(tokenizer_files.describe(source, target))
    return weights
  from flanjax.interop import native, peft

  if args.source_layout == 'peft':
    weights = peft.open_folder(source, args.base, target, args.adapters)
  else:
    only = args.adapters or args.target_layout == 'peft'
    weights = native.open_path(source, only, _keeps_state(args))
  if args.target_layout == 'peft':
    peft.check(weights)
  elif weights.config.prompt_length and args.target_layout != 'flanjax':
    raise UserError('A soft prompt has no place in this layout.', where=str(source),
                    got=f'--to={args.target_layout}', expected='--to=flanjax')
  return weights


def _write(args: argparse.Namespace, weights: Any, folder: pathlib.Path) -> None:
  if args.target_layout == 't5x':
    from flanjax.interop import t5x

    t5x.write_folder(folder, weights, args.dtype, args.scanned)
    return
  if args.target_layout == 'peft':
    from flanjax.interop import peft

    peft.write_folder(folder, weights, args.dtype, args.base)
    return
  if args.target_layout == 'hf':
    from flanjax.interop import hf as writer
  else:
    from flanjax.interop import native as writer
  writer.write_folder(folder, weights, args.dtype)


def _write_tokenizer(
    args: argparse.Namespace, source: pathlib.Path, weights: Any, folder: pathlib.Path
) -> list[str]:
  from flanjax.interop import hf, tokenizer_files

  if args.source_layout == 'peft':
    source = pathlib.Path(find_checkpoint(args.base, '--base'))
  if args.target_layout == 'flanjax' and hf.is_folder(source):
    for text in tokenizer_files.remarks(
        source, weights.config.vocab_size - weights.config.vocab_padding):
      terminal.note(text)
    return tokenizer_files.copy_all(source, folder)
  vocabulary = weights.info.get('vocabulary')
  if not vocabulary and args.target_layout == 'flanjax':
    terminal.note('The weights do not name their vocabulary: say VOCABULARY when training.')
  if not vocabulary or args.target_layout in ('t5x', 'peft') or args.source_layout == 'hf':
    return []
  file = _vocabulary_file(weights.info, source)
  if file is None and vocabulary != 'bytes':
    terminal.note(f"The vocabulary '{vocabulary}' is not on this machine: no tokenizer is written.")
    return []
  if args.target_layout == 'flanjax':
    return tokenizer_files.keep(str(file), folder) if '/' in vocabulary else []
  return tokenizer_files.write(file, folder)


def _vocabulary_file(info: dict[str, Any], source: pathlib.Path) -> pathlib.Path | None:
  """The SentencePiece model that model.json names, where it is on this machine.

  Raises:
    UserError: it is no longer the same.
  """
  from flanjax.interop import tokenizer_files

  file = tokenizer_files.file_in(info['vocabulary'], source if source.is_dir() else source.parent)
  if file is not None:
    pieces.check_same(pieces.identity(str(file)), pieces.Identity.of(info),
                      'The vocabulary is not that of the model.', str(file))
  return file


def _size(tensor: Any) -> int:
  return tensor.nbytes // tensor.dtype.itemsize


def _check_space(target: pathlib.Path, weights: Any, dtype: str) -> None:
  folder = next(p for p in target.parents if p.exists())
  needed = sum(map(_size, weights.tensors.values())) * (2 if dtype == 'bfloat16' else 4)
  needed += 4 * sum(map(_size, weights.opt_state.values()))
  free = shutil.disk_usage(folder).free
  if needed > free:
    raise UserError('There is no room for the weights.', where=str(folder),
                    got=f'{terminal.size(free)} free', expected=f'{terminal.size(needed)}')


def _watched(
    trees: dict[str, dict[str, Any]], bar: terminal.Bar
) -> dict[str, dict[str, Any]]:
  """The same tensors, which move `bar` when they are read."""
  total = max(1, sum(t.nbytes for tree in trees.values() for t in tree.values()) // 10**6)
  done = 0

  def read(name: str, tensor: Any) -> Iterator[Any]:
    nonlocal done
    for index, block in tensor.read():
      done += block.nbytes
      bar(done // 10**6, total, name)
      yield index, block

  return {kind: {name: dataclasses.replace(tensor, read=lambda n=name, t=tensor: read(n, t))
                 for name, tensor in tree.items()} for kind, tree in trees.items()}
