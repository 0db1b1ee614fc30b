"""A real browser without a window, told what to do over two pipes, and what a page that is opened in it does and shows.

The protocol: https://chromedevtools.github.io/devtools-protocol/, messages of JSON that end with a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass, field

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 30.0
"""Seconds until an answer is missed."""
OPTIONS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-default-browser-check", "--mute-audio", "--hide-scrollbars", "--no-proxy-server",
)  # fmt: skip


def find_browser():
    """Return the path of a Chromium, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass
class Visit:
    """What happened while a page was open."""

    errors: list[str] = field(default_factory=list)
    """Of scripts, of the console, of what the page's policy refused."""
    requests: list[str] = field(default_factory=list)
    """Addresses that were asked for, but the page itself and what lies inside it."""
    dialogs: list[str] = field(default_factory=list)
    """What a script said in a window of its own."""


class Browser:
    """Chromium with one tab."""

    def __init__(self, folder):
        down, self._out = os.pipe()
        self._in, up = os.pipe()
        command = [find_browser(), *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        command[1:1] = ["--no-sandbox"] if os.geteuid() == 0 else []
        # The browser reads file descriptor 3 and writes 4, whatever ours are called.
        shell = f'exec 3<&{down} 4>&{up}; exec "$@"'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "browser", *command],
            pass_fds=(down, up),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down)
        os.close(up)
        self._buffer, self._number, self._session, self.events = b"", 0, None, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        """Send a command and return its result; what happens meanwhile is kept in ``events``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._take(answer)

    def _next(self):
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(until - time.monotonic(), 0))
            part = os.read(self._in, 1 << 20) if ready else b""
            assert part, "the browser says nothing any more"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _take(self, event):
        self.events.append(event)
        if event.get("method") == "Page.javascriptDialogOpening":
            self._number += 1
            close = {"id": self._number, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
            os.write(self._out, json.dumps(close | {"sessionId": self._session}).encode() + b"\0")

    def open(self, path, *, width=1280, dark=False):
        """Open a file and return what happened until it was shown."""
        height = 900
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        address = path.resolve().as_uri()
        self.ask("Page.navigate", url=address)
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self._take(self._next())
        # Two frames later, whatever the page does by itself has been done.
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        return self.seen(address)

    def seen(self, address):
        """Return what the events say of a page."""
        visit = Visit()
        for event in self.events:
            about = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    visit.errors.append(json.dumps(about["exceptionDetails"])[:500])
                case "Runtime.consoleAPICalled":
                    visit.errors.append(json.dumps(about["args"])[:500])
                case "Log.entryAdded":
                    visit.errors.append(about["entry"]["text"])
                case "Page.javascriptDialogOpening":
                    visit.dialogs.append(about["message"])
                case "Network.requestWillBeSent":
                    asked = about["request"]["url"]
                    if asked.split("#")[0] != address and not asked.startswith("data:"):
                        visit.requests.append(asked)
        return visit

    def run(self, script):
        """Run a script in the page and return its value."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self, path):
        """Write the whole page as PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    def close(self):
        """End the browser."""
        try:
            self.ask("Browser.close")
        except (AssertionError, OSError):
            self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._out)
        os.close(self._in)


IMAGES = """[...document.images].map(i => {
  const box = i.getBoundingClientRect();
  const folded = i.closest("details:not([open])") !== null;
  return [i.alt, i.complete && i.naturalWidth > 0 && (folded || (box.width > 20 && box.height > 8)), i.currentSrc.length];
})"""
"""Of every picture what it is called, whether it is seen, and how long its address is."""

WIDTH = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
"""Pixels that a page is too wide."""

CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map(k => top[k] * top[3] + below[k] * (1 - top[3])).concat(1);
  const light = c => [0, 1, 2].map(k => c[k] / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = node => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), rgba("canvas"));
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement, style = getComputedStyle(node), box = node.getBoundingClientRect();
    if (!walk.currentNode.data.trim() || style.visibility === "hidden" || !box.width || node.closest("title, style")) continue;
    const drawn = node.namespaceURI.endsWith("svg");
    const ground = drawn ? rgba(getComputedStyle(document.querySelector(".sea")).fill) : behind(node);
    const ink = over(rgba(drawn ? style.fill : style.color), ground);
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${node.tagName}.${node.className.baseVal ?? node.className}: ${walk.currentNode.data.trim().slice(0, 40)}`);
  }
  return found;
})()"""
"""Texts that do not stand out from what is behind them (WCAG 2.2, 1.4.3), and by how much they do."""
