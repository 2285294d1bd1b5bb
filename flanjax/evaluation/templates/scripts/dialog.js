// The panel of what stands behind a number. All text goes in as text: nothing of the data is ever HTML.
function keysOf(at) {
  return at.split('/').slice(1).map((key) => key.replace(/~1/g, '/').replace(/~0/g, '~'));
}

// Opens the panel; `fill` is given add(name, value) for its lines.
function showPanel(title, number, fill) {
  const dialog = document.getElementById('behind');
  const list = dialog.querySelector('dl');
  list.replaceChildren();
  dialog.querySelector('h2').textContent = title;
  dialog.querySelector('.big').textContent = number;
  fill((name, value) => {
    const term = document.createElement('dt');
    const text = document.createElement('dd');
    term.textContent = name;
    text.append(value);
    list.append(term, text);
  });
  dialog.showModal();
  dialog.scrollTop = 0;
}

// `open` is given the page's data and the button of a number.
function setUpDialog(open) {
  const dialog = document.getElementById('behind');
  const data = JSON.parse(document.getElementById('data').textContent);
  document.addEventListener('click', (event) => {
    const button = event.target.closest('.n');
    if (button) open(data, button);
    if (event.target === dialog) dialog.close();
  });
  dialog.querySelector('.close').addEventListener('click', () => dialog.close());
}
