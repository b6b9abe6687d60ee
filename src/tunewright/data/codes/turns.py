"""Codes of the turns: roles, order, content and targets."""

from __future__ import annotations

from tunewright.data.codes.code import Code, pair, row

TURNS = {
    "ALL_MASKED": Code(
        "No answer of the row is trained (quarantined), or none would be if its sequence were cut at its end: its "
        "start is cut instead (repaired).",
        "quarantined",
        '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok", "train": false}]}',
        "Set `train: true` on the turns to learn from, or leave the row out.",
    ),
    "DANGLING_USER": Code(
        "The last user turn has no answer and was cut; the turns before it are trained.",
        "repaired",
        row(("user", "hi"), ("assistant", "hello"), ("user", "I lost my card")),
        "Add the answer, where there is one.",
    ),
    "EMPTY_INPUT": Code(
        "A user turn is empty: its answer would be trained as an answer to nothing.",
        "quarantined",
        pair(" ", "You are welcome."),
        "Fill in what the user said, or leave the row out.",
    ),
    "EMPTY_SYSTEM": Code(
        "An empty system turn was left out.",
        "repaired",
        row(("system", ""), ("user", "hi"), ("assistant", "hello")),
        "Nothing to do; `data.system` sets one for all rows without.",
    ),
    "EMPTY_TARGET": Code(
        "An assistant turn is empty and is not trained (repaired); a row with no other target is quarantined, "
        "because it would teach the model to end at once.",
        "quarantined",
        pair("When do I get my refund?", ""),
        "Add the answer, or leave the row out.",
    ),
    "EXTRA_KEY": Code(
        "A turn has keys that are not used.",
        "kept",
        '{"messages": [{"role": "user", "content": "hi", "mood": "calm"}, {"role": "assistant", "content": "ok"}]}',
        "Move what is needed to the row's metadata; nothing of a turn but its text and calls is trained.",
    ),
    "FIRST_ASSISTANT": Code(
        "The first turn is the assistant's: it answers nobody, stays as context and is not trained.",
        "kept",
        row(("assistant", "Welcome!"), ("user", "My balance?"), ("assistant", "Your card number, please.")),
        "Nothing to do; make it the system turn where it is a rule rather than a greeting.",
    ),
    "NULL_CONTENT": Code(
        "The content of a turn is null, which is right only beside tool calls.",
        "quarantined",
        pair("hi", None),
        "Write the text, or add the tool calls that belong to the turn.",
    ),
    "PARTS": Code(
        "Content is a list of parts: texts are joined (repaired); an image, sound or video is quarantined.",
        "repaired",
        pair([{"type": "text", "text": "hello "}, {"type": "text", "text": "there"}], "hi"),
        "Leave rows with media out, or describe the media in words; models that see or hear are not trained here.",
    ),
    "PREFERENCE": Code(
        "The row has a preferred and a rejected answer: the preferred one is trained, the other goes to the metadata.",
        "kept",
        '{"prompt": "Is it open?", "chosen": "Yes, until five.", "rejected": "No idea."}',
        "Nothing to do; preferences themselves are not trained here.",
    ),
    "ROLE_ALIAS": Code(
        "A role has another usual name and is read as user, assistant, system or tool.",
        "repaired",
        row(("客户", "退款多久到账？"), ("客服", "三天内到账。")),
        "Check that the name is read as the right side of the dialogue.",
    ),
    "SAME_ROLE": Code(
        "Neighbouring turns of one role were merged with a line feed; they stay apart (kept) where only one is "
        "trained.",
        "repaired",
        row(("user", "Are you there?"), ("user", "I want my bill."), ("assistant", "Here it is.")),
        "Nothing to do; many templates refuse two turns of one role.",
    ),
    "SYSTEM_MID": Code(
        "A system turn behind the start was folded into the next user turn.",
        "repaired",
        row(("user", "hi"), ("assistant", "hello"), ("system", "Be brief."), ("user", "Why?"), ("assistant", "So.")),
        "Move it to the start where it holds for the whole conversation.",
    ),
    "THINK_BLOCK": Code(
        "Reasoning beside the answer (`reasoning_content`, `reasoning`, `thinking`, or a part of the content) stands "
        "in front of it as a `<think>` block and is trained with it; templates with a key for reasoning get it there.",
        "repaired",
        '{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4", '
        '"reasoning_content": "Two and two make four."}]}',
        "Nothing to do; take the key out where reasoning should not be learned.",
    ),
    "TOOL_ARGS": Code(
        "A tool call names no function, or its arguments are no JSON object.",
        "quarantined",
        '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": null, "tool_calls": '
        '[{"function": {"name": "weather", "arguments": "{city"}}]}]}',
        "Write the arguments as a JSON object.",
    ),
    "UNDESIRED": Code(
        "The row says of its answer that it is how not to answer.",
        "quarantined",
        '{"prompt": "Is it open?", "completion": "No idea.", "label": false}',
        "Nothing to do; training on it would teach the wrong answer.",
    ),
    "UNKNOWN_ROLE": Code(
        "A turn has no role, or one that is not known; it is not guessed who speaks.",
        "quarantined",
        row(("narrator", "It is raining."), ("assistant", "ok")),
        "Name the role user, assistant, system or tool.",
    ),
}
