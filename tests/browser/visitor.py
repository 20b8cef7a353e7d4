"""A person with a browser window of their own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Dialog, Request, ViewportSize

#: What the page is laid out for, in pixels: all that someone needs must be seen in it without scrolling.
WINDOW: ViewportSize = {"width": 1280, "height": 1000}


class Visitor:
    """
    One window, and a record of what its page did that it should not: asked another address for something,
    opened a dialog, or raised an error.

    :param browser: The browser that opens the window.
    :param base_url: The address of Airflow's page.
    :param artefacts: The folder for what is kept; emptied at the start.
    """

    def __init__(self, browser: Browser, base_url: str, artefacts: Path) -> None:
        self.base_url = base_url
        self.foreign_urls: list[str] = []
        self.dialogs: list[str] = []
        self.errors: list[str] = []
        self._artefacts = artefacts
        shutil.rmtree(artefacts, ignore_errors=True)
        self._context = browser.new_context(viewport=WINDOW, locale="en-US", color_scheme="light")
        self._context.tracing.start(screenshots=True, snapshots=True)
        self._context.on("request", self._note_request)
        self._context.on("dialog", self._note_dialog)
        self._context.on("weberror", lambda error: self.errors.append(str(error.error)))
        self.page = self._context.new_page()

    def take_screenshot(self, name: str, *, folder: str = "") -> Path:
        """
        Keep what the window shows, and return the file.

        :param folder: A folder that several tests share; default this test's own.
        """
        artefacts = self._artefacts.with_name(folder) if folder else self._artefacts
        path = artefacts / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression on the page."""
        return self.page.evaluate(script)

    def leave(self, *, keep_trace: bool) -> None:
        """Close the window; where something went wrong, keep how it looked and what happened in it."""
        if keep_trace:
            self.take_screenshot("failure")
            self._context.tracing.stop(path=self._artefacts / "trace.zip")
        self._context.close()

    def _is_foreign(self, url: str) -> bool:
        # Scripts of the page's own come from blobs that it made, whose address names it.
        return not url.removeprefix("blob:").startswith((f"{self.base_url}/", "data:", "about:"))

    def _note_request(self, request: Request) -> None:
        if self._is_foreign(request.url):
            self.foreign_urls.append(request.url)

    def _note_dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()
