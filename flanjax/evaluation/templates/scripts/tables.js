'use strict';

// A heading sorts its table: downwards, upwards, and as it was.
function sortKey(cell) {
  const shown = cell.querySelector('.n') || cell.querySelector('b') || cell;
  let text = '';
  for (const node of shown.childNodes) {
    if (node.nodeName !== 'SMALL') text += node.textContent;
  }
  text = text.trim();
  const plain = text.replace(/,/g, '').replace('−', '-').replace(/ ?%$/, '');
  const number = plain === '' || plain === '–' ? NaN : Number(plain);
  return { text: text.toLowerCase(), number: number };
}

function compareKeys(a, b) {
  if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return a.number - b.number;
  if (Number.isNaN(a.number) !== Number.isNaN(b.number)) return Number.isNaN(a.number) ? -1 : 1;
  return a.text < b.text ? -1 : a.text > b.text ? 1 : 0;
}

function sortTable(table, heading) {
  const body = table.tBodies[0];
  const headings = Array.from(heading.parentNode.cells);
  const column = headings.indexOf(heading);
  const order = { none: 'descending', descending: 'ascending', ascending: 'none' }[
    heading.getAttribute('aria-sort')];
  for (const other of headings) other.setAttribute('aria-sort', other === heading ? order : 'none');
  const rows = table.originalRows.slice();
  if (order !== 'none') {
    const keys = new Map(rows.map((row) => [row, sortKey(row.cells[column])]));
    const sign = order === 'ascending' ? 1 : -1;
    const known = (row) => !(keys.get(row).text === '' || keys.get(row).text === '–');
    // What has no value comes last either way.
    rows.sort((a, b) => known(b) - known(a) || sign * compareKeys(keys.get(a), keys.get(b)));
  }
  body.append(...rows);
}

function makeSortable(table) {
  table.originalRows = Array.from(table.tBodies[0].rows);
  if (table.originalRows.length < 2) return;
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'sort';
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute('aria-sort', 'none');
    button.addEventListener('click', () => sortTable(table, heading));
  }
}
