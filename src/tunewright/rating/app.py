"""The rating page over HTTP. It works without scripts; a small script adds keys and drafts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tunewright.core.errors import ResourceError
from tunewright.rating import forms, pages
from tunewright.rating.access import Access, is_same_origin
from tunewright.rating.config import rater_name
from tunewright.rating.pages import FOLDER, Visitor
from tunewright.rating.store import Rater, Store
from tunewright.rating.texts import TEXTS, preferred

MAX_BODY_BYTES = 4_000_000
"""Two corrected answers of several hundred thousand characters, URL-encoded."""
YEAR_S = 365 * 24 * 3600
FAULTS = {400: "bad_request", 403: "forbidden", 413: "too_large", 503: "not_saved"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # no-referrer would make browsers send "Origin: null" with every form
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises HTTPException 413 and 400."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413)
    try:
        return forms.decoded(bytes(body))
    except ValueError:
        raise HTTPException(400) from None


Form = Annotated[dict[str, str], Depends(read_form)]


def create_app(store: Store, access: Access) -> FastAPI:
    """The application over one store."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    site = _Site(store, access)
    for path, method, endpoint in (
        ("/", "GET", site.home),
        ("/guide", "GET", site.guide),
        ("/style.css", "GET", site.style),
        ("/rate.js", "GET", site.script),
        ("/sign-in", "POST", site.sign_in),
        ("/sign-out", "POST", site.sign_out),
        ("/vote", "POST", site.vote),
        ("/undo", "POST", site.undo),
        ("/draft", "POST", site.draft),
    ):
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
    app.add_exception_handler(HTTPException, site.refused)
    app.add_exception_handler(ResourceError, site.not_saved)
    app.middleware("http")(site.front)
    return app


