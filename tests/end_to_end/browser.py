"""A headless Chromium that tests look through, by its debugging pipe."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 20.0
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--remote-debugging-pipe",
)  # fmt: skip


@dataclass
class Tab:
    """One tab; ``complaints`` is all that its console and its policy ever said."""

    to: BinaryIO
    back: BinaryIO
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    _asked: int = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        self._asked += 1
        asked = {"id": self._asked, "method": method, "params": params}
        if self.session:
            asked["sessionId"] = self.session
        self.to.write(json.dumps(asked).encode() + b"\0")
        self.to.flush()
        while True:
            told = self._read()
            if told.get("id") == self._asked:
                assert "error" not in told, told["error"]
                return dict(told["result"])

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        told = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def text(self, selector: str) -> str:
        """Return the text of the first element that fits."""
        said = json.dumps(selector)
        return str(self.run(f"document.querySelector({said})?.textContent ?? ''"))

    def wait_for(self, selector: str, text: str) -> None:
        """Return once the first element that fits says this."""
        until = time.monotonic() + PATIENCE_S
        while (said := self.text(selector)) != text:
            assert time.monotonic() < until, f"{selector} says {said!r}, not {text!r}"
            time.sleep(0.05)

    def open(self, address: str) -> None:
        """Go to a page."""
        self.ask("Page.navigate", url=address)

    def dress(self, width: int, scheme: str) -> None:
        """Set the width of the window, and whether it is light or dark."""
        sizes = {"width": width, "height": 900, "deviceScaleFactor": 1}
        self.ask("Emulation.setDeviceMetricsOverride", **sizes, mobile=False)
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", features=wanted)

    def shoot(self, path: Path) -> None:
        """Keep a picture of the whole page."""
        told = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))

    def _read(self) -> dict[str, Any]:
        line = bytearray()
        while (byte := self.back.read(1)) != b"\0":
            assert byte, "the browser is gone"
            line += byte
        told: dict[str, Any] = json.loads(line)
        if told.get("method") in {"Runtime.exceptionThrown", "Log.entryAdded"}:
            self.complaints.append(json.dumps(told["params"]))
        return told


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Tab]:
    """Yield a tab of a fresh browser."""
    read_ours, write_theirs = os.pipe()
    read_theirs, write_ours = os.pipe()
    shell = f'exec "$@" 3<&{read_theirs} 4>&{write_theirs}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "-", program, *OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(read_theirs, write_theirs),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_theirs)
    os.close(write_theirs)
    with os.fdopen(write_ours, "wb") as to, os.fdopen(read_ours, "rb") as back:
        tab = Tab(to, back)
        target = tab.ask("Target.createTarget", url="about:blank")["targetId"]
        joined = tab.ask("Target.attachToTarget", targetId=target, flatten=True)
        tab.session = joined["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            tab.ask(f"{domain}.enable")
        yield tab
        process.terminate()
        process.wait()
