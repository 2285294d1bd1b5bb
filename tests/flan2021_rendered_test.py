"""What the templates of the suite flan2021 say, word for word."""

import difflib
import pathlib

import flan2021_rendered

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'flan2021_rendered.txt'
MOST_LINES = 100


def test_templates_say_what_they_said():
  difference = list(difflib.unified_diff(
      GOLDEN.read_text().split('\n'), flan2021_rendered.text().split('\n'), 'kept', 'now', n=2, lineterm=''))
  shown = '\n'.join(difference[:MOST_LINES])
  assert not difference, (
      f'{shown}\n... {len(difference)} lines of difference. If they are meant, run '
      f'{flan2021_rendered.TOOL} and read what has changed.')
