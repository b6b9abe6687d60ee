"""Codes of reading: bytes, encodings, files and JSON."""

from __future__ import annotations

from tunewright.data.codes.code import Code, pair

READING = {
    "ARRAY": Code(
        "The file is one JSON array; each of its elements is read as a row.",
        "repaired",
        f"[{pair('hi', 'hello')}]",
        "Nothing to do; JSONL, one conversation a line, is the form that reads fastest.",
    ),
    "BAD_UTF8": Code(
        "A byte of the row is no valid UTF-8, and the file as a whole is in no other encoding that is read.",
        "quarantined",
        pair("caf\\xe9", "ok"),
        "Write the row again as UTF-8; the reason names the byte and where it stands.",
    ),
    "BOM": Code(
        "A byte order mark stood in front of the row and was left out.",
        "repaired",
        "\\xef\\xbb\\xbf" + pair("hi", "hello"),
        "Nothing to do; the mark comes from an editor or a spreadsheet that saves 'UTF-8 with BOM'.",
    ),
    "COLUMNS": Code(
        "A row of a table has more or fewer cells than the first line names.",
        "quarantined",
        "question,answer\nhi,hello\nbye,see you,soon\n",
        "Put the text that holds the separator in double quotes.",
        needs="a CSV file",
    ),
    "DUP_KEY": Code(
        "One key stands twice in an object, so that nobody can say which value is meant.",
        "quarantined",
        '{"messages": [{"role": "user", "content": "hi", "content": "bye"}, {"role": "assistant", "content": "ok"}]}',
        "Take one of the two out.",
    ),
    "ENCODING": Code(
        "The file is not UTF-8; it was read in the encoding that its bytes show, and is written as UTF-8.",
        "repaired",
        pair("\\xd4\\xf5\\xc3\\xb4\\xcd\\xcb\\xbf\\xee", "ok"),
        "Look at an excerpt; where it is garbled, name the encoding with `data.encoding`.",
    ),
    "JSON_SYNTAX": Code(
        "The row is no valid JSON; a comma behind the object is left out, anything else is quarantined.",
        "quarantined",
        '{"messages": [{"role": "user", "content": "hi"}',
        "Mend the row at the line and column that the reason names; a cut last row often means a broken download.",
    ),
    "MISSING": Code(
        "The row has no turns under a name or in columns that are known.",
        "quarantined",
        '{"foo": [{"role": "user", "content": "hi"}]}',
        "Rename the key to `messages`, or bring the row into one of the formats of the data guide.",
    ),
    "MULTILINE": Code(
        "One object goes over several lines and is read as one row.",
        "repaired",
        '{"messages": [\n  {"role": "user", "content": "hi"},\n  {"role": "assistant", "content": "hello"}\n]}',
        "Nothing to do; JSONL, one conversation a line, is the form that reads fastest.",
    ),
    "NESTED_JSON": Code(
        "The turns were JSON inside a text and were read from it.",
        "repaired",
        '{"messages": "[{\\"role\\": \\"user\\", \\"content\\": \\"hi\\"}, '
        '{\\"role\\": \\"assistant\\", \\"content\\": \\"hello\\"}]"}',
        "Nothing to do; the program that wrote the file encoded the turns twice.",
    ),
    "NON_FINITE": Code(
        "NaN or infinity, which JSON does not have: null in metadata (repaired), quarantined in content.",
        "repaired",
        '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}], "score": NaN}',
        "Nothing to do where the number does not matter; else write the right one.",
    ),
    "SURROGATE": Code(
        "Half of a surrogate pair, which is no character, was removed.",
        "repaired",
        pair("hi \\ud83d there", "ok"),
        "Nothing to do; an emoji was cut in half before the file was written.",
    ),
    "TYPE": Code(
        "A value is not of the type it should be: numbers are kept as text (repaired), objects are quarantined.",
        "repaired",
        pair(1001, "Your order is on its way."),
        "Check the excerpt; where a number lost leading zeros, export the column as text.",
    ),
}
