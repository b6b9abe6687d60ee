"""The paths that load and unload models by name, as vLLM calls them; a path is never taken from a request."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from tunewright.core.errors import TunewrightError
from tunewright.serve.body import read_body
from tunewright.serve.config import ServeConfig
from tunewright.serve.parse import json_object
from tunewright.serve.roster import Roster
from tunewright.serve.wire import ApiError


def add_admin(app: FastAPI, roster: Roster | None, config: ServeConfig) -> None:
    """Adds the paths; without a roster they say that this server has one model."""

    @app.post("/v1/load_lora_adapter")
    async def load(request: Request) -> Response:
        name, open_roster = await _name(request, roster, config)
        try:
            await open_roster.load(name)
        except TunewrightError as error:
            text = f"'{name[:100]}' was not loaded: {error.problem}"
            raise ApiError(400, text, param="lora_name", code="model_not_loaded") from None
        return JSONResponse({"status": "loaded", "lora_name": name})

    @app.post("/v1/unload_lora_adapter")
    async def unload(request: Request) -> Response:
        name, open_roster = await _name(request, roster, config)
        await open_roster.unload(name)
        return JSONResponse({"status": "unloaded", "lora_name": name})


async def _name(request: Request, roster: Roster | None, config: ServeConfig) -> tuple[str, Roster]:
    """Who may do it and what was named; raises ApiError."""
    if config.tenants and request.state.tenant not in config.admins:
        raise ApiError(403, "This key may not load or unload models.", code="not_allowed")
    if roster is None:
        raise ApiError(404, "This server has one model and cannot load others.", code="unsupported_endpoint")
    given: dict[str, Any] = json_object(await read_body(request, config.max_body_bytes))
    if "lora_path" in given:
        text = "A path is not taken from a request. Register the model with `tunewright serve add`, then load its name."
        raise ApiError(400, text, param="lora_path", code="unsupported_parameter")
    name = given.get("lora_name")
    if not isinstance(name, str):
        raise ApiError(
            400, "Missing required parameter: 'lora_name'.", param="lora_name", code="missing_required_parameter"
        )
    return name, roster
