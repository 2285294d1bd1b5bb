"""Run folders with records of made-up answers, for tests of the report."""

import json

from flanjax.evaluation import records as records_lib
from flanjax.evaluation import report, run_data

HOSTILE = ('</pre></script><script>window.harmed = 1</script><img src=x onerror="window.harmed = 1">'
           ' & "quoted" \' {{ 7 * 7 }} $\\frac{1}{2}$ \u2028')
ROLES = {'tuned': 'tuned', 'untuned': 'untuned'}
PAIR = {
    'tuned': {'nli': 0.9, 'sentiment': 0.8},
    'untuned': {'nli': 0.5, 'sentiment': 0.4},
}


def record(model, task, cluster, example_id, right, mode='rank', prompt='Is it so?', template_id=0):
  return {
      'model': model, 'task': task, 'cluster': cluster, 'seqio_task': f'{task}_type_{template_id}',
      'mode': mode, 'template_id': template_id, 'example_id': example_id,
      'inputs': f'{prompt} {example_id}', 'targets': 'yes' if example_id % 2 else 'no',
      'prediction': 'yes' if (example_id % 2 == 1) == right else 'no', 'options': ['yes', 'no'],
      'option_scores': [-1.0, -2.0], 'score': 100.0 if right else 0.0, 'metric': 'accuracy',
      'metric_fn': 'rank_accuracy',
  }  # fmt: skip


def write(run, rights, prompt='Is it so?', stamps=None, cut=None, count=40, **info):
  """A run: `rights` is {model: {cluster: share of right answers}}."""
  for model, clusters in rights.items():
    for cluster, share in clusters.items():
      rows = [record(model, f'{cluster}_task', cluster, i, i < count * share, prompt=prompt)
              for i in range(count)]  # fmt: skip
      path = records_lib.task_path(run / 'eval' / 'records', model, f'{cluster}_task_type_0')
      records_lib.write_task(path, rows, (stamps or {}).get(cluster, {}), {}, cut)
  if info:
    records_lib.EvalInfo(**info).write(run / 'eval' / 'eval.json')
  return run


def write_training(run):
  """What a training leaves beside the records: settings, logs, an audit."""
  (run / 'config.gin').write_text(f'# {HOSTILE}\nTRAIN_STEPS = 30\n')
  (run / 'environment.json').write_text(json.dumps(
      {'jax': '0.10', 'note': HOSTILE, 'devices': '4 x cpu', 'device_count': 4}))
  (run / 'train').mkdir()
  # The second process began at step 4, its clock at nothing.
  steps = [{'step': s, 'loss': 3 / (s + 1), 'seconds': 10.0 * (s + 1), 'goodput': 0.5} for s in range(4)]
  steps += [{'step': 4, 'loss': 0.6, 'seconds': 20.0, 'goodput': 0.8}]
  steps += [{'step': 4, 'loss': 0.25, 'seconds': 40.0, 'goodput': 0.8}]
  (run / 'train' / 'log.jsonl').write_text('\n'.join(map(json.dumps, steps)) + '\n{"step": 9, "lo')
  audit = {
      'format_version': 1, 'steps': 5, 'examples': 40, 'tokens': {'inputs': 1_234_567, 'targets': 80},
      'padding': {'inputs': 0.125, 'targets': 0.5}, 'truncated': 3,
      'test': {'statistic': 0.5, 'degrees_of_freedom': 1, 'p': 0.48},
      'tasks': [{'task': f'{n}_10templates', 'dataset': n, 'cluster': 'c', 'rate': r, 'expected': r / 4000,
                 'drawn': r / 4000, 'examples': r // 100, 'num_examples': 9000, 'epochs': 0.1, 'inputs': 9,
                 'targets': 8, 'truncated': 3} for n, r in (('y', 1000), ('x', 3000))],
  }
  (run / 'train' / 'audit.json').write_text(json.dumps(audit))
  return run


def assembled(*runs):
  """What report.json would hold, without drawing anything."""
  return report.assemble([run_data.load(run) for run in runs], resamples=100)
