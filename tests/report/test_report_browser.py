"""The page in a real Chromium: nothing hangs out of it at a desk or on a phone, and the folded parts open."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from comparison_artifacts import MEMORIZATION, compared
from report_artifacts import everything, samples, seal
from test_report_proof import document

from tunewright.report.stage import run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_fits_a_desk_and_a_phone(tmp_path: Path) -> None:
    rows = [{**samples()[0], "rivals": {"tfidf": "card_lost"}}, *samples()[1:]]
    workspace, artifacts = everything(tmp_path, scores=compared(), memorization=MEMORIZATION, samples=rows)
    inputs = [artifacts["data"], artifacts["train"]]
    seal(workspace, "chain", inputs, {"chain.json": document(broken=True)}, passed=False)
    page = run(workspace, project_file_name="bank.yaml", **artifacts).file("report.html")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        for width in (1280, 390):
            tab = browser.new_page(viewport={"width": width, "height": 900})
            tab.goto(page.as_uri())
            tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            first = tab.locator("#verdict > *").first
            assert "cheaper system" in first.inner_text()
            assert tab.locator("svg.chart:visible").count() > 4
        browser.close()
