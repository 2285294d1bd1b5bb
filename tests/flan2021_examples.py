"""An example of every dataset of the suite flan2021, made up by hand in the form that TFDS gives.

Each shows what its `fields` have to clear away: tags, escapes, datelines, line ends of other systems.
`tensors` checks an example against the features of its builder; `fields` are the texts it comes to, and
`rows` what a SeqIO task makes of them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_datasets as tfds

import flanjax.tasks.flan2021  # noqa: F401
from flanjax.data import preprocessors, specs

EXAMPLES = {
    # closed_book_qa
    'arc_easy': {
        'id': 'Mercury_9000001',
        'question': 'Which of these would best show a pupil how much  a puddle shrinks in a day?',
        'choices': {'text': ['a ruler', 'a stopwatch', 'a compass', 'a hand lens'], 'label': [0, 1, 2, 3]},
        'answerKey': 0,
    },
    'arc_challenge': {
        'id': 'NYSEDREGENTS_2099_4_7',
        'question': 'A metal spoon left in hot soup soon feels hot at its dry end because',
        'choices': {
            'text': [
                'the soup climbs up the spoon.', 'metal lets heat pass along it.',
                'the air cools the handle.', 'steam is lighter than metal.',
            ],
            'label': [0, 1, 2, 3],
        },
        'answerKey': 1,
    },
    'natural_questions': {
        'question': 'who built the first lighthouse on holm island',
        'answer': ['Marta Lindqvist', 'the engineer Marta Lindqvist'],
    },
    'trivia_qa': {
        'question': 'What is the only even number that is also prime?',
        'question_id': 'tc_9001',
        'question_source': 'http://www.example.com/',
        'entity_pages': {'doc_source': [], 'filename': [], 'title': [], 'wiki_context': []},
        'search_results': {
            'description': [], 'filename': [], 'rank': [], 'search_context': [], 'title': [], 'url': [],
        },
        'answer': {
            'aliases': ['2', 'Two', 'Number two'],
            'matched_wiki_entity_name': '',
            'normalized_aliases': ['2', 'two', 'number two'],
            'normalized_matched_wiki_entity_name': '',
            'normalized_value': 'two',
            'type': 'WikipediaEntity',
            'value': 'Two',
        },
    },
    # commonsense
    'copa': {
        'premise': 'The baker threw the loaf away.',
        'question': 'cause',
        'choice1': 'It had turned black in the oven.',
        'choice2': 'I had ordered it by telephone.',
        'idx': 7,
        'label': 0,
    },
    'piqa': {
        'id': 'train-9001',
        'goal': 'To keep cut apples from going brown,',
        'sol1': 'sprinkle them with lemon juice.',
        'sol2': 'sprinkle them with cocoa.\n',
        'label': 0,
    },
    'hellaswag': {
        'activity_label': 'Home and Garden',
        'context': '[header] How to wash a teapot [title] Rinse it first. [step] Hold the pot under the tap. You',
        'endings': [
            'should then read it a story. [substeps] Speak up.',
            'can put in a spoon of soda to loosen the stains. [substeps] Leave it for an hour.',
            'paint the kitchen wall behind it.',
            'should now mow the lawn twice.',
        ],
        'label': 1,
        'source_id': 'wikihow~9001',
        'split_type': 'indomain',
    },
    'story_cloze': {
        'context': 'Ann came home late. She could not find her key. All the windows were dark. Bob had a spare key.',
        'endings': ['She bought a new hat.', 'She called Bob and waited on the steps.'],
        'label': 2,
    },
    # coreference
    'definite_pronoun_resolution': {
        'sentence': 'The cats chased the mice until they slipped into a hole.',
        'pronoun': 'they',
        'candidates': ['The cats', 'the mice'],
        'label': 1,
    },
    'winogrande': {
        'sentence': 'Ann thanked Bea for the soup, as _ had cooked it all day.',
        'option1': 'Ann',
        'option2': 'Bea',
        'label': 1,
    },
    'wsc': {
        'text': 'Ann thanked Bea for the soup, as she had cooked it\nall day.',
        'span1_text': 'Bea',
        'span1_index': 2,
        'span2_text': 'she',
        'span2_index': 7,
        'idx': 9,
        'label': 1,
    },
    'wsc273': {
        'text': "Zoë's cup did not fit into the box, as it was too small.",
        'option1': 'The cup',
        'option1_normalized': 'the cup',
        'option2': 'The box',
        'option2_normalized': 'the box',
        'pronoun_start': 39,
        'pronoun_end': 41,
        'pronoun_text': 'it',
        'idx': 3,
        'label': 1,
    },
    # misc
    'trec': {'text': 'How far is it from Oslo to Bergen ?', 'label-coarse': 4, 'label-fine': 25},
    'cola': {'sentence': 'The boy what I met sings well.', 'idx': 11, 'label': 0},
    'wic': {
        'word': 'bank',
        'sentence1': 'We sat on the bank and fished.',
        'start1': 14,
        'end1': 18,
        'sentence2': 'The bank closes at four.',
        'start2': 4,
        'end2': 8,
        'idx': 5,
        'label': 0,
    },
    'coqa': {
        'source': 'mctest',
        'story': (
            'Rosa found a kite in the attic. \n\nIt was red, and its tail was torn. '
            'Her uncle mended it with tape.'
        ),
        'questions': ['What did Rosa find?', 'Where?', 'Who mended it?'],
        'answers': {
            'input_text': ['a kite', 'in the attic', 'her uncle'],
            'answer_start': [11, 18, 66],
            'answer_end': [17, 30, 75],
        },
    },
    'quac': {
        'title': 'Marta Lindqvist',
        'section_title': '1871-1880: Lighthouses',
        'background': 'Marta Lindqvist (1840 - 1902) was an engineer.',
        'context': (
            'In 1871 Lindqvist moved to Holm Island. She built two lighthouses there within four years, '
            'and both are still in use. CANNOTANSWER'
        ),
        'question': 'How many did she build?',
        'orig_answer': {'text': 'two lighthouses', 'answer_start': 50},
        'answers': {
            'text': ['two lighthouses', 'She built two lighthouses there'],
            'answer_start': [50, 40],
        },
        'followup': 'y',
        'yesno': 'x',
    },
    'math_dataset': {'question': 'Solve 3*w + 25 = -2*w for w.\n', 'answer': '-5\n'},
    'true_case': {
        'en': 'Ms. Holm, CEO of  Nordlys, will speak in Paris on Friday.',
        'da': 'Fru Holm, direktør for Nordlys, taler i Paris på fredag.',
    },
    'fix_punct': {
        'en': "\"Don't touch it,\" she said; it's twenty-two volts.",
        'da': '"Rør det ikke," sagde hun; det er toogtyve volt.',
    },
    'word_segment': {
        'en': 'Our café opens at nine.',
        'da': 'Vores café åbner klokken ni.',
    },
    # nli
    'rte': {
        'premise': 'The ferry to Holm Island, which carried 40 passengers, was held up for two hours by fog on Monday.',
        'hypothesis': 'Fog delayed a ferry.',
        'idx': 1,
        'label': 0,
    },
    'cb': {
        'premise': "A: The cake, uh, it was fine. B: Was it? A: Well, I don't think the guests finished it.",
        'hypothesis': 'the guests finished the cake',
        'idx': 2,
        'label': 1,
    },
    'wnli': {
        'sentence1': 'Ann thanked Bea for the soup, as she had cooked it all day.',
        'sentence2': 'Ann had cooked it all day.',
        'idx': 3,
        'label': 0,
    },
    'anli_r1': {
        'uid': 'r1-0001',
        'context': 'Nordlys is a Danish choir. It was founded in 1988 by Ida Holm, who led it for eleven years.',
        'hypothesis': 'Ida Holm led the choir in 1995.',
        'label': 0,
    },
    'anli_r2': {
        'uid': 'r2-0001',
        'context': 'Holm Island has one school.  It was opened in 1931 and has nine pupils this year.',
        'hypothesis': 'The school has two teachers.',
        'label': 1,
    },
    'anli_r3': {
        'uid': 'r3-0001',
        'context': 'OSLO -- The mayor said on Friday that the bridge would stay closed, but that buses would run.',
        'hypothesis': 'The bridge was open on Saturday',
        'label': 2,
    },
    'mnli_matched': {
        'premise': 'yeah well i only ever fish from the pier',
        'hypothesis': 'I often fish from a boat.',
        'idx': 4,
        'label': 2,
    },
    'mnli_mismatched': {
        'premise': 'The museum, open since May, shows maps of the coast.',
        'hypothesis': 'The museum was crowded in June.',
        'idx': 5,
        'label': 1,
    },
    'qnli': {
        'question': 'When was the school on Holm Island opened?',
        'sentence': 'The island has one school, which was opened in 1931 and has nine pupils.',
        'idx': 6,
        'label': 0,
    },
    'snli': {
        'premise': 'A man in a yellow coat is feeding gulls on a pier.',
        'hypothesis': 'A man is outdoors.',
        'label': 0,
    },
    # paraphrase
    'glue_mrpc': {
        'sentence1': "Shares of Nordlys fell 4 percent , to $ 11.20 , after the company 's warning .",
        'sentence2': 'After its warning , Nordlys stock lost 4 percent and closed at $ 11.20 .',
        'idx': 7,
        'label': 1,
    },
    'stsb': {
        'sentence1': 'A woman is slicing an onion.',
        'sentence2': 'A woman is cutting a vegetable.',
        'idx': 8,
        'label': 3.6,
    },
    'paws_wiki': {
        'sentence1': 'He moved from Oslo to Bergen in 1931 , and married there .',
        'sentence2': 'He moved from Bergen to Oslo in 1931 , and married there .',
        'label': 0,
    },
    'glue_qqp': {
        'question1': 'What does ""off the record"" mean?',
        'question2': 'Why do people say that something is ""off the record""?',
        'idx': 9,
        'label': 0,
    },
    # reading_comprehension
    'multirc': {
        'paragraph': 'Rosa found a kite in the attic. Its tail was torn. Her uncle mended it, and they flew it. ',
        'question': 'What did they do with the kite?',
        'answer': 'They flew it',
        'idx': {'paragraph': 12, 'question': 34, 'answer': 56},
        'label': 1,
    },
    'bool_q': {
        'title': 'Holm Island',
        'passage': 'Holm Island is reached by ferry. A bridge was planned in 1960 but has never been built.',
        'question': 'is there a bridge to holm island',
        'answer': False,
    },
    'squad_v1': {
        'id': '5733be284776f41900661182',
        'title': 'Holm_Island_Lighthouse',
        'context': 'The lighthouse was built in 1873. Its lamp, visible from 20 miles, first burned oil.\n',
        'question': 'What did the lamp burn at first?',
        'answers': {'text': ['oil', 'oil', 'burned oil'], 'answer_start': [79, 79, 72]},
    },
    'squad_v2': {
        'id': '5ad5d70e5b96ef001a10b0a7',
        'title': 'Holm_Island_Lighthouse',
        'context': 'The lighthouse was built in 1873. Its lamp, visible from 20 miles, first burned oil.',
        'question': 'What did the lamp cost?',
        'is_impossible': True,
        'answers': {'text': [], 'answer_start': []},
        'plausible_answers': {'text': ['20 miles'], 'answer_start': [57]},
    },
    'drop': {
        'query_id': 'f37e81fa-ef7b-4583-b671-762fc433faa9',
        'passage': (
            'Work on the tower began on 2 May 1871. It was lit a week after the feast of its opening, '
            'held on 2 May 1873.  '
        ),
        'question': 'On what day was the tower lit?',
        'answer': '1873-May-9',
        'validated_answers': ['1873-May-9', '9 May', ''],
    },
    'openbookqa': {
        'question': {
            'stem': 'A frog that sits in the open on a lawn is hard to see because',
            'choice_A': 'it is wet',
            'choice_B': 'it is as green as the grass',
            'choice_C': 'it eats flies',
            'choice_D': 'it can jump',
        },
        'answerKey': 1,
        'fact1': 'camouflage is when an animal has the colour of what is around it',
        'clarity': 1.6,
        'humanScore': 1.0,
        'turkIdAnonymized': 'b356d338b7',
    },
    # reading_comprehension_commonsense
    'cosmos_qa': {
        'id': '3Q9SPIIRWJ##34V1S5K3GT##A1S1K7134S##Blog_9001##q1_a1##x',
        'context': (
            "I got to the office at six , long before the others . My boss wasn't due till nine , "
            'so I put the cake on her desk and hid the candles .'
        ),
        'question': 'Why did I come in so early ?',
        'answer0': 'None of the above choices .',
        'answer1': 'I had been locked out of my flat .',
        'answer2': "It was my boss 's birthday and I wanted to surprise her .",
        'answer3': 'I like to eat cake in the morning .',
        'label': 2,
    },
    'record': {
        'passage': (
            'The mayor of Holmstad, Ida Holm, has closed the old bridge. Engineers from Nordlys found cracks in it '
            'on Friday.\n@highlight\nBridge closed after cracks were found\n@highlight\nRepairs may take a year'
        ),
        'query': 'Drivers will have to use the ferry, as @placeholder does not expect repairs before May.',
        'entities': ['Holmstad', 'Ida Holm', 'Nordlys'],
        'answers': ['Ida Holm'],
        'idx': {'passage': 3, 'query': 4},
    },
    # sentiment
    'sst2': {'sentence': "a film that 's as warm as it is wise ", 'idx': 10, 'label': 1},
    'imdb_reviews': {
        'text': "I wanted to like it.<br /><br />But nothing happens, and it takes two hours over that. Don't bother.",
        'label': 0,
    },
    'sentiment140': {
        'date': 'Mon May 11 03:17:40 UTC 2009',
        'polarity': 4,
        'query': 'NO_QUERY',
        'text': '@idaholm  just heard &quot;Nordlys&quot; live &amp; loved it &lt;3',
        'user': 'rosa',
    },
    'yelp_polarity_reviews': {
        'text': 'They call it \\""the best soup in town\\"".\\n\\nMine was cold, and so was the waiter.',
        'label': 0,
    },
    # struct_to_text
    'common_gen': {
        'concept_set_id': 900,
        'concepts': ['dog', 'catch', 'throw', 'ball'],
        'gem_id': 'common_gen-validation-900',
        'gem_parent_id': 'common_gen-validation-900',
        'target': 'A dog catches a ball that a boy throws.',
        'references': ['A dog catches a ball that a boy throws.', 'I throw the ball and the dog catches it .'],
    },
    'dart': {
        'dart_id': 900,
        'gem_id': 'dart-validation-900',
        'gem_parent_id': 'dart-validation-900',
        'subtree_was_extended': False,
        'target_sources': ['WikiTableQuestions_lily'],
        'tripleset': [
            'Holm Island FERRY Twice a day', '[TABLECONTEXT] INHABITANTS 212',
            '[TABLECONTEXT] [TITLE] Islands of the north',
        ],
        'target': 'Holm Island, with 212 inhabitants, has a ferry twice a day.',
        'references': ['Holm Island, with 212 inhabitants, has a ferry twice a day.'],
    },
    'e2e_nlg': {
        'gem_id': 'e2e_nlg-validation-900',
        'gem_parent_id': 'e2e_nlg-validation-900',
        'meaning_representation': 'name[The Red Kite], eatType[pub], food[Danish], near[Café Nord]',
        'target': 'The Red Kite is a pub near Café Nord that serves Danish food.',
        'references': [
            'The Red Kite is a pub near Café Nord that serves Danish food.', 'Near Café Nord, try The Red Kite.',
        ],
    },
    'web_nlg_en': {
        'category': 'Building',
        'gem_id': 'web_nlg_en-validation-900',
        'gem_parent_id': 'web_nlg_en-validation-900',
        'webnlg_id': 'dev/Building/1/Id1',
        'input': ['Holm_Light | location | Holm_Island', 'Holm_Light | yearOfConstruction | 1873'],
        'target': 'Holm Light, on Holm Island, was built in 1873.',
        'references': [
            'Holm Light, on Holm Island, was built in 1873.', 'Holm Light was built on Holm Island in 1873.',
        ],
    },
    # summarization
    'aeslc': {
        'email_body': 'Dear all,\nthe lift is out of order until Thursday. \t\tPlease take the stairs.\nRosa\n',
        'subject_line': 'Lift out of order',
    },
    'samsum': {
        'id': '13900001',
        'dialogue': (
            'Ida: I found your scarf! <file_photo> \r\nTom: Great, where was it?\r\n'
            'Ida: Under the sofa. See you at 7?\r\nTom: Yes :)'
        ),
        'summary': "Ida found Tom's scarf under the sofa and sent him a photo. They will meet at 7.",
    },
    'ag_news_subset': {
        'title': 'Nordlys Soars as Sales Double',
        'description': (
            'OSLO (Reuters) - Shares of lamp maker Nordlys\\rose on Monday: it #39;s been a record quarter.'
        ),
        'label': 2,
    },
    'cnn_dailymail': {
        'id': '0001d1afc246a7964130f43ae940af6bc6c57f01',
        'publisher': 'cnn',
        'article': (
            'OSLO, Norway (CNN) -- A ferry with 40 people on board was held up for two hours by fog on Monday. '
            'Nobody was hurt. "We played cards," said one passenger.'
        ),
        'highlights': 'Fog holds up a ferry with 40 people on board .\nNobody hurt, officials say .',
    },
    'gigaword': {
        'document': 'shares of lamp maker nordlys rose sharply on monday after it reported record sales .',
        'summary': 'nordlys shares rise on record sales',
    },
    'multi_news': {
        'document': (
            'A ferry was held up by fog on Monday. \n \n Forty people were on board. ||||| '
            'Passengers said they had played cards until the fog lifted. |||||'
        ),
        'summary': '– Fog held up a ferry with 40 people for hours Monday; they played cards.',
    },
    'newsroom': {
        'text': 'OSLO — A ferry was held up by fog on Monday.\n\nForty people were on board, and none was hurt.',
        'title': 'Fog Holds Up Ferry',
        'summary': 'Forty people had to wait for hours on a ferry in the fog on Monday.',
        'url': 'http://www.example.com/ferry',
        'date': '2010-05-11 03:17:40',
        'compression': 2.1,
        'compression_bin': 'low',
        'coverage': 0.8,
        'coverage_bin': 'medium',
        'density': 1.5,
        'density_bin': 'low',
    },
    'opinion_abstracts_rotten_tomatoes': {
        '_movie_id': 'the_red_kite',
        '_movie_name': 'The Red Kite',
        '_critic_consensus': '<em>The Red Kite</em> looks lovely, but its story never leaves the ground.',
        '_critics': {
            'key': ['1', '2'],
            'value': ['Every frame is a <i>painting</i>.', 'Two hours of wind and nothing to say.'],
        },
    },
    'opinion_abstracts_idebate': {
        '_debate_name': 'This House would make museums free',
        '_claim_id': 'pro-01',
        '_claim': 'Free entry brings in people who would otherwise stay away.',
        '_argument_sentences': {
            'key': ['0', '1'],
            'value': ['In towns that dropped the fee, visits doubled. ', 'Most of the new visitors had low incomes.'],
        },
    },
    'xsum': {
        'gem_id': 'xsum-validation-900',
        'gem_parent_id': 'xsum-validation-900',
        'xsum_id': '39000001',
        'document': 'The Holm ferry left two hours late.\nForty people were on board when the fog came down.',
        'target': 'A ferry has been delayed by thick fog off Holm Island.',
        'references': ['A ferry has been delayed by thick fog off Holm Island.'],
    },
    'dialogsum': {
        'fname': 'test_900',
        'dialogue': (
            '#Person1#: Good morning, my lamp has not come.\n#Person2#: I am sorry. May I have your order number?\n'
            '#Person1#: It is 4711.\n#Person2#: It will be with you on Friday.'
        ),
        'summaries': [
            '#Person1# asks about a lamp, and #Person2# promises it for Friday.',
            "#Person1#'s lamp is late. #Person2# says it comes on Friday.",
        ],
        'topics': ['late delivery', 'customer service'],
    },
    'wiki_lingua_english_en': {
        'gem_id': 'wikilingua_multilingual-val-900',
        'gem_parent_id': 'wikilingua_multilingual-val-900',
        'source': (
            'Hot water sets the stain, so use cold. Let the cloth soak for an hour. '
            'Soap comes last, and only a little of it.'
        ),
        'target': 'Rinse with cold water. Soak the cloth.\nAdd some soap.',
        'references': ['Rinse with cold water. Soak the cloth.\nAdd some soap.'],
        'source_aligned': {'en': 'Hot water sets the stain, so use cold.'},
        'target_aligned': {'en': 'Rinse with cold water.'},
    },
    # translation
    'para_crawl_enes': {'en': 'Our rooms have a view of the sea.', 'es': 'Nuestras habitaciones tienen vistas al mar.'},
    'wmt14_enfr': {'en': 'The session is closed.', 'fr': 'La séance est levée.'},
    'wmt16_translate_deen': {'en': 'The bridge stays closed.', 'de': 'Die Brücke bleibt gesperrt.'},
    'wmt16_translate_tren': {'en': 'The bridge is closed.', 'tr': 'Köprü kapalı.'},
    'wmt16_translate_csen': {'en': 'The bridge is closed.', 'cs': 'Most je uzavřen.'},
    'wmt16_translate_fien': {'en': 'The bridge is closed.', 'fi': 'Silta on suljettu.'},
    'wmt16_translate_roen': {'en': 'The bridge is closed.', 'ro': 'Podul este închis.'},
    'wmt16_translate_ruen': {'en': 'The bridge is closed.', 'ru': 'Мост закрыт.'},
}


@functools.cache
def features(name: str) -> tfds.features.FeatureConnector:
  """The features of a task's builder; nothing is downloaded."""
  return tfds.builder(specs.get(name).source.tfds_dataset.name).info.features


