"""A headless Chromium that tests drive over its own pipe: no driver and no package is needed.

The DevTools protocol over `--remote-debugging-pipe`: JSON objects ended by a zero byte, to the
browser's file descriptor 3 and from its 4.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import tempfile
import time

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome')
_FLAGS = (
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--disable-dev-shm-usage', '--disable-extensions', '--mute-audio', '--no-default-browser-check',
    '--remote-debugging-pipe')
_PATIENCE_S = 120


def find():
  """The path of a browser, or None."""
  named = os.environ.get('CHROMIUM')
  return named or next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
  """A browser with a new, empty profile; `page` opens a file in it."""

  def __init__(self):
    self._profile = tempfile.mkdtemp(prefix='flanjax-browser-')
    (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
    # Away from 3 and 4, which are to be the browser's ends.
    ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (theirs_in, theirs_out)]
    self._pid = os.posix_spawn(
        find(), [find(), *_FLAGS, f'--user-data-dir={self._profile}', 'about:blank'], os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, ends[0], 3), (os.POSIX_SPAWN_DUP2, ends[1], 4),
                      (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                      (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)])
    for fd in (theirs_in, theirs_out, *ends):
      os.close(fd)
    self._read, self._last, self.events = b'', 0, []

  def call(self, method, session=None, **params):
    """Sends a command and waits for its answer; events on the way are kept."""
    self._last += 1
    message = {'id': self._last, 'method': method, 'params': params}
    if session:
      message['sessionId'] = session
    os.write(self._out, json.dumps(message).encode() + b'\0')
    while (answer := self._receive()).get('id') != self._last:
      self.events.append(answer)
    if 'error' in answer:
      raise RuntimeError(f'{method}: {answer["error"]}')
    return answer['result']

  def wait(self, method, session):
    """Waits for an event of a session, which may have happened."""
    while True:
      for i, event in enumerate(self.events):
        if event.get('method') == method and event.get('sessionId') == session:
          return self.events.pop(i)
      self.events.append(self._receive())

  def _receive(self):
    while b'\0' not in self._read:
      if not select.select([self._in], [], [], _PATIENCE_S)[0]:
        raise TimeoutError('the browser says nothing')
      part = os.read(self._in, 1 << 20)
      if not part:
        raise RuntimeError('the browser has ended')
      self._read += part
    line, _, self._read = self._read.partition(b'\0')
    return json.loads(line)

  def page(self, path, **media):
    return Page(self, path, **media)

  def close(self):
    try:
      self.call('Browser.close')
    except (OSError, RuntimeError):
      pass
    for fd in (self._out, self._in):
      os.close(fd)
    deadline = time.monotonic() + 20
    while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
      if time.monotonic() > deadline:
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
        break
      time.sleep(0.05)
    shutil.rmtree(self._profile, ignore_errors=True)


class Page:
  """A page that is loaded, in the given media."""

  def __init__(self, browser, path, width=1200, height=900, media='', dark=False, fragment=''):
    self._browser = browser
    target = browser.call('Target.createTarget', url='about:blank')['targetId']
    self._session = browser.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'Network'):
      self.call(f'{domain}.enable')
    self.size(width, height)
    self.emulate(media, dark)
    self.open(path, fragment)

  def open(self, path, fragment=''):
    self.call('Page.navigate', url=f'file://{path}{fragment}')
    self._browser.wait('Page.loadEventFired', self._session)

  def call(self, method, **params):
    return self._browser.call(method, self._session, **params)

  def size(self, width, height):
    self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1,
              mobile=False)

  def emulate(self, media='', dark=False):
    scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
    self.call('Emulation.setEmulatedMedia', media=media, features=[scheme])

  def run(self, script):
    """The value of a JavaScript expression."""
    found = self.call('Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True)
    if 'exceptionDetails' in found:
      raise RuntimeError(found['exceptionDetails']['exception'].get('description'))
    return found['result'].get('value')

  def key(self, name, code):
    for kind in ('keyDown', 'keyUp'):
      self.call('Input.dispatchKeyEvent', type=kind, key=name, code=name, windowsVirtualKeyCode=code,
                **({'text': '\r'} if name == 'Enter' and kind == 'keyDown' else {}))

  def heard(self, method):
    """The parameters of events so far."""
    self.run('0')
    return [e['params'] for e in self._browser.events
            if e.get('method') == method and e.get('sessionId') == self._session]

  def picture(self):
    """The whole page, as PNG."""
    taken = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=True)
    return base64.b64decode(taken['data'])

  def pdf(self):
    return base64.b64decode(self.call('Page.printToPDF', preferCSSPageSize=True)['data'])

  def close(self):
    self.call('Page.close')
