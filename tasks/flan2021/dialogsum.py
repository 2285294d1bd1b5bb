"""The TFDS dataset `dialogsum`, read from the files of DialogSum's authors."""

from __future__ import annotations

from collections.abc import Iterator
import json
import os

from etils import epath
import tensorflow_datasets as tfds

_FILES = {'train': 'train', 'validation': 'dev', 'test': 'test'}


class Dialogsum(tfds.core.GeneratorBasedBuilder):
  """Spoken dialogues with summaries and topics; the dialogues of `test` have three of each."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Initial release.'}
  MANUAL_DOWNLOAD_INSTRUCTIONS = """\
  Download dialogsum.train.jsonl, dialogsum.dev.jsonl and dialogsum.test.jsonl from
  https://github.com/cylnlp/dialogsum/tree/main/DialogSum_Data
  and put them in the manual_dir.
  """

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    return tfds.core.DatasetInfo(
        builder=self,
        description=type(self).__doc__,
        features=tfds.features.FeaturesDict({
            'fname': text,
            'dialogue': text,
            'summaries': tfds.features.Sequence(text),
            'topics': tfds.features.Sequence(text),
        }),
        homepage='https://github.com/cylnlp/dialogsum',
        citation='Chen et al. 2021, https://aclanthology.org/2021.findings-acl.449',
        license='CC BY-NC-SA 4.0',
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    folder = dl_manager.manual_dir
    return {
        split: self._generate_examples(folder / f'dialogsum.{name}.jsonl')
        for split, name in _FILES.items()
    }

  def _generate_examples(self, path: str | os.PathLike[str]) -> Iterator[tuple[str, dict]]:
    with epath.Path(path).open() as f:
      for row in map(json.loads, filter(str.strip, f)):
        yield row['fname'], {
            'fname': row['fname'],
            'dialogue': row['dialogue'],
            'summaries': _numbered_values(row, 'summary'),
            'topics': _numbered_values(row, 'topic'),
        }


def _numbered_values(row: dict[str, str], key: str) -> list[str]:
  """{'summary1': 'a', 'summary2': 'b'} -> ['a', 'b']; {'summary': 'a'} -> ['a']."""
  return [row[k] for k in (key, *(f'{key}{i}' for i in (1, 2, 3))) if k in row]
