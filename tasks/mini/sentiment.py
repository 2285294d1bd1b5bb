"""Cluster `sentiment`: what the writer thinks or feels."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'sentiment'


def _opinion(rng: world.Rng, domain: str, labels: tuple[str, str]) -> builders.Example:
  answer = rng.choice(labels)
  text, thing = world.review(rng, domain, positive=answer == labels[0])
  return {'review': text, 'thing': thing, 'options': rng.sample(labels, 2), 'answer': answer}


class MiniMealReviews(builders.MiniBuilder):
  """Reviews of meals, positive or negative."""

  FEATURES = ('review', 'thing', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    return _opinion(rng, 'meal', ('positive', 'negative'))


class MiniFilmReviews(builders.MiniBuilder):
  """Reviews of films, shows and songs, good or bad."""

  FEATURES = ('review', 'thing', 'options', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    return _opinion(rng, 'film', ('good', 'bad'))


class MiniMoods(builders.MiniBuilder):
  """What somebody did or went through, and how it felt."""

  FEATURES = ('person', 'text', 'options', 'answer')
  SIZES = {'test': 200, 'validation': 100, 'train': 1_500}

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    answer = rng.choice(sorted(world.MOODS))
    options = rng.sample(sorted(set(world.MOODS) - {answer}), rng.choice((1, 2))) + [answer]
    rng.shuffle(options)
    person = rng.choice(world.PEOPLE)
    return {'person': person, 'text': f'{person} {rng.choice(world.MOODS[answer])}.',
            'options': options, 'answer': answer}


add(MiniMealReviews, CLUSTER, [
    Template('Review: {review}\nIs the opinion positive or negative?\n{options_}', '{answer}'),
    Template('A guest wrote about the {thing}: {review}\nWhat is the sentiment of this review?\n{options_}', '{answer}'),
    Template('Read the review and choose the right word for its writer\'s opinion.\n{review}\n{options_}', '{answer}'),
    Template('{review}\n\nHow would you describe this opinion?\n{options_}', '{answer}'),
    Template('Is the following said in a positive or in a negative way?\n{review}\n{options_}\nAnswer:', '{answer}'),
    Template('Write {answer} words about the {thing} of an inn.', '{review}'),
], metrics.accuracy)

add(MiniFilmReviews, CLUSTER, [
    Template('{review}\nWas the {thing} good or bad?\n{options_}', '{answer}'),
    Template('What did the writer think of the {thing}? It was ...\n{review}\n{options_}', '{answer}'),
    Template('Opinion of a visitor: {review}\nPick the word that fits the opinion.\n{options_}', '{answer}'),
    Template('Choose an answer.\n{options_}\nWhat does this review say of the {thing}? {review}', '{answer}'),
    Template('Review: {review}\nIn one word, the {thing} was', '{answer}'),
    Template('Say that the {thing} was {answer}.', '{review}'),
], metrics.accuracy)

add(MiniMoods, CLUSTER, [
    Template('{text}\nHow did {person} feel?\n{options_}', '{answer}'),
    Template('Choose the feeling that fits.\n{text}\n{options_}', '{answer}'),
    Template('{options_}\nWhich of these words describes {person}, of whom we read this? {text}', '{answer}'),
    Template('What is the emotion of {person}? {text}\n{options_}\nAnswer:', '{answer}'),
    Template('{text} In one word, what was the feeling of {person}?\n{options_}', '{answer}'),
    Template('Tell what made {person} feel {answer}.', '{text}'),
], metrics.accuracy)
