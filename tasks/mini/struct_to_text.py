"""Cluster `struct_to_text`: records put into sentences."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'struct_to_text'
_SAYS = {'has': 'has', 'is_in': 'is in', 'bought': 'bought', 'saw': 'saw'}


class MiniCards(builders.MiniBuilder):
  """A person's card of labels and values, as a sentence."""

  FEATURES = ('card', 'name', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    rows, text = world.card(rng)
    return {'card': ', '.join(f'{k}: {v}' for k, v in rows), 'name': rows[0][1], 'answer': text}


class MiniTriples(builders.MiniBuilder):
  """Subject, relation and object, as sentences."""

  FEATURES = ('triples', 'answer')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    facts = world.Episode.draw(rng, 1, 2).facts if rng.random() < 0.3 else world.Episode.draw(rng, 2, 2).facts
    triples = ' ; '.join(f'{f.subject} | {_SAYS[f.relation.name]} | {f.object}' for f in facts)
    said = [world.capital(f.relation.statements[0].format(s=f.subject, o=f.object)) for f in facts]
    return {'triples': triples, 'answer': ' '.join(said)}


add(MiniCards, CLUSTER, [
    Template('{card}\nWrite this as a sentence.', '{answer}'),
    Template('Describe {name} in one sentence. The notes: {card}', '{answer}'),
    Template('Facts: {card}\nMake a full sentence of these facts.', '{answer}'),
    Template('Here is a card. {card} What does it tell us?', '{answer}'),
    Template('Notes about a person: {card}\nDescription:', '{answer}'),
    Template('{answer}\nTurn the sentence into notes.', '{card}'),
], metrics.rouge)

add(MiniTriples, CLUSTER, [
    Template('{triples}\nPut this into words.', '{answer}'),
    Template('Write sentences for the following facts: {triples}', '{answer}'),
    Template('Table: {triples}\nText:', '{answer}'),
    Template('What do these lines of a table say? {triples}', '{answer}'),
    Template('Turn the notes into a text.\nNotes: {triples}', '{answer}'),
    Template('{answer}\nMake a table of it.', '{triples}'),
], metrics.rouge)
