"""Cluster `summarization`: a long text in, a short one out."""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021 import dialogsum  # noqa: F401 (TFDS finds its builder)
from flanjax.tasks.flan2021._common import SUITE, held_back, numbered, one_line, pick, tfds_source


def aeslc_fields(example):
  """Fields of AESLC; an e-mail is put on one line."""
  return {'body': one_line(example['email_body']), 'answer': one_line(example['subject_line'])}


def has_body_and_subject(example):
  texts = tf.stack([example['email_body'], example['subject_line']])
  return tf.reduce_all(one_line(texts) != '')


AESLC_TEMPLATES = [
    Template(
        '{body}\n\nThat was an e-mail. What would you put in its subject line?',
        '{answer}',
    ),
    Template(
        'Find a short title for this e-mail, one from which the recipient can tell what it is '
        'about.\n\n{body}',
        '{answer}',
    ),
    Template('E-mail: {body}\n\nSubject:', '{answer}'),
    Template(
        'Someone pressed "send" with the subject field still empty. Fill it in for them.\n\n'
        'Message: {body}',
        '{answer}',
    ),
    Template(
        'In a crowded inbox people see nothing but subject lines. Give the message below one '
        'that is brief and to the point.\n\n{body}',
        '{answer}',
    ),
    Template(
        'Message received: {body}\n\nName its topic in a few words, as they might appear at the '
        'top of an e-mail.',
        '{answer}',
    ),
    Template(
        'You file the correspondence of an office by subject. What do you write on the folder '
        'for this e-mail?\n\n{body}',
        '{answer}',
    ),
    Template(
        'I want to send this off and do not know what to type beside "Subject:".\n\n{body}\n\n'
        'Any ideas?',
        '{answer}',
    ),
    Template(
        'Compose a message that might be sent at work under the heading "{answer}".',
        '{body}',
    ),
    Template('Subject line: {answer}\n\nThe e-mail itself, in full:', '{body}'),
]

register(
    TaskSpec(
        name='aeslc',
        cluster='summarization',
        source=tfds_source('aeslc:1.0.0', 'train', 'validation[-200:]', 'test'),
        fields=aeslc_fields,
        filter_fn=has_body_and_subject,
        templates=AESLC_TEMPLATES,
        continuations=[Template('Message: {body}\nSubject line:', '{answer}')],
        metric_fns=[metrics.rouge],
        suite=SUITE,
        num_train_examples=14_430,
        citation='Zhang and Tetreault 2019, This Email Could Save Your Life',
        licence='CC BY-NC-SA 4.0',
    )
)


def _attachments_in_words(dialogue: tf.Tensor) -> tf.Tensor:
  """'<file_photo>' -> '(photo)', '<file_other>' -> '(file)'.

  FLAN blanks them; but summaries tell of the photo that was sent, and T5's vocabulary has
  no '<'.
  """
  dialogue = tf.strings.regex_replace(dialogue, r'(?i)<\s*files?[ _:-]*(?:others?)?\s*>', '(file)')
  dialogue = tf.strings.regex_replace(dialogue, r'(?i)<\s*file?[ _:-]+(\w+)\s*>', r'(\1)')
  return tf.strings.regex_replace(dialogue, r'(?i)<([a-z][^<>\n]*)>', r'(\1)')


def samsum_fields(example):
  """Fields of SAMSum; a dialogue keeps its lines, one message on each."""
  dialogue = tf.strings.regex_replace(example['dialogue'], r'\s*\r?\n\s*', '\n')
  dialogue = tf.strings.regex_replace(dialogue, r'[\t\p{Z}]+', ' ')
  return {
      'dialogue': tf.strings.strip(_attachments_in_words(dialogue)),
      'answer': one_line(example['summary']),
  }


def has_dialogue(example):
  return one_line(example['dialogue']) != ''


