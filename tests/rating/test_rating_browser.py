"""The page in a real Chromium: two raters at once, keys, touch, no script, reloads, a killed server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rating_kit import HOSTILE, served, write_answers

from tunewright.rating import texts
from tunewright.rating.store import Store
from tunewright.rating.study import DIMENSIONS, SIDES

playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
QUESTIONS = [f"{side}.{name}" for side in SIDES for name in DIMENSIONS]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A page over six items of two systems, shared by the tests: each is a rater of its own."""
    folder = tmp_path_factory.mktemp("rated")
    write_answers(folder, 6)
    with served(folder, "alpha.jsonl", "beta.jsonl", "votes.sqlite") as (url, _, _):
        yield url, folder / "votes.sqlite"


@pytest.fixture
def visit(chromium: Any) -> Iterator[Any]:
    """Opens the page in a browser window of its own; faults in the console or requests elsewhere fail the test."""
    windows: list[Any] = []
    seen: list[str] = []

    def open_page(url: str, name: str, *, width: int = 1280, language: str = "en-US", **options: Any) -> Any:
        size = {"width": width, "height": 800}
        window = chromium.new_context(viewport=size, locale=language, has_touch=width < 500, **options)
        windows.append(window)
        page = window.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("console", lambda line: seen.append(line.text) if "violates" in line.text else None)
        page.on("request", lambda request: None if request.url.startswith((url, "data:")) else seen.append(request.url))
        page.goto(f"{url}/")
        page.fill("#given", name)
        page.press("#given", "Enter")
        page.wait_for_selector("#vote" if options.get("java_script_enabled") is False else ".scripted #vote")
        return page

    yield open_page
    for window in windows:
        window.close()
    assert seen == []


def votes(path: Path, rater: str) -> list[Any]:
    store = Store.open(path)
    found = [vote for vote in store.votes() if vote.rater == rater]
    store.close()
    return found


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def wait_done(page: Any, count: int) -> None:
    """Until the next task is there with its keys."""
    page.wait_for_selector(f'.scripted progress[value="{count}"]')


def wait_for_draft(path: Path, page: Any, note: str) -> None:
    """Until the server has the draft with this note, at most ten seconds."""
    store = Store.open(path)
    rater = store.raters()[0]
    for _ in range(100):
        if store.draft(rater, store.next_position(rater) or 0).get("note") == note:
            break
        page.wait_for_timeout(100)
    store.close()


def test_two_raters_at_once_by_keys_and_by_touch(site: tuple[str, Path], visit: Any) -> None:
    url, path = site
    lin = visit(url, "lin")
    wu = visit(url, "吴", width=390, language="zh-CN")
    assert texts.CHINESE["compare"] in wu.inner_text("main")
    for task in range(7):
        press(lin, "3", "3", "2", "1", "2", "1", "ArrowLeft", "Enter")
        for name in QUESTIONS:
            wu.tap(f'label:has(input[name="{name}"][value="{task % 3}"])')
        wu.tap('label:has(input[name="preference"][value="tie"])')
        wu.tap("button.main")
        if task < 6:
            wait_done(lin, task + 1)
            wait_done(wu, task + 1)
    lin.wait_for_selector(".card progress[value='7']")
    assert texts.CHINESE["done"] in wu.inner_text("main")
    by_keys, by_touch = votes(path, "lin"), votes(path, "吴")
    assert len(by_keys) == len(by_touch) == 7
    for vote in by_keys:
        assert vote.judgement.preference == "left"
        assert [vote.judgement.levels[side][name] for side in SIDES for name in DIMENSIONS] == [2, 2, 1, 0, 1, 0]
    assert [vote.judgement.levels["left"]["correctness"] for vote in by_touch] == [0, 1, 2, 0, 1, 2, 0]
    first = {(vote.item, vote.left) for vote in by_keys if vote.repeat_of is None}
    assert first == {(vote.item, vote.right) for vote in by_touch if vote.repeat_of is None}, "sides are swapped"


def test_every_key_does_what_the_page_says(site: tuple[str, Path], visit: Any) -> None:
    url, path = site
    page = visit(url, "keys")
    current = "() => document.querySelector('.question.current').dataset.question"
    assert page.is_visible("#keys")
    press(page, "1", "2")
    assert page.evaluate(current) == QUESTIONS[2]
    press(page, "Backspace", "3")
    assert page.is_checked(f'input[name="{QUESTIONS[1]}"][value="2"]'), "a level is mended"
    press(page, "Enter")
    assert page.inner_text("#missing") == texts.ENGLISH["missing"].format(count=5)
    assert votes(path, "keys") == []
    press(page, "1", "1", "1", "1", "t")
    assert page.is_checked('input[value="tie"]')
    press(page, "x")
    assert page.is_checked('input[value="both_bad"]')
    press(page, "n")
    page.keyboard.type("t x 1 u")
    assert page.input_value("#note") == "t x 1 u", "in a text keys are letters"
    press(page, "Escape", "ArrowRight", "Enter")
    wait_done(page, 1)
    assert votes(path, "keys")[0].judgement.preference == "right"
    press(page, "u")
    wait_done(page, 0)
    assert page.input_value("#note") == "t x 1 u" and page.is_checked('input[value="right"]')
    assert votes(path, "keys") == []


