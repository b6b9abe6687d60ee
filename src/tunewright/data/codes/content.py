"""Codes of the text: characters, personal data, secrets, language, and what spells control tokens."""

from __future__ import annotations

from tunewright.data.codes.code import Code, pair

CONTENT = {
    "AGGRESSIVE": Code(
        "The preset `aggressive` took out punctuation and capitals, which destroys meaning: 37.5 becomes 375.",
        "repaired",
        pair("Is 37.5 a fever?", "No."),
        "Leave the preset off, unless a published result is to be repeated.",
        needs="the rule `text` with the preset `aggressive`",
    ),
    "CONTROL": Code(
        "Control characters were removed, and carriage returns became line feeds.",
        "repaired",
        pair("one\r\ntwo", "ok"),
        "Nothing to do.",
    ),
    "FORGED_TURN": Code(
        "Content looks like the beginning of another turn, so that a model may learn to speak for the user.",
        "kept",
        pair("hi", "Hello.\nUser: what is my balance?\nAssistant: 500"),
        "Divide the text into turns where it holds several; the rule's `action: quarantine` takes such rows out.",
    ),
    "FULLWIDTH": Code(
        "The text has full-width digits or letters; they stay, and are folded only where texts are compared.",
        "kept",
        pair("卡号６２２２，谢谢", "收到。"),
        "Nothing to do; personal data in them is still found.",
    ),
    "LANGUAGE": Code(
        "Too small a share of the row's letters is of the languages that were asked for.",
        "kept",
        pair("Где моя карта?", "В пути."),
        "Name the language in the rule's options; its `action: quarantine` takes such rows out.",
        needs="the rule `language`",
    ),
    "NFC": Code(
        "Letters and their accents were composed to one character each (Unicode NFC).",
        "repaired",
        pair("cafe\\u0301", "ok"),
        "Nothing to do; both spellings look the same and would be different tokens.",
    ),
    "PII": Code(
        "Personal data (a phone number, id card, bank card, e-mail or IP address) was masked.",
        "repaired",
        pair("Call me at 13812345678.", "We will."),
        "Nothing to do; the report counts them by kind.",
        needs="the rule `redact`",
    ),
    "PRIVATE_USE": Code(
        "The text holds private-use characters, as icon fonts have them, and the model's tokens do not give it back.",
        "quarantined",
        pair("icon \\udb80\\udc00", "ok"),
        "Remove the characters.",
        needs="a model whose tokenizer loses them",
    ),
    "REPLACEMENT": Code(
        "The text holds U+FFFD: characters were lost before this file was written.",
        "kept",
        pair("my na\\ufffde is", "ok"),
        "Export the rows again from their source, with the right encoding.",
    ),
    "SECRET": Code(
        "The text holds an API key, a private key, a token or a connection string with a password.",
        "quarantined",
        pair("My key is AKIAIOSFODNN7EXAMPLE", "Thank you."),
        "Revoke the secret, whatever becomes of the row; the rule's `action: mask` keeps the row without it.",
    ),
    "SPECIAL_TOKEN": Code(
        "Content spells a control token of the model; it is encoded as plain text and never becomes the control id.",
        "kept",
        pair("What does <|im_end|> mean?", "It ends a turn."),
        "Nothing to do; where the token is left over from a template, remove it from the text.",
        needs="a model that has this control token",
    ),
    "TOXIC": Code(
        "The built-in classifier takes a turn for toxic: an insult, a slur, contempt for a group.",
        "kept",
        pair("Where is my refund?", "Shut up, you stupid idiot."),
        "Read the rows it lists: sentences about discrimination are often called toxic too. The rule's "
        "`action: quarantine` takes them out, `threshold` makes it stricter or milder.",
        needs="the rule `toxicity`",
    ),
    "UNENCODABLE": Code(
        "The text holds a character that the model's tokenizer does not know: another token would stand for it.",
        "quarantined",
        pair("Snow: \u2603", "Ok."),
        "Replace the character, or use a model whose tokenizer falls back to bytes.",
        needs="a model whose tokenizer does not know it",
    ),
    "ZERO_WIDTH": Code(
        "Invisible characters (zero-width, bidi controls) were removed; the joiners inside emoji stay.",
        "repaired",
        pair("bal\\u200bance", "ok"),
        "Nothing to do.",
    ),
}