def tensors(name: str, **changes) -> dict:
  """An example as TFDS would give it; another column, or a value of another kind, is an error."""
  return _cast(features(name).get_tensor_spec(), features(name).encode_example({**EXAMPLES[name], **changes}))


def _cast(spec, value):
  if isinstance(spec, dict):
    return {k: _cast(v, value[k]) for k, v in spec.items()}
  return tf.constant(value, spec.dtype, None if None in spec.shape else spec.shape)


def dataset(name: str, changes: Sequence[dict] = ({},)) -> tf.data.Dataset:
  """A task's source as `preprocessors.to_fields` takes it, with the task's example in it.

  Args:
    name: the task.
    changes: an example for each, with these columns changed.
  """
  elements = [{'example_id': i, 'example': tensors(name, **change)} for i, change in enumerate(changes)]
  signature = {'example_id': tf.TensorSpec([], tf.int64), 'example': features(name).get_tensor_spec()}
  return tf.data.Dataset.from_generator(lambda: iter(elements), output_signature=signature)


def rows(task_name: str, changes: Sequence[dict] = ({},)) -> list[dict]:
  """Elements of a zero-shot SeqIO task before they are tokenised, read through its own steps."""
  task = specs.parse_task_name(task_name)
  made = preprocessors.render(preprocessors.to_fields(dataset(task.spec.name, changes), task.spec), task)
  return list((preprocessors.expand_options(made) if task.scoring else made).as_numpy_iterator())


def all_fields(name: str, changes: Sequence[dict] = ({},)) -> list[dict]:
  """The fields of examples as plain texts, less those that the task's filter drops."""
  made = preprocessors.to_fields(dataset(name, changes), specs.get(name))
  return [{k: plain(v) for k, v in x['fields'].items()} for x in made.as_numpy_iterator()]


@functools.cache
def fields(name: str) -> dict:
  """The fields of a task's example as plain texts."""
  return all_fields(name)[0]


def plain(value):
  """b'a' -> 'a', and so for lists."""
  return value.decode() if isinstance(value, bytes) else [plain(v) for v in value]
