// A panel whose lines were written with the page: {title, lines, links, prompts} of each row.
function openLines(panels, button) {
  const [kind, index] = keysOf(button.dataset.at);
  const panel = panels[kind][Number(index)];
  showPanel(panel.title, button.textContent, (add) => {
    for (const [name, value] of panel.lines) add(name, value);
    for (const [name, href] of panel.links) {
      const link = document.createElement('a');
      link.setAttribute('href', href);
      link.textContent = name;
      add('report', link);
    }
    for (const [name, text] of panel.prompts) {
      const prompt = document.createElement('pre');
      prompt.textContent = text;
      add(`a prompt of ${name}`, prompt);
    }
  });
}

function setUpPanel() {
  setUpDialog(openLines);
}
