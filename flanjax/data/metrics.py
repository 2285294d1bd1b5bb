"""SeqIO metric functions, all on a scale of 0 to 100.

A metric function takes `(targets, predictions)`, or `(targets, scores)` for rank
classification, and gives a dict. A target is a text or, where there are several references, a
list of texts. `measure` says which of its keys is the headline and how one example scores on
it; a user's own function without it has its name as its key and no scores of examples.
"""

from __future__ import annotations

import collections
import functools
import re
import string
from collections.abc import Callable, Sequence
from typing import Any

import editdistance
import numpy as np
import sacrebleu
import scipy.stats
import sklearn.metrics
from rouge_score import rouge_scorer

from flanjax.errors import UserError

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)
_ROUGE_KEYS = ('rouge1', 'rouge2', 'rougeLsum')


def measure(headline: str, unit: Callable[..., float] | None = None):
  """Marks a metric function with its headline key and its score of one example.

  Args:
    headline: the key that stands for the task.
    unit: (target, prediction) -> 0..1, whose mean is the headline; None when the headline is
      no mean over examples.
  """

  def mark(fn):
    fn.primary_key, fn.unit = headline, unit
    return fn

  return mark


def primary_key(metric_fn: Callable[..., Any]) -> str:
  """The key under which a metric function gives its headline."""
  return getattr(metric_fn, 'primary_key', None) or getattr(metric_fn, '__name__', str(metric_fn))


def unit_scores(metric_fn: Callable[..., Any], targets, predictions) -> np.ndarray | None:
  """Scores of single examples whose mean is the headline.

  Args:
    metric_fn: a metric function.
    targets, predictions: what it would be called with; scores of rows for `rank_accuracy`.

  Returns:
    float64 [examples] in 0..100, or None when the headline does not decompose. For
    `rank_accuracy` there is one per example, in the order of their first rows.
  """
  if metric_fn is rank_accuracy:
    return 100.0 * np.array(_ranked(targets, predictions), np.float64)
  unit = getattr(metric_fn, 'unit', None)
  if unit is None:
    return None
  scores = [unit(t, p) for t, p in zip(targets, predictions, strict=True)]
  return 100.0 * np.array(scores, np.float64)


def _mean(values: Sequence[float]) -> float:
  return 100.0 * float(np.mean(values)) if len(values) else 0.0


def _mean_of(unit: Callable[..., float], targets, predictions) -> float:
  return _mean([unit(t, p) for t, p in zip(targets, predictions, strict=True)])


def _references(target) -> list:
  return list(target) if isinstance(target, (list, tuple, np.ndarray)) else [target]


def _best(score: Callable[[str, str], float]) -> Callable[[Any, str], float]:
  """The best score over a target's references."""
  return lambda target, prediction: max(score(r, prediction) for r in _references(target))


def _same(reference, prediction) -> float:
  if isinstance(reference, str) and isinstance(prediction, str):
    return float(reference.strip() == prediction.strip())
  return float(reference == prediction)


exact_match = _best(_same)


@measure('accuracy', exact_match)
def accuracy(targets, predictions) -> dict[str, float]:
  """Share of predictions equal to a reference, white space at the ends apart."""
  return {'accuracy': _mean_of(exact_match, targets, predictions)}


def _normalised(text: str) -> str:
  """As SQuAD's official script: lower case, no punctuation, no articles, single spaces."""
  return ' '.join(_ARTICLES.sub(' ', text.lower().translate(_PUNCTUATION)).split())


def _normalised_match(reference: str, prediction: str) -> float:
  return float(_normalised(reference) == _normalised(prediction))


def _token_f1(reference: str, prediction: str) -> float:
  wanted, given = _normalised(reference).split(), _normalised(prediction).split()
  common = sum((collections.Counter(wanted) & collections.Counter(given)).values())
  if not wanted or not given:
    return float(wanted == given)
  return 2.0 * common / (len(wanted) + len(given))


@measure('f1', _best(_token_f1))
def squad(targets, predictions) -> dict[str, float]:
  """SQuAD's exact match and token F1, the best over references (Rajpurkar et al. 2016)."""
  return {
      'em': _mean_of(_best(_normalised_match), targets, predictions),
      'f1': _mean_of(_best(_token_f1), targets, predictions),
  }


@measure('em', _best(_normalised_match))
def trivia_qa(targets, predictions) -> dict[str, float]:
  """As `squad`, with exact match as the headline (closed-book QA reports it)."""
  return squad(targets, predictions)


@measure('token_f1', _best(_token_f1))
def token_f1(targets, predictions) -> dict[str, float]:
  """Token F1 of normalised texts, the best over references."""
  return {'token_f1': _mean_of(_best(_token_f1), targets, predictions)}


@functools.cache
def _scorer() -> rouge_scorer.RougeScorer:
  return rouge_scorer.RougeScorer(list(_ROUGE_KEYS), use_stemmer=False)


def _rouge_f(key: str, reference: str, prediction: str) -> float:
  # ROUGE-Lsum reads sentences from lines.
  lines = [t.replace(' . ', ' .\n') for t in (reference, prediction)]
  return _scorer().score(*lines)[key].fmeasure


def _rouge_unit(key: str) -> Callable[[Any, str], float]:
  return _best(functools.partial(_rouge_f, key))


@measure('rougeLsum', lambda t, p: _rouge_f('rougeLsum', _references(t)[0], p))
def rouge(targets, predictions) -> dict[str, float]:
  """Mean ROUGE F-measures against one reference, the first where there are several."""
  return rouge_multi([_references(t)[0] for t in targets], predictions)


