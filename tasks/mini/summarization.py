"""Cluster `summarization`: what it comes to, in one sentence."""

from flanjax.data import Template, metrics
from flanjax.tasks.mini import builders, world
from flanjax.tasks.mini._register import add

CLUSTER = 'summarization'


class MiniDialogues(builders.MiniBuilder):
  """Little dialogues with a summary."""

  FEATURES = ('dialogue', 'summary')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    dialogue, summary = world.talk(rng)
    return {'dialogue': dialogue, 'summary': summary}


class MiniStories(builders.MiniBuilder):
  """Stories of which one sentence matters, with a headline."""

  FEATURES = ('story', 'summary')

  @staticmethod
  def draw(rng: world.Rng) -> builders.Example:
    story, headline = world.story(rng)
    return {'story': story, 'summary': headline}


add(MiniDialogues, CLUSTER, [
    Template('{dialogue}\nSummary:', '{summary}', inverted=False),
    Template('Write a short summary of this conversation.\n{dialogue}', '{summary}', inverted=False),
    Template('{dialogue}\nWhat happens here, in one sentence?', '{summary}', inverted=False),
    Template('Two people talk. {dialogue} What is the main point of it?', '{summary}', inverted=False),
    Template('Dialogue: {dialogue}\nDescribe the dialogue in short.', '{summary}', inverted=False),
    Template('Write a dialogue that can be told in this way: {summary}', '{dialogue}', inverted=True),
], metrics.rouge)

add(MiniStories, CLUSTER, [
    Template('{story}\nHeadline:', '{summary}', inverted=False),
    Template('Read the story and give it a short title that tells what happened.\n{story}', '{summary}', inverted=False),
    Template('{story}\nTell this in one short sentence.', '{summary}', inverted=False),
    Template('What is the main event of the following story? {story}', '{summary}', inverted=False),
    Template('Story: {story}\nSummary of the story:', '{summary}', inverted=False),
    Template('Write a story under this headline: {summary}', '{story}', inverted=True),
], metrics.rouge)
