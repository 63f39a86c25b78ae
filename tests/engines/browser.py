"""A real Chromium without a window, spoken to by the WebDriver protocol: what it shows, measures, asks for and logs."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.engines.install import debian
from tests.engines.servers import free_port, listens, started, wait_until

#: Chromium itself, and fonts for what pages may hold.
_PACKAGES = {
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc": "fonts-noto-cjk",
    "/usr/share/fonts/truetype/noto/NotoSansHebrew-Regular.ttf": "fonts-noto-core",
}
_FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
          "--force-device-scale-factor=1"]  # fmt: skip


class Browser:
    """One tab."""

    def __init__(self, address: str, session: str) -> None:
        self._base = f"{address}/session/{session}"

    def show(self, page: str, width: int, height: int, dark: bool) -> None:
        """Open a page on a screen of such a size, by day or by night."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", media="screen", features=[scheme])
        _post(f"{self._base}/url", {"url": page})

    def command(self, name: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return _post(f"{self._base}/goog/cdp/execute", {"cmd": name, "params": parameters})

    def evaluate(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page; return what it returns."""
        return _post(f"{self._base}/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: Any) -> None:
        """Run a script again and again until it returns true."""
        wait_until(lambda: bool(self.evaluate(script, *arguments)), 30)

    def screenshot(self, file: Path, whole: bool = True) -> Path:
        """Save what is seen as PNG: the whole page, or one screen of it."""
        found = self.command("Page.captureScreenshot", captureBeyondViewport=whole, format="png", **self._clip(whole))
        file.write_bytes(base64.b64decode(found["data"]))
        return file

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.command("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return and forget what was logged: `browser` for the console, `performance` for the network."""
        found: list[dict[str, Any]] = _post(f"{self._base}/se/log", {"type": kind})
        return found

    def requests(self) -> list[str]:
        """Addresses that the pages asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium; its profile and its driver's log go to ``folder``."""
    debian(_PACKAGES)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["chromedriver", f"--port={port}"]
    with started(command, folder / "chromedriver.log", lambda: listens(port)):
        options = {"args": [*_FLAGS, f"--user-data-dir={folder / 'profile'}"], "binary": "/usr/bin/chromium"}
        logging = {"browser": "ALL", "performance": "ALL"}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logging}
        session = _post(f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        try:
            yield Browser(address, session)
        finally:
            _call("DELETE", f"{address}/session/{session}", None)


def _post(url: str, body: dict[str, Any]) -> Any:
    return _call("POST", url, json.dumps(body).encode())


def _call(method: str, url: str, data: bytes | None) -> Any:
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{method} {url}: {error.read().decode(errors='replace')[:2000]}") from None