SAMSUM_TEMPLATES = [
    Template(
        'Messages:\n{dialogue}\n\nTell me in a sentence or two what came out of this.',
        '{answer}',
    ),
    Template(
        'Sum up the following conversation for somebody who was not part of it.\n\n{dialogue}',
        '{answer}',
    ),
    Template('{dialogue}\n\nIn short:', '{answer}'),
    Template(
        'Chat log\n\n{dialogue}\n\nMinutes of the chat, as brief as possible and in the third '
        'person:',
        '{answer}',
    ),
    Template(
        'I left my phone at home and missed all this. Just the essentials, please!\n\n{dialogue}',
        '{answer}',
    ),
    Template(
        'Read the exchange below, and report who says, wants or is going to do what.\n\n'
        '{dialogue}\n\nReport:',
        '{answer}',
    ),
    Template('Condense these messages into a short paragraph.\n\n{dialogue}', '{answer}'),
    Template(
        '{dialogue}\n\nHow would you retell this to a friend, leaving out the small talk?',
        '{answer}',
    ),
    Template(
        'Invent the chat that is behind this summary. Begin every message with the name of the '
        'person who sends it.\n\n{answer}',
        '{dialogue}',
    ),
    Template('What happened: {answer}\n\nWhat was said:', '{dialogue}'),
]

register(
    TaskSpec(
        name='samsum',
        cluster='summarization',
        source=tfds_source('samsum:1.0.0', 'train', 'validation[:200]', 'test'),
        fields=samsum_fields,
        filter_fn=has_dialogue,
        templates=SAMSUM_TEMPLATES,
        continuations=[Template('{dialogue}\n\nSummary:', '{answer}')],
        metric_fns=[metrics.rouge],
        suite=SUITE,
        num_train_examples=14_730,
        citation='Gliwa et al. 2019, the SAMSum Corpus',
        licence='CC BY-NC-ND 4.0',
    )
)


AG_NEWS_OPTIONS = ['World', 'Sports', 'Business', 'Science/Tech']
MOST_OPINIONS = 10


def ag_news_subset_fields(example):
  return {
      'title': _without_escapes(example['title']),
      'text': _without_escapes(example['description']),
      'options': AG_NEWS_OPTIONS,
      'answer': pick(AG_NEWS_OPTIONS, example['label']),
  }


def _without_escapes(text: tf.Tensor) -> tf.Tensor:
  """Mends what the corpus made of line ends ("stocks\\rose") and apostrophes ("it #39;s")."""
  text = tf.strings.regex_replace(text, r'\\', ' ')
  text = tf.strings.regex_replace(text, r' ?#39;(s|t|re|ve|ll|d|m)\b', r"'\1")
  return one_line(tf.strings.regex_replace(text, '#39;', "'"))


def has_title_and_description(example):
  texts = tf.stack([example['title'], example['description']])
  return tf.reduce_all(one_line(texts) != '')


AG_NEWS_SUBSET_TEMPLATES = [
    Template(
        '{title}\n{text}\n\nOn which pages of the newspaper does this belong?\n{options_}',
        '{answer}',
    ),
    Template(
        'Sort the story into one of four sections.\n\n{options_}\n\nStory: {text}',
        '{answer}',
    ),
    Template(
        'Headline: {title}\nFirst lines: {text}\n{options_}\nSection:',
        '{answer}',
    ),
    Template(
        'You are on the news desk, and this has just come in over the wire: {text}\n\nWhich '
        'department do you pass it to?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Is it about events around the world, sport, money and companies, or research and '
        'technology?\n\n{title}\n{text}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nFrom this list, choose the category in which a reader would look for '
        '"{title}". The article begins: {text}',
        '{answer}',
    ),
    Template(
        'My news app has four feeds: World, Sports, Business and Science/Tech. Guess which one '
        'this turned up in!\n\n{text}',
        '{answer}',
    ),
    Template(
        'Document classification. Exactly one label applies to each document.\n\n'
        'Document: {title}\n{text}\n{options_}\nLabel:',
        '{answer}',
    ),
    Template(
        'Make up a headline such as you might see under "{answer}" on a news site.',
        '{title}',
    ),
    Template(
        'An item called "{title}" is filed under "{answer}". Write its opening.',
        '{text}',
    ),
]

