"""The plan for people."""

from __future__ import annotations

from tunewright.core.events import clock
from tunewright.core.files import human_bytes
from tunewright.plan.alternatives import AS_WRITTEN, Alternative
from tunewright.plan.job import passes
from tunewright.plan.make import Plan
from tunewright.train.footprint.parts import PARTS


def text(plan: Plan) -> str:
    """Head, memory by part, alternatives, the cheapest that fits, disk, and the guide's claims."""
    blocks = [_head(plan), _parts(plan), _table(plan), _best(plan), _rest(plan), _claims(plan)]
    return "\n\n".join(blocks)


def _head(plan: Plan) -> str:
    job, need = plan.job, plan.written.need
    shape = job.config.get_text_config()
    method = job.settings.method.name
    lines = [
        f"model    {job.model}: {plan.parameters:,} weights, {shape.num_hidden_layers} layers, "
        f"hidden {shape.hidden_size}, vocabulary {shape.vocab_size}",
        f"method   {method}: {need.trained:,} weights are trained ({need.trained / plan.parameters:.2%} of them)",
        f"machine  {plan.target.name}" + (f", {plan.target.devices} of them" if plan.target.devices > 1 else ""),
    ]
    if job.data:
        lines.append(
            f"rows     {passes(job.settings)}: {len(job.steps):,} steps, {job.tokens:,} tokens, "
            f"{job.computed:,} computed"
        )
    else:
        lines.append("rows     none yet: rows of 512 tokens are assumed; after `tunewright data` they are counted")
    return "\n".join(lines)


def _parts(plan: Plan) -> str:
    need = plan.written.need
    shown = "\n".join(f"  {part:<12} {getattr(need, part) / 1e9:>8.2f} GB" for part in PARTS if getattr(need, part))
    host = f"\n  {'host memory':<12} {need.host / 1e9:>8.2f} GB beside it" if need.host else ""
    return f"memory {AS_WRITTEN}, most in {need.moment}\n{shown}\n  {'in all':<12} {need.bytes / 1e9:>8.2f} GB{host}"


def _table(plan: Plan) -> str:
    width = max(len(one.name) for one in plan.found)
    has_time = plan.probe is not None
    head = f"{'alternatives':<{width}}  {'GB':>7}  {'host GB':>7}  fits  {'work':>5}"
    head += f"  {'time':>9}" if has_time else ""
    head += f"  {'cost':>9}" if plan.price is not None else ""
    return "\n".join([head, *(_line(plan, one, width) for one in plan.found)])


def _line(plan: Plan, one: Alternative, width: int) -> str:
    work = one.operations / plan.written.operations
    line = f"{one.name:<{width}}  {one.need.bytes / 1e9:>7.2f}  {one.need.host / 1e9:>7.2f}  "
    line += f"{'yes' if one.fits else 'no':<4}  {work:>5.2f}"
    if plan.probe is not None:
        seconds = plan.seconds(one)
        line += f"  {clock(seconds) if seconds is not None else '-':>9}"
    if plan.price is not None:
        cost = plan.cost(one)
        line += f"  {f'{cost:.2f}' if cost is not None else '-':>9}"
    return line


def _best(plan: Plan) -> str:
    if plan.best is None:
        return (
            "nothing here fits: take a smaller model, or a larger machine (`--memory 80GB --devices 2` plans for one)"
        )
    how = f": {plan.best.overrides}" if plan.best.overrides else ""
    line = f"cheapest that fits: {plan.best.name}{how} ({plan.best.need.bytes / 1e9:.2f} GB)"
    return line if plan.best.keeps else f"{line}\nnothing with the method as written fits"


def _rest(plan: Plan) -> str:
    disk = plan.disk
    lines = [
        f"disk     {human_bytes(disk.bytes)}: checkpoints {human_bytes(disk.checkpoints)}, what is kept "
        f"{human_bytes(disk.trained)}, variants {human_bytes(disk.variants)}"
    ]
    if plan.probe:
        seconds = plan.seconds(plan.written) or 0.0
        lines.append(
            f"time     {clock(seconds)} as written, from {plan.probe.steps} measured steps; the others by their work "
            f"(peak of those steps {plan.probe.peak_bytes / 1e9:.2f} GB)"
        )
    else:
        lines.append("time     --probe trains 20 steps and estimates it; with --price also the cost")
    return "\n".join(lines)


def _claims(plan: Plan) -> str:
    lines = [f'  "{claim.claim}": {claim.verdict}: {claim.number}' for claim in plan.claims]
    return "\n".join(["what a widely read guide says of a 7B model", *lines])
