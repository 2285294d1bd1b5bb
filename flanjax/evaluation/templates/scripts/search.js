// Searching and filtering hide; they change nothing else, and an empty search shows everything.
function setUpSearch() {
  const field = document.getElementById('search');
  const found = document.getElementById('found');
  const choice = (id) => document.getElementById(id);
  const selects = ['first', 'first-is', 'second', 'second-is'].map(choice);
  const rows = Array.from(document.querySelectorAll('table.searched tbody tr'));
  const tasks = Array.from(document.querySelectorAll('details.task')).map((element) => ({
    element: element,
    name: element.querySelector('summary').textContent.toLowerCase(),
    samples: Array.from(element.querySelectorAll('.sample')).map((sample) => ({
      element: sample,
      text: sample.textContent.toLowerCase(),
      verdicts: sample.dataset.verdicts.trim().split(' '),
    })),
    opened: false,
  }));

  const agrees = (verdict, wanted) => !wanted
    || (wanted === 'right' ? verdict === 'right' : verdict !== 'right' && verdict !== 'none');
  const passes = (sample) => [0, 2].every((i) => !selects[i]
    || agrees(sample.verdicts[Number(selects[i].value)], selects[i + 1].value));

  function apply() {
    const query = field.value.trim().toLowerCase();
    const filtered = [selects[1], selects[3]].some((s) => s && s.value);
    let shownTasks = 0;
    let shownSamples = 0;
    for (const row of rows) row.hidden = query !== '' && !row.cells[0].textContent.toLowerCase().includes(query);
    for (const task of tasks) {
      const named = task.name.includes(query);
      let count = 0;
      for (const sample of task.samples) {
        const shown = passes(sample) && (named || sample.text.includes(query));
        sample.element.hidden = !shown;
        count += shown;
      }
      const shown = (query === '' || named || count > 0) && (!filtered || count > 0);
      task.element.hidden = !shown;
      if (shown && count > 0 && (filtered || (query !== '' && !named))) {
        if (!task.element.open) task.opened = task.element.open = true;
      } else if (query === '' && !filtered && task.opened) {
        task.opened = task.element.open = false;
      }
      shownTasks += shown;
      shownSamples += shown ? count : 0;
    }
    found.textContent = query || filtered ? `${shownTasks} tasks, ${shownSamples} answers` : '';
  }

  field.addEventListener('input', apply);
  for (const select of selects) if (select) select.addEventListener('change', apply);
  choice('reset').addEventListener('click', () => {
    for (const select of [selects[1], selects[3]]) if (select) select.value = '';
    field.value = '';
    apply();
  });
}