register(
    TaskSpec(
        name='ag_news_subset',
        cluster='summarization',
        source=held_back('ag_news_subset:1.0.0', 200, test='test'),
        fields=ag_news_subset_fields,
        filter_fn=has_title_and_description,
        templates=AG_NEWS_SUBSET_TEMPLATES,
        continuations=[Template('{title}\n{text}\n\nFiled under:', '{answer}', ranks=True)],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=119_800,
        citation='Zhang et al. 2015, Character-level Convolutional Networks for Text '
        "Classification; A. Gulli, AG's corpus of news articles",
        licence='non-commercial use',
    )
)


def cnn_dailymail_fields(example):
  """Fields of CNN / Daily Mail: the article without '(CNN) -- ', the highlights line by line."""
  dateline = r'\A([^()]{0,60}\([A-Z][^()]{0,40}\)\s*--|\(CNN\))\s*'
  highlights = tf.strings.regex_replace(example['highlights'], r'\s*\n\s*', '\n')
  return {
      'text': tf.strings.regex_replace(one_line(example['article']), dateline, ''),
      'answer': tf.strings.strip(highlights),
  }


CNN_DAILYMAIL_TEMPLATES = [
    Template('Pick out the highlights of this news report.\n\n{text}', '{answer}'),
    Template(
        'Readers in a hurry see three or four bullet points beside an article. Write them for '
        'this one.\n\nArticle: {text}',
        '{answer}',
    ),
    Template(
        'Text in need of a list of key points:\n{text}\n\nThe list:',
        '{answer}',
    ),
    Template(
        'What should one take away from the story below? Answer in a few short sentences.\n\n'
        '{text}',
        '{answer}',
    ),
    Template(
        'You lay out the front page, where a box marked "At a glance" is still empty. Fill it '
        'with the essentials of the following, each in a sentence of its own.\n\n{text}',
        '{answer}',
    ),
    Template(
        '{text}\n\nCan you give me the gist of that, as a handful of brief statements?',
        '{answer}',
    ),
    Template(
        'There are fifteen seconds left in the radio bulletin. Of this piece, listeners must '
        'hear at least the following.\n\nPiece: {text}',
        '{answer}',
    ),
    Template(
        "I won't get round to reading it all, sorry. Would you skim it for me and list what "
        'matters?\n\n{text}',
        '{answer}',
    ),
    Template(
        'All that is left of a report is its summary:\n\n{answer}\n\nRestore the report.',
        '{text}',
    ),
    Template('Expand these notes into a full newspaper article.\n\n{answer}', '{text}'),
]

register(
    TaskSpec(
        name='cnn_dailymail',
        cluster='summarization',
        # FLAN's 3.1.0 is gone. Since then added full stops have no space before them, and
        # examples have a publisher and an id.
        source=tfds_source('cnn_dailymail:3.4.0', 'train', 'validation[:200]', 'test'),
        fields=cnn_dailymail_fields,
        templates=CNN_DAILYMAIL_TEMPLATES,
        continuations=[Template('{text}\n\nHighlights:', '{answer}')],
        metric_fns=[metrics.rouge],
        suite=SUITE,
        num_train_examples=287_040,
        citation='Hermann et al. 2015, Teaching Machines to Read and Comprehend; See et al. 2017, '
        'Get To The Point',
        licence='Apache 2.0 (scripts); articles not stated',
    )
)


def gigaword_fields(example):
  return {'text': one_line(example['document']), 'answer': one_line(example['summary'])}


def has_no_blanks(example):
  """Whether no word of an example was replaced by UNK, and no digit by #."""
  texts = tf.stack([example['document'], example['summary']])
  return ~tf.reduce_any(tf.strings.regex_full_match(texts, r'(?s).*(UNK|#).*'))


