"""A real browser for tests: Debian's Chromium without a window, with selenium, which looks for no driver itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

PROGRAMS = ("chromium", "chromedriver")
PACKAGES = "chromium chromium-driver"
# No sandbox: root has none. All else keeps it from asking servers for anything of its own.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)


def why_not() -> str | None:
    """Why no browser can be started here, in capitals; None where it can."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if not missing:
        return None
    return f"CHROMIUM IS NOT INSTALLED (MISSING: {' '.join(missing)}). TO RUN THESE TESTS, INSTALL {PACKAGES}."


@dataclass(frozen=True)
class Browser:
    """A Chromium with one window."""

    driver: webdriver.Chrome

    def open(self, page: Path, width: int = 1280, height: int = 800) -> None:
        """Show a file from its file:// address, in a window of this size (CSS pixels); what was logged is forgotten."""
        self.resize(width, height)
        self.said(), self.requests()
        self.driver.get(page.resolve().as_uri())

    def resize(self, width: int, height: int = 800) -> None:
        """As a phone or a desktop has it: a headless window may not be so narrow itself."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def run(self, script: str, *words: Any) -> Any:
        """What a function body of JavaScript returns, given these words as `arguments`."""
        return self.driver.execute_script(script, *words)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """The text of each such element, also of those that are out of sight."""
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent.trim())"
        return list(self.run(script, selector))

    def press(self, *keys: str) -> None:
        """On whatever has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def drag(self, start: tuple[int, int], across: int) -> None:
        """Press the mouse at a place of the window, move it so far to the right, and release it (CSS pixels)."""
        x, y = start
        steps = [("mouseMoved", 0, 0), ("mousePressed", 0, 1)]
        steps += [("mouseMoved", across * part // 4, 1) for part in (1, 2, 3, 4)] + [("mouseReleased", across, 0)]
        for kind, moved, pressed in steps:
            button = "none" if (kind, pressed) == ("mouseMoved", 0) else "left"
            event = {"type": kind, "x": x + moved, "y": y, "button": button, "buttons": pressed}
            self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {**event, "clickCount": int(kind != "mouseMoved")})
            self.driver.execute_async_script("setTimeout(arguments[0], 100)")  # bokeh looks between frames

    def said(self) -> list[str]:
        """What the console has said since it was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses of all that was asked for since this was called last, but for what a page's policy forbade."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        forbidden = {
            one["params"]["requestId"]
            for one in messages
            if one["method"] == "Network.loadingFailed" and one["params"].get("blockedReason") == "csp"
        }
        sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent if one["requestId"] not in forbidden]


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with an empty profile in this folder, while the block runs."""
    browser, driver = (shutil.which(name) for name in PROGRAMS)
    options = webdriver.ChromeOptions()
    options.binary_location = str(browser)
    for flag in (*FLAGS.split(), f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()
