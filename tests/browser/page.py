"""A real browser, and the words in which tests speak of the dashboard."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

PATIENCE_S = 20.0
LOOK_EVERY_S = 0.1
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root in a container has none
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--window-size=1280,1150",
)


def why_not() -> str:
    """Return why no browser can be driven here; empty if one can."""
    if find_spec("selenium") is None:
        return "selenium is not installed: make browser"
    if not (any(map(shutil.which, BROWSERS)) and shutil.which("chromedriver")):
        return "there is no Chromium with its driver: apt-get install chromium chromium-driver"
    return ""


@contextmanager
def browser(*flags: str) -> Iterator[Page]:
    """A headless browser, gone with the block."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    for flag in (*FLAGS, *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Both by their paths: without them selenium would look for others on the network.
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Page(driver)
    finally:
        driver.quit()


class Page:
    """What is shown, and what a person does with it."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, http: str, view: str = "") -> None:
        """Show a view of the dashboard of a node."""
        self.driver.get("about:blank")  # a change behind # alone loads nothing
        self.driver.get(f"{http}/ui/{view}")

    def in_a_new_tab(self, http: str, view: str = "") -> str:
        """Show a view in a tab of its own, and return its handle."""
        self.driver.switch_to.new_window("tab")
        self.open(http, view)
        return str(self.driver.current_window_handle)

    def at(self, handle: str) -> None:
        """Look at another tab."""
        self.driver.switch_to.window(handle)

    def find(self, css: str) -> WebElement:
        """Return an element once it is there."""
        return self.until(lambda: next(iter(self.all(css)), None), css)

    def all(self, css: str) -> list[WebElement]:
        """Return the elements of now."""
        return list(self.driver.find_elements("css selector", css))

    def text(self, css: str) -> str:
        """Return what is written in an element; empty if it is not there."""
        said = "const e = document.querySelector(arguments[0]); return e ? e.innerText : ''"
        return str(self.run(said, css))

    def click(self, css: str) -> None:
        """Press a button once it can be pressed."""
        self.until(lambda: self._clicked(css), f"{css} can be pressed")

    def says(self, css: str, *words: str) -> None:
        """Return once all these words are written there."""
        self.until(
            lambda: all(word in self.text(css) for word in words), f"{css} says {', '.join(words)}"
        )

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Return what is true once it is; fails, saying what was waited for."""
        from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
        from selenium.webdriver.support.wait import WebDriverWait

        wait = WebDriverWait(
            self.driver,
            PATIENCE_S,
            LOOK_EVERY_S,
            ignored_exceptions=[StaleElementReferenceException],
        )
        try:
            return wait.until(lambda _: true())
        except TimeoutException:
            shown = self.text("body")
        said = "\n".join([shown, *self.complaints()])
        raise AssertionError(f"in vain: {what}. The page says:\n{said}")

    def complaints(self) -> list[str]:
        """Return what the browser has found wrong with the page since the last look; an answer with
        an error, such as 404 for a cart that is not there, is nothing wrong.
        """
        found = [entry for entry in self.driver.get_log("browser") if entry["source"] != "network"]
        return [entry["message"] for entry in found if entry["level"] == "SEVERE"]

    def _clicked(self, css: str) -> bool:
        found = self.all(css)
        if not found or not found[0].is_enabled() or not found[0].is_displayed():
            return False
        self.run("arguments[0].scrollIntoView({block: 'center'})", found[0])
        found[0].click()
        return True