# Texts are in lower case and tokenised, and each is the first sentence of a report.
GIGAWORD_TEMPLATES = [
    Template('Give this a headline: {text}', '{answer}'),
    Template(
        '{text}\n\nReduce the sentence above to the few words that could stand over it in a '
        'newspaper.',
        '{answer}',
    ),
    Template('Wire copy: {text}\nFront page, in big letters:', '{answer}'),
    Template(
        'How would an agency entitle the report that opens as follows?\n\n{text}',
        '{answer}',
    ),
    Template(
        'Compress what you read here until it fits on one line of a news ticker. Leave all of '
        'it in lower case.\n\n{text}',
        '{answer}',
    ),
    Template(
        'The input has been tokenised and stripped of capitals. Generate a title in the same '
        'style.\n\nInput: {text}\nTitle:',
        '{answer}',
    ),
    Template(
        'Suppose you had eight words or so to tell the world that {text} Which would they be?',
        '{answer}',
    ),
    Template(
        'Editor: What have you got?\nReporter: {text}\nEditor: Too long. Again, and make it '
        'snappy.\nReporter:',
        '{answer}',
    ),
    Template(
        'Begin a news report to go with the headline "{answer}". One sentence, please.',
        '{text}',
    ),
    Template(
        '{answer}\n\nWhat does the story say that carries this title? Its first sentence is '
        'enough.',
        '{text}',
    ),
]

register(
    TaskSpec(
        name='gigaword',
        cluster='summarization',
        source=tfds_source('gigaword:1.2.0', 'train', 'validation[:200]', 'test'),
        fields=gigaword_fields,
        filter_fn=has_no_blanks,
        templates=GIGAWORD_TEMPLATES,
        continuations=[Template('{text}\nHeadline:', '{answer}')],
        metric_fns=[metrics.rouge],
        suite=SUITE,
        num_train_examples=2_044_370,
        citation='Graff et al. 2003, English Gigaword; Rush et al. 2015, A Neural Attention Model '
        'for Abstractive Sentence Summarization',
        licence="the Linguistic Data Consortium's",
    )
)


def multi_news_fields(example):
  """Fields of Multi-News: the sources, numbered; the summary without the dash that opens it."""
  articles = one_line(tf.strings.split(example['document'], '|||||'))
  return {
      'articles': numbered(tf.boolean_mask(articles, articles != '')),
      'answer': tf.strings.regex_replace(one_line(example['summary']), r'\A[–-] ', ''),
  }


def has_articles_and_summary(example):
  document = tf.strings.regex_replace(example['document'], r'\|{5}', '')
  return tf.reduce_all(one_line(tf.stack([document, example['summary']])) != '')


MULTI_NEWS_TEMPLATES = [
    Template(
        'Several papers have covered the same matter. Merge their reports into one summary.\n\n'
        '{articles}',
        '{answer}',
    ),
    Template(
        'Articles to be summarised jointly:\n{articles}\n\nJoint summary:',
        '{answer}',
    ),
    Template(
        'What happened, according to the sources below? Combine what they say without repeating '
        'anything.\n\n{articles}',
        '{answer}',
    ),
    Template(
        'You work for a site that digests other sites. Today it features the following pieces. '
        'Produce its entry on them.\n\n{articles}',
        '{answer}',
    ),
    Template(
        'Press review. After you have read the numbered texts, give a balanced account in a '
        'paragraph or two.\n\n{articles}',
        '{answer}',
    ),
    Template(
        "I've got all these tabs open and no time for any of them. Just tell me the story, "
        'will you?\n\n{articles}',
        '{answer}',
    ),
    Template(
        'Draft a synopsis that does justice to every one of the documents provided, which are '
        'numbered from 1 upwards.\n\n{articles}',
        '{answer}',
    ),
    Template(
        "For the minister's morning file, one text is wanted instead of many. Preserve names, "
        'figures and points of dispute.\n\nOriginals:\n{articles}',
        '{answer}',
    ),
    Template(
        '{articles}\n\nBring all of this together for somebody who has not followed the news.',
        '{answer}',
    ),
    Template(
        'An editor condensed some articles into these lines:\n\n{answer}\n\nReconstruct the '
        'articles, with a number before each.',
        '{articles}',
    ),
]

