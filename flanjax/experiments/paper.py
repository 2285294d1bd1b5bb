"""Numbers of the FLAN paper that experiments are drawn beside.

Wei et al. 2022, "Finetuned Language Models Are Zero-Shot Learners", arXiv 2109.01652. The model is
LaMDA-PT with 137 billion parameters, the data FLAN's: they are no numbers for another model or
other data to reach. Only those are here that were checked against the paper's text.
"""

from __future__ import annotations

from typing import Any

MODEL = 'LaMDA-PT 137B, 62 data sets'

VALUES: dict[str, dict[str, Any]] = {
    # Figure 1 of version 1.
    'leave_one_cluster_out': {
        'source': 'arXiv 2109.01652v1, figure 1',
        'metric': 'accuracy or exact match, mean over data sets',
        'rows': [
            {'group': group, 'condition': condition, 'value': value}
            for group, values in {
                'nli': (42.9, 53.2, 56.2), 'reading_comprehension': (63.7, 72.6, 77.4),
                'closed_book_qa': (49.8, 55.7, 53.7)}.items()
            for condition, value in zip(
                ('GPT-3 zero-shot', 'GPT-3 few-shot', 'FLAN zero-shot'), values)
        ],
    },
    # Section 4.1: nli, closed-book QA and commonsense held out, and what is added in this order.
    'number_of_clusters': {
        'source': 'arXiv 2109.01652v5, section 4.1',
        'metric': 'mean over three held-out clusters',
        'rows': [
            {'group': 'mean', 'condition': name, 'x': i, 'value': value}
            for i, (name, value) in enumerate({
                'summarization': 49.9, 'translation': 55.0, 'reading comprehension': 59.3,
                'sentiment': 59.2, 'data to text': 60.8, 'coreference': 61.9,
                'conversational QA': 63.5}.items(), 1)
        ],
    },
    # Section 4.3, mean over four held-out clusters.
    'role_of_instructions': {
        'source': 'arXiv 2109.01652v5, section 4.3',
        'metric': 'mean over four held-out clusters',
        'rows': [
            {'group': 'mean', 'condition': condition, 'value': value} for condition, value in {
                'natural to natural': 55.2, 'none to natural': 37.3,
                'name to natural': 46.6, 'name to name': 47.0}.items()
        ],
    },
}


def of(experiment: str) -> dict[str, Any] | None:
  """{'model', 'source', 'metric', 'rows'} of an experiment, None where nothing is confirmed."""
  found = VALUES.get(experiment)
  return found and {'model': MODEL, **found}