def test_arrows_stay_those_of_the_browser_for_who_came_with_tab(site: tuple[str, Path], visit: Any) -> None:
    page = visit(site[0], "tab")
    name = QUESTIONS[0]
    while page.evaluate("document.activeElement.name") != name:
        press(page, "Tab")
    press(page, "Space", "ArrowRight")
    assert page.is_checked(f'input[name="{name}"][value="1"]')
    assert not page.is_checked('input[value="right"]')


def test_a_reload_loses_nothing(site: tuple[str, Path], visit: Any) -> None:
    page = visit(site[0], "reload")
    press(page, "3", "1", "ArrowLeft", "n")
    page.keyboard.type("半句话, half a sentence")
    page.reload()
    assert page.input_value("#note") == "半句话, half a sentence"
    assert page.is_checked(f'input[name="{QUESTIONS[0]}"][value="2"]')
    assert page.is_checked(f'input[name="{QUESTIONS[1]}"][value="0"]')
    assert page.is_checked('input[value="left"]')


def test_a_killed_server_loses_nothing(tmp_path: Path, visit: Any) -> None:
    """kill -9 after a vote and in the middle of the next; another browser goes on with both."""
    paths = write_answers(tmp_path, 8)
    words = [path.name for path in paths]
    with served(tmp_path, *words) as (url, _, process):
        page = visit(url, "lin")
        press(page, "3", "3", "3", "1", "1", "1", "ArrowLeft", "Enter")
        wait_done(page, 1)
        press(page, "2", "n")
        page.keyboard.type("unfinished")
        wait_for_draft(tmp_path / "rating.sqlite", page, "unfinished")
        assert page.inner_text("#state") == texts.ENGLISH["draft_saved"]
        process.kill()
        press(page, "!")
        page.wait_for_selector(f'#state:text-is("{texts.ENGLISH["draft_failed"]}")')
        page.context.close()
    with served(tmp_path, *words) as (url, printed, _):
        assert "goes on with rating.sqlite: 1 votes of 1 raters" in printed
        page = visit(url, "lin")
        wait_done(page, 1)
        assert page.input_value("#note") == "unfinished"
        assert page.is_checked(f'input[name="{QUESTIONS[0]}"][value="1"]')


def test_hostile_answers_are_text_and_corrections_keep_them(site: tuple[str, Path], visit: Any) -> None:
    url, path = site
    page = visit(url, "careful")
    done = 0
    while HOSTILE not in page.inner_text(".answers"):
        page.click("button[value=skip]")
        wait_done(page, done := done + 1)
    assert page.title() == texts.ENGLISH["title"]
    assert page.query_selector(".said b, .said script") is None
    page.click(".answer:first-child summary")
    field = page.locator('textarea[name="left.correction"]')
    assert field.input_value() == HOSTILE, "the field begins with the answer itself"
    field.fill("<i>corrected</i>\n第二行")
    press(page, "Escape", "1", "1", "1", "2", "2", "2", "x", "Enter")
    page.wait_for_selector(f'progress[value="{done + 1}"]')
    last = votes(path, "careful")[-1]
    assert last.judgement.corrections == {"left": "<i>corrected</i>\n第二行"}


def test_it_works_without_a_script(site: tuple[str, Path], visit: Any) -> None:
    url, path = site
    page = visit(url, "plain", java_script_enabled=False)
    assert not page.is_visible("#keys"), "no keys are promised"
    for name in QUESTIONS:
        page.check(f'input[name="{name}"][value="1"]', force=True)
    page.check('input[name="preference"][value="both_bad"]', force=True)
    page.click("button.main")
    page.wait_for_selector('progress[value="1"]')
    assert votes(path, "plain")[0].judgement.preference == "both_bad"


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_a_phone_shows_everything_without_scrolling_sideways(site: tuple[str, Path], visit: Any, language: str) -> None:
    page = visit(site[0], f"phone {language}", width=390, language=language)
    for place in ("/", "/guide"):
        page.goto(site[0] + place)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, place
    page.goto(site[0])
    boxes = [
        target.bounding_box() for target in page.query_selector_all(".levels label, .choices label, .buttons button")
    ]
    assert len(boxes) == 18 + 4 + 3
    assert min(box["height"] for box in boxes) >= 44, "a finger hits every choice"


def test_the_chosen_language_stays(site: tuple[str, Path], visit: Any) -> None:
    page = visit(site[0], "language")
    page.click('a[hreflang="zh"]')
    assert texts.CHINESE["compare"] in page.inner_text("main")
    page.reload()
    assert page.get_attribute("html", "lang") == "zh-Hans"


def test_files_say_nothing_of_systems_to_the_browser(site: tuple[str, Path], visit: Any) -> None:
    page = visit(site[0], "blind")
    held = page.evaluate("JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])")
    assert "alpha" not in held and "beta" not in held
    assert json.loads(held)[0] == "", "cookies are out of a script's reach"