register(
    TaskSpec(
        name='multi_news',
        cluster='summarization',
        # FLAN's 1.0.0 is gone. 2.1.0 reads the authors' cleaned files.
        source=tfds_source('multi_news:2.1.0', 'train', 'validation[:200]', 'test'),
        fields=multi_news_fields,
        filter_fn=has_articles_and_summary,
        templates=MULTI_NEWS_TEMPLATES,
        continuations=[Template('{articles}\n\nSummary of all the above:', '{answer}')],
        metric_fns=[metrics.rouge],
        suite=SUITE,
        num_train_examples=44_960,
        citation='Fabbri et al. 2019, Multi-News',
        licence='non-commercial research and education',
    )
)


def newsroom_fields(example):
  return {
      'title': one_line(example['title']),
      'text': one_line(example['text']),
      'answer': one_line(example['summary']),
  }


NEWSROOM_TEMPLATES = [
    Template(
        'Write the standfirst, that is the line or two between headline and text, for this '
        'article.\n\nHeadline: {title}\nText: {text}',
        '{answer}',
    ),
    Template(
        'When people share a link, a preview of the page appears. What should it say for the '
        'page below?\n\n{text}',
        '{answer}',
    ),
    Template(
        'What is "{title}" about? You find it here, and a brief answer will do.\n\n{text}',
        '{answer}',
    ),
    Template(
        "Summarise as a newspaper's own staff would.\n\n{text}",
        '{answer}',
    ),
    Template('{title}\n\n{text}\n\nTo sum up:', '{answer}'),
    Template(
        'A search engine needs descriptions that are long enough to inform and short enough to '
        'fit under a result.\n\nPage title: {title}\nPage content: {text}\nDescription:',
        '{answer}',
    ),
    Template(
        'Our newsletter gives each contribution a teaser, and the one for "{title}" is still '
        'missing. Could you do it?\n\n{text}',
        '{answer}',
    ),
    Template(
        'Prepare an abstract of the document for the archive, with persons, places and events '
        'as far as they matter.\n\nDocument: {text}',
        '{answer}',
    ),
    Template(
        '{answer}\n\nThat, in short, was an article. Suggest what it might have been headed.',
        '{title}',
    ),
    Template(
        'Compose the piece announced on the home page.\n\nTitle: {title}\nBlurb: {answer}',
        '{text}',
    ),
]

register(
    TaskSpec(
        name='newsroom',
        cluster='summarization',
        source=tfds_source('newsroom:1.0.0', 'train', 'validation[:200]', 'test'),
        fields=newsroom_fields,
        templates=NEWSROOM_TEMPLATES,
        continuations=[Template('{title}\n\n{text}\n\nIn a nutshell:', '{answer}')],
        plain='{text}',
        metric_fns=[metrics.rouge],
        suite=SUITE,
        num_train_examples=994_560,
        citation='Grusky et al. 2018, Newsroom',
        licence='not stated; given on registration',
    )
)


def _opinions(texts: tf.Tensor) -> tf.Tensor:
  return numbered(one_line(texts[:MOST_OPINIONS]))


def _without_tags(text: tf.Tensor) -> tf.Tensor:
  return one_line(tf.strings.regex_replace(text, r'</?(em|i|b|strong|br) ?/?>', ''))


def opinion_abstracts_rotten_tomatoes_fields(example):
  reviews = _without_tags(example['_critics']['value'])
  return {
      'movie': one_line(example['_movie_name']),
      'reviews': _opinions(reviews),
      'first_review': reviews[0],
      'answer': _without_tags(example['_critic_consensus']),
  }


