"""The page as plain forms, without a script: what is shown, what is saved, and who is kept out."""

from __future__ import annotations

import html
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rating_kit import HOSTILE, make_pool
from starlette.testclient import TestClient

from tunewright.rating import forms, texts
from tunewright.rating.access import Access
from tunewright.rating.app import MAX_BODY_BYTES, create_app
from tunewright.rating.config import RateConfig
from tunewright.rating.store import Store
from tunewright.rating.study import DIMENSIONS, SIDES

ORIGIN = "http://127.0.0.1:8900"
FULL = {f"{side}.{name}": "2" for side in SIDES for name in DIMENSIONS} | {"preference": "left"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.create(tmp_path / "s.sqlite", make_pool(), RateConfig(audience="bank customers"))
    yield opened
    opened.close()


def browser(store: Store, host: str = "127.0.0.1") -> TestClient:
    client = TestClient(create_app(store, Access(store, host=host)), base_url=ORIGIN, headers={"origin": ORIGIN})
    client.headers.pop("user-agent", None)
    return client


def signed_in(store: Store, name: str = "lin") -> TestClient:
    client = browser(store)
    assert client.post("/sign-in", data={"name": name}).status_code == 200
    return client


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of the rating form."""
    form = page[page.index('id="vote"') :]
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form[: form.index("<section")]))


def cast(client: TestClient, **fields: str) -> Any:
    page = client.get("/").text
    return client.post("/vote", data={**hidden(page), **FULL, **fields}, follow_redirects=False)


def test_a_rater_signs_in_votes_and_goes_on(store: Store) -> None:
    client = signed_in(store)
    page = client.get("/").text
    assert "0 of 13 done" in page and "bank customers" in page
    assert hidden(page)["position"] == "0"
    answered = cast(client, note=" because ")
    assert (answered.status_code, answered.headers["location"]) == (303, "/")
    assert "1 of 13 done" in client.get("/").text
    (vote,) = store.votes()
    assert (vote.rater, vote.judgement.preference, vote.judgement.note) == ("lin", "left", "because")
    assert vote.judgement.levels["right"]["personalization"] == 2
    again = signed_in(store, "LIN ")
    assert "1 of 13 done" in again.get("/").text, "the same name later, in another browser"


def test_the_page_is_blind(store: Store) -> None:
    """Neither system names nor which task comes a second time can be read from any page."""
    client = signed_in(store)
    shapes = set()
    for _ in range(13):
        page = client.get("/").text
        assert "tuned" not in page and not re.search(r"\bbase\b", page)
        shapes.add(re.sub(r"\d+|of (?:esab|denut)|undo\" disabled|undo\" ", "", page))
        cast(client)
    assert len(shapes) == 1, "the page of a repeat looks like every other"
    for path in ("/guide", "/rate.js", "/style.css"):
        assert "tuned" not in client.get(path).text


def test_all_tasks_lead_to_the_end(store: Store) -> None:
    client = signed_in(store)
    for _ in range(13):
        assert cast(client, preference="skip").status_code == 303
    page = client.get("/").text
    assert texts.ENGLISH["done"] in page
    assert store.progress(store.join("lin")).skipped == 13
    mark = re.search(r'action="/undo"><input type="hidden" name="mark" value="(\w+)"', page)
    assert mark is not None
    client.post("/undo", data={"mark": mark[1]})
    assert "12 of 13 done" in client.get("/").text


def test_an_incomplete_form_is_kept_and_what_is_missing_is_marked(store: Store) -> None:
    client = signed_in(store)
    page = client.get("/").text
    some = {"left.correctness": "0", "note": "half <done>", "preference": "tie", "right.correction": "x"}
    answered = client.post("/vote", data={**hidden(page), **some})
    assert answered.status_code == 422
    assert "5 open" in answered.text
    marked = re.findall(r'class="question open" data-question="([\w.]+)"', answered.text)
    assert marked == [f"{side}.{name}" for side in SIDES for name in DIMENSIONS][1:]
    assert store.votes() == []
    for shown in (answered.text, client.get("/").text):
        assert 'name="left.correctness" value="0" required checked' in shown
        assert 'value="tie" required checked' in shown
        assert "half &lt;done&gt;" in shown


def test_undo_shows_the_vote_again(store: Store) -> None:
    client = signed_in(store)
    cast(client, preference="both_bad", note="why")
    client.post("/undo", data={"mark": hidden(client.get("/").text)["mark"]})
    page = client.get("/").text
    assert "0 of 13 done" in page and 'value="both_bad" required checked' in page and "why</textarea>" in page


def test_a_correction_is_saved_only_when_it_differs(store: Store) -> None:
    client = signed_in(store)
    page = client.get("/").text
    shown = re.findall(r'name="(\w+)\.correction"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    same = {f"{side}.correction": html.unescape(text).replace("\n", "\r\n") + "\r\n" for side, text in shown}
    cast(client, **same)
    cast(client, **{"left.correction": "better\r\ntwo lines", "right.correction": "  "})
    one, two = store.votes()
    assert one.judgement.corrections == {}
    assert two.judgement.corrections == {"left": "better\ntwo lines"}


def test_answers_are_text_whatever_they_hold(tmp_path: Path) -> None:
    pool = make_pool(1)
    item = pool.items[0].model_copy(update={"answers": {"base": HOSTILE, "tuned": "\n\nlead\u202eing"}})
    store = Store.create(tmp_path / "s.sqlite", pool.model_copy(update={"items": (item,)}), RateConfig())
    page = signed_in(store).get("/").text
    assert "<script>document" not in page and "<b>bold</b>" not in page
    assert html.escape(HOSTILE, quote=False) in page.replace("&#34;", '"')
    assert page.count("</textarea>") == 3, "no answer closes its field"
    assert re.search(r'correction"[^>]*>\n\n\nlead', page), "the first line feed of a field is eaten by browsers"


def test_every_answer_has_the_headers_and_nothing_from_elsewhere(store: Store) -> None:
    client = signed_in(store)
    for path in ("/", "/guide", "/style.css", "/rate.js", "/nowhere"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert not re.findall(r"(?:src|href|url\()=?[\"']?(?:https?:)?//", answer.text), path
        assert "<style" not in answer.text and " onclick" not in answer.text and " style=" not in answer.text
    assert client.get("/nowhere").status_code == 404


def test_forms_of_other_pages_are_refused(store: Store) -> None:
    client = signed_in(store)
    fields = {**hidden(client.get("/").text), **FULL}
    forged: list[tuple[dict[str, str], dict[str, str]]] = [
        ({**fields, "mark": "0" * 32}, {}),
        ({name: value for name, value in fields.items() if name != "mark"}, {}),
        (fields, {"origin": "http://evil.example"}),
        (fields, {"origin": "null"}),
        (fields, {"host": "evil.example:8900", "origin": "http://evil.example:8900"}),
    ]
    for data, headers in forged:
        assert client.post("/vote", data=data, headers=headers).status_code == 403, (data, headers)
    bare = TestClient(client.app, base_url=ORIGIN, cookies=dict(client.cookies))
    assert bare.post("/vote", data=fields, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    other = signed_in(store, "wu")
    assert other.post("/vote", data=fields).status_code == 403, "another rater's form"
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403, "a foreign name for this machine"
    assert client.get("/", headers={"host": "["}).status_code == 403
    assert store.votes() == []


def test_bodies_that_are_no_form_are_refused(store: Store) -> None:
    client = signed_in(store)
    fields = {**hidden(client.get("/").text), **FULL}
    for position in ("", "-1", "x", "99", "9" * 30, "²"):
        assert client.post("/vote", data={**fields, "position": position}).status_code == 400, position
    assert client.post("/vote", content=b"\xff\xfe=%ff").status_code == 400
    assert client.post("/vote", content=b"a=" + b"b" * MAX_BODY_BYTES).status_code == 413
    assert client.post("/draft", data={**fields, "position": "99"}).status_code == 400
    assert client.get("/vote").status_code == 405
    assert store.votes() == []


def test_a_cookie_cannot_be_made_up(store: Store) -> None:
    client = signed_in(store)
    (name,) = [name for name in client.cookies if name.startswith("rater_")]
    value = client.cookies[name]
    for forged in ("", "x", "bGlu.", f"d3U.{value.partition('.')[2]}", "\x7f.x", f"{value}0"):
        stranger = TestClient(client.app, base_url=ORIGIN, cookies={name: forged})
        assert texts.ENGLISH["sign_in"] in stranger.get("/").text, forged


def test_named_raters_need_their_token(store: Store) -> None:
    by_name = signed_in(store, "lin")
    store.name_raters(("lin", "wu"))
    access = Access(store, host="0.0.0.0")
    client = browser(store, host="0.0.0.0")
    assert texts.ENGLISH["token"] in client.get("/", headers={"host": "rating.example"}).text
    cookie = dict(by_name.cookies)
    assert texts.ENGLISH["token"] in TestClient(client.app, base_url=ORIGIN, cookies=cookie).get("/").text
    assert client.post("/sign-in", data={"name": "lin", "token": "lin"}).status_code == 403
    assert client.get("/?token=guess").status_code == 403
    answer = client.get(f"/?token={access.token('wu')}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/"), "the token leaves the address bar"
    assert "HttpOnly" in answer.headers["set-cookie"] and "samesite=lax" in answer.headers["set-cookie"].lower()
    assert "<b>wu</b>" in client.get("/").text
    store.name_raters(("lin",))
    assert texts.ENGLISH["token"] in client.get("/").text, "who is off the list is out"
    assert access.rater_of_token(access.token("wu")) is None


def test_names_are_checked(store: Store) -> None:
    client = browser(store)
    for name in ("", "   ", "x" * 41, "a\u0000b", "\u202e"):
        answer = client.post("/sign-in", data={"name": name})
        assert answer.status_code == 422 and texts.ENGLISH["bad_name"] in answer.text, repr(name)
    assert store.raters() == []
    assert "<b>&lt;i&gt;李</b>" in signed_in(store, "<i>李").get("/").text


def test_the_language_follows_the_browser_and_the_choice(store: Store) -> None:
    client = browser(store)
    chinese = client.get("/", headers={"accept-language": "fr, zh-CN;q=0.9, en;q=0.8"})
    assert texts.CHINESE["sign_in"] in chinese.text and '<html lang="zh-Hans">' in chinese.text
    assert texts.ENGLISH["sign_in"] in client.get("/", headers={"accept-language": "fr"}).text
    assert texts.CHINESE["sign_in"] in client.get("/?lang=zh").text
    assert texts.CHINESE["sign_in"] in client.get("/").text, "the choice is kept"
    assert texts.CHINESE["not_found"] in client.get("/nowhere").text


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("en;q=0.1,zh;q=0.2", "zh"),
        ("zh;q=0, en", "en"),
        ("zh;q=x, en", "en"),
        ("ZH-tw", "zh"),
    ],
)
def test_weights_of_languages(accepted: str, language: str) -> None:
    assert texts.preferred(accepted) == language


def test_both_languages_have_every_text_with_the_same_places() -> None:
    assert texts.ENGLISH.keys() == texts.CHINESE.keys()
    for key, text in texts.ENGLISH.items():
        places = re.findall(r"\{\w+\}", text)
        assert sorted(places) == sorted(re.findall(r"\{\w+\}", texts.CHINESE[key])), key
        assert not hasattr({}, key), f"'{key}' is a method of dict: a template would show that"


def test_a_vote_that_cannot_be_written_is_not_called_saved(store: Store) -> None:
    client = signed_in(store)
    fields = {**hidden(client.get("/").text), **FULL}
    store._database.rows("PRAGMA busy_timeout=50")
    blocker = sqlite3.connect(store.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    answer = client.post("/vote", data=fields)
    assert answer.status_code == 503
    assert html.escape(texts.ENGLISH["not_saved"]) in answer.text
    blocker.execute("ROLLBACK")
    assert client.post("/vote", data=fields).status_code == 200
    assert len(store.votes()) == 1


def test_a_form_survives_the_way_there_and_back() -> None:
    form = {**FULL, "note": "n", "left.correction": "c"}
    assert forms.missing(form) == []
    assert forms.as_form(forms.judgement(form, {"left": "a", "right": "b"})) == form
    assert forms.missing({"preference": "skip"}) == []
    assert forms.missing({**FULL, "left.correctness": "3", "preference": "winner"}) == [
        "left.correctness",
        "preference",
    ]
