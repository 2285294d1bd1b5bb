"""Cluster `nli`: what follows from what is said."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'nli'


def claim(rng: world.Rng, answer: str, low: int, high: int) -> tuple[str, str]:
  """An episode, and a sentence that follows from it ('yes'), is denied by it or unknown."""
  episode = world.Episode.draw(rng, low, high)
  fact = rng.choice(episode.facts)
  s, o, r = fact.subject, fact.object, fact.relation
  if answer == 'no' and rng.random() < 0.5:
    return episode.tell(rng), r.deny(rng, s, o)
  if answer != 'yes':
    o = world.other(rng, r.objects, *(f.object for f in episode.facts))
  if answer == 'maybe':
    s = world.other(rng, world.PEOPLE, *(f.subject for f in episode.facts))
  return episode.tell(rng), r.say(rng, s, o)


class MiniThreeWay(builders.MiniBuilder):
  """Does the hypothesis follow: yes, no, or maybe?"""

  FEATURES = ('premise', 'hypothesis', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    labels = ('yes', 'no', 'maybe')
    answer = rng.choice(labels)
    premise, hypothesis = claim(rng, answer, 1, 2)
    return {'premise': premise, 'hypothesis': hypothesis, 'options': rng.sample(labels, 3), 'answer': answer}


class MiniTrueFalse(builders.MiniBuilder):
  """Is the statement true or false, given the text?"""

  FEATURES = ('premise', 'hypothesis', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    answer = rng.choice(('true', 'false'))
    premise, hypothesis = claim(rng, 'yes' if answer == 'true' else 'no', 1, 3)
    return {'premise': premise, 'hypothesis': hypothesis, 'options': rng.sample(('true', 'false'), 2), 'answer': answer}


add(MiniThreeWay, CLUSTER, [
    Template('{premise}\nDoes it follow that the next sentence is true? {hypothesis}\n{options_}', '{answer}'),
    Template('Premise: {premise}\nHypothesis: {hypothesis}\nDoes the hypothesis follow from the premise?\n{options_}', '{answer}'),
    Template('Text: {premise}\nClaim: {hypothesis}\nIs the claim right?\n{options_}', '{answer}'),
    Template('Given that: {premise}\nCan we say this? {hypothesis}\n{options_}', '{answer}'),
    Template('{hypothesis} Say yes, no or maybe, if all you know is this: {premise}\n{options_}', '{answer}'),
    Template('{premise}\nMake up a sentence. Does it follow? The answer must be {answer}.', '{hypothesis}'),
], metrics.accuracy)

add(MiniTrueFalse, CLUSTER, [
    Template('{premise}\nStatement: {hypothesis}\nTrue or false?\n{options_}', '{answer}'),
    Template('Read this: {premise}\nIs the following true or false? {hypothesis}\n{options_}', '{answer}'),
    Template('Decide whether the last sentence is true.\n{premise}\n{hypothesis}\n{options_}', '{answer}'),
    Template('{options_}\nWhich word fits the statement, given the facts?\nFacts: {premise}\nStatement: {hypothesis}', '{answer}'),
    Template('Facts: {premise}\nSomebody says: {hypothesis} That is', '{answer}'),
    Template('Facts: {premise}\nWrite a statement about them that is {answer}.', '{hypothesis}'),
], metrics.accuracy)