OPINION_ABSTRACTS_ROTTEN_TOMATOES_TEMPLATES = [
    Template(
        'Critics on "{movie}":\n\n{reviews}\n\nWhat do they agree on?',
        '{answer}',
    ),
    Template(
        'Distil these opinions into the one sentence that will stand at the top of the page '
        'about {movie}.\n\n{reviews}',
        '{answer}',
    ),
    Template(
        '{reviews}\n\nSo much for the reviews. State the consensus.',
        '{answer}',
    ),
    Template(
        'We might go and see {movie} tonight. Judging by the press, what are we in for?\n\n'
        '{reviews}',
        '{answer}',
    ),
    Template(
        'Film: {movie}\nVoices:\n{reviews}\nVerdict:',
        '{answer}',
    ),
    Template(
        'Describe the general reception of a new picture. Weigh its merits and its faults, and '
        'do not quote anybody. The quotations below are your material.\n\nPicture: {movie}\n'
        '{reviews}',
        '{answer}',
    ),
    Template(
        'At the film club, members took turns to speak about {movie}:\n\n{reviews}\n\nRecord in '
        'a line how the club felt as a whole.',
        '{answer}',
    ),
    Template(
        'From this sample of criticism alone, how was {movie} received?\n\n{reviews}',
        '{answer}',
    ),
    Template(
        'Most critics would sign this: {answer}\n\nYou are one of them. Review {movie} in a '
        'sentence or two.',
        '{first_review}',
    ),
    Template(
        'Summary of what was written about {movie}: {answer}\n\nInvent the individual reviews '
        'and number them.',
        '{reviews}',
    ),
]

register(
    TaskSpec(
        name='opinion_abstracts_rotten_tomatoes',
        cluster='summarization',
        # It has one split.
        source=tfds_source(
            'opinion_abstracts/rotten_tomatoes:1.0.0',
            'train[:-600]',
            'train[-600:-500]',
            'train[-500:]',
        ),
        fields=opinion_abstracts_rotten_tomatoes_fields,
        filter_fn=lambda example: tf.size(example['_critics']['value']) > 0,
        templates=OPINION_ABSTRACTS_ROTTEN_TOMATOES_TEMPLATES,
        continuations=[
            Template("Reviews of {movie}:\n{reviews}\n\nCritics' consensus:", '{answer}'),
        ],
        metric_fns=[metrics.rouge],
        suite=SUITE,
        num_train_examples=3_130,
        citation='Wang and Ling 2016, Neural Network-Based Abstract Generation for Opinions and '
        'Arguments',
        licence='not stated',
    )
)


def opinion_abstracts_idebate_fields(example):
  return {
      'debate': one_line(example['_debate_name']),
      'arguments': _opinions(example['_argument_sentences']['value']),
      'answer': one_line(example['_claim']),
  }


OPINION_ABSTRACTS_IDEBATE_TEMPLATES = [
    Template(
        'Debate: {debate}\n\nOne side argues:\n{arguments}\n\nWhich claim does it defend?',
        '{answer}',
    ),
    Template(
        'What single point do these sentences add up to?\n\n{arguments}',
        '{answer}',
    ),
    Template(
        'To the motion "{debate}", a speaker has contributed the following. Put the idea behind '
        'it into one sentence.\n\n{arguments}',
        '{answer}',
    ),
    Template('Support:\n{arguments}\n\nThesis:', '{answer}'),
    Template(
        'Every paragraph of an essay should open with its main statement. Supply that opening '
        'for a paragraph in which we then read:\n\n{arguments}',
        '{answer}',
    ),
    Template(
        'You chair a discussion about "{debate}" and repeat each contribution in brief.\n\n'
        'Contribution:\n{arguments}\n\nYou: So what you are saying is this:',
        '{answer}',
    ),
    Template(
        "{arguments}\n\nThat's a lot of words. Where are they going with it?",
        '{answer}',
    ),
    Template(
        'Identify the proposition for which evidence is offered here.\n\nTopic: {debate}\n'
        'Evidence:\n{arguments}',
        '{answer}',
    ),
    Template(
        'Defend this view in numbered sentences: {answer}',
        '{arguments}',
    ),
    Template(
        '"{answer}"\n\nIf a debater says so, what may the motion of the debate have been?',
        '{debate}',
    ),
]

