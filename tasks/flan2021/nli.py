"""Cluster `nli`: does one text follow from another?"""

from __future__ import annotations

from flanjax.data import TaskSpec, Template, metrics, postprocessors, register
from flanjax.tasks.flan2021._common import SUITE, held_back, one_line, pick

RTE_OPTIONS = ['yes', 'no']
CB_OPTIONS = ['Yes', 'No', "It's impossible to say"]
WNLI_OPTIONS = ['no', 'yes']


def rte_fields(example):
  return {
      'premise': one_line(example['premise']),
      'hypothesis': one_line(example['hypothesis']),
      'options': RTE_OPTIONS,
      'answer': pick(RTE_OPTIONS, example['label']),
  }


RTE_TEMPLATES = [
    Template(
        '{premise}\n\nGoing only by the text above, can you be certain of what comes next?\n\n'
        '{hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Read a passage and then a claim. Does anyone who believes the passage have to accept '
        'the claim as well?\n\nPassage: {premise}\n\nClaim: {hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Claim: {hypothesis}\n\nEvidence: {premise}\n\n'
        'Is the evidence enough to establish the claim?\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nReply with one of the options above. A news report says: {premise}\n\n'
        'Does that establish the following? {hypothesis}',
        '{answer}',
    ),
    Template(
        'Statement to check: {hypothesis}\n{options_}\n\nUse nothing but the following source '
        'to decide whether the statement holds.\n\n{premise}',
        '{answer}',
    ),
    Template(
        'I read this in the paper:\n\n{premise}\n\nA friend who had read it too said to me:\n\n'
        '{hypothesis}\n\nDoes the report bear my friend out?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Premise: {premise}\nHypothesis: {hypothesis}\n{options_}\n'
        'Does the premise entail the hypothesis? Answer:',
        '{answer}',
    ),
    Template(
        'You are checking facts for a magazine, and you have a single source.\n\n'
        'Source: {premise}\nSentence to be printed: {hypothesis}\n\n'
        'Does the source back the sentence up?\n{options_}',
        '{answer}',
    ),
    Template(
        'Do you agree that the first of these texts proves the second?\n\n'
        '1. {premise}\n\n2. {hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Here is a text:\n\n{premise}\n\nWrite one short sentence. If I ask whether it '
        'follows from the text, the correct reply should be "{answer}".',
        '{hypothesis}',
    ),
]

register(
    TaskSpec(
        name='rte',
        cluster='nli',
        source=held_back('super_glue/rte:1.0.2', 200),
        fields=rte_fields,
        templates=RTE_TEMPLATES,
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        citation='Recognising Textual Entailment 1, 2, 3 and 5; Wang et al. 2019, SuperGLUE',
        licence='not stated',
    )
)


def cb_fields(example):
  return {
      'premise': one_line(example['premise']),
      'hypothesis': one_line(example['hypothesis']),
      'options': CB_OPTIONS,
      'answer': pick(CB_OPTIONS, example['label']),
  }


# The hypotheses are clauses: no capital at the start, no stop at the end.
CB_TEMPLATES = [
    Template(
        '{premise}\n\nJudging by what is said here, is it the case that {hypothesis}?\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Extract: {premise}\n\nA reader of this extract concludes that {hypothesis}. '
        'Is that reader right?\n{options_}',
        '{answer}',
    ),
    Template(
        'Question: having read the text below, would you say that {hypothesis}?\n\n'
        'Text: {premise}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'You will see a text and a remark. Choose "Yes" if whoever produced the text stands by '
        'the remark, "No" if the text rules the remark out, and "It\'s impossible to say" if it '
        'leaves the matter open.\n\nText: {premise}\nRemark: {hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nWhich of these three is the answer to the question at the end?\n\n'
        '{premise}\n\nIs it true, then, that {hypothesis}?',
        '{answer}',
    ),
    Template(
        'Premise: {premise}\nHypothesis: {hypothesis}\n{options_}\n'
        'Is the hypothesis true, given the premise?',
        '{answer}',
    ),
    Template(
        'This is all I have, a few lines from the middle of something longer:\n\n{premise}\n\n'
        'Can you tell me whether {hypothesis}?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'A colleague has noted down that {hypothesis}. Is the note correct?\n\n'
        'Consult only these lines: {premise}\n\n{options_}\n\nYour verdict:',
        '{answer}',
    ),
    Template(
        'Somebody wants to know if {hypothesis}. The passage that follows may settle the '
        'question one way or the other, or it may not. What do you tell them?\n\n{premise}\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Context: {premise}\n\nSomething is missing from the question "Is it true that ...?" '
        'Fill the gap so that, in this context, the answer is "{answer}". '
        'Give the missing words only.',
        '{hypothesis}',
    ),
]

register(
    TaskSpec(
        name='cb',
        cluster='nli',
        source=held_back('super_glue/cb:1.0.2', 50),
        fields=cb_fields,
        templates=CB_TEMPLATES,
        metric_fns=[metrics.accuracy, metrics.mean_3class_f1],
        postprocess_fn=postprocessors.label_ids(CB_OPTIONS),
        suite=SUITE,
        citation='de Marneffe et al. 2019, The CommitmentBank; Wang et al. 2019, SuperGLUE',
        licence='not stated',
    )
)


def wnli_fields(example):
  return {
      'sentence1': one_line(example['sentence1']),
      'sentence2': one_line(example['sentence2']),
      'options': WNLI_OPTIONS,
      'answer': pick(WNLI_OPTIONS, example['label']),
  }


WNLI_TEMPLATES = [
    Template(
        '{sentence1}\n\nWith that in mind, would you call this sentence correct? {sentence2}\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Sentence A: {sentence1}\nSentence B: {sentence2}\n\nSentence B tries to say part of '
        'sentence A more plainly. Has it got the people and things the right way round?\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Story: {sentence1}\n\nHow a child retold it: {sentence2}\n\n'
        'Had the child understood the story?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Suppose that line 1 is correct. Must line 2 be correct too?\n\n'
        '1. {sentence1}\n2. {sentence2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nOne of these is your answer. We are told: {sentence1}\n\n'
        'Does that amount to saying the following? {sentence2}',
        '{answer}',
    ),
    Template(
        'Conclusion: {sentence2}\nGrounds: {sentence1}\n{options_}\n'
        'Do the grounds justify the conclusion?',
        '{answer}',
    ),
    Template(
        'Someone wrote: {sentence1}\nI would put it like this: {sentence2}\n'
        'Is that what the writer meant?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Reading test. Study the text and mark the statement.\n\nText: {sentence1}\n'
        'Statement: {sentence2}\n{options_}\nIs the statement correct?',
        '{answer}',
    ),
    Template(
        'Think about who or what each pronoun stands for in this text:\n\n{sentence1}\n\n'
        'Would it be fair to claim the following?\n\n{sentence2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'If I know the first of these things, do I know the second one as well?\n\n'
        'First: {sentence1}\nSecond: {sentence2}\n\n{options_}\n\nAnswer:',
        '{answer}',
    ),
]

register(
    TaskSpec(
        name='wnli',
        cluster='nli',
        source=held_back('glue/wnli:2.0.0', 30),
        fields=wnli_fields,
        templates=WNLI_TEMPLATES,
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        # 324 of the 362 first sentences are texts of super_glue/wsc, training and validation
        # mixed, with the same thing asked of them. FLAN trains on one and tests on the other.
        lineage=['winograd_schema'],
        overlaps=['wsc'],
        citation='Levesque et al. 2012, The Winograd Schema Challenge; Wang et al. 2019, GLUE',
        licence='not stated',
    )
)
