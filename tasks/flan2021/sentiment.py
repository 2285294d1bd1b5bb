"""Cluster `sentiment`: does a text speak well or badly of something?"""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, held_back, labels, lines, one_line

SENTIMENTS, WORDS = ['negative', 'positive'], ['bad', 'good']


def sst2_fields(example):
  return {
      'sentence': one_line(example['sentence']),
      **labels(SENTIMENTS, example['label'], WORDS),
  }


# The sentences are whole reviews and pieces of reviews, in lower case.
SST2_TEMPLATES = [
    Template(
        '{sentence}\n\nHow does the person who wrote this about a film feel about it?\n{options_}',
        '{answer}',
    ),
    Template(
        'The following words were found in a review of a film: {sentence}\n\n'
        'What sort of opinion do they express?\n\n{options_}',
        '{answer}',
    ),
    Template('Excerpt from a review: {sentence}\n{options_}\nSentiment:', '{answer}'),
    Template(
        '{options_}\n\nOne of the words above describes what a critic thinks of a film. '
        'Find out which from the critic\'s own words:\n\n{sentence}',
        '{answer}',
    ),
    Template(
        'A film studio goes through its press cuttings. Whatever might sell a ticket is filed '
        'under "positive", whatever might keep people at home under "negative". '
        'Where does this cutting go?\n\n{sentence}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Praise is positive, fault-finding is negative. Which is this?\n\n"{sentence}"\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Critics were asked for a few words on a new release. One of them wrote:\n\n'
        '{sentence}\n\nThe tone of this is\n{options_}',
        '{answer}',
    ),
    Template(
        'thinking of watching this one tonight. somebody online says "{sentence}"\n'
        'is that a negative or a positive opinion?\n{options_}',
        '{answer}',
    ),
    Template(
        'Imagine that you have just left the cinema. Jot down a few words about the film, '
        'and let your tone be {answer}.',
        '{sentence}',
    ),
    Template('Tone: {answer}\nWhat the critic had to say about the film:', '{sentence}'),
]

