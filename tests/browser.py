"""Pages in a real Chromium, from disk: what a browser says of them, and how they print."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: what only a browser tells is not tested")


@contextmanager
def opened(path: Path, width: int = 1280) -> Iterator[Any]:
    """A page from disk, once it is drawn; fails where the browser complains of it, or it wants anything beside its own file."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: the page is not opened in a browser"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on(
            "request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None
        )
        page.goto(path.as_uri())
        if page.locator("script.volume").count():
            page.wait_for_selector("[data-ready]", state="attached")
            expected = page.locator("script.volume").count()
            page.wait_for_function(f"document.querySelectorAll('[data-ready]').length === {expected}")
        yield page
        browser.close()
        assert said == []


def printed(path: Path, out: Path) -> tuple[int, tuple[float, float]]:
    """The number of sides on which Chromium prints a page by its command line, and their width and height in mm."""
    assert CHROMIUM is not None
    words = [CHROMIUM, "--headless", *FLAGS, f"--user-data-dir={out.parent / 'profile'}", "--no-pdf-header-footer"]
    subprocess.run([*words, f"--print-to-pdf={out}", path.as_uri()], check=True, capture_output=True, timeout=120)
    pdf = out.read_bytes()
    left, low, right, high = (float(v) for v in re.search(rb"/MediaBox\s*\[([^\]]*)\]", pdf).group(1).split())  # type: ignore[union-attr]
    return len(re.findall(rb"/Type\s*/Page\b", pdf)), (round((right - left) / 72 * 25.4), round((high - low) / 72 * 25.4))
