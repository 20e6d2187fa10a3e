"""A headless Chromium for tests of pages, over the DevTools protocol on a pair of pipes: no library and no port."""

import base64
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_SECONDS = 60
"""After which a browser that doesn't answer is given up."""


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """Opens pages. No name resolves, so that nothing a page asks for is ever sent."""

    def __init__(self, executable: str, folder: Path) -> None:
        flags = [
            *("--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder}"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # root has none
        ]
        # Chromium reads commands from descriptor 3 and writes to 4.
        command = ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh", executable, *flags]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._numbers = itertools.count(1)
        self._pending = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def open(self, path: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> "Page":
        """The page after everything in it was loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        page = Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"], target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.call("Page.navigate", url=path.resolve().as_uri())
        page.wait_for("Page.loadEventFired")
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        while True:
            answer = self.read()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def read(self) -> dict[str, Any]:
        """The next message. Raises TimeoutError and EOFError."""
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + PATIENCE_SECONDS
        while b"\0" not in self._pending:
            if not select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("Chromium does not answer")
            part = os.read(descriptor, 1 << 20)
            if not part:
                raise EOFError("Chromium has ended")
            self._pending += part
        message, _, self._pending = self._pending.partition(b"\0")
        return json.loads(message)


class Page:
    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def wait_for(self, method: str, count: int = 1) -> None:
        while len(self.events(method)) < count:
            self._browser.events.append(self._browser.read())

    def events(self, method: str) -> list[dict[str, Any]]:
        """Parameters of this page's events so far."""
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] == method
        ]

    def evaluate(self, script: str) -> Any:
        """A script's value as JSON has it, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """What the console says: errors, warnings, violations of the page's own security policy."""
        return [
            *(json.dumps(event["exceptionDetails"]) for event in self.events("Runtime.exceptionThrown")),
            *(json.dumps(event["args"]) for event in self.events("Runtime.consoleAPICalled")),
            *(event["entry"]["text"] for event in self.events("Log.entryAdded")),
        ]

    def requests(self) -> list[str]:
        """Addresses the page asked for beside its own file and what stands in it, refused ones included."""
        urls = [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]
        urls += [event["url"] for event in self.events("Network.webSocketCreated")]
        own = self.evaluate("location.href.split('#')[0]")
        return [url for url in urls if url != own and not url.startswith("data:")]

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of the element."""
        x, y = self.evaluate(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            "element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });"
            "const box = element.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Enter, Tab or Space, on whatever has the focus."""
        code, text = {"Enter": (13, "\r"), "Tab": (9, ""), "Space": (32, " ")}[key]
        name = " " if key == "Space" else key
        for kind in ("keyDown", "keyUp"):
            down = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=key, windowsVirtualKeyCode=code, **down)

    def screenshot(self, path: Path, beyond: bool = False) -> None:
        """What is in view, or the whole page."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=beyond, fromSurface=True)
        path.write_bytes(base64.b64decode(answer["data"]))
