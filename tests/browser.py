"""Debian's Chromium through its DevTools protocol, over a pair of pipes: no network, no driver and no package."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--disable-extensions", "--hide-scrollbars",
]  # fmt: skip
# The protocol speaks on descriptors 3 and 4, which may be in use on the way there.
START = """
import os, sys
ends = [os.dup2(int(end), high) for end, high in zip(sys.argv[1:3], (250, 251))]
for end, low in zip(ends, (3, 4)):
    os.dup2(end, low)
os.execv(sys.argv[3], sys.argv[3:])
"""


def executable():
    """The browser's path, None where none is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page in a headless browser; ``messages`` are what it said on its console, errors of scripts among them."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="jaxmlip-browser-")
        read_commands, self.commands = os.pipe()
        self.answers, write_answers = os.pipe()
        ends = (read_commands, write_answers)
        flags = [*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={self.profile}"]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", START, *map(str, ends), str(executable()), *flags, "about:blank"],
            pass_fds=ends, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_commands)
        os.close(write_answers)
        self.count, self.rest, self.session, self.messages, self.events = 0, b"", None, [], []
        pages = [one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        target = pages[0]["targetId"] if pages else self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        os.close(self.commands)
        os.close(self.answers)
        os.killpg(self.process.pid, signal.SIGKILL)  # our own session: the browser and its helpers
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, **parameters):
        """The result of a command of the protocol."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.count:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _next(self):
        while b"\0" not in self.rest:
            piece = os.read(self.answers, 1 << 20)
            assert piece, "the browser has ended"
            self.rest += piece
        text, self.rest = self.rest.split(b"\0", 1)
        answer = json.loads(text)
        self._keep(answer.get("method"), answer.get("params"))
        return answer

    def _keep(self, method, parameters):
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.messages.append(parameters)
        if method == "Network.requestWillBeSent":
            self.events.append(parameters["request"]["url"])
        if method == "Page.loadEventFired":
            self.events.append("load")

    def open(self, path, *, width=1200, height=900, phone=False, scripts=True):
        """Load a file in a window of this size and wait until it is drawn."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.messages, self.events = [], []
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while "load" not in self.events:
            self._next()
        if scripts:
            self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script):
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key):
        """A key, down and up."""
        code = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowRight": 39, "Home": 36}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def move(self, x, y):
        """The mouse, to a place in the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def tap(self, x, y):
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def picture(self, path, *, whole=False):
        """A screenshot, of the whole page if wanted."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(found["data"]))

    def pdf(self, path):
        """The page as printed."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"]))
