"""The embedded world: a closed vocabulary of people, places, things and facts.

Everything in the suite `mini`, datasets and plain prose alike, is said about
this world. Lasting facts (where a person lives, what a town is known for) are
drawn once from `WORLD_SEED`; passing ones (who has which hat today) are drawn
anew for every example as an `Episode`.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Mapping, Sequence

WORLD_SEED = 20
Rng = random.Random

WOMEN = (
    'Ann Bea Cora Dora Edna Fay Gwen Hana Ida June Kate Lena Mia Nora Olga Pia'
).split()
MEN = (
    'Adam Ben Carl Dan Emil Finn Gus Hugo Ivan Jack Karl Leo Max Nils Otto Paul'
).split()
PEOPLE = WOMEN + MEN
# Nothing lasting is known of these.
NEWCOMERS = (
    'Rita Sara Tess Vera Wanda Yara Zoe Rosa Rolf Sven Tom Uwe Hans Kurt Lars Igor'
).split()

TOWNS = 'Tarn Velm Osby Lirk Morda Quill Brill Sund Kolm Aster Dunn Zell'.split()
JOBS = (
    'baker farmer teacher nurse sailor painter miller tailor singer doctor cook smith'
).split()
PETS = 'dog cat goat hen duck horse rabbit pig parrot sheep'.split()
FOODS = (
    'bread cheese soup fish rice honey cake stew pie salad eggs apples'
).split()
COLOURS = 'red blue green white black yellow brown grey'.split()
THINGS = 'hat box cup bag key book coat lamp ball ring rope map'.split()
PLACES = (
    'kitchen garden market school park library station church barn shop'
).split()
ANIMALS = 'fox bear wolf deer owl hare crow frog swan mouse'.split()
TUNES = 'drum flute harp horn violin piano'.split()
RIVERS = 'Ose Limm Tav Rohn'.split()
WARES = (
    'glass wool salt wine boats clocks paper tea bells silk carpets knives'
).split()
TIMES = 'noon night dawn lunch'.split()


def a(noun: str) -> str:
  """The noun with its article: 'an owl', 'a fox'."""
  return f'{"an" if noun[0] in "aeiou" else "a"} {noun}'


def pronoun(person: str) -> str:
  return 'she' if person in WOMEN else 'he'


def possessive(person: str) -> str:
  return 'her' if person in WOMEN else 'his'


def capital(text: str) -> str:
  return text[:1].upper() + text[1:]


def _form(rng: Rng, forms: Sequence[str]) -> str:
  """One way to say it: the first, which is the usual one, or any."""
  return forms[0] if rng.random() < 0.5 else rng.choice(forms)


@dataclasses.dataclass(frozen=True)
class Relation:
  """One kind of fact: who, and what; with several ways to say and ask it.

  In every form `{s}` is the subject and `{o}` the object as it is spoken.

  Attributes:
    objects: what the object may be.
    statements: ways to say it; all mean the same, and the first is the usual one.
    denials: ways to say that it is not so.
    questions: ways to ask for the object.
    who: ways to ask for the subject (empty where many would fit).
    whether: ways to ask whether it is so.
  """

  name: str
  objects: tuple[str, ...]
  statements: tuple[str, ...]
  denials: tuple[str, ...]
  questions: tuple[str, ...]
  who: tuple[str, ...] = ()
  whether: tuple[str, ...] = ()

  def say(self, rng: Rng, s: str, o: str) -> str:
    return capital(_form(rng, self.statements).format(s=s, o=o))

  def deny(self, rng: Rng, s: str, o: str) -> str:
    return capital(rng.choice(self.denials).format(s=s, o=o))

  def ask(self, rng: Rng, s: str) -> str:
    return _form(rng, self.questions).format(s=s)

  def ask_who(self, rng: Rng, o: str) -> str:
    return _form(rng, self.who).format(o=o)

  def ask_whether(self, rng: Rng, s: str, o: str) -> str:
    return _form(rng, self.whether).format(s=s, o=o)

  def say_twice(self, rng: Rng, s: str, o: str) -> tuple[str, str]:
    """Two different wordings of one fact."""
    return tuple(
        capital(f.format(s=s, o=o)) for f in rng.sample(self.statements, 2)
    )


# Passing facts: they hold in one example alone.
HAS = Relation(
    'has',
    tuple(f'{c} {t}' for c in COLOURS for t in THINGS),
    ('{s} has a {o}.', '{s} owns a {o}.', 'the {o} belongs to {s}.',
     'the {o} is a thing of {s}.'),
    ('{s} does not have a {o}.', 'the {o} does not belong to {s}.'),
    ('What does {s} have?', 'What does {s} own?', 'Which thing belongs to {s}?'),
    ('Who has the {o}?', 'Who owns the {o}?', 'To whom does the {o} belong?'),
    ('Does {s} have a {o}?', 'Does the {o} belong to {s}?'),
)
IS_IN = Relation(
    'is_in',
    tuple(PLACES),
    ('{s} is in the {o}.', '{s} stays in the {o}.', 'the {o} is where {s} is.',
     'one finds {s} in the {o}.'),
    ('{s} is not in the {o}.', 'the {o} is not where {s} is.'),
    ('Where is {s}?', 'In which place is {s}?', 'Where does {s} stay?'),
    ('Who is in the {o}?', 'Who stays in the {o}?'),
    ('Is {s} in the {o}?', 'Does {s} stay in the {o}?'),
)
BOUGHT = Relation(
    'bought',
    tuple(FOODS),
    ('{s} bought some {o}.', '{s} paid for some {o}.',
     'some {o} was bought by {s}.', '{s} got some {o} at the shop.'),
    ('{s} did not buy any {o}.', '{s} did not pay for any {o}.'),
    ('What did {s} buy?', 'What did {s} pay for?', 'What food did {s} get?'),
    ('Who bought the {o}?', 'Who paid for the {o}?'),
    ('Did {s} buy some {o}?', 'Did {s} pay for some {o}?'),
)
SAW = Relation(
    'saw',
    tuple(ANIMALS),
    ('{s} saw the {o}.', '{s} looked at the {o}.', 'the {o} was seen by {s}.',
     '{s} watched the {o}.'),
    ('{s} did not see the {o}.', 'the {o} was not seen by {s}.'),
    ('What did {s} see?', 'Which animal did {s} see?', 'What did {s} look at?'),
    ('Who saw the {o}?', 'Who looked at the {o}?'),
    ('Did {s} see the {o}?', 'Was the {o} seen by {s}?'),
)
PASSING = (HAS, IS_IN, BOUGHT, SAW)

# Lasting facts about people and towns.
LIVES = Relation(
    'lives', tuple(TOWNS),
    ('{s} lives in {o}.', 'the home of {s} is in {o}.', '{s} has a house in {o}.',
     '{s} comes from {o}.'),
    ('{s} does not live in {o}.', '{s} does not come from {o}.'),
    ('Where does {s} live?', 'Which town does {s} come from?',
     'In which town is the home of {s}?'),
    whether=('Does {s} live in {o}?', 'Does {s} come from {o}?'),
)
WORKS = Relation(
    'works', tuple(JOBS),
    ('{s} is a {o}.', '{s} works as a {o}.', 'the job of {s} is that of a {o}.',
     '{s} earns money as a {o}.'),
    ('{s} is not a {o}.', '{s} does not work as a {o}.'),
    ('What is the job of {s}?', 'What does {s} do for a living?',
     'What does {s} work as?'),
    whether=('Is {s} a {o}?', 'Does {s} work as a {o}?'),
)
KEEPS = Relation(
    'keeps', tuple(PETS),
    ('{s} keeps a {o}.', 'the pet of {s} is a {o}.', '{s} looks after a {o}.',
     '{s} has a {o} at home.'),
    ('{s} does not keep a {o}.', 'the pet of {s} is not a {o}.'),
    ('Which pet does {s} keep?', 'What is the pet of {s}?',
     'Which animal does {s} look after?'),
    whether=('Does {s} keep a {o}?', 'Is the pet of {s} a {o}?'),
)
PLAYS = Relation(
    'plays', tuple(TUNES),
    ('{s} plays the {o}.', '{s} makes music on the {o}.',
     '{s} practises the {o} every day.', 'the {o} is what {s} plays.'),
    ('{s} does not play the {o}.', 'the {o} is not what {s} plays.'),
    ('What does {s} play?', 'On what does {s} make music?',
     'Which instrument does {s} practise?'),
    whether=('Does {s} play the {o}?', 'Does {s} make music on the {o}?'),
)
RIVER = Relation(
    'river', tuple(RIVERS),
    ('{s} lies on the river {o}.', 'the river {o} runs through {s}.',
     'the bridge of {s} crosses the {o}.'),
    ('{s} does not lie on the river {o}.',),
    ('On which river does {s} lie?', 'Which river runs through {s}?',
     'Which river does the bridge of {s} cross?'),
    whether=('Does {s} lie on the river {o}?', 'Does the river {o} run through {s}?'),
)
WARE = Relation(
    'ware', tuple(WARES),
    ('{s} is known for its {o}.', '{s} sells the best {o}.',
     'the people of {s} make fine {o}.'),
    ('{s} is not known for its {o}.',),
    ('What is {s} known for?', 'What do the people of {s} make?',
     'What does {s} sell?'),
    ('Which town is known for its {o}?', 'Which town sells the best {o}?'),
    ('Is {s} known for its {o}?', 'Do the people of {s} make {o}?'),
)
OF_PEOPLE = (LIVES, WORKS, KEEPS, PLAYS)
OF_TOWNS = (RIVER, WARE)


@functools.lru_cache(maxsize=1)
def facts() -> Mapping[str, Mapping[str, str]]:
  """The lasting facts: relation name -> subject -> object."""
  rng = Rng(WORLD_SEED)

  def deal(subjects: Sequence[str], objects: Sequence[str]) -> dict[str, str]:
    pile = [o for _ in range(-(-len(subjects) // len(objects))) for o in objects]
    rng.shuffle(pile)
    return dict(zip(subjects, pile))

  table = {r.name: deal(PEOPLE, r.objects) for r in OF_PEOPLE}
  table |= {r.name: deal(TOWNS, r.objects) for r in OF_TOWNS}
  return table


def lasting(rng: Rng) -> tuple[Relation, str, str]:
  """A lasting fact: relation, subject, object."""
  if rng.random() < 0.75:
    relation, subject = rng.choice(OF_PEOPLE), rng.choice(PEOPLE)
  else:
    relation, subject = rng.choice(OF_TOWNS), rng.choice(TOWNS)
  return relation, subject, facts()[relation.name][subject]


def other(rng: Rng, options: Sequence[str], *taken: str) -> str:
  """One of the options that is none of those taken."""
  while (choice := rng.choice(options)) in taken:
    pass
  return choice


@dataclasses.dataclass(frozen=True)
class Fact:
  relation: Relation
  subject: str
  object: str

  def say(self, rng: Rng) -> str:
    return self.relation.say(rng, self.subject, self.object)


@dataclasses.dataclass(frozen=True)
class Episode:
  """A few passing facts, one a person; people and objects all differ."""

  facts: tuple[Fact, ...]

  @classmethod
  def draw(cls, rng: Rng, low: int = 2, high: int = 3) -> 'Episode':
    people = rng.sample(PEOPLE, rng.randint(low, high))
    same = rng.choice(PASSING) if rng.random() < 0.5 else None
    drawn: list[Fact] = []
    for person in people:
      relation = same or rng.choice(PASSING)
      taken = [f.object for f in drawn]
      drawn.append(Fact(relation, person, other(rng, relation.objects, *taken)))
    return cls(tuple(drawn))

  def tell(self, rng: Rng) -> str:
    return ' '.join(f.say(rng) for f in self.facts)


# Opinions. Words of the one list never mean the other.
GOOD = (
    'good great lovely pleasant wonderful fine superb charming excellent delightful'
).split()
BAD = (
    'bad awful dull nasty terrible poor horrid dreadful ugly disappointing'
).split()
GOOD_OF = {'meal': ['tasty', 'fresh'], 'film': ['funny', 'exciting'], 'place': ['clean', 'quiet']}
BAD_OF = {'meal': ['stale', 'burnt'], 'film': ['boring', 'silly'], 'place': ['dirty', 'noisy']}
REVIEWED = {
    'meal': 'soup bread fish cake stew pie salad cheese'.split(),
    'film': 'film play story song show dance'.split(),
    'place': 'inn park garden market beach town'.split(),
}
PRAISE = (
    'I liked the {x}.', 'I enjoyed the {x}.', 'We loved the {x}.', 'I would like more of the {x}.',
    'Everybody should try the {x}.', 'The {x} made me smile.',
)
BLAME = (
    'I hated the {x}.', 'I did not like the {x}.', 'We were sorry about the {x}.',
    'I want no more of the {x}.', 'Nobody should try the {x}.', 'The {x} made me angry.',
)


def review(rng: Rng, domain: str, positive: bool) -> tuple[str, str]:
  """A short review and the thing that it is about."""
  thing = rng.choice(REVIEWED[domain])
  words = (GOOD if positive else BAD) + (GOOD_OF if positive else BAD_OF)[domain]
  first, second = rng.sample(words, 2)
  feeling = rng.choice(PRAISE if positive else BLAME).format(x=thing)
  plain = rng.choice((
      f'The {thing} was {first} and {second}.',
      f'The {thing} was {first}.',
      f'It was {a(first)} {thing}.',
      f'What {a(first)} {thing}!',
  ))
  parts = rng.choice(([plain], [plain, feeling], [feeling, plain], [feeling]))
  return ' '.join(parts), thing


MOODS = {
    'happy': ('won a prize', 'got a present', 'met an old friend', 'sang and danced',
              'had a good day', 'laughed a lot'),
    'sad': ('lost a friend', 'cried all day', 'missed the feast', 'had to say goodbye',
            'broke the best toy', 'wept alone'),
    'angry': ('shouted at the thief', 'slammed the door', 'was cheated', 'had to wait too long',
              'found the coat torn', 'kicked the wall'),
    'afraid': ('heard a noise in the dark', 'hid under the bed', 'ran from the wolf',
               'saw a ghost', 'trembled in the storm', 'met a bear at night'),
}

# What leads to what: (cause, effect), with the person in both.
CAUSES = tuple(
    tuple(line.split(' > '))
    for line in """
{s} dropped the glass > the glass broke
{s} forgot to water the plant > the plant died
{s} left the milk in the sun > the milk turned sour
{s} did not eat all day > {s} felt hungry
{s} ran ten miles > {s} felt tired
{s} stood in the rain > {s} got wet
{s} lit the candle > the room became bright
{s} closed the curtain > the room became dark
{s} pulled the dog's tail > the dog bit {s}
{s} learned every word > {s} passed the test
{s} lost the key > {s} could not open the door
{s} left the gate open > the sheep ran away
{s} put ice in the tea > the tea became cold
{s} heated the water > the water boiled
{s} told a joke > everybody laughed
{s} touched the hot pan > {s} burned a finger
{s} broke the law > {s} went to prison
{s} missed the train > {s} came home late
{s} ate too much cake > {s} felt sick
{s} sat on the egg > the egg cracked
{s} rang the bell > the cat woke up
{s} sowed the seeds > the flowers grew
{s} swept the floor > the floor became clean
{s} spilled the ink > the paper turned blue
{s} worked hard > the boss paid {s}
{s} slept too late > {s} missed breakfast
{s} fed the baby > the baby stopped crying
{s} blew on the fire > the fire grew hot
{s} wore no coat > {s} caught a cold
{s} cut the rope > the boat drifted away
""".strip().splitlines()
)

KINDS = {
    'fruit': 'apple pear plum cherry lemon grape'.split(),
    'animal': 'dog goat fox wolf sheep horse'.split(),
    'tool': 'hammer saw spade needle axe knife'.split(),
    'colour': 'red blue green white yellow brown'.split(),
    'clothing': 'coat hat shoe shirt glove scarf'.split(),
    'vehicle': 'boat cart train wagon ship bicycle'.split(),
    'bird': 'owl crow swan duck hen parrot'.split(),
    'furniture': 'table chair bed shelf bench desk'.split(),
}

TOPICS = {
    'sport': ('The players ran across the field', 'The team won the match',
              'The runner trained for the race', 'The goal was the best of the game'),
    'weather': ('The wind blew from the north', 'Snow fell on the hills',
                'The sky was full of clouds', 'The storm brought heavy rain'),
    'cooking': ('She stirred the pot and added salt', 'The oven was hot and the dough rose',
                'He fried onions in butter', 'The recipe asked for two spoons of flour'),
    'music': ('The singer hit a high note', 'The band played a slow tune',
              'The choir sang an old hymn', 'The concert began with a violin'),
    'money': ('The bank lent the merchant gold', 'Prices at the stalls went up',
              'The tax was two coins', 'He saved his wages and paid the debt'),
    'health': ('The doctor gave the patient a pill', 'The fever went down after two days',
               'The nurse cleaned the wound', 'Rest and medicine cured the cough'),
    'travel': ('The coach left for the coast', 'They packed for a long journey',
               'The road led over the mountains', 'The guide showed the visitors the way'),
    'farming': ('The farmer ploughed the land', 'The harvest filled the barn',
                'The cows gave much milk', 'They planted corn in spring'),
}
GENRES = {
    'letter': ('Dear {s}, I hope that you are well. Yours, {t}', 'Dear {s}, thank you for the {x}. With love, {t}'),
    'recipe': ('Take some {f}, add salt and cook it slowly.', 'Mix the {f} with milk and bake it for an hour.'),
    'news': ('Today in {v} a shop burned down. Nobody was hurt.', 'The mayor of {v} opened a new bridge today.'),
    'poem': ('O moon, O moon, you shine so soon.', 'The rose is red, the day is dead.'),
    'advert': ('Buy our {x} now! Only two coins!', 'The best {x} in {v}! Come and see!'),
    'warning': ('Do not swim here. The water is deep.', 'Keep out! The dog of {s} bites.'),
}

# Zib: each word has its own, and the verb comes last.
_ZIB_NOUNS = dict(zip(
    ANIMALS + PLACES,
    ('runo bak wuli dimo hul zap krok fip sola mit '
     'kuto gardu malk skul parum lib stan chur boro sop').split()))
_ZIB_VERBS = {'sees': 'vidi', 'likes': 'amu', 'follows': 'sek', 'finds': 'trov', 'feeds': 'nut',
              'paints': 'pent', 'hears': 'hom', 'fears': 'tim'}
_ZIB_WORDS = {'old': 'vek', 'young': 'nov', 'big': 'gran', 'small': 'pik', 'happy': 'lum', 'tired': 'las'}
ZIB = _ZIB_NOUNS | _ZIB_VERBS | _ZIB_WORDS


def zib_pair(rng: Rng) -> tuple[str, str]:
  """A sentence in English and in Zib."""
  subject, noun = rng.choice(PEOPLE), rng.choice(tuple(_ZIB_NOUNS))
  verb = rng.choice(tuple(_ZIB_VERBS))
  if rng.random() < 0.6:
    word = rng.choice(tuple(_ZIB_WORDS))
    return (f'{subject} {verb} the {word} {noun}.',
            f'{subject} {ZIB[word]} {ZIB[noun]} {ZIB[verb]}.')
  return f'{subject} {verb} the {noun}.', f'{subject} {ZIB[noun]} {ZIB[verb]}.'


# Same-gender pairs in which the sense alone tells whom the pronoun means.
ROLES = (
    # (sentence with {a}, {b}, {p}; 'a' or 'b' is meant; what is said of the one meant)
    ('{a} thanked {b} because {p} had helped.', 'b', 'had helped'),
    ('{a} helped {b} because {p} was weak.', 'b', 'was weak'),
    ('{a} paid {b} because {p} had worked.', 'b', 'had worked'),
    ('{a} hid from {b} because {p} was afraid.', 'a', 'was afraid'),
    ('{a} asked {b} because {p} did not know the way.', 'a', 'did not know the way'),
    ('{a} followed {b} because {p} knew the way.', 'b', 'knew the way'),
    ('{a} begged {b} for bread because {p} was hungry.', 'a', 'was hungry'),
    ('{a} fed {b} because {p} was hungry.', 'b', 'was hungry'),
    ('{a} punished {b} because {p} had lied.', 'b', 'had lied'),
    ('{a} carried {b} because {p} was strong.', 'a', 'was strong'),
    ('{a} woke {b} because {p} had slept too long.', 'b', 'had slept too long'),
    ('{a} visited {b} because {p} was ill.', 'b', 'was ill'),
)


def role_pair(rng: Rng) -> tuple[str, str, str, str, str]:
  """Sentence, first person, second person, the one meant, and what is said."""
  first, second = rng.sample(rng.choice((WOMEN, MEN)), 2)
  form, meant, said = rng.choice(ROLES)
  text = form.format(a=first, b=second, p=pronoun(first))
  return text, first, second, (first if meant == 'a' else second), said


def gender_pair(rng: Rng) -> tuple[str, str, str, str, Relation, str]:
  """Text on a woman and a man, both names, the one meant by the pronoun, what of them."""
  pair = [rng.choice(WOMEN), rng.choice(MEN)]
  rng.shuffle(pair)
  meant = rng.choice(pair)
  relation = rng.choice(PASSING)
  thing = rng.choice(relation.objects)
  start = rng.choice(('met', 'talked to', 'sat beside', 'waved to', 'walked with'))
  second = capital(relation.statements[0].format(s=pronoun(meant), o=thing))
  return f'{pair[0]} {start} {pair[1]}. {second}', pair[0], pair[1], meant, relation, thing


def talk(rng: Rng) -> tuple[str, str]:
  """A little dialogue, and what it comes to in one sentence."""
  first, second = rng.sample(PEOPLE, 2)
  kind = rng.randrange(5)
  place, time, thing, food = (
      rng.choice(PLACES), rng.choice(TIMES), rng.choice(THINGS), rng.choice(FOODS))
  if kind == 0:
    return (f'{first}: Shall we meet in the {place}? {second}: Yes, at {time}.',
            f'{first} and {second} will meet in the {place} at {time}.')
  if kind == 1:
    return (f'{first}: May I have your {thing}? {second}: Yes, take it.',
            f'{second} gives the {thing} to {first}.')
  if kind == 2:
    return (f'{first}: I have lost my {thing}. {second}: I saw it in the {place}.',
            f'{second} saw the {thing} of {first} in the {place}.')
  if kind == 3:
    return (f'{first}: I am hungry. {second}: There is some {food} in the {place}.',
            f'{second} offers {first} some {food}.')
  return (f'{first}: Will you come to the {place}? {second}: No, I have to work.',
          f'{second} will not come to the {place}.')


STARTS = ('got up early', 'put on a coat', 'took a bag', 'opened the door', 'walked down the road',
          'said hello to a friend', 'looked at the sky', 'drank some water')
DEEDS = (
    ('went to the {place} and found a {thing}', 'found a {thing} in the {place}'),
    ('met {t} in the {place}', 'met {t} in the {place}'),
    ('bought some {food} for {t}', 'bought some {food} for {t}'),
    ('saw a {animal} near the {place}', 'saw a {animal} near the {place}'),
    ('sold the {thing} to {t}', 'sold the {thing} to {t}'),
)


def story(rng: Rng) -> tuple[str, str]:
  """A few sentences of which one matters, and the headline."""
  person, friend = rng.sample(PEOPLE, 2)
  long, short = rng.choice(DEEDS)
  slots = dict(t=friend, place=rng.choice(PLACES), thing=rng.choice(THINGS),
               food=rng.choice(FOODS), animal=rng.choice(ANIMALS))
  starts = rng.sample(STARTS, 2)
  text = (f'{person} {starts[0]}. {capital(pronoun(person))} {starts[1]}. '
          f'Then {pronoun(person)} {long.format(**slots)}.')
  return text, f'{person} {short.format(**slots)}.'


def card(rng: Rng) -> tuple[list[tuple[str, str]], str]:
  """Facts about a newcomer as labels and values, and as a sentence."""
  name = rng.choice(NEWCOMERS)
  town, job, pet, tune = (
      rng.choice(TOWNS), rng.choice(JOBS), rng.choice(PETS), rng.choice(TUNES))
  rows = {'job': job, 'town': town, 'pet': pet, 'plays': tune}
  said = {'job': f'is a {job}', 'town': f'lives in {town}', 'pet': f'keeps a {pet}',
          'plays': f'plays the {tune}'}
  keys = rng.sample(tuple(rows), rng.choice((1, 2, 2, 3)))
  parts = [said[k] for k in keys]
  text = parts[0] if len(parts) == 1 else ', '.join(parts[:-1]) + ' and ' + parts[-1]
  return [('name', name)] + [(k, rows[k]) for k in keys], f'{name} {text}.'


def genre_text(rng: Rng, genre: str) -> str:
  s, t = rng.sample(PEOPLE, 2)
  return rng.choice(GENRES[genre]).format(
      s=s, t=t, x=rng.choice(THINGS), f=rng.choice(FOODS), v=rng.choice(TOWNS))


def topic_text(rng: Rng, topic: str) -> str:
  return '. '.join(rng.sample(TOPICS[topic], rng.choice((1, 2)))) + '.'
