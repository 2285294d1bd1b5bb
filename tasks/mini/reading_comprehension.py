"""Cluster `reading_comprehension`: questions that a short text answers."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'reading_comprehension'


class MiniFindAnswer(builders.MiniBuilder):
  """A question whose answer is a word or two of the text."""

  FEATURES = ('passage', 'question', 'answer')
  SIZES = builders.MiniBuilder.SIZES | {'train': 4_000}

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    episode = world.Episode.draw(rng, 2, 3)
    fact = rng.choice(episode.facts)
    if rng.random() < 0.5:
      question, answer = fact.relation.ask_who(rng, fact.object), fact.subject
    else:
      question, answer = fact.relation.ask(rng, fact.subject), fact.object
    return {'passage': episode.tell(rng), 'question': question, 'answer': answer}


class MiniWhichPerson(builders.MiniBuilder):
  """Which of the people of the text is meant?"""

  FEATURES = ('passage', 'question', 'options', 'answer')
  SIZES = builders.MiniBuilder.SIZES | {'train': 4_000}

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    episode = world.Episode.draw(rng, 2, 3)
    fact = rng.choice(episode.facts)
    people = [f.subject for f in episode.facts]
    rng.shuffle(people)
    return {'passage': episode.tell(rng), 'question': fact.relation.ask_who(rng, fact.object),
            'options': people, 'answer': fact.subject}


class MiniYesNo(builders.MiniBuilder):
  """A question about the text that is answered by yes or no."""

  FEATURES = ('passage', 'question', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    episode = world.Episode.draw(rng, 1, 3)
    fact = rng.choice(episode.facts)
    answer, thing = rng.choice(('yes', 'no')), fact.object
    if answer == 'no':
      thing = world.other(rng, fact.relation.objects, *(f.object for f in episode.facts))
    return {'passage': episode.tell(rng), 'question': fact.relation.ask_whether(rng, fact.subject, thing),
            'options': rng.sample(('yes', 'no'), 2), 'answer': answer}


add(MiniFindAnswer, CLUSTER, [
    Template('{passage}\nQuestion: {question}\nAnswer:', '{answer}'),
    Template('Read the passage and answer the question.\n{passage}\n{question}', '{answer}'),
    Template('{question} Find the answer in this text: {passage}', '{answer}'),
    Template('Here is what happened. {passage}\nNow tell me: {question}', '{answer}'),
    Template('Use only the text.\nText: {passage}\nQuestion: {question}', '{answer}'),
    Template('{passage}\nMake up a question about this text whose answer is: {answer}', '{question}'),
], metrics.accuracy)

add(MiniWhichPerson, CLUSTER, [
    Template('{passage}\n{question}\n{options_}', '{answer}'),
    Template('Text: {passage}\nQuestion: {question}\nChoose the right person.\n{options_}', '{answer}'),
    Template('{question} Choose one of the names, after you have read this: {passage}\n{options_}', '{answer}'),
    Template('{options_}\nWhich of them is the answer? {question}\n{passage}', '{answer}'),
    Template('Read: {passage}\nThen answer: {question}\n{options_}\nAnswer:', '{answer}'),
    Template('{passage}\nWrite a question for which {answer} is the right answer.', '{question}'),
], metrics.accuracy)

add(MiniYesNo, CLUSTER, [
    Template('{passage}\n{question}\n{options_}', '{answer}'),
    Template('Answer yes or no, from the text.\nText: {passage}\n{question}\n{options_}', '{answer}'),
    Template('{question} The text says: {passage}\n{options_}', '{answer}'),
    Template('Passage: {passage}\nQuestion: {question}\n{options_}\nAnswer:', '{answer}'),
    Template('You know this: {passage} Somebody asks you: {question} Your reply is', '{answer}'),
    Template('{passage}\nAsk something about this so that the answer is {answer}.', '{question}'),
], metrics.accuracy)
