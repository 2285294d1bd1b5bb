"""Where data that promptsource names after Hugging Face is another thing in TFDS.

promptsource's templates are written for the columns of Hugging Face's datasets. Most sets have the
same name and columns in TFDS and are not told of here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Known:
  """A set of Hugging Face's in terms of the tasks here.

  Attributes:
    tasks: the tasks that read the same data.
    columns: a column of Hugging Face's -> a Jinja expression of TFDS's columns, or None where TFDS
      has nothing like it. Templates that need such a column are left out.
  """

  tasks: tuple[str, ...]
  columns: Mapping[str, str | None] = dataclasses.field(default_factory=dict)


def _arc(task: str) -> Known:
  return Known((task,), {
      'answerKey': "'ABCDE'[answerKey]",
      'choices': "{'text': choices.text, 'label': 'ABCDE'[:choices.text|length]|list}",
  })


_OPENBOOKQA = Known(('openbookqa',), {
    'answerKey': "'ABCD'[answerKey]",
    'choices': "{'text': [question.choice_A, question.choice_B, question.choice_C,"
               " question.choice_D], 'label': ['A', 'B', 'C', 'D']}",
    'question_stem': 'question.stem',
})
_STORY_CLOZE = (*(f'input_sentence_{i}' for i in range(1, 5)), 'sentence_quiz1', 'sentence_quiz2',
                'answer_right_ending')
SETS = {
    'ag_news': Known(('ag_news_subset',), {'text': "title ~ ' ' ~ description"}),
    'ai2_arc/ARC-Challenge': _arc('arc_challenge'),
    'ai2_arc/ARC-Easy': _arc('arc_easy'),
    'anli': Known(('anli_r1', 'anli_r2', 'anli_r3'), {'premise': 'context'}),
    'cnn_dailymail/3.0.0': Known(('cnn_dailymail',)),
    'common_gen': Known(('common_gen',)),
    # TFDS keeps one text of an answer that may be several.
    'drop': Known(('drop',), {'answers_spans': "{'spans': [answer]}"}),
    'e2e_nlg_cleaned': Known(('e2e_nlg',), {'human_reference': 'target'}),
    'glue/mnli_matched': Known(('mnli_matched',)),
    'glue/mnli_mismatched': Known(('mnli_mismatched',)),
    'hellaswag': Known(('hellaswag',), {
        'ctx': 'context', 'ctx_a': None, 'ctx_b': None, 'label': 'label|string'}),
    'imdb': Known(('imdb_reviews',)),
    'nq_open': Known(('natural_questions',)),
    'openbookqa/additional': _OPENBOOKQA,
    'openbookqa/main': _OPENBOOKQA,
    'paws/labeled_final': Known(('paws_wiki',)),
    # A question at a time in TFDS, a dialogue in Hugging Face.
    'quac': Known(('quac',), {'questions': None, 'answers': None}),
    'squad': Known(('squad_v1',)),
    'squad_v2': Known(('squad_v2',)),
    'story_cloze/2016': Known(('story_cloze',), dict.fromkeys(_STORY_CLOZE)),
    'super_glue/boolq': Known(('bool_q',), {'label': 'answer|int'}),
    'super_glue/wsc.fixed': Known(('wsc',)),
    # The same six classes in another order; of the fine ones, TFDS merges some.
    'trec': Known(('trec',), {
        'coarse_label': '[2, 1, 0, 3, 5, 4][label_coarse]', 'fine_label': None}),
    'trivia_qa/unfiltered': Known(('trivia_qa',)),
    'winograd_wsc/wsc273': Known(('wsc273',), {
        'options': '[option1, option2]', 'pronoun': 'pronoun_text'}),
    'winogrande/winogrande_xl': Known(('winogrande',), {'answer': '(label + 1)|string'}),
    'xsum': Known(('xsum',), {'summary': 'target'}),
    'yelp_polarity': Known(('yelp_polarity_reviews',)),
}