@measure('rougeLsum', _rouge_unit('rougeLsum'))
def rouge_multi(targets, predictions) -> dict[str, float]:
  """Mean ROUGE F-measures, for each kind the best over references (as GEM tasks in FLAN)."""
  return {k: _mean_of(_rouge_unit(k), targets, predictions) for k in _ROUGE_KEYS}


@measure('bleu')
def bleu(targets, predictions) -> dict[str, float]:
  """Corpus BLEU by sacrebleu with its international tokeniser (Post 2018)."""
  if not len(predictions):
    return {'bleu': 0.0}
  references = [_references(t) for t in targets]
  width = max(map(len, references))
  streams = [[r[i] if i < len(r) else None for r in references] for i in range(width)]
  return {'bleu': sacrebleu.corpus_bleu(list(predictions), streams, tokenize='intl').score}


def _similarity(reference: str, prediction: str) -> float:
  longest = max(len(reference), len(prediction))
  return 1.0 - editdistance.eval(reference, prediction) / longest if longest else 1.0


@measure('edit_similarity', _best(_similarity))
def edit_distance(targets, predictions) -> dict[str, float]:
  """One minus the Levenshtein distance in characters over the longer length; case counts."""
  return {
      'edit_similarity': _mean_of(_best(_similarity), targets, predictions),
      'exact_match': _mean_of(exact_match, targets, predictions),
  }


def _label_pairs(name: str, targets, predictions, classes: int) -> tuple[list[int], list[int]]:
  """Label ids of the examples whose target is one; a prediction that is none stays wrong."""
  if any(isinstance(t, (str, list)) for t in targets):
    raise UserError(
        f"The metric '{name}' compares numbers of labels.",
        got='texts as targets',
        hint='give the task postprocess_fn=postprocessors.label_ids([...])',
    )
  pairs = [(t, p) for t, p in zip(targets, predictions, strict=True) if 0 <= t < classes]
  return [t for t, _ in pairs], [p for _, p in pairs]


@measure('f1')
def f1_binary(targets, predictions) -> dict[str, float]:
  """F1 of label 1, over label ids; a prediction that is no label counts as the wrong one."""
  targets, predictions = _label_pairs('f1_binary', targets, predictions, 2)
  if not targets:
    return {'f1': 0.0}
  predictions = [p if p in (0, 1) else 1 - t for t, p in zip(targets, predictions)]
  return {'f1': 100.0 * float(sklearn.metrics.f1_score(targets, predictions, zero_division=0))}


@measure('mean_3class_f1')
def mean_3class_f1(targets, predictions) -> dict[str, float]:
  """Unweighted mean of the F1 of labels 0, 1 and 2 (SuperGLUE's measure of CB)."""
  targets, predictions = _label_pairs('mean_3class_f1', targets, predictions, 3)
  if not targets:
    return {'mean_3class_f1': 0.0}
  score = sklearn.metrics.f1_score(
      targets, predictions, labels=[0, 1, 2], average='macro', zero_division=0
  )
  return {'mean_3class_f1': 100.0 * float(score)}


@measure('pearson_spearman')
def pearson_spearman(targets, predictions) -> dict[str, float]:
  """Both correlations and their mean (GLUE's measure of STS-B); 0 where one side is constant."""
  targets, predictions = np.array(targets, np.float64), np.array(predictions, np.float64)
  if len(targets) < 2 or np.ptp(targets) == 0 or np.ptp(predictions) == 0:
    return {'pearson': 0.0, 'spearman': 0.0, 'pearson_spearman': 0.0}
  pearson = 100.0 * float(scipy.stats.pearsonr(targets, predictions)[0])
  spearman = 100.0 * float(scipy.stats.spearmanr(targets, predictions)[0])
  return {
      'pearson': pearson,
      'spearman': spearman,
      'pearson_spearman': (pearson + spearman) / 2.0,
  }


@measure('f1')
def multirc_f1(targets, predictions) -> dict[str, float]:
  """F1 over all answers, and the share of questions with every answer judged rightly.

  Targets and predictions are `postprocessors.GroupedLabel`s, grouped by question.
  """
  groups = collections.defaultdict(list)
  for target, prediction in zip(targets, predictions, strict=True):
    groups[target.group].append(target.value == prediction.value)
  f1 = f1_binary([t.value for t in targets], [p.value for p in predictions])['f1']
  return {'f1': f1, 'em': _mean([all(right) for right in groups.values()])}


def _ranked(targets, scores) -> list[float]:
  """For each example, whether its best-scored option is right.

  An example of which rows are missing (an evaluation cut short in its midst) is left out.
  """
  rows = collections.defaultdict(list)
  for target, score in zip(targets, scores, strict=True):
    rows[target.idx[0]].append((target.idx[1], float(score), target))
  right = []
  for options in rows.values():
    if len(options) == options[0][2].num_options:
      best = min(options, key=lambda row: (-row[1], row[0]))
      right.append(float(best[2].is_correct))
  return right


@measure('accuracy')
def rank_accuracy(targets, scores) -> dict[str, float]:
  """Share of examples whose option of the highest log-likelihood is right.

  Args:
    targets: a `postprocessors.Option` for each row.
    scores: summed log-likelihood of each row's target; no length normalisation, as FLAN.
  """
  return {'accuracy': _mean(_ranked(targets, scores))}
