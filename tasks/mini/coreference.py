"""Cluster `coreference`: whom a pronoun means."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'coreference'


class MiniPronouns(builders.MiniBuilder):
  """A woman and a man; the pronoun tells who is meant."""

  FEATURES = ('text', 'pronoun', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    text, first, second, meant, _, _ = world.gender_pair(rng)
    return {'text': text, 'pronoun': world.pronoun(meant), 'options': rng.sample((first, second), 2), 'answer': meant}


class MiniRoles(builders.MiniBuilder):
  """Two people of one sex; only the sense tells who is meant."""

  FEATURES = ('text', 'said', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    text, first, second, meant, said = world.role_pair(rng)
    return {'text': text, 'said': said, 'options': rng.sample((first, second), 2), 'answer': meant}


add(MiniPronouns, CLUSTER, [
    Template('{text}\nTo whom does the word {pronoun} refer?\n{options_}', '{answer}'),
    Template('Who is meant by {pronoun} in this text? {text}\n{options_}', '{answer}'),
    Template('{text}\nThe pronoun {pronoun} is short for a name. Which?\n{options_}', '{answer}'),
    Template('{options_}\nChoose the person that {pronoun} stands for. {text}', '{answer}'),
    Template('Text: {text}\nQuestion: what is the name of the person called {pronoun}?\n{options_}\nAnswer:', '{answer}'),
    Template('Write a text in which {pronoun} is {answer}.', '{text}'),
], metrics.accuracy)

add(MiniRoles, CLUSTER, [
    Template('{text}\nWho {said}?\n{options_}', '{answer}'),
    Template('Sentence: {text}\nWhich person {said}?\n{options_}', '{answer}'),
    Template('{options_}\nOne of these {said}. Which, given the sentence? {text}', '{answer}'),
    Template('Read the sentence and say who {said}.\n{text}\n{options_}', '{answer}'),
    Template('{text} So the one who {said} is ...\n{options_}\nAnswer:', '{answer}'),
    Template('Write a sentence from which one can tell that {answer} {said}.', '{text}'),
], metrics.accuracy)
