// Light or dark as the system has it, or as the reader says.
function setUpTheme() {
  const root = document.documentElement;
  const button = document.getElementById('theme');
  const stored = () => { try { return localStorage.getItem('flanjax-theme'); } catch { return null; } };
  const isDark = () => (root.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
  const show = () => { button.textContent = isDark() ? 'light' : 'dark'; };
  if (['light', 'dark'].includes(stored())) root.dataset.theme = stored();
  button.addEventListener('click', () => {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    try { localStorage.setItem('flanjax-theme', root.dataset.theme); } catch { /* a page from a file may have none */ }
    show();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show);
  show();
}

// A link into something that is closed opens it.
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let e = target; e; e = e.parentElement) if (e.nodeName === 'DETAILS') e.open = true;
  target.scrollIntoView();
}

// On paper everything is open.
function setUpPaper() {
  let closed = [];
  const open = () => {
    const found = Array.from(document.querySelectorAll('details:not([open])'));
    for (const details of found) details.open = true;
    closed = closed.concat(found);
  };
  const restore = () => { for (const details of closed) details.open = false; closed = []; };
  addEventListener('beforeprint', open);
  addEventListener('afterprint', restore);
  matchMedia('print').addEventListener('change', (event) => (event.matches ? open() : restore()));
}

function setUpOpenAll() {
  const button = document.getElementById('open-all');
  button.addEventListener('click', () => {
    const opens = button.textContent === 'open all';
    for (const details of document.querySelectorAll('details.group')) details.open = opens;
    button.textContent = opens ? 'close all' : 'open all';
  });
}

document.documentElement.classList.add('script');
for (const table of document.querySelectorAll('table.sortable')) makeSortable(table);
setUpTheme();
if (document.getElementById('search')) setUpSearch();
if (document.getElementById('behind')) setUpPanel();
if (document.getElementById('open-all')) setUpOpenAll();
setUpPaper();
addEventListener('hashchange', openTarget);
openTarget();
