"""The verbs and their options: what `--help` prints and the parser takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """`handler` is "module:function", called with Arguments, returns the exit code."""

    summary: str
    handler: str
    subverbs: tuple[str, ...] = ()
    usage: str = "[PROJECT.yaml] [section.key=value ...]"
    needs_subverb: bool = True


@dataclass(frozen=True)
class Option:
    """A word that begins with `--`. verbs: those that take it, empty for all. value: what stands for its value in
    texts, empty for a flag."""

    text: str
    verbs: tuple[str, ...] = ()
    value: str = ""
    is_number: bool = False


_STAGES = "tunewright.verbs.stages"
_LOOK = "tunewright.verbs.look"
_RELEASE = "tunewright.verbs.release"
VERBS = {
    "init": Verb("make a project folder for a vertical", "tunewright.verbs.setup:init", (), "KIND DIR"),
    "doctor": Verb("check this machine and, with a project, its model", "tunewright.verbs.setup:doctor"),
    "run": Verb("all stages in order, skipping what is finished and unchanged", f"{_STAGES}:run"),
    "data": Verb(
        "read, repair, check and split the conversations; look at them",
        "tunewright.verbs.data:data",
        ("check", "show", "find", "purge"),
        "[PROJECT.yaml] | check FILE... | show [PROJECT.yaml] | find|purge [PROJECT.yaml] TEXT|ID",
        needs_subverb=False,
    ),
    "train": Verb(
        "fine-tune, on one device or several; continues where it was stopped",
        "tunewright.verbs.launch:train",
        (),
        "[PROJECT.yaml] [--launch N] [--emit slurm|skypilot|k8s] [section.key=value ...]",
    ),
    "evaluate": Verb("base against tuned on the test split, with gates", f"{_STAGES}:evaluate"),
    "quantize": Verb("smaller variants, each measured against 16 bits", f"{_STAGES}:quantize"),
    "serve": Verb(
        "the OpenAI-compatible server; fill its answer cache, list frequent questions, run a job worker, name models",
        "tunewright.verbs.serve:serve",
        ("warm", "top", "worker", "add", "remove"),
        "[PROJECT.yaml] [section.key=value ...] | warm QUESTIONS.jsonl [PROJECT.yaml] | top|worker "
        "| add|remove NAME [--from DIR]",
        needs_subverb=False,
    ),
    "chat": Verb("talk to the tuned model in the terminal", f"{_STAGES}:chat"),
    "report": Verb("one HTML page of everything measured", f"{_STAGES}:report"),
    "score": Verb(
        "score answers made elsewhere; needs no model",
        "tunewright.verbs.score:score",
        (),
        "FILE.jsonl --metrics bleu,rouge,math [METRIC.KEY=VALUE ...]",
    ),
    "rate": Verb(
        "people rate answers, blind, on a local page; --results says what the votes show",
        "tunewright.verbs.rate:rate",
        (),
        "[PROJECT.yaml | A.jsonl B.jsonl | STORE.sqlite] [--results | --export KIND] [rate.KEY=VALUE ...]",
    ),
    "advise": Verb(
        "training settings for these rows, with reasons; --sweep measures them",
        "tunewright.verbs.advise:advise",
        (),
        "[PROJECT.yaml] [--sweep N] [--minutes N] [--write FILE] [section.key=value ...]",
    ),
    "plan": Verb(
        "what a training takes in memory, disk and time, whether it fits, and what else would; loads no weight",
        "tunewright.verbs.plan:plan",
        (),
        "[PROJECT.yaml] [--memory 24GB] [--devices N] [--model-config FILE] [--probe] [--price X]",
    ),
    "promote": Verb(
        "make an artifact the project's model, only if all its gates passed; take it back, prove the history",
        f"{_RELEASE}:promote",
        (),
        "[PROJECT.yaml] --by NAME --why TEXT [--from DIR] | --rollback --by NAME --why TEXT | --verify | --history",
    ),
    "adopt": Verb("take what another tool trained into an artifact", f"{_RELEASE}:adopt", (), "DIR [PROJECT.yaml]"),
    "export": Verb(
        "write a folder that vLLM, transformers or llama.cpp loads, with model card and manifest",
        f"{_RELEASE}:export",
        (),
        "[PROJECT.yaml] OUT [--variant merged|adapter|SCHEME] [--from DIR]",
    ),
    "runs": Verb(
        "artifacts on disk",
        f"{_LOOK}:runs",
        ("list", "show", "verify", "prune", "compare"),
        "list|show|verify|prune|compare [PROJECT.yaml] [ARTIFACT ...]",
    ),
    "config": Verb(
        "the project file", f"{_LOOK}:config", ("check", "explain", "schema"), "check|explain|schema [PROJECT.yaml]"
    ),
    "plugins": Verb("what can be chosen by name", f"{_LOOK}:plugins", (), "[KIND]"),
}
_WITH_INPUTS = (
    "train",
    "evaluate",
    "quantize",
    "serve",
    "chat",
    "report",
    "rate",
    "promote",
    "export",
    "advise",
    "plan",
)
OPTIONS = {
    "--from": Option("use this artifact instead of the newest that passed", _WITH_INPUTS, "DIR"),
    "--chain": Option("prove that adapter, merged model and server are the same, and measure variants", ("evaluate",)),
    "--server": Option("with --chain: ask this running server instead of starting one", ("evaluate",), "URL"),
    "--launch": Option(
        "start N ranks on this machine, one a GPU, which share the training by train.sharding; with --emit: N GPUs "
        "a machine",
        ("train",),
        "N",
        is_number=True,
    ),
    "--emit": Option(
        "print a job file for many machines: slurm, skypilot or k8s; nothing is started", ("train",), "slurm"
    ),
    "--nodes": Option("with --emit: how many machines", ("train",), "N", is_number=True),
    "--memory": Option(
        "plan for another machine: the memory of its GPU, or `cpu:64GB`; default: this one", ("plan",), "24GB"
    ),
    "--devices": Option("how many such devices; default: those of this machine", ("plan",), "N", is_number=True),
    "--model-config": Option("plan for the model that this config.json describes", ("plan",), "FILE"),
    "--probe": Option("train 20 steps in a scratch folder and estimate the time", ("plan",)),
    "--price": Option("with --probe: what a device costs an hour; gives the cost", ("plan",), "2.50"),
    "--keep-going": Option("go on after a gate that did not pass", ("run",)),
    "--row": Option("`data show`: the row to show, by its id", ("data",), "ID"),
    "--split": Option("`data show`: the split to show rows of: train, validation or test", ("data",), "train"),
    "--count": Option("how many rows or questions to show", ("data", "serve"), "N", is_number=True),
    "--id": Option("`data find|purge`: the row to look for, such as raw/support.jsonl:17", ("data",), "FILE:LINE"),
    "--text": Option("`data find|purge`: the text to look for in every row", ("data",), "TEXT"),
    "--metrics": Option(
        "what is computed, such as bleu,rouge,math; `tunewright plugins metrics` lists all", ("score",), "bleu,math"
    ),
    "--sweep": Option(
        "train this many settings on part of the budget, the better ones longer", ("advise",), "8", is_number=True
    ),
    "--minutes": Option(
        "with --sweep: begin no training that would probably end after so many minutes",
        ("advise",),
        "N",
        is_number=True,
    ),
    "--write": Option("the file that the result is written to", ("advise", "rate", "serve"), "FILE"),
    "--results": Option("print what the votes say instead of opening the page", ("rate",)),
    "--export": Option("print votes, rows (corrections to train on) or preferences", ("rate",), "preferences"),
    "--by": Option(
        "who promotes or rolls back; two different names where `release.approvals` is 2", ("promote",), "NAME"
    ),
    "--why": Option("the reason that the history keeps", ("promote",), "TEXT"),
    "--junit": Option("write the checks here as JUnit XML; with --dry-run nothing else happens", ("promote",), "FILE"),
    "--rollback": Option("go back to the model that was promoted before", ("promote",)),
    "--verify": Option("prove the history and the promoted files", ("promote",)),
    "--history": Option("list who promoted what, when, why and with which scores", ("promote",)),
    "--template": Option(
        "`--template adopt` takes the folder's chat template instead of the base's", ("adopt",), "adopt"
    ),
    "--variant": Option("merged, adapter, or a quantized variant such as int8", ("export",), "merged"),
    "--keep": Option("`runs prune`: how many artifacts a stage keeps", ("runs",), "N", is_number=True),
    "--dry-run": Option("print what would be done, and do nothing"),
    "--json": Option("print the result as JSON on stdout"),
    "--debug": Option("show the traceback of an error"),
}


def options_of(verb: str) -> dict[str, Option]:
    """The options that `verb` takes."""
    return {name: option for name, option in OPTIONS.items() if not option.verbs or verb in option.verbs}
