"""Codes that need other rows, a model, a list or a declared domain."""

from __future__ import annotations

from tunewright.data.codes.code import Code, pair, row

SETS = {
    "CONFLICT": Code(
        "The same question has another answer in an earlier row: labels or answers that contradict each other.",
        "kept",
        f"{pair('Is the branch open on Sunday?', 'Yes.')}\n{pair('Is the branch open on Sunday?', 'No.')}",
        "Decide which answer is right and take the other row out.",
        needs="the whole data stage, which compares rows",
    ),
    "DUPLICATE": Code(
        "The same messages stand in an earlier row; taken out, but not counted against `max_quarantined`.",
        "quarantined",
        f"{pair('hi', 'hello')}\n{pair('hi', 'hello')}",
        "Nothing to do; `data check` only reports it.",
    ),
    "ERASED": Code(
        "The row is on the project's erasure list and must not be used any more.",
        "quarantined",
        pair("My name is Zhang San.", "Hello."),
        "Nothing to do; train again what was trained with it.",
        needs="an erasure list that names the row",
    ),
    "LABELS": Code(
        "The labels are in no form that agreement can be computed from: the row is left out of it.",
        "kept",
        pair("hi", "hello", labels="lost"),
        "Write `metadata.labels` as an object from annotator to label, or as a list of {annotator, label}.",
        needs="the annotation settings",
    ),
    "MISSING_ELEMENT": Code(
        "The row lacks an element that the declared domain requires.",
        "kept",
        pair("I have a headache.", "I see."),
        "Complete the answer, or leave the row out; it is only listed.",
        needs="the rule `domain`",
    ),
    "NEAR_DUPLICATE": Code(
        "The text is nearly that of an earlier row; taken out, but not counted against `max_quarantined`.",
        "quarantined",
        f"{pair('Where is the card I ordered last Monday for my wife?', 'It is on its way.')}\n"
        f"{pair('Where is the card I ordered last Monday for my wife??!', 'It is on its way!')}",
        "Look at the clusters in the report; raise the threshold or set `action: report` where rows should stay.",
        needs="the whole data stage, which compares rows",
    ),
    "OFF_DOMAIN": Code(
        "Neither the metadata nor the words of the row match the declared domain.",
        "kept",
        pair("Who won the match?", "The home team."),
        "Look through these rows; they are only listed.",
        needs="the rule `domain`",
    ),
    "PROMPT_CUT": Code(
        "Prompt and answer do not fit into `model.max_length`: the start of the prompt was cut, the answer is whole.",
        "repaired",
        pair("What are your hours?", "We are open from nine to five on weekdays."),
        "Raise `model.max_length`, or put what matters at the end of the prompt.",
        needs="a model with a small `model.max_length`",
    ),
    "REASONING": Code(
        "The model's template leaves out the reasoning of an answer; only the answer behind it is trained.",
        "kept",
        pair("2 + 2?", "<think>Two and two make four.</think>4"),
        "Use a model whose template shows reasoning, where it should be learned.",
        needs="a model whose template leaves out reasoning",
    ),
    "SYSTEM_ROLE": Code(
        "The model's template takes no system turn: it is folded into the user turn, as serving does it.",
        "repaired",
        row(("system", "Be brief."), ("user", "hi"), ("assistant", "hello")),
        "Nothing to do.",
        needs="a model whose template takes no system turn",
    ),
    "TEMPLATE": Code(
        "The model's chat template refuses the turns, or leaves out a tool call without a word.",
        "quarantined",
        '{"messages": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": '
        '[{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]}]}',
        "Use a model whose template knows such turns, or leave the row out. Where it refuses the ids of tool calls "
        "(Mistral's want nine letters and digits), take the ids out: then valid ones are made.",
        needs="a model whose template knows no tool calls",
    ),
    "TOOLS_UNUSED": Code(
        "The row describes tools that the model's template does not show, or not as a list of descriptions.",
        "kept",
        pair("Weather?", "Sunny.", tools=[{"type": "function", "function": {"name": "weather"}}]),
        "Use a model whose template takes tools, where calls should be learned.",
        needs="a model whose template takes no tools",
    ),
    "TOO_LONG": Code(
        "The row is over a limit: `data.max_chars` for a line, `max_chars` of the rule `length`, or an answer that "
        "does not fit into `model.max_length`.",
        "quarantined",
        pair("Tell me the whole story, please.", "Once upon a time there was a very long answer."),
        "Shorten the row, or raise the limit that the reason names; answers are never cut.",
        needs="`data.max_chars: 100`",
    ),
    "TURN_SAMPLES": Code(
        "The conversation does not fit into `model.max_length`: each of its answers became a sequence of its own.",
        "kept",
        row(("user", "hi"), ("assistant", "hello"), ("user", "bye"), ("assistant", "goodbye")),
        "Nothing to do; the row still counts once.",
        needs="a model with a small `model.max_length`",
    ),
}
