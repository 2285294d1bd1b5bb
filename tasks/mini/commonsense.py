"""Cluster `commonsense`: causes and effects, and kinds of things."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'commonsense'


class MiniEffects(builders.MiniBuilder):
  """What happened next?"""

  FEATURES = ('event', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    person = rng.choice(world.PEOPLE)
    right = rng.choice(world.CAUSES)
    wrong = rng.sample([c for c in world.CAUSES if c is not right], rng.choice((1, 2)))
    effects = [world.capital(then.format(s=person)) + '.' for _, then in [right, *wrong]]
    return {'event': world.capital(right[0].format(s=person)) + '.',
            'options': rng.sample(effects, len(effects)), 'answer': effects[0]}


class MiniReasons(builders.MiniBuilder):
  """Why did it happen?"""

  FEATURES = ('event', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    person = rng.choice(world.PEOPLE)
    right = rng.choice(world.CAUSES)
    wrong = rng.sample([c for c in world.CAUSES if c is not right], rng.choice((1, 2)))
    reasons = [world.capital(first.format(s=person)) + '.' for first, _ in [right, *wrong]]
    return {'event': world.capital(right[1].format(s=person)) + '.',
            'options': rng.sample(reasons, len(reasons)), 'answer': reasons[0]}


class MiniKinds(builders.MiniBuilder):
  """What kind of thing is it?"""

  FEATURES = ('word', 'options', 'answer')
  SIZES = {'test': 300, 'validation': 150, 'train': 2_000}

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    answer = rng.choice(sorted(world.KINDS))
    word = rng.choice(world.KINDS[answer])
    wrong = [k for k in sorted(world.KINDS) if word not in world.KINDS[k]]
    wrong = [k for k in wrong if {k, answer} != {'animal', 'bird'}]
    options = rng.sample(wrong, rng.choice((1, 2, 3))) + [answer]
    rng.shuffle(options)
    return {'word': word, 'options': options, 'answer': answer}


add(MiniEffects, CLUSTER, [
    Template('{event}\nWhat happened next?\n{options_}', '{answer}'),
    Template('Choose the most likely result of this: {event}\n{options_}', '{answer}'),
    Template('{event} And then?\n{options_}\nAnswer:', '{answer}'),
    Template('{options_}\nWhich of these follows from the event? Event: {event}', '{answer}'),
    Template('Complete the story with the line that fits best. {event}\n{options_}', '{answer}'),
    Template('{answer}\nTell what may have happened before.', '{event}'),
], metrics.accuracy)

add(MiniReasons, CLUSTER, [
    Template('{event}\nWhy?\n{options_}', '{answer}'),
    Template('What is the most likely cause of this? {event}\n{options_}', '{answer}'),
    Template('Pick the reason that explains it: {event}\n{options_}', '{answer}'),
    Template('{options_}\nOne of these came before. Which? {event}', '{answer}'),
    Template('How did this happen? {event}\n{options_}\nAnswer:', '{answer}'),
    Template('{answer}\nWhat did that lead to?', '{event}'),
], metrics.accuracy)

add(MiniKinds, CLUSTER, [
    Template('What kind of thing is this? {word}\n{options_}', '{answer}'),
    Template('Word: {word}\nTo which category does it belong?\n{options_}', '{answer}'),
    Template('{options_}\nWhich of these words is the right label for {word}?', '{answer}'),
    Template('Choose the kind that fits the word {word}.\n{options_}', '{answer}'),
    Template('{word} is an example of ...\n{options_}\nAnswer:', '{answer}'),
    Template('Give an example of this kind of thing: {answer}', '{word}'),
], metrics.accuracy)
