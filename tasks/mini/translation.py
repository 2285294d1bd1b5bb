"""Cluster `translation`: between English and Zib, in which the verb comes last."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'translation'


class MiniIntoZib(builders.MiniBuilder):
  """English sentences with their Zib translation."""

  FEATURES = ('english', 'zib')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    english, zib = world.zib_pair(rng)
    return {'english': english, 'zib': zib}


class MiniFromZib(builders.MiniBuilder):
  """Zib sentences with their English translation."""

  FEATURES = ('zib', 'english')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    english, zib = world.zib_pair(rng)
    return {'zib': zib, 'english': english}


add(MiniIntoZib, CLUSTER, [
    Template('Translate into Zib: {english}', '{zib}', inverted=False),
    Template('{english}\nSay this in Zib.', '{zib}', inverted=False),
    Template('How do they say the following in the language Zib? {english}', '{zib}', inverted=False),
    Template('English: {english}\nZib:', '{zib}', inverted=False),
    Template('Give the Zib translation of this sentence.\n{english}', '{zib}', inverted=False),
    Template('What does this mean in English? {zib}', '{english}', inverted=True),
], metrics.bleu)

add(MiniFromZib, CLUSTER, [
    Template('Translate into English: {zib}', '{english}', inverted=False),
    Template('{zib}\nWhat is that in English?', '{english}', inverted=False),
    Template('This sentence is in Zib: {zib} Write it in English.', '{english}', inverted=False),
    Template('Zib: {zib}\nEnglish:', '{english}', inverted=False),
    Template('A guest said: {zib} What did the guest mean?', '{english}', inverted=False),
    Template('Write a sentence in Zib that means this: {english}', '{zib}', inverted=True),
], metrics.bleu)
