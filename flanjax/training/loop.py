"""The trainer: batches in, checkpoints and logs out, resumable to the bit."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import io
import json
import pathlib
import shutil
import signal
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flanjax import distributed, errors, partitioning, terminal
from flanjax.input import remote
from flanjax.models import t5
from flanjax.training import checkpoints, compilation, continuing, diagnosis, goodput
from flanjax.training import interrupts, intervals
from flanjax.training import freezing as freezing_lib
from flanjax.training import logs, monitor, profiler
from flanjax.training import reporting as reporting_lib
from flanjax.training.nonfinite import NonFinite, NotFinite, check_state
from flanjax.training.prefetch import Prefetcher
from flanjax.training.protocols import BatchSource, Evaluator, StatefulSource
from flanjax.training.restoring import Restoring
from flanjax.training.saving import Saving
from flanjax.training.state import TrainState, split
from flanjax.training.step import PER_TOKEN, make_train_step


# Between attempts to write the last checkpoint, in which somebody may make room: ten minutes.
_PAUSES_S = (5, 10, 15, 30, 60, 120, 180, 180)


class Trainer:
  """Trains a model to `total_steps`, from the newest checkpoint in `model_dir` if there is one.

  Args:
    model: the pure functions of `t5.EncoderDecoderModel`.
    optimizer: an optax transformation; one of `optimizers` also tells its learning rate.
    model_dir: the run's folder; all that is written goes there.
    total_steps: the step at which the run is done.
    batch_source: where batches come from.
    mesh: from `partitioning.make_mesh`; None is one mesh axis over all devices.
    axis_rules: from `partitioning.axis_rules`: what is cut along which axis of the mesh.
    seed: of the first parameters and of dropout.
    initial_params: parameters to start from instead of drawn ones, or a function that gives
      them when they are needed. Those of adapters may be missing.
    freezing: which parameters are trained.
    restoring: which of `initial_params` are taken.
    saving: when checkpoints are written, and which of them are kept.
    non_finite: what to do about a step whose loss or gradient is not finite.
    evaluator: called every `evaluator.period` steps and at the end.
    log_period: steps between lines of the log.
    num_microbatches: parts that each batch is cut into to save memory.
    loss_normalizing_factor: what the gradient of the summed loss is divided by, in T5X's words:
      'NUM_REAL_TARGET_TOKENS', a number, or None for the sum as it is, which is T5X's default.
    model_info: more to say in model.json: name and fingerprint of the vocabulary; and, as
      initial_checkpoint, where initial_params are from.
    label: what the progress bar calls this run.
    reporting: what is told beside the bar.

  Attributes:
    clock: tells where the time of `run` goes.
    model: as given.
    layout: the mesh, the rules and the number of microbatches.
    restoring: as given.
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
      axis_rules: partitioning.AxisRules = partitioning.AXIS_RULES,
      seed: int = 0,
      initial_params: Any = None,
      freezing: freezing_lib.Freezing = freezing_lib.Freezing(),
      restoring: Restoring = Restoring(),
      saving: Saving = Saving(),
      non_finite: NonFinite = NonFinite(),
      evaluator: Evaluator | None = None,
      log_period: int = 20,
      num_microbatches: int = 1,
      loss_normalizing_factor: float | str | None = PER_TOKEN,
      model_info: Mapping[str, Any] | None = None,
      label: str = 'train',
      reporting: reporting_lib.Reporting | None = None,
  ):
    for name, value in (('total_steps', total_steps), ('log_period', log_period),
                        ('num_microbatches', num_microbatches)):
      if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise errors.UserError(f'{name} must be a whole number of at least 1', where='Trainer',
                               got=repr(value))
    for name, value, kind in (('freezing', freezing, freezing_lib.Freezing),
                              ('restoring', restoring, Restoring), ('saving', saving, Saving),
                              ('non_finite', non_finite, NonFinite)):
      if not isinstance(value, kind):
        raise errors.UserError(f'{name} must be a {kind.__name__}', where='Trainer',
                               got=repr(value))
    factor = loss_normalizing_factor
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not (factor in (PER_TOKEN, None) or number and factor > 0):
      raise errors.UserError('loss_normalizing_factor has no such choice', where='Trainer',
                             got=repr(factor), expected=f'{PER_TOKEN!r}, None or a number above 0')
    if saving.keep_best:
      saving.check(() if evaluator is None else evaluator.names)
    needed = getattr(batch_source, 'vocab_size', 0)
    rows = model.config.vocab_size - model.config.vocab_padding
    if needed > rows:
      raise errors.UserError(
          "the model's vocabulary is smaller than the data's", where='T5Config.vocab_size',
          got=rows, expected=f'at least {needed}')
    self._model, self._optimizer = model, optimizer
    self._model_dir = remote.resolved(model_dir)
    self._total_steps, self._source, self._seed = total_steps, batch_source, seed
    self._initial_params, self.restoring = initial_params, restoring
    self._saving, self._non_finite, self._evaluator = saving, non_finite, evaluator
    self._log_period = log_period
    self._num_microbatches, self._loss_normalizing_factor = num_microbatches, factor
    self._model_info, self._label = dict(model_info or {}), label
    self._initial_path = self._model_info.pop('initial_checkpoint', None)
    self._reporting = reporting or reporting_lib.Reporting()
    self._mesh = partitioning.make_mesh() if mesh is None else mesh
    self._axis_rules = axis_rules
    self.model, self.layout = model, partitioning.Layout(self._mesh, axis_rules, num_microbatches)
    self._freezing, self._trainable = freezing, freezing.pattern(model)
    self._trains, self._frozen_fingerprint = freezing_lib.predicate(self._trainable), ''
    self._tally: collections.Counter = collections.Counter()
    self._interrupts = interrupts.Interrupts()
    self.clock = goodput.Clock()
    self.failed_evaluations: dict[int, remote.AnyPath] = {}

  @property
  def interrupted(self) -> str | None:
    """The name of the signal that ended `run` before its last step, or None."""
    return None if self._interrupts.signal is None else self._interrupts.signal.name

  @property
  def left(self) -> bool:
    """Whether a thread was left at work when `run` stopped: the process is better ended hard."""
    return self._interrupts.left

  def interrupt(self, number: int) -> None:
    """Asks `run` to stop after the present step, as if the signal `number` had come."""
    self._interrupts.set(number)

  def run(self) -> TrainState:
    """Trains, and returns the state after the last step, or after SIGINT or SIGTERM.

    Raises:
      UserError: the folder cannot be written, holds a checkpoint of another model or of
        other batches, the loss is no longer finite, or the last checkpoint cannot be written.
    """
    compilation.use_cache()
    self.clock = goodput.Clock()
    logs.make_folder(self._model_dir / 'train')
    with partitioning.activate(self._mesh, self._axis_rules):
      checkpointer = checkpoints.Checkpointer(self._model_dir, self._saving)
      try:
        with distributed.ending_together():
          with self.clock.losing('init_or_restore'):
            state = jax.block_until_ready(self._restore_or_init(checkpointer))
          self._describe()
          return self._train(state, checkpointer)
      finally:
        checkpointer.close()

  def _describe(self) -> None:
    if jax.process_index() == 0:
      logs.write_text(self._model_dir / 'model.json',
                      t5.to_json(self._model.config, **self._model_info, **self._frozen_record()))
      logs.write_text(self._model_dir / 'environment.json',
                      json.dumps(logs.environment(self._mesh), indent=2) + '\n')

  def _frozen_record(self) -> dict[str, Any]:
    """What it takes to find the parameters again that checkpoints do not hold."""
    if not self._frozen_fingerprint:
      return {}
    return {'frozen': {
        'base': self._initial_path, 'drawn': self._initial_params is None, 'seed': self._seed,
        'restoring': dataclasses.asdict(self.restoring), 'trainable': self._trainable,
        'dtype': self._freezing.frozen_dtype, 'fingerprint': self._frozen_fingerprint}}

  def _shardings(self) -> TrainState:
    shapes, frozen_shapes = freezing_lib.divide(self._model.param_shapes(), self._trainable)
    axes, frozen_axes = split(self._model.logical_axes(), self._trains)
    params, opt_state = partitioning.state_shardings(
        self._mesh, axes, self._optimizer, shapes, self._axis_rules)
    frozen = partitioning.param_shardings(
        self._mesh, frozen_axes, frozen_shapes, self._axis_rules)
    return TrainState(partitioning.replicated(self._mesh), params, opt_state, frozen)

  def abstract_state(self) -> TrainState:
    """The state as shapes with their shardings; nothing is allocated."""
    trained, frozen = split(self._model.param_shapes(), self._trains)
    state = jax.eval_shape(functools.partial(TrainState.create, optimizer=self._optimizer), trained)
    dtype = self._freezing.frozen_dtype
    state = state._replace(frozen=jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, dtype), frozen))
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        state, self._shardings())

  def lower_step(self, batch: Mapping[str, jax.ShapeDtypeStruct]) -> jax.stages.Lowered:
    """A step on `batch`, shapes with shardings, to be compiled; nothing is allocated."""
    with self._context():
      state = self.abstract_state()
      return self._step(state).lower(state, batch)

  def initial_state(self) -> TrainState:
    """The state before the first step, on the mesh: of the initial parameters, or drawn."""
    with self._context():
      shardings = self._shardings()
      base = self._base()
      frozen = self._start_frozen(shardings, base)
      trained = shardings._replace(frozen={})
      create = lambda params: TrainState.create(params, self._optimizer)
      if base is None and not frozen:
        init = lambda: create(self._model.init(jax.random.key(self._seed)))
        return jax.jit(init, out_shardings=trained)()
      params = freezing_lib.start_trained(
          self._model, self._trains, shardings.params, self._seed, base)
      state = jax.jit(create, out_shardings=trained, donate_argnums=0)(params)
      return state._replace(frozen=frozen)

  def _restore_or_init(self, checkpointer: checkpoints.Checkpointer) -> TrainState:
    restored = checkpointer.restore(self.abstract_state()._replace(frozen={}))
    if restored is None:
      return self._continued(self.initial_state())
    state, position = restored
    if position.get('fingerprint') != self._source.fingerprint:
      raise errors.UserError(
          'this run was trained on other batches', where=str(self._model_dir),
          got=f'batches {self._source.fingerprint}', expected=position.get('fingerprint'),
          hint='mixture, data, lengths, batch size and seed must stay as they were, '
               'or MODEL_DIR be another')
    shardings = self._shardings()
    frozen = self._start_frozen(shardings, self._base() if shardings.frozen else None)
    freezing_lib.check_same(
        self._model_dir, self._frozen_fingerprint, position.get('frozen', ''))
    self._tally.update(position.get('tally', {}))
    return state._replace(frozen=frozen)

  def _continued(self, state: TrainState) -> TrainState:
    """`state`, before its first step, where `restoring` says so with the optimizer's."""
    if self.restoring.optimizer_state:
      state = continuing.continued(state, self._initial_path)
      if jax.process_index() == 0:
        terminal.note(continuing.told(int(state.step), self._loss_normalizing_factor))
      if isinstance(self._source, StatefulSource):
        self._source.begin(int(state.step))
    return state

  def _start_frozen(self, shardings: TrainState, base: Any) -> Any:
    """The parameters that are not trained, on the mesh."""
    frozen, self._frozen_fingerprint = freezing_lib.start_frozen(
        self._model, self._trains, shardings.frozen, self._seed, base, self._freezing.frozen_dtype)
    return frozen

  def _base(self) -> Any:
    """The initial parameters, or None where all are drawn."""
    base = self._initial_params
    if callable(base):
      base = base()
    if base is None:
      return None
    adapters = freezing_lib.predicate(getattr(self._model.config, 'adapters', None) or '')
    chosen, report = self.restoring.choose(base, self._model.param_shapes(), adapters)
    if jax.process_index() == 0:
      if report.incomplete:
        terminal.note(str(report))
      logs.write_text(self._model_dir / 'train' / 'restored.json',
                      json.dumps(dataclasses.asdict(report), indent=1) + '\n')
    return chosen

  def _feed(self, step: int) -> monitor.Fed:
    rows = self._source.batch_size
    partitioning.check_batch(self._mesh, rows, self._num_microbatches)
    first, stop = partitioning.local_rows(self._mesh, rows)
    batch = self._source.batch(step, (first, stop))
    return monitor.Fed.of(step, batch, partitioning.put_rows(batch, self._mesh, first, rows),
                          self._source.tally(step), rows)

  def _train(self, state: TrainState, checkpointer: checkpoints.Checkpointer) -> TrainState:
    start = int(state.step)
    if checkpointer.newest is not None and isinstance(self._source, StatefulSource):
      self._source.restore(self._stream_folder(start), start)
    step_fn = self._step_function(state)
    profile = profiler.Profile(self._reporting.profile, self._model_dir / 'profile', start,
                               self.clock, quiet=jax.process_index() > 0)
    log = self._reporting.open(
        self._model_dir, 'train', start, reporting_lib.TRAIN_COLUMNS, self._description())
    feeder = Prefetcher(self._feed, start, self._total_steps,
                        told_to_stop=lambda: self._interrupts.signal is not None)
    try:
      with self._interrupts.caught(), terminal.bar(self._label, self._stream()) as bar:
        bar(start, self._total_steps, 'compiling')
        watch = monitor.Monitor(
            bar, log, total_steps=self._total_steps, log_period=self._log_period,
            learning_rate=getattr(self._optimizer, 'learning_rate', None),
            last_checkpoint=lambda: checkpointer.newest_folder, non_finite=self._non_finite,
            clock=self.clock, work=self._work(state))
        feeder.watch(watch.idle, functools.partial(self.clock.lose, 'data_wait'))
        if start and self._evaluation_is_due(start) and self._evaluator.missing(start):
          self._evaluate(state, start)
        for fed in feeder:
          profile.before(fed.step + 1, watch.flush)
          before = jax.tree.map(jnp.copy, state) if self._non_finite.debug else None
          try:
            with self.clock.dispatching(), profile.step(fed.step + 1):
              state, metrics = step_fn(state, fed.arrays)
          except interrupts.Stopped:
            break
          self._tally.update(fed.tally)
          watch.add(fed, metrics)
          if before is not None:
            self._check_step(watch, before, fed)
          checkpointer.poll()
          profile.after(fed.step + 1, watch.flush)
          if self._after_step(state, fed.step + 1, watch, checkpointer, log):
            break
        self._finish(state, watch, checkpointer, log)
    finally:
      profile.close()
      self._interrupts.left |= not feeder.close()
      if log is not None:
        log.close()
    return state

  def _step(self, state: TrainState) -> Callable[..., Any]:
    places = jax.tree.map(lambda x: x.sharding, state)
    return make_train_step(
        self._model, self._optimizer, seed=self._seed, num_microbatches=self._num_microbatches,
        skip_non_finite=self._non_finite.skips,
        loss_normalizing_factor=self._loss_normalizing_factor, out_shardings=(places, None))

  def _step_function(self, state: TrainState) -> interrupts.Program:
    return interrupts.Program(self._step(state), self._interrupts, self._context)

  def _context(self) -> contextlib.AbstractContextManager[None]:
    return partitioning.activate(self._mesh, self._axis_rules)

  def _check_step(self, watch: monitor.Monitor, before: TrainState, fed: monitor.Fed) -> None:
    """NotFinite that names the layer and tensor, when the step from `before` was not finite."""
    try:
      watch.flush()
    except NotFinite as error:
      rng = jax.random.fold_in(jax.random.key(self._seed), before.step)
      found = diagnosis.blame(
          self._model, before.all_params, fed.arrays, rng, self._num_microbatches)
      raise NotFinite(error.what, where=f'{error.where}\n  first: {found}', got=error.got,
                      expected=error.expected, hint=error.hint) from error

  def _after_step(
      self, state: TrainState, done: int, watch: monitor.Monitor,
      checkpointer: checkpoints.Checkpointer, log: Any,
  ) -> bool:
    """Evaluates and saves where it is time; -> whether to stop."""
    stop, metrics = self._told_to_stop(done, checkpointer), None
    if self._evaluation_is_due(done) and not stop:
      watch.flush()
      metrics = self._evaluate(state, done)
      stop = jax.process_count() == 1 and self._interrupts.signal is not None
    if (stop or done % self._saving.period == 0 or done == self._total_steps
        or (metrics and self._saving.keep_best)):
      self._save(state, watch, checkpointer, log, metrics)
    return stop

  def _finish(
      self, state: TrainState, watch: monitor.Monitor, checkpointer: checkpoints.Checkpointer,
      log: Any,
  ) -> None:
    """Has the last state on disk, or raises UserError; waits for room unless told to stop."""
    if int(state.step) and checkpointer.newest != int(state.step):
      self._save(state, watch, checkpointer, log)
    checkpointer.wait()
    for pause in _PAUSES_S:
      if checkpointer.failure is None or self._interrupts.wait(pause):
        break
      self._save(state, watch, checkpointer, log)
      checkpointer.wait()
    if checkpointer.failure is not None:
      raise errors.UserError(
          f'the checkpoint of step {int(state.step)} could not be written',
          where=str(checkpointer.folder), got=checkpointer.failure,
          hint='make room; the same command goes on from '
               f"{checkpointer.newest_folder or 'the beginning'}") from checkpointer.failure

  def _evaluation_is_due(self, step: int) -> bool:
    evaluator = self._evaluator
    return evaluator is not None and (step % evaluator.period == 0 or step == self._total_steps)

  def _evaluate(self, state: TrainState, step: int) -> Mapping[str, float] | None:
    """What the evaluator says, or None when it failed or was stopped."""
    def work():
      with self._context():
        return self._evaluator(step, state.all_params)

    try:
      with self.clock.losing('evaluate'):
        metrics = self._interrupts.run(work)
    except interrupts.Stopped:
      return None
    except Exception:  # noqa: BLE001 (anything that a user's evaluator raises)
      if jax.process_count() > 1:  # The others would wait for this one.
        raise
      path = self._model_dir / 'errors' / f'evaluation-{step}.txt'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(traceback.format_exc())
      self.failed_evaluations[step] = path
      terminal.note(f'step {step}: the evaluation failed, training goes on; see {path}')
      return None
    return metrics

  def _work(self, state: TrainState) -> intervals.Work:
    trained = t5.param_count(state.params) >= t5.param_count(state.frozen)
    return intervals.Work(self._model.config, self._mesh.devices.flatten(), trained)

  def _description(self) -> dict[str, Any]:
    return {'model': dataclasses.asdict(self._model.config), 'seed': self._seed,
            'total_steps': self._total_steps, 'batch_size': self._source.batch_size,
            **logs.environment(self._mesh)}

  def _stream(self):
    """Where the progress bar goes: one process of several speaks."""
    return None if jax.process_index() == 0 else io.StringIO()

  def _told_to_stop(self, step: int, checkpointer: checkpoints.Checkpointer) -> bool:
    if jax.process_count() > 1:
      if checkpointer.reached_preemption(step):
        self._interrupts.set(signal.SIGTERM)
        return True
      return False
    return self._interrupts.signal is not None

  def _stream_folder(self, step: int) -> remote.AnyPath:
    return self._model_dir / 'stream' / str(step) / f'host_{jax.process_index()}'

  def _save_stream(self, step: int) -> None:
    """Writes the state of a source that has one, and removes those older than all checkpoints."""
    self._source.save(self._stream_folder(step), step)
    oldest = min(checkpoints.steps_in(self._model_dir), default=0)
    for folder in (self._model_dir / 'stream').iterdir():
      if int(folder.name) < oldest:
        shutil.rmtree(folder, ignore_errors=True)

  def _save(
      self, state: TrainState, watch: monitor.Monitor, checkpointer: checkpoints.Checkpointer,
      log: Any, metrics: Mapping[str, float] | None = None,
  ) -> None:
    # Read before it is saved: no checkpoint holds a state that is not finite.
    watch.flush()
    check_state(state)
    step = int(state.step)
    with self.clock.losing('checkpoint'):
      if log is not None:
        log.drain()  # What is resumed from this checkpoint has its log whole.
      try:
        if isinstance(self._source, StatefulSource):
          self._save_stream(step)
        if jax.process_index() == 0:
          logs.write_text(self._model_dir / 'train' / 'audit.json',
                          json.dumps(self._source.audit(self._tally), indent=1) + '\n')
      except OSError as error:
        checkpointer.fail(step, error)
        return
      position = {'fingerprint': self._source.fingerprint, 'tally': dict(self._tally),
                  'frozen': self._frozen_fingerprint}
      checkpointer.save(state, position, metrics)