register(
    TaskSpec(
        name='opinion_abstracts_idebate',
        cluster='summarization',
        # It has one split.
        source=tfds_source(
            'opinion_abstracts/idebate:1.0.0', 'train[:-600]', 'train[-600:-500]', 'train[-500:]'
        ),
        fields=opinion_abstracts_idebate_fields,
        filter_fn=lambda example: tf.size(example['_argument_sentences']['value']) > 0,
        templates=OPINION_ABSTRACTS_IDEBATE_TEMPLATES,
        continuations=[Template('{arguments}\n\nThe claim behind all this:', '{answer}')],
        metric_fns=[metrics.rouge],
        suite=SUITE,
        num_train_examples=1_650,
        citation='Wang and Ling 2016, Neural Network-Based Abstract Generation for Opinions and '
        'Arguments',
        licence='not stated',
    )
)


def xsum_fields(example):
  return {'text': one_line(example['document']), 'answer': one_line(example['target'])}


XSUM_TEMPLATES = [
    Template(
        'The first sentence of a BBC story tells the whole of it. Here that sentence has been '
        'removed. Put it back.\n\n{text}',
        '{answer}',
    ),
    Template('In a single sentence, what is the news here?\n\n{text}', '{answer}'),
    Template('{text}\n\nOne-sentence version:', '{answer}'),
    Template(
        'Write a lead that could introduce this report.\n\nReport: {text}',
        '{answer}',
    ),
    Template(
        'You have one breath to tell me about the article that follows. Go!\n\n{text}',
        '{answer}',
    ),
    Template(
        'A news alert on a telephone holds about twenty-five words. Compose the alert for the '
        'text given.\n\nText: {text}\nAlert:',
        '{answer}',
    ),
    Template(
        'For each item in the collection, the archivist enters a line on an index card. Which '
        'line would suit the present item?\n\n{text}',
        '{answer}',
    ),
    Template(
        'Summarise to the extreme: nothing but the core, in complete and specific words.\n\n'
        '{text}',
        '{answer}',
    ),
    Template(
        '{answer}\n\nThat is how a journalist starts. How does the account go on?',
        '{text}',
    ),
    Template('Intro: {answer}\n\nMain part:', '{text}'),
]

register(
    TaskSpec(
        name='xsum',
        cluster='summarization',
        # FLAN reads huggingface:xsum, with 204045 training examples. GEM's are the 23206 of them
        # whose summaries a classifier found to be borne out by the document.
        source=tfds_source('gem/xsum:1.1.0', 'train', 'validation[:200]', 'test'),
        fields=xsum_fields,
        templates=XSUM_TEMPLATES,
        continuations=[Template('{text}\n\nIn one sentence:', '{answer}')],
        metric_fns=[metrics.rouge],
        suite=SUITE,
        num_train_examples=23_200,
        citation="Narayan et al. 2018, Don't Give Me the Details, Just the Summary!; Gehrmann et "
        'al. 2021, the GEM Benchmark',
        licence='CC BY-SA 4.0',
    )
)


def dialogsum_fields(example):
  """Fields of DialogSum; '#Person1#' becomes 'Person1' (ROUGE sees no difference)."""
  dialogue = tf.strings.regex_replace(example['dialogue'], r'\s*\n\s*', '\n')
  summaries = one_line(_without_hashes(example['summaries']))
  return {
      'dialogue': tf.strings.strip(_without_hashes(dialogue)),
      'topic': one_line(example['topics'][0]),
      'answer': summaries[0],
      'answers': tf.unique(summaries).y,
  }


def _without_hashes(text: tf.Tensor) -> tf.Tensor:
  return tf.strings.regex_replace(text, r'(?i)#person_?(\d)#', r'Person\1')


