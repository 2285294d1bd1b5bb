"""Cluster `text_formatting`: the same words, written as they should be."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'text_formatting'


def _sentence(rng: world.Rng) -> str:
  if rng.random() < 0.5:
    return world.Episode.draw(rng, 1, 1).tell(rng)
  relation, subject, thing = world.lasting(rng)
  return relation.say(rng, subject, thing)


class MiniCapitals(builders.MiniBuilder):
  """Lower-case sentences, to be given their capital letters."""

  FEATURES = ('lower', 'answer')
  SIZES = builders.MiniBuilder.SIZES | {'train': 1_500}

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    text = _sentence(rng)
    return {'lower': text.lower(), 'answer': text}


class MiniWordOrder(builders.MiniBuilder):
  """Words in disorder, to be put in order."""

  FEATURES = ('words', 'answer')
  SIZES = builders.MiniBuilder.SIZES | {'train': 1_500}

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    text = _sentence(rng)
    words = text.rstrip('.').split()
    while (mixed := rng.sample(words, len(words))) == words:
      pass
    return {'words': ' '.join(mixed), 'answer': text}


add(MiniCapitals, CLUSTER, [
    Template('Write this with the right capital letters: {lower}', '{answer}'),
    Template('{lower}\nFix the spelling of the names and of the first word.', '{answer}'),
    Template('Somebody typed without capital letters. Correct the line.\n{lower}', '{answer}'),
    Template('Wrong: {lower}\nRight:', '{answer}'),
    Template('How should this sentence be written? {lower}', '{answer}'),
    Template('Write this without any capital letters: {answer}', '{lower}'),
], metrics.bleu)

add(MiniWordOrder, CLUSTER, [
    Template('Put the words in the right order: {words}', '{answer}'),
    Template('{words}\nMake a correct sentence of these words.', '{answer}'),
    Template('The words of a sentence were mixed up. What was the sentence? {words}', '{answer}'),
    Template('Words: {words}\nSentence:', '{answer}'),
    Template('Order the following words: {words}', '{answer}'),
    Template('Mix up the words of this sentence: {answer}', '{words}'),
], metrics.bleu)
