"""A headless Chromium, driven by chromedriver over the WebDriver protocol."""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Right": "\ue014", "Home": "\ue011", "End": "\ue010"}


class Browser:
    """One window."""

    def __init__(self, driver: str, session: str) -> None:
        self._base = f"{driver}/session/{session}"
        self._client = httpx.Client(timeout=60, trust_env=False)

    def open(self, url: str) -> None:
        self._post("url", url=url)

    def run(self, script: str, *arguments: object) -> Any:
        """The value of a script's `return`; a promise is waited for."""
        return self._post("execute/sync", script=script, args=list(arguments))

    def find(self, selector: str) -> str:
        return self._post("element", using="css selector", value=selector)[ELEMENT]

    def type(self, selector: str, text: str) -> None:
        """Type text, or choose a file."""
        self._post(f"element/{self.find(selector)}/value", text=text)

    def press(self, *keys: str) -> None:
        """Press keys in the focused element."""
        steps = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("actions", actions=[{"type": "key", "id": "keyboard", "actions": steps}])

    def click(self, selector: str) -> None:
        self._post(f"element/{self.find(selector)}/click")

    def resize(self, width: int, height: int) -> None:
        self._post("window/rect", width=width, height=height)

    def screenshot(self, path: Path) -> bytes:
        content = base64.b64decode(self._client.get(f"{self._base}/screenshot").json()["value"])
        path.write_bytes(content)
        return content

    def wait(self, condition: str, seconds: float = 60.0) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(f"return {condition}")):
            assert time.monotonic() < deadline, f"{condition} does not become true"
            time.sleep(0.1)
        return value

    def complaints(self) -> list[str]:
        """Errors of the console."""
        entries = self._post("se/log", type="browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def emulate(self, **features: str) -> None:
        """Set media features such as `prefers-color-scheme`."""
        values = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self._post("goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params={"features": values})

    def close(self) -> None:
        self._client.delete(self._base)
        self._client.close()

    def _post(self, path: str, **body: object) -> Any:
        answer = self._client.post(f"{self._base}/{path}", json=body)
        value = answer.json()["value"]
        assert answer.is_success, value
        return value


@contextlib.contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium; skip the test where there is none."""
    chromium, chromedriver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("needs chromium and chromedriver")
    driver = subprocess.Popen(
        [chromedriver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
    )
    try:
        assert driver.stdout is not None
        line = next((line for line in driver.stdout if "successfully on port" in line), None)
        if line is None:
            pytest.skip("chromedriver does not start here")
        url = f"http://127.0.0.1:{int(line.rstrip().rstrip('.').split()[-1])}"
        options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={folder}", "--window-size=1280,900"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}, "browserName": "chrome"}
        answer = httpx.post(
            f"{url}/session", json={"capabilities": {"alwaysMatch": wanted}}, timeout=120, trust_env=False
        ).json()["value"]
        if "sessionId" not in answer:
            pytest.skip(f"chromium does not start here: {answer.get('message', '')[:200]}")
        browser = Browser(url, answer["sessionId"])
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait()
        if driver.stdout:
            driver.stdout.close()