class _Site:
    """The endpoints. Plain functions: FastAPI runs them on threads, so that a slow disk blocks nobody else."""

    def __init__(self, store: Store, access: Access) -> None:
        self._store, self._access = store, access

    async def front(self, request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        """Refuses foreign hosts and foreign forms, sets the headers, keeps a chosen language."""
        foreign = not self._access.is_own_host(request.headers.get("host", ""))
        if foreign or (request.method == "POST" and not is_same_origin(request.headers)):
            response: Response = self._fault(request, 403)
        else:
            response = await answer(request)
        if request.query_params.get("lang") in TEXTS:
            response.set_cookie("lang", request.query_params["lang"], max_age=YEAR_S, samesite="lax", httponly=True)
        response.headers.update(HEADERS)
        return response

    async def refused(self, request: Request, error: Exception) -> Response:
        """A page for an HTTP error."""
        return self._fault(request, error.status_code if isinstance(error, HTTPException) else 500)

    async def not_saved(self, request: Request, error: Exception) -> Response:
        """The disk is full or the file is held: the rater must know that this vote is not saved."""
        return self._fault(request, 503)

    def _fault(self, request: Request, status: int) -> Response:
        return HTMLResponse(pages.fault(self._visitor(request, None), FAULTS.get(status, "not_found")), status)

    def _rater(self, request: Request) -> Rater | None:
        name = self._access.rater_of_cookie(request.cookies.get(self._access.cookie_name, ""))
        return None if name is None else self._store.join(name)

    def _visitor(self, request: Request, rater: Rater | None) -> Visitor:
        chosen = request.query_params.get("lang") or request.cookies.get("lang")
        language = chosen if chosen in TEXTS else preferred(request.headers.get("accept-language", ""))
        return Visitor(language, rater.name, self._access.mark(rater.name)) if rater else Visitor(language)

    def _required(self, request: Request, form: dict[str, str]) -> Rater:
        """The rater who sent a form of ours; raises HTTPException 403."""
        rater = self._rater(request)
        if rater is None or not self._access.is_marked(rater.name, form.get("mark", "")):
            raise HTTPException(403)
        return rater

    def home(self, request: Request) -> Response:
        """The next task; before that the sign-in page, after the last one thanks."""
        if token := request.query_params.get("token"):
            name = self._access.rater_of_token(token)
            return self._signed_in(name) if name else self._sign_in_page(request, "bad_token", 403)
        rater = self._rater(request)
        if rater is None:
            return self._sign_in_page(request)
        position = self._store.next_position(rater)
        if position is None:
            return HTMLResponse(pages.done(self._visitor(request, rater), self._store.progress(rater)))
        return self._task_page(request, rater, position, self._store.draft(rater, position))

    def _sign_in_page(self, request: Request, fault: str = "", status: int = 200, given: str = "") -> Response:
        visitor = self._visitor(request, None)
        return HTMLResponse(pages.sign_in(visitor, by_token=self._access.needs_token, fault=fault, given=given), status)

    def _signed_in(self, name: str) -> Response:
        response = _home()
        response.set_cookie(
            self._access.cookie_name, self._access.cookie(name), max_age=YEAR_S, httponly=True, samesite="lax"
        )
        return response

    def _task_page(
        self, request: Request, rater: Rater, position: int, form: dict[str, str], *, checked: bool = False
    ) -> Response:
        task = self._store.task(rater, position)
        if task is None:
            raise HTTPException(404)
        page = pages.task(
            self._visitor(request, rater),
            task,
            self._store.items[task.item],
            position=position,
            progress=self._store.progress(rater),
            form=form,
            open_questions=forms.missing(form) if checked else (),
            audience=self._store.settings["audience"],
            show_reference=self._store.settings["show_reference"],
        )
        return HTMLResponse(page, 422 if checked else 200)

    def guide(self, request: Request) -> Response:
        """What the levels mean; open to everyone."""
        visitor = self._visitor(request, self._rater(request))
        return HTMLResponse(pages.guide(visitor, audience=self._store.settings["audience"]))

    def style(self) -> Response:
        """The style sheet."""
        return Response((FOLDER / "style.css").read_bytes(), media_type="text/css")

    def script(self) -> Response:
        """Keys and drafts."""
        return Response((FOLDER / "rate.js").read_bytes(), media_type="text/javascript")

    def sign_in(self, request: Request, form: Form) -> Response:
        """By token where raters are named, else by name."""
        if self._access.needs_token:
            name = self._access.rater_of_token(form.get("token", ""))
            return self._signed_in(name) if name else self._sign_in_page(request, "bad_token", 403)
        try:
            return self._signed_in(rater_name(form.get("name", "")))
        except ValueError:
            return self._sign_in_page(request, "bad_name", 422, form.get("name", ""))

    def sign_out(self, request: Request, form: Form) -> Response:
        """Forgets the rater in this browser."""
        self._required(request, form)
        response = _home()
        response.delete_cookie(self._access.cookie_name)
        return response

    def vote(self, request: Request, form: Form) -> Response:
        """Saves a complete form; an incomplete one is kept as a draft and shown again."""
        rater, position = self._required(request, form), _position(form)
        task = self._store.task(rater, position)
        if task is None:
            raise HTTPException(400)
        fields = forms.fields_of(form)
        if forms.missing(fields):
            self._store.save_draft(rater, position, fields)
            return self._task_page(request, rater, position, fields, checked=True)
        answers = self._store.items[task.item].answers
        judgement = forms.judgement(fields, {"left": answers[task.left], "right": answers[task.right]})
        self._store.cast(rater, position, judgement)
        return _home()

    def undo(self, request: Request, form: Form) -> Response:
        """Takes the rater's last vote back; its answers stand in the form again."""
        self._store.undo(self._required(request, form))
        return _home()

    def draft(self, request: Request, form: Form) -> Response:
        """Keeps what is filled in so far."""
        rater, position = self._required(request, form), _position(form)
        if self._store.task(rater, position) is None:
            raise HTTPException(400)
        self._store.save_draft(rater, position, forms.fields_of(form))
        return Response(status_code=204)


def _home() -> Response:
    return RedirectResponse("/", 303)


def _position(form: dict[str, str]) -> int:
    given = form.get("position", "")
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise HTTPException(400)
    return int(given)
