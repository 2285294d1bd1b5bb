"""Cluster `paraphrase`: whether two sentences or questions mean the same."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'paraphrase'


def _changed(rng: world.Rng, fact: world.Fact) -> str:
  """A sentence that differs in person or object, in what is told of the person, or denies the fact."""
  r, s, o = fact.relation, fact.subject, fact.object
  kind = rng.choice(('person', 'object', 'relation', 'denial'))
  if kind == 'person':
    return r.say(rng, world.other(rng, world.PEOPLE, s), o)
  if kind == 'object':
    return r.say(rng, s, world.other(rng, r.objects, o))
  if kind == 'relation':
    told = world.other(rng, world.PASSING, r)
    return told.say(rng, s, rng.choice(told.objects))
  return r.deny(rng, s, o)


class MiniSameMeaning(builders.MiniBuilder):
  """Two sentences: the same meaning, or a different one."""

  FEATURES = ('sentence1', 'sentence2', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    fact = world.Episode.draw(rng, 1, 1).facts[0]
    one, two = fact.relation.say_twice(rng, fact.subject, fact.object)
    answer = rng.choice(('same', 'different'))
    if answer == 'different':
      two = _changed(rng, fact)
    return {'sentence1': one, 'sentence2': two, 'options': rng.sample(('same', 'different'), 2), 'answer': answer}


class MiniSameQuestion(builders.MiniBuilder):
  """Two questions: do they ask for the same thing?"""

  FEATURES = ('question1', 'question2', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    relation = rng.choice(world.PASSING + world.OF_PEOPLE)
    subject = rng.choice(world.PEOPLE)
    one, two = (q.format(s=subject) for q in rng.sample(relation.questions, 2))
    answer = rng.choice(('yes', 'no'))
    if answer == 'no':
      if rng.random() < 0.5:
        two = relation.ask(rng, world.other(rng, world.PEOPLE, subject))
      else:
        other = rng.choice([r for r in world.PASSING + world.OF_PEOPLE if r is not relation])
        two = other.ask(rng, subject)
    return {'question1': one, 'question2': two, 'options': rng.sample(('yes', 'no'), 2), 'answer': answer}


add(MiniSameMeaning, CLUSTER, [
    Template('First: {sentence1}\nSecond: {sentence2}\nIs the meaning the same or different?\n{options_}', '{answer}'),
    Template('{sentence1}\n{sentence2}\nCompare the meaning of the two sentences.\n{options_}', '{answer}'),
    Template('Do these say the same thing, or something different?\n{sentence1}\n{sentence2}\n{options_}', '{answer}'),
    Template('{options_}\nChoose the word that fits: the meaning of these two is ...\n- {sentence1}\n- {sentence2}', '{answer}'),
    Template('Is the second a paraphrase of the first?\nFirst: {sentence1}\nSecond: {sentence2}\nTheir meaning is', '{answer}'),
    Template('Write a sentence with a meaning that is {answer}.\n{sentence1}', '{sentence2}'),
], metrics.accuracy)

add(MiniSameQuestion, CLUSTER, [
    Template('{question1}\n{question2}\nDo both ask for the same information?\n{options_}', '{answer}'),
    Template('Question 1: {question1}\nQuestion 2: {question2}\nWould one answer fit both?\n{options_}', '{answer}'),
    Template('Are these two questions the same in meaning? {question1} {question2}\n{options_}', '{answer}'),
    Template('Answer yes or no. Is it the same to ask: {question1} and to ask: {question2}\n{options_}', '{answer}'),
    Template('Somebody asked: {question1} Somebody else asked: {question2} Did they want to know the same thing?', '{answer}'),
], metrics.accuracy)
