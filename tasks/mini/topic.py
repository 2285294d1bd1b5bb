"""Cluster `topic`: what a text is about, and what sort of text it is."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'topic'


def _choice(rng: world.Rng, answer: str, all_options: list[str]) -> list[str]:
  wrong = [o for o in all_options if o != answer]
  options = rng.sample(wrong, rng.choice((1, 2, 3))) + [answer]
  rng.shuffle(options)
  return options


class MiniTopics(builders.MiniBuilder):
  """One or two sentences and what they are about."""

  FEATURES = ('text', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    answer = rng.choice(sorted(world.TOPICS))
    return {'text': world.topic_text(rng, answer), 'options': _choice(rng, answer, sorted(world.TOPICS)),
            'answer': answer}


class MiniGenres(builders.MiniBuilder):
  """Letters, recipes, news and other kinds of writing."""

  FEATURES = ('text', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    answer = rng.choice(sorted(world.GENRES))
    return {'text': world.genre_text(rng, answer), 'options': _choice(rng, answer, sorted(world.GENRES)),
            'answer': answer}


add(MiniTopics, CLUSTER, [
    Template('{text}\nWhat is this text about?\n{options_}', '{answer}'),
    Template('Choose the topic of the passage.\n{text}\n{options_}', '{answer}'),
    Template('{options_}\nTo which of these does the text belong? {text}', '{answer}'),
    Template('Text: {text}\nTopic:\n{options_}', '{answer}'),
    Template('Which word fits the text best? {text}\n{options_}\nAnswer:', '{answer}'),
    Template('Write something about {answer}.', '{text}'),
], metrics.accuracy)

add(MiniGenres, CLUSTER, [
    Template('{text}\nWhat kind of text is this?\n{options_}', '{answer}'),
    Template('Pick the right label for this document.\n{text}\n{options_}', '{answer}'),
    Template('Where would one read this? In a ...\n{text}\n{options_}', '{answer}'),
    Template('{options_}\nWhich of these is the genre of the following text? {text}', '{answer}'),
    Template('Document: {text}\nGenre:\n{options_}', '{answer}'),
    Template('Write an example of this kind of text: {answer}', '{text}'),
], metrics.accuracy)