DIALOGSUM_TEMPLATES = [
    Template(
        'For our files, put down what was discussed in this conversation.\n\n{dialogue}',
        '{answer}',
    ),
    Template(
        '{dialogue}\n\nThe manager asks what that was about. Answer in one to three sentences.',
        '{answer}',
    ),
    Template(
        'Transcript:\n{dialogue}\n\nThe same in indirect speech, much abridged:',
        '{answer}',
    ),
    Template(
        'A call has ended, and the next agent has to know how things stand. Draft the hand-over '
        'note.\n\n{dialogue}',
        '{answer}',
    ),
    Template(
        'Who wanted what, and how did it end? Go by the dialogue below.\n\n{dialogue}',
        '{answer}',
    ),
    Template(
        'Topic: {topic}\n\n{dialogue}\n\nState briefly how each speaker contributes to the '
        'topic.',
        '{answer}',
    ),
    Template(
        'Listening comprehension, part 2. You hear the following.\n\n{dialogue}\n\nSummarise it. '
        'If a person has no name, write Person1, Person2 and so on.',
        '{answer}',
    ),
    Template(
        "I couldn't help overhearing this, but lost the thread. What's going on?\n\n{dialogue}",
        '{answer}',
    ),
    Template(
        'Write the script of a scene in which this takes place: {answer}\n\nStart each line with '
        'the speaker: Person1, Person2, and more if needed.',
        '{dialogue}',
    ),
    Template(
        '{answer}\n\nSo it went. What should the recording be labelled? A few words are '
        'enough.',
        '{topic}',
    ),
]

register(
    TaskSpec(
        name='dialogsum',
        cluster='summarization',
        # It is none of FLAN's tasks, and is divided as its sibling samsum.
        source=tfds_source('dialogsum:1.0.0', 'train', 'validation[:200]', 'test'),
        fields=dialogsum_fields,
        templates=DIALOGSUM_TEMPLATES,
        continuations=[Template('{dialogue}\n\nSummary:', '{answer}')],
        plain='{dialogue}',
        metric_fns=[metrics.rouge_multi],
        suite=SUITE,
        num_train_examples=12_460,
        citation='Chen et al. 2021, DialogSum',
        licence='CC BY-NC-SA 4.0',
    )
)


def wiki_lingua_english_en_fields(example):
  return {'text': one_line(example['source']), 'answer': one_line(example['target'])}


# Texts are guides of wikiHow, and summaries the headings of their steps.
WIKI_LINGUA_ENGLISH_EN_TEMPLATES = [
    Template(
        'Go through this how-to guide and give me its steps, with a short instruction for '
        'each.\n\n{text}',
        '{answer}',
    ),
    Template('{text}\n\nThe same advice in a nutshell:', '{answer}'),
    Template(
        'What exactly do the authors tell us to do? Leave out their explanations.\n\n{text}',
        '{answer}',
    ),
    Template(
        "I'd like to pin this up above my desk, but it's far too long. Can I have just the "
        'dos?\n\n{text}',
        '{answer}',
    ),
    Template('Manual: {text}\n\nQuick-start card:', '{answer}'),
    Template(
        'Summarise the text in sentences that are all imperatives.\n\nText: {text}',
        '{answer}',
    ),
    Template(
        'A voice assistant reads out help with everyday problems, and nobody listens for long. '
        'Cut the following down to the actions.\n\n{text}',
        '{answer}',
    ),
    Template(
        'Paper 3, question 1: make a précis of these directions.\n\n{text}\n\nPrécis:',
        '{answer}',
    ),
    Template('Work each of these tips out in detail, as a magazine would.\n\n{answer}', '{text}'),
    Template('{answer}\n\nExplain at length how one does so, and why.', '{text}'),
]

register(
    TaskSpec(
        name='wiki_lingua_english_en',
        cluster='summarization',
        source=tfds_source(
            'gem/wiki_lingua_english_en:1.1.0', 'train', 'validation[:200]', 'test'
        ),
        fields=wiki_lingua_english_en_fields,
        templates=WIKI_LINGUA_ENGLISH_EN_TEMPLATES,
        continuations=[Template('{text}\n\nThe steps in short:', '{answer}')],
        metric_fns=[metrics.rouge],
        suite=SUITE,
        num_train_examples=99_000,
        citation='Ladhak et al. 2020, WikiLingua; Gehrmann et al. 2021, the GEM Benchmark',
        licence='CC BY-NC-SA 3.0',
    )
)
