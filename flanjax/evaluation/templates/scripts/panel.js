// What stands behind a number. All text goes in as text: nothing of the data is ever HTML.
function lookUp(data, at) {
  return at.split('/').slice(1).map((key) => key.replace(/~1/g, '/').replace(/~0/g, '~'))
    .reduce((value, key) => value[key], data);
}

function keysOf(at) {
  return at.split('/').slice(1).map((key) => key.replace(/~1/g, '/').replace(/~0/g, '~'));
}

const CONVENTIONS = {
  sum: 'sum of the tokens\' log-likelihoods', per_token: 'that sum per token',
  per_character: 'that sum per character', per_byte: 'that sum per byte',
  unconditional: 'that sum minus the one without a prompt',
};
const METHODS = {
  bootstrap: 'percentiles of bootstrap resamples of examples', wilson: 'Wilson',
  newcombe: 'Newcombe, for paired shares',
};
const TESTS = { mcnemar: 'McNemar, exact', sign: 'sign test, exact', swap: 'examples swapped at random' };

// Which models, which task or cluster, and what kind of number.
function describe(data, at) {
  const keys = keysOf(at);
  const entry = data[keys[0]][Number(keys[1])];
  const lead = data.tuned || data.models[0];
  const found = { entry: entry, isTask: keys[0] === 'tasks', models: [], kind: keys[2], convention: null,
    template: null, parent: null, clean: keys[2] === 'clean' };
  const rest = found.clean ? keys.slice(3) : keys.slice(2);
  const holder = found.clean ? entry.clean : entry;
  if (rest[0] === 'scores') {
    found.models = [rest[1]];
    found.parent = holder.intervals[rest[1]];
  } else if (rest[0] === 'difference') {
    found.models = [lead, data.untuned];
    found.parent = holder.difference;
  } else if (rest[0] === 'differences') {
    found.parent = holder.differences[Number(rest[1])];
    found.models = [lead, found.parent.model];
  } else if (rest[0] === 'templates') {
    found.models = [rest[3]];
    found.template = entry.templates[Number(rest[1])].template_id;
  } else if (rest[0] === 'conventions') {
    found.models = [rest[2]];
    found.convention = rest[1];
    found.parent = entry.conventions[rest[1]][rest[2]];
  }
  return found;
}

function checkpointLine(data, model) {
  const c = data.checkpoints[model];
  const parts = [c.path || 'its place was not kept by the evaluation'];
  if (c.step !== null && c.step !== undefined) parts.push(`step ${c.step.toLocaleString('en')}`);
  if (c.fingerprint) parts.push(`fingerprint ${c.fingerprint}`);
  return parts.join(', ');
}

function modeLine(task, convention) {
  if (task.mode !== 'rank') return 'generated, greedy';
  return `options ranked by log-likelihood: ${CONVENTIONS[convention || 'sum']}`;
}

function addTask(data, add, task, found) {
  const templates = found.template === null ? task.templates.map((t) => t.template_id) : [found.template];
  add('task', `${task.task}, cluster ${task.cluster}`);
  add('how', modeLine(task, found.convention));
  add(templates.length > 1 ? 'templates' : 'template', templates.join(', '));
  for (const model of found.models.filter((m) => task.behind[m])) {
    const behind = task.behind[model];
    const whose = found.models.length > 1 ? `, ${model}` : '';
    add(`SeqIO tasks${whose}`, behind.seqio_tasks.join(', '));
    if (behind.sequence_length) {
      add(`lengths${whose}`, `${behind.sequence_length.inputs} tokens read, ${behind.sequence_length.targets} answered`);
    }
    add(`cut to fit${whose}`, behind.cut ? `${behind.cut.inputs} prompts, ${behind.cut.targets} targets` : 'not counted by the evaluation');
  }
}

function addCluster(data, add, found) {
  const members = data.tasks.filter((t) => t.headline && found.entry.tasks.includes(t.task) && t.cluster === found.entry.cluster);
  add('mean over tasks', members.map((t) => `${t.task} (${t.n_examples} examples, ${t.templates.length} templates, ${t.mode === 'rank' ? 'options ranked' : 'generated'})`).join(', '));
  for (const model of found.models) {
    const cuts = members.map((t) => t.behind[model] && t.behind[model].cut);
    add(`cut to fit, ${model}`, cuts.every(Boolean)
      ? `${cuts.reduce((n, c) => n + c.inputs, 0)} prompts, ${cuts.reduce((n, c) => n + c.targets, 0)} targets`
      : 'not counted by the evaluation');
  }
}

function addInterval(data, add, found) {
  const p = found.parent;
  if (!p || p.low === null || p.low === undefined) return;
  const shown = (v) => v.toFixed(1).replace('-', '−');
  const method = found.convention ? 'wilson' : p.method;
  add('95 % interval', `${shown(p.low)} to ${shown(p.high)}`
    + (method ? `; ${METHODS[method] || method}` : '')
    + (method === 'wilson' || method === 'newcombe' ? '' : `, ${data.resamples.toLocaleString('en')} resamples`));
  if (p.p !== null && p.p !== undefined) {
    const holm = p.p_holm === null || p.p_holm === undefined ? '' : `, ${p.p_holm.toPrecision(2)} after Holm's correction over clusters`;
    add('p', `${p.p.toPrecision(2)} (${TESTS[p.test] || p.test})${holm}`);
  }
  if (p.discordant) add('examples', `won ${p.discordant.won}, lost ${p.discordant.lost}, tied ${p.discordant.tied}`);
}

function openPanel(data, button) {
  const dialog = document.getElementById('behind');
  const at = button.dataset.at;
  const found = describe(data, at);
  const list = dialog.querySelector('dl');
  const add = (name, value) => {
    const term = document.createElement('dt');
    const text = document.createElement('dd');
    term.textContent = name;
    text.textContent = value;
    list.append(term, text);
  };
  list.replaceChildren();
  const what = found.models.length ? found.models.join(' − ') : 'without reading';
  dialog.querySelector('h2').textContent = `${what}, on ${found.isTask ? found.entry.task : found.entry.cluster}`;
  dialog.querySelector('.big').textContent = button.textContent;
  add('metric', `${found.entry.metric}, 0 to 100${found.clean ? ', on clean examples alone' : ''}`);
  const holder = found.clean ? found.entry.clean : found.entry;
  const counted = found.parent && found.parent.n_examples !== undefined ? found.parent.n_examples : holder.n_examples;
  add('examples (n)', `${counted.toLocaleString('en')}${data.split ? `, ${data.split} split` : ''}${data.num_examples ? `, at most ${data.num_examples.toLocaleString('en')} of a task` : ''}`);
  for (const model of found.models) add(`checkpoint of ${model}`, checkpointLine(data, model));
  if (found.isTask) addTask(data, add, found.entry, found);
  else addCluster(data, add, found);
  addInterval(data, add, found);
  if (!found.models.length) add('what it is', 'the best score without reading: commonest answer, chance, or copying the prompt');
  add('seeds', `run ${data.seeds.run === null ? 'not known' : data.seeds.run}, bootstrap ${data.seeds.bootstrap}`);
  if (data.command.length) add('evaluated by', data.command.join(' '));
  add('in report.json', at);
  dialog.showModal();
}

function setUpPanel() {
  const dialog = document.getElementById('behind');
  const data = JSON.parse(document.getElementById('data').textContent);
  document.addEventListener('click', (event) => {
    const button = event.target.closest('.n');
    if (button) openPanel(data, button);
    if (event.target === dialog) dialog.close();
  });
  dialog.querySelector('.close').addEventListener('click', () => dialog.close());
}
