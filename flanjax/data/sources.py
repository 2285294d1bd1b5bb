"""How one comes by the data of a task, told by what TFDS itself records: nothing is opened."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import seqio
import tensorflow_datasets as tfds
from tensorflow_datasets.translate import wmt

# The ways to come by data.
BY_ITSELF, BY_HAND, GENERATED, LOCAL, UNKNOWN = OBTAINED = (
    'by itself', 'by hand', 'generated here', 'local files', 'unknown')

_NOWHERE = '/nonexistent'


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where data comes from.

  Attributes:
    name: the TFDS name with its configuration; of another source, what kind it is.
    version: the TFDS version; '' for another source.
    obtained: one of OBTAINED; 'unknown' of a dataset that TFDS cannot build.
    download_bytes: bytes to download, at most; None where TFDS does not tell.
    by_hand: what has to be downloaded by hand, and where to put it; '' where nothing has to.
  """

  name: str
  version: str
  obtained: str
  download_bytes: int | None = None
  by_hand: str = ''


def origin(source: seqio.DataSource) -> Origin:
  """What there is to tell of a source, whether its data is here or not."""
  if not is_tfds(source):
    kind = LOCAL if isinstance(source, seqio.FileDataSource) else GENERATED
    return Origin(type(source).__name__, '', kind)
  names, versions = zip(*(name.partition(':')[::2] for name in tfds_names(source)))
  name, version = ' + '.join(dict.fromkeys(names)), ' + '.join(dict.fromkeys(versions))
  try:
    builders = list(_builders_by_code(source))
  except Exception:  # noqa: BLE001 (TFDS raises import, I/O and its own errors)
    return Origin(name, version, UNKNOWN)
  if not any(map(downloads, builders)):
    return Origin(name, version, GENERATED, 0)
  steps = '\n'.join(filter(None, map(by_hand, builders)))
  sizes = [download_bytes(b) for b in builders]
  total = None if None in sizes else sum(sizes)
  return Origin(name, version, BY_HAND if steps else BY_ITSELF, total, steps)


def named(source: seqio.DataSource) -> str:
  """'super_glue/rte:1.0.2' for TFDS, else what kind of source it is."""
  return ' + '.join(tfds_names(source)) if is_tfds(source) else type(source).__name__


def _builders_by_code(source: seqio.TfdsDataSource) -> Iterator[tfds.core.DatasetBuilder]:
  """The builders, made from their code: of data that is here, TFDS would give one that reads it."""
  loader = source.tfds_dataset
  for name in tfds_names(source):
    dataset, kwargs = tfds.core.naming.parse_builder_name_kwargs(name, data_dir=_NOWHERE)
    yield tfds.builder_cls(str(dataset))(**kwargs, **(loader._builder_kwargs or {}))


def is_tfds(source: seqio.DataSource) -> bool:
  return isinstance(source, seqio.TfdsDataSource)


def tfds_names(source: seqio.TfdsDataSource) -> list[str]:
  """The datasets that a source reads, as 'name/configuration:version'."""
  loader = source.tfds_dataset
  splits = loader.tfds_splits or {}
  return sorted({n for n in [loader.name, *(s.dataset for s in splits.values())] if n})


def unversioned_names(source: seqio.DataSource) -> list[str]:
  """The TFDS datasets that a source reads, whatever their versions; none of another source."""
  return sorted({n.split(':')[0] for n in tfds_names(source)}) if is_tfds(source) else []


def splits(source: seqio.DataSource) -> dict[str, str]:
  """The splits of a source -> the parts of a TFDS dataset that they are, where they are.

    {'train': 'train[:-200]', 'validation': 'train[-200:]', 'test': 'validation'}

  Nothing, for a TFDS dataset that is used as it comes: what it has is known when it is here.
  """
  if is_tfds(source):
    mapped = source.tfds_dataset._split_map or {}
    return {k: part if isinstance(part, str) else part.split for k, part in mapped.items()}
  return {split: split for split in source.splits}


def downloads(builder: tfds.core.DatasetBuilder) -> bool:
  """Whether a builder needs files from elsewhere, as all do that TFDS itself ships."""
  shipped = type(builder).__module__.startswith('tensorflow_datasets.')
  return shipped or bool(builder.url_infos) or bool(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)


def downloads_nothing(source: seqio.DataSource) -> bool:
  """Whether TFDS makes all of a source's data from files that were fetched by hand.

  Some builders need such files beside others that they download: those of WMT, for one.
  """
  if not is_tfds(source):
    return False
  try:
    builders = list(_builders_by_code(source))
  except Exception:  # noqa: BLE001 (TFDS raises import, I/O and its own errors)
    return False
  return all(by_hand(b) and not b.url_infos for b in builders)


def by_hand(builder: tfds.core.DatasetBuilder) -> str:
  """What has to be downloaded by hand, as one paragraph; '' when nothing has to."""
  if isinstance(builder, wmt.WmtTranslate):
    return ' '.join(_wmt_by_hand(builder))
  return ' '.join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or '').split())


def download_bytes(builder: tfds.core.DatasetBuilder) -> int | None:
  """Bytes that a builder downloads, at most; None where TFDS ships no checksums of its files.

  Checksums are of all configurations of a dataset, and may keep files that have moved. Where a
  configuration names its files they alone count, otherwise those that no configuration names.
  """
  known = {url: info.size for url, info in (builder.url_infos or {}).items()}
  if isinstance(builder, wmt.WmtTranslate):
    urls = {url for part, src in _wmt_parts(builder) for url in part.get_url(src)
            if not part.get_manual_dl_files(src)}  # fmt: skip
    return sum(known[url] for url in urls) if urls <= set(known) else None
  named = _named(builder.builder_config, known)
  if not named:
    named = set(known).difference(*(_named(c, known) for c in builder.BUILDER_CONFIGS))
  sizes = [known[url] for url in named]
  return int(sum(sizes)) if sizes and None not in sizes else None


def _named(config: tfds.core.BuilderConfig | None, urls: Iterable[str]) -> set[str]:
  """The URLs that a configuration names, whole or by the name of the file."""
  texts = tuple(filter(None, _texts(vars(config)))) if config else ()
  return {url for url in urls if url in texts or url.endswith(tuple(f'/{t}' for t in texts))}


def _texts(value: Any) -> Iterator[str]:
  """The texts in nested dicts and lists."""
  if isinstance(value, str):
    yield value
  elif isinstance(value, (dict, list, tuple)):
    for part in value.values() if isinstance(value, dict) else value:
      yield from _texts(part)


def _wmt_parts(builder: wmt.WmtTranslate) -> list[tuple[wmt.SubDataset, str]]:
  """The corpora that a pair of languages is made of, and the language that is not the target.

  All WMT builders say that some of their pairs need files by hand. These tell which.
  """
  src, _ = builder.builder_config.language_pair
  names = dict.fromkeys(itertools.chain.from_iterable(builder.subsets.values()))
  return [(wmt.DATASET_MAP[name], src) for name in names]


def _wmt_by_hand(builder: wmt.WmtTranslate) -> Iterator[str]:
  for part, src in _wmt_parts(builder):
    files = part.get_manual_dl_files(src)
    if files:
      yield f'Get {", ".join(files)} from {", ".join(part.get_url(src))} and put it in manual_dir.'
