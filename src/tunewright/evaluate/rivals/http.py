"""Any OpenAI-compatible API as a rival, with what a thousand of its answers cost."""

from __future__ import annotations

from tunewright.evaluate.prompts import build_prompts
from tunewright.evaluate.rivals.options import HttpOptions
from tunewright.evaluate.rivals.rival import Entrant, Ground, Price, title_of
from tunewright.evaluate.systems.endpoint import Endpoint, Usage


class Http:
    """See `Rival`."""

    def __init__(self, options: HttpOptions) -> None:
        self.options = options

    def enter(self, ground: Ground) -> Entrant:
        """Asked as the base model is, the labels in the prompt where the base is shown them. Raises ConfigError when
        the key's variable is not set; nothing is asked yet."""
        exam, options = ground.exam, self.options
        name = title_of(options, options.endpoint.model)
        system = Endpoint(options.endpoint, name=name, where=ground.where, cache=ground.cache)
        prompts = build_prompts(exam.config, exam.labels, exam.rows, None, system="base", room=None)
        price = Price(options.price_input, options.price_output, options.currency)
        notes = {"address": options.endpoint.base_url, "model": options.endpoint.model}
        signature = f"|endpoint:{options.endpoint.model}"
        return Entrant(name, options.name, system, prompts, "needs no training and no GPU", signature, notes, price)


def cost_per_thousand(price: Price, usage: Usage) -> float | None:
    """What a thousand answers cost, by the tokens the endpoint counted; None where a price or the count is missing."""
    if price.input is None or price.output is None or not usage.counted:
        return None
    spent = usage.prompt_tokens * price.input + usage.new_tokens * price.output
    return spent / 1e6 / usage.counted * 1000
