"""docs/tasks.md says what is registered."""

import importlib.util
import pathlib

import tensorflow_datasets as tfds

from flanjax.data import specs

ROOT = pathlib.Path(__file__).resolve().parents[1]


def _tool():
  path = ROOT / 'tools' / 'make_tasks_doc.py'
  spec = importlib.util.spec_from_file_location('make_tasks_doc', path)
  tool = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(tool)
  return tool


def test_the_page_is_what_the_tool_makes_with_and_without_data(monkeypatch, tmp_path):
  tool = _tool()
  assert tool.PAGE.read_text(encoding='utf-8') == tool.page()
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))
  assert tool.PAGE.read_text(encoding='utf-8') == tool.page()


def test_every_task_has_a_row_and_its_cells_do_not_break_it():
  rows = [line for line in _tool().page().splitlines() if line.startswith('| `')]
  rows = [row for row in rows if row.count(' | ') == 6]
  tasks = {s.name for s in specs.all_specs('flan2021')}
  assert {row.split('`')[1] for row in rows} == tasks and len(rows) == len(tasks)
