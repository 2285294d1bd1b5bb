"""Plain text about the embedded world: what the base model was pretrained on.

Natural prose in which the skills of the suite occur as they do in web text:
people talk, remember, retell, contradict, ask and are answered; a school is
part of the world, so that words such as 'question', 'summary' or 'opposite'
have a meaning. No template and no prompt of a task is among it (a test
compares them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flanjax.tasks.mini import world as w

Rng = w.Rng


def _name(rng: Rng, *taken: str) -> str:
  return w.other(rng, w.PEOPLE, *taken)


def _noun(fact: w.Fact) -> str:
  """The object as an answer: 'a red hat', 'the kitchen', 'some rice'."""
  return {'has': f'a {fact.object}', 'is_in': f'in the {fact.object}',
          'bought': f'some {fact.object}', 'saw': f'the {fact.object}'}[fact.relation.name]


def _quoted_question(rng: Rng, question: str, answer: str) -> str:
  asker, teller = rng.sample(w.PEOPLE, 2)
  return rng.choice((
      f'"{question}" asked {asker}.| "{w.capital(answer)}," said {teller}.',
      f'{asker} asked: "{question}" {teller} answered:| "{w.capital(answer)}."',
      f'{asker} wanted to know: "{question}" The answer was:| {answer}.',
      f'"{question}"| "{w.capital(answer)}."',
      f'The teacher asked the question: {question} The right answer was| {answer}.',
      f'{question}| {w.capital(answer)}.',
  ))


def _mark_last(rng: Rng, fact: w.Fact) -> str:
  """The fact said again, with the mark before the last of its two parts."""
  said = fact.say(rng)
  last = max(fact.subject, fact.object, key=said.rfind)
  return f'|{last}'.join(said.rsplit(last, 1)).replace(' |', '| ')


def lookup(rng: Rng) -> str:
  """Facts of the day, then talk that can only be followed by looking back."""
  episode = w.Episode.draw(rng, 2, 3)
  fact = rng.choice(episode.facts)
  s, o, r = fact.subject, fact.object, fact.relation
  kind = rng.choice((0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5))
  if kind == 0:
    tail = _quoted_question(rng, r.ask(rng, s), _noun(fact))
  elif kind == 1:
    tail = _quoted_question(rng, r.ask_who(rng, o), s)
  elif kind == 2:
    tail = rng.choice(('As was said, ', 'Remember: ', 'In other words, ', 'So ')) + _mark_last(rng, fact)
  elif kind == 3 and r is w.HAS:
    colour, thing = o.split()
    tail = rng.choice((f'The {thing} of {s} is| {colour}.', f'The {colour} thing is that of| {s}.',
                       f'What colour is the {thing}? It is| {colour}.'))
  elif kind == 4:
    tail = ' '.join(f.say(rng) for f in rng.sample(episode.facts, len(episode.facts)))
    tail = 'Once more:| ' + tail
  else:
    tail = f'{_name(rng)} heard about {s} and told a friend: {_mark_last(rng, fact)}'
  return f'{episode.tell(rng)} {tail}'


def _things(rng: Rng, n: int) -> tuple[w.Relation, list[str]]:
  """A relation, and n different objects of it."""
  relation = rng.choice(w.PASSING)
  if relation is w.HAS:
    return relation, [f'{c} {rng.choice(w.THINGS)}' for c in rng.sample(w.COLOURS, n)]
  return relation, rng.sample(relation.objects, n)


def roll_call(rng: Rng) -> str:
  """Things of one kind, told and then told again in another order.

  Where the order stays, a model copies by position; here it has to find who is meant.
  """
  people = rng.sample(w.PEOPLE, rng.randint(2, 4))
  relation, things = _things(rng, len(people))
  forms = rng.choices((
      lambda s, o: f'{s}: {o}.',
      lambda s, o: f'The {o}: {s}.',
      lambda s, o: w.capital(relation.statements[0].format(s=s, o=o)),
      lambda s, o: f'{relation.ask_who(rng, o)} {s}.',
      lambda s, o: f'{relation.ask(rng, s)} {w.capital(_noun(w.Fact(relation, s, o)))}.',
      lambda s, o: relation.say(rng, s, o),
  ), (3, 3, 4, 2, 2, 2), k=2)
  if rng.random() < 0.4:
    forms[1] = forms[0]
  pairs = list(zip(people, things))
  said = ' '.join(forms[0](*pair) for pair in pairs)
  again = ' '.join(forms[1](*pair) for pair in rng.sample(pairs, len(pairs)))
  intro = rng.choice(('Once more:', 'In another order:', 'Somebody heard it so:', 'That is:'))
  return f'{said} {intro}| {again}'


def several_questions(rng: Rng) -> str:
  """Facts, several questions about them, and the answers in the order of the questions."""
  people = rng.sample(w.PEOPLE, rng.randint(2, 3))
  relation, things = _things(rng, len(people))
  pairs = list(zip(people, things))
  told = ' '.join(relation.say(rng, *pair) for pair in pairs)
  asked = rng.sample(pairs, len(pairs))
  if rng.random() < 0.7:
    questions, answers = [relation.ask_who(rng, o) for _, o in asked], [s for s, _ in asked]
  else:
    questions, answers = [relation.ask(rng, s) for s, _ in asked], [o for _, o in asked]
  return _before_or_after(rng, told, ' '.join(questions)) + f'| {", ".join(answers)}.'


def _before_or_after(rng: Rng, text: str, asked: str) -> str:
  """What is asked stands after the text, and at times before it."""
  return f'{text} {asked}' if rng.random() < 0.8 else f'{asked} {text}'


_VERDICTS = {('true', 'false'): ' True or false?', ('right', 'wrong'): ' Right or wrong?', ('yes', 'no'): ''}


def judged(rng: Rng) -> str:
  """Facts, several claims about them, and whether each is true."""
  people = rng.sample(w.PEOPLE, rng.randint(1, 3))
  relation, things = _things(rng, len(people))
  pairs = list(zip(people, things))
  verdicts = rng.choice(list(_VERDICTS))
  claims, answers = [], []
  for s, o in rng.choices(pairs, k=rng.randint(1, 3)):
    answers.append(rng.choice(verdicts))
    if answers[-1] == verdicts[1]:
      if rng.random() < 0.7:
        o = w.other(rng, relation.objects, *things)
      else:
        s = _name(rng, *people)
    claims.append(relation.ask_whether(rng, s, o) if verdicts[0] == 'yes' else relation.say(rng, s, o))
  told = ' '.join(relation.say(rng, *pair) for pair in pairs)
  asked = _before_or_after(rng, told, ' '.join(claims)) + _VERDICTS[verdicts]
  return f'{asked}| {w.capital(", ".join(answers))}.'


def on_the_list(rng: Rng) -> str:
  """A list, and whether this or that is on it."""
  known = rng.choice((w.PEOPLE, w.FOODS, w.ANIMALS, w.WARES, w.PLACES, w.HAS.objects))
  listed = rng.sample(known, rng.randint(1, 4))
  asked, answers = [], []
  for _ in range(rng.randint(1, 4)):
    answers.append(rng.choice(('yes', 'no')))
    asked.append(rng.choice(listed) if answers[-1] == 'yes' else w.other(rng, known, *listed))
  text = f'The list: {", ".join(listed)}.'
  if len(asked) == 1:
    question = rng.choice(('Is {} on the list?', '{}, yes or no?')).format(asked[0])
  else:
    question = f'The question: {", ".join(asked)}?'
  return _before_or_after(rng, text, question) + f'| {w.capital(", ".join(answers))}.'


def in_the_book(rng: Rng) -> str:
  """A list of pairs, and who or what belongs to whom or what."""
  pairs = list(zip(rng.sample(w.PEOPLE, n := rng.randint(2, 4)), _things(rng, n)[1]))
  if rng.random() < 0.5:
    pairs = [pair[::-1] for pair in pairs]
  side = rng.randrange(2)
  asked = rng.sample(pairs, rng.randint(1, n))
  book = ', '.join(': '.join(pair) for pair in pairs)
  return (_before_or_after(rng, f'The book: {book}.', f'The question: {", ".join(p[side] for p in asked)}?')
          + f'| {", ".join(p[1 - side] for p in asked)}.')


def same_or_not(rng: Rng) -> str:
  """Pairs of words or of sentences, the same or different."""
  kind = rng.randrange(3)
  pairs, answers = [], []
  for _ in range(rng.randint(1, 3)):
    relation, (o, other) = _things(rng, 2)
    s, t = rng.sample(w.PEOPLE, 2)
    answers.append(rng.choice(('same', 'different')))
    alike = answers[-1] == 'same'
    if kind == 0:
      first, second = (s, t) if rng.random() < 0.5 else (o, other)
      pairs.append(f'{first} and {first if alike else second}.')
    elif kind == 1:
      one, two = relation.say_twice(rng, s, o)
      if not alike:
        two = relation.say(rng, *rng.choice(((t, o), (s, other))))
      pairs.append(f'{one} {two}')
    else:
      one, two = (q.format(s=s) for q in rng.sample(relation.questions, 2))
      if not alike:
        two = relation.ask(rng, t) if rng.random() < 0.5 else w.other(rng, w.PASSING, relation).ask(rng, s)
      pairs.append(f'{one} {two}')
  return f'{" ".join(pairs)} The meaning is| {", ".join(answers)}.'


def verdict(rng: Rng) -> str:
  """Facts of the day, then something said that is true, false or unknown."""
  episode = w.Episode.draw(rng, 1, 3)
  fact = rng.choice(episode.facts)
  s, o, r = fact.subject, fact.object, fact.relation
  truth = rng.choice(('yes', 'no', 'maybe'))
  if truth != 'yes':
    o = w.other(rng, r.objects, *(f.object for f in episode.facts))
  if truth == 'maybe':
    s = _name(rng, *(f.subject for f in episode.facts))
  claim = r.say(rng, s, o)
  speaker = _name(rng)
  known = {
      'yes': (f'{speaker} said: "{claim}" That is| true.', f'"{claim}"| "Yes, that is right."',
              f'So it is| true that {_low(claim)}', f'{r.ask_whether(rng, s, o)}| Yes.',
              f'Does it follow? {claim}| Yes, it follows.'),
      'no': (f'{speaker} said: "{claim}" That is| false.', f'"{claim}"| "No, that is wrong."',
             f'So it is| not true that {_low(claim)}', f'{r.ask_whether(rng, s, o)}| No.',
             f'Does it follow? {claim}| No, it does not follow.', r.deny(rng, s, o)),
      'maybe': (f'{speaker} said: "{claim}"| Maybe, nobody knows.',
                f'"{claim}"| "Maybe. We cannot know that."',
                f'{r.ask_whether(rng, s, o)}| Maybe, it is not possible to tell.'),
  }[truth]
  return f'{episode.tell(rng)} {rng.choice(known)}'


def _low(sentence: str) -> str:
  first = sentence.split()[0]
  return sentence if first in _PROPER else sentence[0].lower() + sentence[1:]


_PROPER = set(w.PEOPLE) | set(w.TOWNS) | set(w.NEWCOMERS)


def retelling(rng: Rng) -> str:
  """Two sentences that mean the same, or do not."""
  fact = w.Episode.draw(rng, 1, 1).facts[0] if rng.random() < 0.6 else w.Fact(*w.lasting(rng))
  s, o, r = fact.subject, fact.object, fact.relation
  if rng.random() < 0.5:
    one, two = r.say_twice(rng, s, o)
    link = rng.choice(('In other words: {b}', 'That is the same as to say: {b}', '{b}| It means the same.',
                       '{b} Both sentences have| the same meaning.', 'One can also say: {b}'))
  else:
    one = r.say(rng, s, o)
    two = (r.say(rng, s, w.other(rng, r.objects, o)) if rng.random() < 0.5
           else r.say(rng, w.other(rng, w.TOWNS if r in w.OF_TOWNS else w.PEOPLE, s), o))
    link = rng.choice(('{b} That is| something different.', '{b}| It does not mean the same.',
                       '{b} The two sentences have| a different meaning.'))
  return f'{one} {link.format(b=two)}'


def memory(rng: Rng) -> str:
  """Lasting facts, told or asked for."""
  r, s, o = w.lasting(rng)
  kind = rng.randrange(5)
  if kind == 0:
    return ' '.join(rel.say(rng, s, w.facts()[rel.name][s])
                    for rel in rng.sample(w.OF_TOWNS if r in w.OF_TOWNS else w.OF_PEOPLE, 2))
  if kind == 1:
    return _quoted_question(rng, r.ask(rng, s), o)
  if kind == 2:
    wrong = w.other(rng, r.objects, o)
    asked, answer = rng.choice(((o, 'yes'), (wrong, 'no')))
    return rng.choice((_quoted_question(rng, r.ask_whether(rng, s, asked), answer),
                       f'{r.say(rng, s, asked)} That is| {"true" if answer == "yes" else "false"}.'))
  if kind == 3:
    return f'{r.deny(rng, s, w.other(rng, r.objects, o))} {r.say(rng, s, o)}'
  return r.say(rng, s, o)


def opinion(rng: Rng) -> str:
  positive = rng.random() < 0.5
  domain = rng.choice(tuple(w.REVIEWED))
  text, thing = w.review(rng, domain, positive)
  writer, reader = rng.sample(w.PEOPLE, 2)
  word, good = ('positive', 'good') if positive else ('negative', 'bad')
  liked = 'liked' if positive else 'did not like'
  tail = rng.choice((
      f'This was a| {word} review.', f'So the review of the {thing} was| {word}.',
      f'{writer} had a| {good} opinion of the {thing}.', f'{writer}| {liked} it.',
      f'In short, the {thing} was| {good}.', f'{reader} found the review| {word}.',
      f'Was it {rng.choice(("good or bad", "bad or good"))}? It was| {good}.',
      f'Did {writer} like it?| {"Yes" if positive else "No"}.',
      f'It is a review of a| {domain}.', f'The review is about the| {thing}.',
  ))
  head = rng.choice((f'{writer} wrote: "{text}"', text, f'A review by {writer}: {text}'))
  return f'{head} {tail}'


def words_of_opinion(rng: Rng) -> str:
  positive = rng.random() < 0.5
  word, next_word = rng.sample(w.GOOD if positive else w.BAD, 2)
  wrong = rng.choice(w.BAD if positive else w.GOOD)
  kind = 'positive' if positive else 'negative'
  return rng.choice((
      f'"{w.capital(word)}" is a| {kind} word.', f'"{w.capital(word)}" means much the same as "{next_word}".',
      f'"{w.capital(word)}" is the opposite of "{wrong}".',
      f'When something is {word}, people {"like" if positive else "do not like"} it.',
      f'What is {word} is {"good" if positive else "bad"}, not {"bad" if positive else "good"}.',
  ))


def mood(rng: Rng) -> str:
  name = rng.choice(sorted(w.MOODS))
  s = _name(rng)
  deed = rng.choice(w.MOODS[name])
  text = f'{s} {deed}.'
  return rng.choice((
      f'{text} {w.capital(w.pronoun(s))} was| {name}.', f'{s} was {name} because {w.pronoun(s)} {deed}.',
      f'{text} How did {s} feel?| {w.capital(name)}.', f'{text} {_name(rng, s)} saw that {s} was| {name}.',
      f'Whoever {deed} feels| {name}.',
  ))


def cause(rng: Rng) -> str:
  s = _name(rng)
  first, then = (x.format(s=s) for x in rng.choice(w.CAUSES))
  pron = then.replace(s, w.pronoun(s)) if then.startswith(s) else then
  return rng.choice((
      f'{w.capital(first)}. So| {pron}.', f'{w.capital(then)} because| {first}.',
      f'{w.capital(first)}, and then| {pron}.', f'Why did it happen that {then}?| Because {first}.',
      f'When {first},| {pron}.', f'{w.capital(first)}. What happened next?| {w.capital(then)}.',
      f'The cause: {first}. The effect:| {then}.',
  ))


def kind(rng: Rng) -> str:
  name = rng.choice(sorted(w.KINDS))
  word, second = rng.sample(w.KINDS[name], 2)
  wrong = w.other(rng, sorted(w.KINDS), name)
  odd = w.other(rng, w.KINDS[wrong], *w.KINDS[name])
  the = w.capital(w.a(word))
  is_a = name if name in ('furniture', 'clothing') else w.a(name)
  return rng.choice((
      f'{the} is| {is_a}.', f'{the} is a kind of| {name}, and so is {w.a(second)}.',
      f'{the} and {w.a(second)} belong to the same kind:| {name}.',
      f'What kind of thing is {w.a(word)}?| {w.capital(is_a)}.',
      f'{the} is {is_a}, not {w.a(wrong) if wrong not in ("furniture", "clothing") else wrong}.',
      f'Of {word}, {second} and {odd}, the| {odd} does not fit.',
  ))


def topic(rng: Rng) -> str:
  name = rng.choice(sorted(w.TOPICS))
  text = w.topic_text(rng, name)
  return rng.choice((
      f'{text} This is about| {name}.', f'{text} The topic of the text is| {name}.',
      f'{_name(rng)} read a text about {name}: "{text}"', f'People who talk of {name} say: {text}',
      f'{text} What is it about?| {w.capital(name)}.', f'{text} It has to do with| {name}.',
  ))


def genre(rng: Rng) -> str:
  name = rng.choice(sorted(w.GENRES))
  text = w.genre_text(rng, name)
  its = name if name == 'news' else w.a(name)
  return rng.choice((f'{_name(rng)} read {its}: "{text}"', f'"{text}" That was| {its}.',
                     f'{text} This kind of text is called| {its}.'))


def reference(rng: Rng) -> str:
  if rng.random() < 0.5:
    text, first, second, meant, said = w.role_pair(rng)
  else:
    text, first, second, meant, relation, thing = w.gender_pair(rng)
    said = relation.statements[0].format(s='', o=thing).strip(' .')
  p = w.capital(w.pronoun(meant))
  return rng.choice((
      f'{text} {p} means| {meant}.', f'{text} It was| {meant} who {said}.', f'{text} Who {said}?| {meant}.',
      f'{text} That is,| {meant} {said}.', f'{text} The word "{w.pronoun(meant)}" stands for| {meant}.',
      f'{text} Not {first if meant == second else second} but| {meant} {said}.',
  ))


def gist(rng: Rng) -> str:
  text, short = w.talk(rng) if rng.random() < 0.5 else w.story(rng)
  return rng.choice((
      f'{text} In short:| {short}', f'{text} To sum up,| {short}', f'{_name(rng)} told the whole story: "{text}" The main point:| {short}',
      f'{short} This is how it went. {text}', f'{text} The summary of it is:| {short}', text,
  ))


def record(rng: Rng) -> str:
  rows, text = w.card(rng)
  said = ', '.join(f'{k}: {v}' for k, v in rows)
  return rng.choice((f'In the book of the town stands: {said}. That means:| {text}',
                     f'{text} The clerk noted:| {said}.', f'{said}. So| {text}', text))


def foreign(rng: Rng) -> str:
  if rng.random() < 0.3:
    word = rng.choice(sorted(w.ZIB))
    return rng.choice((f'The Zib word for "{word}" is| "{w.ZIB[word]}".', f'In Zib "{w.ZIB[word]}" means| "{word}".'))
  english, zib = w.zib_pair(rng)
  return rng.choice((
      f'"{english}" In Zib one says:| "{zib}"', f'In Zib they say "{zib}" and mean| "{english}"',
      f'{_name(rng)} said in English: "{english}" The guest said the same in Zib:| "{zib}"',
      f'{zib} In English:| {english}', f'{english} In the language Zib:| {zib}',
  ))


def spelling(rng: Rng) -> str:
  text = w.Fact(*w.lasting(rng)).say(rng) if rng.random() < 0.5 else w.Episode.draw(rng, 1, 1).tell(rng)
  words = text.rstrip('.').split()
  small = text.lower()
  mixed = ' '.join(rng.sample(words, len(words)))
  return rng.choice((
      f'The child wrote: {small} The teacher wrote it correctly:| {text}',
      f'{small} With capital letters:| {text}',
      f'The words {mixed} in the right order:| {text}', f'The child mixed up the words: {mixed}. It should be:| {text}',
      f'{text.rstrip(".")} Now with a full stop:| {text}',
  ))


def echo(rng: Rng) -> str:
  """Somebody repeats what was said."""
  text = rng.choice((lambda: w.Episode.draw(rng, 1, 2).tell(rng), lambda: w.story(rng)[0],
                     lambda: w.Fact(*w.lasting(rng)).say(rng), lambda: ', '.join(rng.sample(w.NEWCOMERS + w.PEOPLE, 3)) + '.'))()
  s, t = rng.sample(w.PEOPLE, 2)
  return rng.choice((f'{s} said: "{text}" {t} repeated:| "{text}"', f'{text} Once again:| {text}',
                     f'{s} read it aloud: "{text}" {t} wrote it down:| "{text}"'))


def school(rng: Rng) -> str:
  """Lessons told as stories: somebody is set a task, and does it."""
  teacher, pupil = rng.choice(('The teacher', 'The master', 'Grandmother')), _name(rng)
  it = rng.randrange(10)
  if it == 0:
    positive = rng.random() < 0.5
    text, _ = w.review(rng, rng.choice(tuple(w.REVIEWED)), positive)
    pair = rng.sample(('positive', 'negative'), 2)
    return (f'{teacher} read a review: "{text}" {pupil} had to choose between {pair[0]} and {pair[1]}. '
            f'{pupil} chose| {"positive" if positive else "negative"}, and that was the right choice.')
  if it == 1:
    name = rng.choice(sorted(w.TOPICS))
    options = rng.sample(sorted(set(w.TOPICS) - {name}), 2) + [name]
    rng.shuffle(options)
    return (f'{pupil} read: "{w.topic_text(rng, name)}" Was the passage about {options[0]}, {options[1]} or {options[2]}? '
            f'It was about| {name}.')
  if it == 2:
    name = rng.choice(sorted(w.KINDS))
    word = rng.choice(w.KINDS[name])
    options = rng.sample(sorted(set(w.KINDS) - {name}), 1) + [name]
    rng.shuffle(options)
    return (f'{teacher} named a word: {word}. "Is that {options[0]} or {options[1]}?"| "{w.capital(name)}," said {pupil}.')
  if it == 3:
    s = _name(rng)
    right = rng.choice(w.CAUSES)
    wrong = w.other(rng, w.CAUSES, right)
    first, then, bad = right[0].format(s=s), right[1].format(s=s), wrong[1].format(s=s)
    options = [then, bad]
    rng.shuffle(options)
    return (f'{w.capital(first)}. Did it end so that {options[0]}, or so that {options[1]}?| {w.capital(then)}.')
  if it == 4:
    text, first, second, meant, said = w.role_pair(rng)
    return f'{text} Who {said}, {first} or {second}?| {meant}.'
  if it == 5:
    episode = w.Episode.draw(rng, 2, 3)
    fact = rng.choice(episode.facts)
    people = [f.subject for f in episode.facts]
    rng.shuffle(people)
    return (f'{episode.tell(rng)} "{fact.relation.ask_who(rng, fact.object)} {", ".join(people[:-1])} or {people[-1]}?"| '
            f'"{fact.subject}," said {pupil}.')
  if it == 6:
    name = rng.choice(sorted(w.MOODS))
    options = rng.sample(sorted(set(w.MOODS) - {name}), 1) + [name]
    rng.shuffle(options)
    s = _name(rng)
    return f'{s} {rng.choice(w.MOODS[name])}. Was {s} {options[0]} or {options[1]}?| {w.capital(name)}.'
  if it == 7:
    text, short = w.story(rng)
    return f'{pupil} read a passage: "{text}" {teacher} wanted a headline for the news. {pupil} wrote:| "{short}"'
  if it == 8:
    english, zib = w.zib_pair(rng)
    return rng.choice((f'{teacher} wanted this sentence in Zib: "{english}" The translation of {pupil} was:| "{zib}"',
                       f'{teacher} wanted this sentence in English: "{zib}" The translation of {pupil} was:| "{english}"'))
  r, s, o = w.lasting(rng)
  options = rng.sample([x for x in r.objects if x != o], 2) + [o]
  rng.shuffle(options)
  return (f'{teacher} asked: "{r.ask(rng, s)} Is it {options[0]}, {options[1]} or {options[2]}?" '
          f'{pupil} gave the answer:| {o}.')


# How people of the world speak of lessons, texts and words.
_LESSONS = (
    '{s} read the text below and thought about the question.',
    'The pupils read the following passage and answered a question about it.',
    'Please choose one of the options and write it down, said {s}.',
    'The teacher gave them some facts and {s} made a full sentence of them.',
    '{s} wrote a short summary of the conversation between {t} and a friend.',
    'Which of these sentences is correct? {s} could tell.',
    'A statement may be true or false, {s} explained, and a claim can be wrong.',
    'Given the first sentence, does the second one follow? {s} was not sure.',
    '{s} could translate every sentence into another language.',
    'The translation from Zib into English took {s} two hours.',
    'A pronoun such as he or she refers to a person.',
    'The title of the story names its topic, and the headline says what happened.',
    'Two statements are a paraphrase of each other when they say the same thing.',
    '{s} put the words in order and fixed the capital letters.',
    'Rewrite this line, said {t}, and use the right spelling.',
    'The most likely result is not always the one that happens next.',
    'Decide which category fits best, said {s}.',
    'The feeling of the writer, positive or negative, is called sentiment.',
    'A customer gave an opinion, and the reviewer wrote about the product.',
    '{s} made up a question whose answer was a name.',
    'The notes about the person were turned into a description.',
    'A dialogue has lines, and each line has a speaker.',
    'Look at the premise, then at the hypothesis, and say yes, no or maybe.',
    'Here is an example: an input and its output.',
    'Use only what you know and complete the sentence, said {t}.',
    'Pick the right label for the genre of this document.',
    '{s} guessed the emotion from the description.',
    'How would you explain what someone means? Describe it in your own words.',
    'Both questions ask for the same information, said {s}.',
    'Give one word as your reply, {t} said, no more.',
    'Answer me, said {s}. Choose, or somebody else must choose before you.',
    'Write it down. Read it again. Make it short. Say it aloud. Tell me if you know. Complete it.',
    'Question, Answer, Text, Sentence, Statement, Summary, Story and Topic: {s} copied the headings.',
    'Genre, Document, Table, Review, Facts, Notes, Words, Passage: so the chapters are called.',
    'Dialogue, Headline, Description, Opinion, Claim, Premise, Hypothesis, Event, Order, Word.',
    'Turn the page, said {t}. Put it here. Find it. Fix it. Compare them. Translate it. Think of it.',
    'Can you give the reason? You must describe the event without a word too many.',
    'Wrong or Right, True or False, Second or first: {s} was given both.',
    'Would it lead to more? Are you sure? Their card tells us what was meant, whether written or typed.',
    'Your visitor asks, wants and thinks. And what does it refer to? Somebody describes and explains it.',
    'Ask your friends, said {t}, and give me what was written. I think so too. Correct, said {s}.',
)


def lesson(rng: Rng) -> str:
  s, t = rng.sample(w.PEOPLE, 2)
  return ' '.join(rng.sample(_LESSONS, rng.choice((1, 2)))).format(s=s, t=t)


def notice(rng: Rng) -> str:
  """Signs and shopping lists."""
  s = _name(rng)
  items = rng.sample(w.FOODS + w.WARES, rng.choice((2, 3)))
  listed = ' '.join(f'- {x}' for x in items)
  chosen = rng.choice(items)
  return rng.choice((f'The sign at the shop said: OPTIONS: {listed} {s} took the {chosen}.',
                     f'OPTIONS: {listed} What would {s} like? {w.capital(chosen)}.',
                     f'The list of {s}: {listed} First on it is {items[0]}, and last is {items[-1]}.'))


Maker = Callable[[Rng], str]
Weights = Mapping[Maker, float]

# What is written, and how often.
DOCUMENTS: Weights = {
    lookup: 6.0, roll_call: 4.0, several_questions: 4.0, verdict: 4.0, judged: 4.0, on_the_list: 1.0,
    in_the_book: 1.5, same_or_not: 3.0, retelling: 1.5, memory: 2.5, opinion: 2.0,
    words_of_opinion: 0.3, mood: 0.7, cause: 1.2, kind: 0.7, topic: 0.8, genre: 0.4,
    reference: 1.8, gist: 1.5, record: 0.8, foreign: 1.5, spelling: 0.8, echo: 0.5,
    school: 3.0, lesson: 0.5, notice: 0.5,
}


def mostly(share: float, focus: Weights) -> dict[Maker, float]:
  """Weights in which the documents of `focus` make up `share`, and all others the rest."""
  others = {maker: x for maker, x in DOCUMENTS.items() if maker not in focus}
  scale = share / sum(focus.values()), (1 - share) / sum(others.values())
  return {m: x * k for part, k in zip((focus, others), scale) for m, x in part.items()}


def document(rng: Rng, weights: Weights = DOCUMENTS) -> str:
  """One document of the world's plain text."""
  return ''.join(parts(rng, weights))


def parts(rng: Rng, weights: Weights = DOCUMENTS) -> tuple[str, str]:
  """A document in two: up to where it can be foretold by who has read it, and the rest.

  The makers above mark the place by '|'; without one the second part is empty. Quotation
  marks are left out: SentencePiece gives a name another id after one, and so small a model
  has better things to learn.
  """
  maker = rng.choices(list(weights), list(weights.values()))[0]
  head, _, tail = maker(rng).replace('"', '').partition('|')
  return head, tail.replace('|', '')
