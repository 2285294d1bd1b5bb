"""The trainer: batches in, checkpoints and logs out, resumable to the bit."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import io
import json
import os
import pathlib
import platform
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import optax

from flanjax import errors, partitioning, terminal
from flanjax.models import t5
from flanjax.training import checkpoints, logs, monitor
from flanjax.training.prefetch import Prefetcher
from flanjax.training.state import TrainState
from flanjax.training.step import make_train_step


class BatchSource(Protocol):
  """Where batches come from. `batch` and `tally` are pure functions of the step."""

  fingerprint: str
  batch_size: int

  def batch(self, step: int, rows: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """Batch of step 0, 1, ..., or its rows (first, stop): arrays [batch, length].

    Called from another thread.
    """
    ...

  def tally(self, step: int) -> Mapping[str, int]:
    """What it holds, as counts that can be added up."""
    ...

  def audit(self, counts: Mapping[str, int]) -> dict[str, Any]:
    """What the tallies of all steps so far, added up, say: plain data."""
    ...


@runtime_checkable
class StatefulSource(Protocol):
  """A source whose batches come in order, from a state that is kept beside the checkpoints."""

  def save(self, folder: os.PathLike[str], step: int) -> None:
    """Writes what it takes to go on with batch `step`."""
    ...

  def restore(self, folder: os.PathLike[str], step: int) -> None:
    """Goes on with batch `step`."""
    ...


def use_compilation_cache() -> None:
  """Keeps compiled programs in ~/.cache/flanjax/xla from run to run, unless told where.

  One folder per kind of processor: XLA's code for one CPU may not run on another.
  """
  if jax.config.jax_compilation_cache_dir is not None:
    return
  cpu = platform.machine()
  with contextlib.suppress(OSError):
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    flags = sorted({line for line in lines if line.startswith(('flags', 'Features', 'model name'))})
    cpu += '-' + hashlib.sha256('\n'.join(flags).encode()).hexdigest()[:8]
  cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
  jax.config.update('jax_compilation_cache_dir', str(cache / 'flanjax' / 'xla' / cpu))


class Trainer:
  """Trains a model to `total_steps`, from the newest checkpoint in `model_dir` if there is one.

  Args:
    model: the pure functions of `t5.EncoderDecoderModel`.
    optimizer: an optax transformation; one of `optimizers` also tells its learning rate.
    model_dir: the run's folder; all that is written goes there.
    total_steps: the step at which the run is done.
    batch_source: where batches come from.
    mesh: from `partitioning.make_mesh`; None is one mesh axis over all devices.
    seed: of the first parameters and of dropout.
    initial_params: parameters to start from instead of drawn ones.
    checkpoint_period: steps between checkpoints; one is always written at the end.
    keep: checkpoints kept, the newest; None keeps all.
    log_period: steps between lines of the log.
    num_microbatches: parts that each batch is cut into to save memory.
    model_info: more to say in model.json: name and fingerprint of the vocabulary.
    label: what the progress bar calls this run.
  """

  def __init__(
      self,
      model: t5.EncoderDecoderModel,
      optimizer: optax.GradientTransformation,
      *,
      model_dir: str | pathlib.Path,
      total_steps: int,
      batch_source: BatchSource,
      mesh: jax.sharding.Mesh | None = None,
      seed: int = 0,
      initial_params: Any = None,
      checkpoint_period: int = 1000,
      keep: int | None = 3,
      log_period: int = 20,
      num_microbatches: int = 1,
      model_info: Mapping[str, Any] | None = None,
      label: str = 'train',
  ):
    for name, value in (('total_steps', total_steps), ('checkpoint_period', checkpoint_period),
                        ('log_period', log_period), ('num_microbatches', num_microbatches)):
      if value < 1:
        raise errors.UserError(f'{name} must be at least 1', where='Trainer', got=value)
    needed = getattr(batch_source, 'vocab_size', 0)
    if needed > model.config.vocab_size:
      raise errors.UserError(
          "the model's vocabulary is smaller than the data's", where='T5Config.vocab_size',
          got=model.config.vocab_size, expected=f'at least {needed}')
    self._model, self._optimizer = model, optimizer
    self._model_dir = pathlib.Path(model_dir)
    self._total_steps, self._source, self._seed = total_steps, batch_source, seed
    self._initial_params, self._keep = initial_params, keep
    self._checkpoint_period, self._log_period = checkpoint_period, log_period
    self._num_microbatches = num_microbatches
    self._model_info, self._label = dict(model_info or {}), label
    self._mesh = partitioning.make_mesh() if mesh is None else mesh
    self._tally: collections.Counter = collections.Counter()
    self._signal: signal.Signals | None = None

  @property
  def interrupted(self) -> str | None:
    """The name of the signal that ended `run` before its last step, or None."""
    return None if self._signal is None else self._signal.name

  def interrupt(self, number: int) -> None:
    """Asks `run` to stop after the present step, as if the signal `number` had come."""
    self._signal = signal.Signals(number)

  def run(self) -> TrainState:
    """Trains, and returns the state after the last step, or after SIGINT or SIGTERM.

    Raises:
      UserError: the folder cannot be written, holds a checkpoint of another model or of
        other batches, or the loss is no longer finite.
    """
    use_compilation_cache()
    logs.make_folder(self._model_dir / 'train')
    with partitioning.activate(self._mesh):
      checkpointer = checkpoints.Checkpointer(self._model_dir, self._keep)
      try:
        state = self._restore_or_init(checkpointer)
        self._describe()
        return self._train(state, checkpointer)
      finally:
        checkpointer.close()

  def _describe(self) -> None:
    if jax.process_index() == 0:
      logs.write_text(self._model_dir / 'model.json',
                      t5.to_json(self._model.config, **self._model_info))
      logs.write_text(self._model_dir / 'environment.json',
                      json.dumps(logs.environment(self._mesh), indent=2) + '\n')

  def _shardings(self) -> TrainState:
    shapes = self._model.param_shapes()
    params = partitioning.param_shardings(self._mesh, self._model.logical_axes(), shapes)
    opt_state = partitioning.opt_state_shardings(
        self._mesh, self._optimizer, jax.eval_shape(self._optimizer.init, shapes), shapes, params)
    return TrainState(partitioning.replicated(self._mesh), params, opt_state)

  def _restore_or_init(self, checkpointer: checkpoints.Checkpointer) -> TrainState:
    shardings = self._shardings()
    create = lambda params: TrainState.create(params, self._optimizer)
    shapes = jax.eval_shape(create, self._model.param_shapes())
    template = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes, shardings)
    restored = checkpointer.restore(template)
    if restored is not None:
      state, position = restored
      if position.get('fingerprint') != self._source.fingerprint:
        raise errors.UserError(
            'this run was trained on other batches', where=str(self._model_dir),
            got=f'batches {self._source.fingerprint}', expected=position.get('fingerprint'),
            hint='mixture, data, lengths, batch size and seed must stay as they were, '
                 'or MODEL_DIR be another')
      self._tally.update(position.get('tally', {}))
      return state
    if self._initial_params is None:
      init = lambda: create(self._model.init(jax.random.key(self._seed)))
      return jax.jit(init, out_shardings=shardings)()
    self._check_initial_params()
    params = partitioning.put(self._initial_params, shardings.params)
    return jax.jit(create, out_shardings=shardings)(params)

  def _check_initial_params(self) -> None:
    name_of = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
    flat = lambda tree: {name_of(path): tuple(leaf.shape) for path, leaf
                         in jax.tree_util.tree_flatten_with_path(tree)[0]}
    got, expected = flat(self._initial_params), flat(self._model.param_shapes())
    for name in sorted(set(got) | set(expected)):
      if got.get(name) != expected.get(name):
        raise errors.UserError(
            f'the initial parameters are of another model: parameter {name}',
            got=f"shape {got.get(name, 'none')}", expected=f"shape {expected.get(name, 'none')}")

  def _feed(self, step: int) -> monitor.Fed:
    rows = self._source.batch_size
    partitioning.check_batch(self._mesh, rows, self._num_microbatches)
    first, stop = partitioning.local_rows(self._mesh, rows)
    batch = self._source.batch(step, (first, stop))
    sides = {'encoder': batch['encoder_input_tokens'], 'decoder': batch['decoder_target_tokens']}
    # Of several hosts each sees its own rows, and takes them for all.
    scale = rows / (stop - first)
    return monitor.Fed(
        step, partitioning.put_rows(batch, self._mesh, first, rows),
        self._source.tally(step), rows,
        {side: round(scale * np.count_nonzero(x)) for side, x in sides.items()},
        {side: round(scale * x.size) for side, x in sides.items()})

  def _train(self, state: TrainState, checkpointer: checkpoints.Checkpointer) -> TrainState:
    step_fn = make_train_step(
        self._model, self._optimizer, seed=self._seed, num_microbatches=self._num_microbatches)
    start = int(state.step)
    if start and isinstance(self._source, StatefulSource):
      self._source.restore(self._stream_folder(start), start)
    log = logs.MetricLog(self._model_dir / 'train', start) if jax.process_index() == 0 else None
    feeder = Prefetcher(self._feed, start, self._total_steps)
    try:
      with _signals(self), terminal.bar(self._label, self._stream()) as bar:
        bar(start, self._total_steps)
        watch = monitor.Monitor(
            bar, log, total_steps=self._total_steps, log_period=self._log_period,
            learning_rate=getattr(self._optimizer, 'learning_rate', None),
            last_checkpoint=lambda: checkpointer.newest_folder)
        for fed in feeder:
          state, metrics = step_fn(state, fed.arrays)
          self._tally.update(fed.tally)
          watch.add(fed, metrics)
          done = fed.step + 1
          stop = self._told_to_stop(done, checkpointer)
          if stop or done % self._checkpoint_period == 0 or done == self._total_steps:
            # Read before it is saved: no checkpoint holds a state that is not finite.
            watch.flush()
            self._save(state, checkpointer)
          if stop:
            break
    finally:
      feeder.close()
      if log is not None:
        log.close()
    return state

  def _stream(self):
    """Where the progress bar goes: one process of several speaks."""
    return None if jax.process_index() == 0 else io.StringIO()

  def _told_to_stop(self, step: int, checkpointer: checkpoints.Checkpointer) -> bool:
    if jax.process_count() > 1:
      if checkpointer.reached_preemption(step):
        self._signal = self._signal or signal.SIGTERM
        return True
      return False
    return self._signal is not None

  def _stream_folder(self, step: int) -> pathlib.Path:
    return self._model_dir / 'stream' / str(step) / f'host_{jax.process_index()}'

  def _save_stream(self, step: int) -> None:
    """Writes the state of a source that has one, and removes those older than all checkpoints."""
    self._source.save(self._stream_folder(step), step)
    found = (self._model_dir / checkpoints.FOLDER).glob('[0-9]*')
    oldest = min((int(p.name) for p in found if p.name.isdigit()), default=0)
    for folder in (self._model_dir / 'stream').iterdir():
      if int(folder.name) < oldest:
        shutil.rmtree(folder, ignore_errors=True)

  def _save(self, state: TrainState, checkpointer: checkpoints.Checkpointer) -> None:
    if isinstance(self._source, StatefulSource):
      self._save_stream(int(state.step))
    checkpointer.save(
        state, {'fingerprint': self._source.fingerprint, 'tally': dict(self._tally)})
    if jax.process_index() == 0:
      logs.write_text(self._model_dir / 'train' / 'audit.json',
                      json.dumps(self._source.audit(self._tally), indent=1) + '\n')


@contextlib.contextmanager
def _signals(trainer: Trainer) -> Iterator[None]:
  """SIGINT and SIGTERM ask `trainer` to stop after its step; a second one is not caught."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  previous = {}

  def ask(number, frame):
    del frame
    trainer.interrupt(number)
    for which, handler in previous.items():
      signal.signal(which, handler)
    terminal.note(f'{trainer.interrupted}: saving a checkpoint, then stopping')

  wanted = [signal.SIGINT]
  if jax.process_count() == 1:  # Else jax itself tells all processes of a SIGTERM.
    wanted.append(signal.SIGTERM)
  for which in wanted:
    previous[which] = signal.signal(which, ask)
  try:
    yield
  finally:
    for which, handler in previous.items():
      signal.signal(which, handler)
