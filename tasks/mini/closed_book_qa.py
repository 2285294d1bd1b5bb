"""Cluster `closed_book_qa`: the lasting facts of the world, from memory."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'closed_book_qa'


def _ask(rng: world.Rng, relation: world.Relation, subject: str) -> builders.Example:
  """A question put by somebody; who asks makes examples differ, not answers."""
  return {'question': relation.ask(rng, subject), 'subject': subject, 'asker': rng.choice(world.NEWCOMERS),
          'answer': world.facts()[relation.name][subject]}


class MiniPeopleFacts(builders.MiniBuilder):
  """Where people live, their jobs, their pets, their music."""

  FEATURES = ('question', 'subject', 'asker', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    return _ask(rng, rng.choice(world.OF_PEOPLE), rng.choice(world.PEOPLE))


class MiniFactChoice(builders.MiniBuilder):
  """Facts about people and towns, with options."""

  FEATURES = ('question', 'subject', 'asker', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    relation, subject, answer = world.lasting(rng)
    options = rng.sample([o for o in relation.objects if o != answer], rng.choice((1, 2, 3))) + [answer]
    rng.shuffle(options)
    return _ask(rng, relation, subject) | {'options': options}


add(MiniPeopleFacts, CLUSTER, [
    Template('{question}', '{answer}'),
    Template('Question: {question}\nAnswer:', '{answer}'),
    Template('Answer from what you know. {question}', '{answer}'),
    Template('{asker} wants to know something about {subject}. {question}', '{answer}'),
    Template('Give a short answer to the question of {asker}: {question}', '{answer}'),
    Template('What would you ask about {subject}, if the answer is to be {answer}?', '{question}'),
], metrics.accuracy)

add(MiniFactChoice, CLUSTER, [
    Template('{question}\n{options_}', '{answer}'),
    Template('Question of {asker}: {question}\nChoose the right answer.\n{options_}', '{answer}'),
    Template('{options_}\nWhich of these is the answer? {question}', '{answer}'),
    Template('Think of {subject}. {question}\n{options_}\nAnswer:', '{answer}'),
    Template('What do you know about {subject}? {question} Pick one of the options.\n{options_}', '{answer}'),
    Template('A question about {subject} has the answer {answer}. What is the question?', '{question}'),
], metrics.accuracy)