register(
    TaskSpec(
        name='sst2',
        cluster='sentiment',
        source=held_back('glue/sst2:2.0.0', 200),
        fields=sst2_fields,
        templates=SST2_TEMPLATES,
        continuations=[
            Template('{sentence}\n\nOn the whole, this review is', '{answer}', ranks=True),
            Template(
                '{sentence}\n\nIn a word, the film was',
                '{answer_word}',
                ranks=True,
                suffix='_word',
            ),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=67_140,
        citation='Socher et al. 2013, the Stanford Sentiment Treebank; Wang et al. 2019, GLUE',
        licence='not stated',
    )
)


def imdb_reviews_fields(example):
  return {
      'review': lines(tf.strings.regex_replace(example['text'], r'<br\s*/?>', '\n')),
      **labels(SENTIMENTS, example['label'], WORDS),
  }


IMDB_REVIEWS_TEMPLATES = [
    Template(
        'Read this review from a website about films, and decide whether its verdict is negative '
        'or positive.\n\n{review}\n\n{options_}',
        '{answer}',
    ),
    Template('Film review: {review}\n{options_}\nOverall verdict:', '{answer}'),
    Template(
        '{options_}\n\nTag the text below with one of these labels, according to how its author '
        'feels.\n\n{review}',
        '{answer}',
    ),
    Template(
        'Should we count this viewer as a fan or as a detractor? Write "positive" for a fan and '
        '"negative" for a detractor.\n\n{review}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'my cousin posted this about a movie last night:\n\n{review}\n\n'
        'would you call that a thumbs up (positive) or a thumbs down (negative)?\n{options_}',
        '{answer}',
    ),
    Template(
        'Users of our site give each film one to ten stars along with their comments, but here the '
        'stars have been lost. Were there many of them, which we call positive, or few, which we '
        'call negative?\n\n{review}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{review}\n\nTaking the good points and the bad ones together, how does the balance '
        'come out?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Question: What is the attitude of the reviewer?\n{options_}\n\nReview:\n{review}\n\n'
        'Answer:',
        '{answer}',
    ),
    Template(
        'You have watched a film at home and want other people to know what you think of it. '
        'Your opinion is {answer}. Write a review of several sentences.',
        '{review}',
    ),
    Template(
        'Compose a piece for a film database, of the kind that any user can submit, in which the '
        'sentiment is plainly {answer}.',
        '{review}',
    ),
]

register(
    TaskSpec(
        name='imdb_reviews',
        cluster='sentiment',
        source=held_back('imdb_reviews/plain_text:1.0.0', 200, test='test'),
        fields=imdb_reviews_fields,
        templates=IMDB_REVIEWS_TEMPLATES,
        continuations=[
            Template('{review}\n\nOn the whole, this review is', '{answer}', ranks=True),
            Template(
                '{review}\n\nIn a word, the film was',
                '{answer_word}',
                ranks=True,
                suffix='_word',
            ),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=24_800,
        citation='Maas et al. 2011, Learning Word Vectors for Sentiment Analysis',
        licence='not stated',
    )
)

NEUTRAL_POLARITY = 2
_HTML_ENTITIES = {'&lt;': '<', '&gt;': '>', '&quot;': '"', '&amp;': '&'}


def is_not_neutral(example):
  """The test split has neutral tweets, which the training split lacks and no option names."""
  return example['polarity'] != NEUTRAL_POLARITY


def sentiment140_fields(example):
  tweet = example['text']
  for entity, character in _HTML_ENTITIES.items():
    tweet = tf.strings.regex_replace(tweet, entity, character)
  is_positive = tf.cast(example['polarity'] > NEUTRAL_POLARITY, tf.int32)
  return {
      'tweet': one_line(tweet),
      **labels(SENTIMENTS, is_positive, WORDS),
  }


# The tweets of the training split were labelled by the smileys in them, since removed.
SENTIMENT140_TEMPLATES = [
    Template('Tweet: {tweet}\n{options_}\nMood:', '{answer}'),
    Template(
        '{tweet}\n\nHow was the person feeling who sent this tweet?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Here is a post from Twitter. Does it sound negative or positive to you?\n\n{tweet}\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nChoose whichever of these describes the message below, which somebody sent '
        'out for all the world to see.\n\n{tweet}',
        '{answer}',
    ),
    Template(
        'A survey of the public mood sorts short posts by sentiment: gloom and grumbling count as '
        'negative, cheer and contentment as positive. Sort this one.\n\n{tweet}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'saw this in my feed:\n\n{tweet}\n\ngood vibes or bad vibes? (good = positive, '
        'bad = negative)\n\n{options_}',
        '{answer}',
    ),
    Template(
        'If there were a smiley at the end of the following, it would be :) for a positive mood or '
        ':( for a negative one. Say which mood you would expect.\n\n{tweet}\n\n{options_}',
        '{answer}',
    ),
    Template('Sentiment analysis\n\nInput: {tweet}\n{options_}\nOutput:', '{answer}'),
    Template('Write a tweet with a {answer} sentiment, on whatever topic you like.', '{tweet}'),
    Template(
        'Somebody is in a {answer} mood today and shares it online in under 140 characters. '
        'What might the post say?',
        '{tweet}',
    ),
]

register(
    TaskSpec(
        name='sentiment140',
        cluster='sentiment',
        source=held_back('sentiment140:1.0.0', 200, test='test'),
        fields=sentiment140_fields,
        filter_fn=is_not_neutral,
        templates=SENTIMENT140_TEMPLATES,
        continuations=[
            Template('Tweet: {tweet}\nSentiment:', '{answer}', ranks=True),
            Template('{tweet}\n\nIn a word, I feel', '{answer_word}', ranks=True, suffix='_word'),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=1_599_800,
        citation='Go et al. 2009, Twitter Sentiment Classification using Distant Supervision',
        licence='not stated',
    )
)


def _unescaped(text: tf.Tensor) -> tf.Tensor:
  r"""The file escapes a quotation mark as `\""` or `""`, and a line break as `\n`."""
  text = tf.strings.regex_replace(text, r'\\*""', '"')
  return tf.strings.regex_replace(text, r'\\+n', '\n')


def yelp_polarity_reviews_fields(example):
  return {
      'review': lines(_unescaped(example['text'])),
      **labels(SENTIMENTS, example['label'], WORDS),
  }


def has_review(example):
  return lines(_unescaped(example['text'])) != ''


YELP_POLARITY_REVIEWS_TEMPLATES = [
    Template(
        '{review}\n\nWas this customer satisfied? Reply "positive" if so and "negative" if not.'
        '\n\n{options_}',
        '{answer}',
    ),
    Template('Customer review:\n{review}\n\n{options_}\nRating:', '{answer}'),
    Template(
        'A local business has been reviewed as follows. Is it a negative or a positive review?\n\n'
        '{review}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nWhich of the two fits the experience that somebody relates here?\n\n'
        '{review}',
        '{answer}',
    ),
    Template(
        'I own the place and would like to know how we did. Boil this feedback down to one word.'
        '\n\nFeedback: {review}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Our guide to the town prints two lists of comments, one on the best addresses '
        '("positive") and one on those to avoid ("negative"). To which list does this comment '
        'belong?\n\n{review}\n{options_}',
        '{answer}',
    ),
    Template(
        'They went out, spent their money, and came home to write this:\n\n{review}\n\n'
        'What is the general drift?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Does the reviewer recommend the establishment (positive) or warn others off (negative)?\n'
        '{options_}\n\nFull text: {review}',
        '{answer}',
    ),
    Template(
        'Think of a restaurant, a shop or some other business, and post a {answer} review of it, '
        'such as its customers write.',
        '{review}',
    ),
    Template('Sentiment: {answer}\nWhat the customer wrote on Yelp:', '{review}'),
]

register(
    TaskSpec(
        name='yelp_polarity_reviews',
        cluster='sentiment',
        source=held_back('yelp_polarity_reviews:0.2.0', 200, test='test'),
        fields=yelp_polarity_reviews_fields,
        filter_fn=has_review,
        templates=YELP_POLARITY_REVIEWS_TEMPLATES,
        continuations=[
            Template('{review}\n\nOn the whole, this review is', '{answer}', ranks=True),
            Template(
                '{review}\n\nIn a word, the place was',
                '{answer_word}',
                ranks=True,
                suffix='_word',
            ),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=559_800,
        citation='Zhang et al. 2015, Character-level Convolutional Networks for Text '
        'Classification',
        licence='Yelp Dataset terms of use',
    )
)
