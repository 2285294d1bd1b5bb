"""Cluster `translation`: English in, another language out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, one_line, tfds_source

LANGUAGES = {
    'cs': 'Czech',
    'de': 'German',
    'es': 'Spanish',
    'fi': 'Finnish',
    'fr': 'French',
    'ro': 'Romanian',
    'ru': 'Russian',
    'tr': 'Turkish',
}


def translation_fields(code: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
  """`fields` of a parallel corpus of English and one of `LANGUAGES`."""

  def fields(example):
    return {
        'english': one_line(example['en']),
        'language': LANGUAGES[code],
        'answer': one_line(example[code]),
    }

  return fields


# Pages of the web, English and Spanish.
PARA_CRAWL_TEMPLATES = [
    Template(
        'We are opening a branch in Madrid, and our website has to speak to customers there. '
        'Give me the Spanish for this line of it.\n\n{english}',
        '{answer}',
    ),
    Template('{english}\n\nIn Spanish, that is:', '{answer}'),
    Template(
        'Which sentence would a Spaniard use to express exactly this? {english}',
        '{answer}',
    ),
    Template(
        'Text of a web page: {english}\n\nBeside it there is a button marked "Español". What do '
        'visitors see in the same place once they have pressed it?',
        '{answer}',
    ),
    Template(
        'Teacher: Who can put "{english}" into Spanish for me?\nPupil:',
        '{answer}',
    ),
    Template(
        'I have to pass this on to a colleague in Bogotá who prefers to read Spanish. What '
        'should I write to her?\n\n{english}',
        '{answer}',
    ),
    Template(
        'Task: translation\nDirection: EN to ES\nInput: {english}\nOutput:',
        '{answer}',
    ),
    Template(
        'Produce a fluent version, in Spanish as it is written today, of the passage that '
        'follows. Keep to what the passage says.\n\n{english}',
        '{answer}',
    ),
    Template(
        'I came across this on a Spanish site and would love to have it in English: {answer}',
        '{english}',
    ),
    Template(
        'Spanish: {answer}\n\nSomebody translated that from an English page. What had the '
        'original said?',
        '{english}',
    ),
]

register(
    TaskSpec(
        name='para_crawl_enes',
        cluster='translation',
        # It has one split.
        source=tfds_source(
            'para_crawl/enes:1.2.0', 'train[:-1200]', 'train[-1200:-1000]', 'train[-1000:]'
        ),
        fields=translation_fields('es'),
        templates=PARA_CRAWL_TEMPLATES,
        continuations=[Template('English: {english}\n{language}:', '{answer}')],
        metric_fns=[metrics.bleu],
        suite=SUITE,
        num_train_examples=21_986_060,
        citation='Bañón et al. 2020, ParaCrawl',
        licence='CC0 1.0 (the collection, not the texts)',
    )
)

# News and parliaments, English and French.
WMT14_TEMPLATES = [
    Template('Write the following in French.\n\n{english}', '{answer}'),
    Template(
        'The table has two columns, English on the left and French on the right. Complete its '
        'row.\n\n{english} |',
        '{answer}',
    ),
    Template(
        '{english}\n\nHow ought this to read in a Paris newspaper?',
        '{answer}',
    ),
    Template(
        'In Canada a public notice appears in both official languages. One half is done. Draft '
        'the other, French half.\n\nEnglish half: {english}',
        '{answer}',
    ),
    Template(
        'Monsieur Dupont, who knows only French, points at these words and asks you what they '
        'mean: {english}\nYour reply to him:',
        '{answer}',
    ),
    Template(
        'Quick favour: could I have this one en français?\n\n{english}',
        '{answer}',
    ),
    Template(
        'As a sworn translator you may neither add nor omit anything. Text to be rendered into '
        'French: {english}',
        '{answer}',
    ),
    Template(
        'French television shows an interview with a speaker of English, who says: {english}\n\n'
        'Subtitle:',
        '{answer}',
    ),
    Template('{answer}\n\nSo much for the French. And in English?', '{english}'),
    Template(
        'A client wants to check the French draft of his text, but does not read the language. '
        'Turn it back into English for him.\n\nDraft: {answer}',
        '{english}',
    ),
]

register(
    TaskSpec(
        name='wmt14_enfr',
        cluster='translation',
        source=tfds_source('wmt14_translate/fr-en:1.0.0', 'train', 'validation[:200]', 'test'),
        fields=translation_fields('fr'),
        templates=WMT14_TEMPLATES,
        continuations=[Template('English: {english}\n{language}:', '{answer}')],
        metric_fns=[metrics.bleu],
        suite=SUITE,
        num_train_examples=40_835_840,
        citation='Bojar et al. 2014, Findings of the Workshop on Statistical Machine Translation',
        licence="not stated; each part has its source's",
    )
)

WMT16_TEMPLATES = [
    Template('Put this sentence into {language}.\n\n{english}', '{answer}'),
    Template(
        '{english}\n\nA newspaper that appears in {language} wants to print what you have just '
        'read. Supply the text.',
        '{answer}',
    ),
    Template(
        'English side: {english}\n{language} side:',
        '{answer}',
    ),
    Template(
        'What would a native speaker of {language} say instead of this? {english}',
        '{answer}',
    ),
    Template(
        'You interpret for a guest whose one language is {language}. From the platform somebody '
        'has said: {english}\n\nIt is your turn.',
        '{answer}',
    ),
    Template(
        'Examination in translation, English to {language}. Marks are taken off for names, '
        'numbers or nuances that go missing.\n\nSource text: {english}\n\nCandidate:',
        '{answer}',
    ),
    Template(
        "Hi! My {language} isn't good enough for this, I'm afraid. Can you help me get it "
        'across?\n\n{english}',
        '{answer}',
    ),
    Template(
        'The words below are {language}, and all I can read is English. Tell me what they '
        'say.\n\n{answer}',
        '{english}',
    ),
    Template(
        'Foreign desk: a report has come in from our {language} correspondent. Give the English '
        'for this part of it: {answer}',
        '{english}',
    ),
    Template(
        '{answer}\n\nName the tongue that this was written in.',
        '{language}',
    ),
]

_WMT16_SIZES = {
    'de': 4_548_800, 'tr': 205_750, 'cs': 52_335_360,
    'fi': 2_073_360, 'ro': 610_320, 'ru': 2_516_160,
}  # fmt: skip

for _code, _size in _WMT16_SIZES.items():
  register(
      TaskSpec(
          name=f'wmt16_translate_{_code}en',
          cluster='translation',
          source=tfds_source(
              f'wmt16_translate/{_code}-en:1.0.0', 'train', 'validation[:200]', 'test'
          ),
          fields=translation_fields(_code),
          templates=WMT16_TEMPLATES,
          continuations=[Template('English: {english}\n{language}:', '{answer}')],
          plain='{english}',
          metric_fns=[metrics.bleu],
          suite=SUITE,
          num_train_examples=_size,
          citation='Bojar et al. 2016, Findings of the Conference on Machine Translation',
          licence="not stated; each part has its source's",
      )
  )
