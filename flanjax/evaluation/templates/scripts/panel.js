// What stands behind a number of a run's page.
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
  } else if (rest[0] === 'variants') {
    found.models = [rest[1]];
    found.variants = entry.variants[rest[1]];
    found.parent = { ways: found.variants.ways[Number(rest[3])], flips: found.variants.flips }[rest[2]] || null;
    found.asked = { ways: rest[2] === 'ways' && found.parent.variant.replace('_', ' '),
      flips: 'share of prompts whose answer is not the same in all orders',
      position: `how often the ${rest[3]} option listed is ${rest[4]}, in all orders` }[rest[2]];
  } else if (rest[0] === 'best_dev_template') {
    found.models = [rest[1]];
    found.dev = true;
    found.parent = found.isTask ? entry.best_dev_template[rest[1]] : null;
    found.template = found.isTask ? found.parent.template_id : null;
  } else if (rest[0] === 'median_template') {
    found.models = [rest[1]];
    found.median = true;
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
  const templates = found.variants ? found.variants.templates
    : found.template === null ? task.templates.map((t) => t.template_id) : [found.template];
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

// Options in other orders and words, and the template that is best on validation.
function addAsked(add, found) {
  if (found.variants) {
    add('options', found.asked);
    const words = Object.entries(found.variants.wordings).map(([kind, n]) => `${kind} for ${n} prompts`);
    if (words.length && found.asked === 'reworded') add('labels', words.join(', '));
    const gap = found.parent && found.parent.difference;
    if (gap) add('difference from the original', gap.value.toFixed(1).replace('-', '−'));
    if (gap) addInterval(found.data, (name, value) => add(`difference, ${name}`, value), { parent: gap });
  }
  if (found.dev && found.isTask) {
    add('chosen', `of ${found.parent.of} templates, on ${found.parent.n_dev} validation examples, where it had ${found.parent.dev_value.toFixed(1)}`);
  } else if (found.dev) {
    add('what it is', 'each task under the template that is best on its validation examples');
  }
  if (found.median) add('what it is', 'the median over templates of each task');
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
  const at = button.dataset.at;
  const found = describe(data, at);
  const what = found.models.length ? found.models.join(' − ') : 'without reading';
  const title = `${what}, on ${found.isTask ? found.entry.task : found.entry.cluster}`;
  showPanel(title, button.textContent, (add) => fillPanel(data, at, found, add));
}

function fillPanel(data, at, found, add) {
  add('metric', `${found.variants ? 'accuracy' : found.entry.metric}, 0 to 100${found.clean ? ', on clean examples alone' : ''}`);
  const holder = found.clean ? found.entry.clean : found.entry;
  found.data = data;
  const counted = found.variants ? found.variants.n_examples : found.parent && found.parent.n_examples !== undefined ? found.parent.n_examples : holder.n_examples;
  add('examples (n)', `${counted.toLocaleString('en')}${data.split ? `, ${data.split} split` : ''}${data.num_examples ? `, at most ${data.num_examples.toLocaleString('en')} of a task` : ''}`);
  for (const model of found.models) add(`checkpoint of ${model}`, checkpointLine(data, model));
  if (found.isTask) addTask(data, add, found.entry, found);
  else addCluster(data, add, found);
  addAsked(add, found);
  addInterval(data, add, found);
  if (!found.models.length) add('what it is', 'the best score without reading: commonest answer, chance, or copying the prompt');
  add('seeds', `run ${data.seeds.run === null ? 'not known' : data.seeds.run}, bootstrap ${data.seeds.bootstrap}`);
  if (data.command.length) add('evaluated by', data.command.join(' '));
  add('in report.json', at);
}

function setUpPanel() {
  setUpDialog(openPanel);
}
