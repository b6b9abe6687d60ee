"""CSV and TSV: cells as RFC 4180 has them, rows that do not fit quarantined, places and raw text of every row."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.errors import ArtifactError
from tunewright.data.findings import Rejection
from tunewright.data.reading.rows import inspect, read_rows
from tunewright.data.reading.table_file import best_delimiter, cells, quote_state


@pytest.fixture
def read(read_file):
    return lambda data, name="faq.csv", **settings: read_file(data, name, **settings)


def codes(row):
    if isinstance(row.content, Rejection):
        return [row.content.code]
    return [note.code for note in row.content.notes]


def test_rows_have_their_place(read):
    data = '问题,answer\r\n"多行\r\n""引号"", 逗号","a\n\nb"\r\n\r\nq2,a2\r\nq3,\r\n'
    layout, rows = read(data)
    assert (layout.shape, layout.delimiter, layout.columns) == ("csv", ",", ("问题", "answer"))
    assert [row.content.value for row in rows] == [
        {"问题": '多行\r\n"引号", 逗号', "answer": "a\n\nb"},
        {"问题": "q2", "answer": "a2"},
        {"问题": "q3", "answer": ""},
    ]
    assert [row.place.line for row in rows] == [2, 7, 8]
    assert [row.place.byte_offset for row in rows] == [
        len(data[: data.index(t)].encode()) for t in ('"多行', "q2", "q3")
    ]
    assert [row.id for row in rows] == ["faq.csv:2", "faq.csv:7", "faq.csv:8"]
    assert [codes(row) for row in rows] == [[], [], []]
    assert rows[0].raw == '问题,answer\n"多行\r\n""引号"", 逗号","a\n\nb"'


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("bye,see you,soon", "3 columns where the first line names 2 (question, answer)"),
        ("bye", "1 columns where the first line names 2"),
        ('bye,"see" you', "text stands behind the closing quote of column 2"),
        ('bye,"see you', "the quote that opens column 2 never closes"),
        ("question,answer", "repeats the names of the columns"),
    ],
)
def test_a_row_that_does_not_fit_is_alone(read, row, reason):
    _, rows = read(f"question,answer\nq1,a1\n{row}\nq2,a2\nq3,a3\n")
    assert [codes(row) for row in rows] == [[], ["COLUMNS"], [], []]
    assert reason in rows[1].content.reason
    assert rows[1].raw == f"question,answer\n{row}"
    assert [row.place.line for row in rows] == [2, 3, 4, 5]


@pytest.mark.parametrize("quote", ['q,"a', 'q,"a ""b"" c', '"q', 'q,a,"b'])
def test_a_quote_that_never_closes_swallows_no_row(read, quote):
    rest = [f"q{n},a{n}" for n in range(30)]
    _, rows = read("\n".join(["question,answer", *rest, quote, *rest]))
    assert [codes(row) for row in rows] == [[]] * 30 + [["COLUMNS"]] + [[]] * 30


def test_a_row_mended_in_the_quarantine_is_fed_in(read):
    raws = [
        'question,answer\nbye,"see you, soon"',
        'question;note;answer\n"two\nlines";;x',
        "question,answer\nbye,see you,soon",
    ]
    lines = [json.dumps({"code": "COLUMNS", "byte_offset": 1, "raw": raw}) for raw in raws]
    _, rows = read("\n".join(lines), "quarantine.jsonl")
    assert rows[0].content.value == {"question": "bye", "answer": "see you, soon"}
    assert rows[1].content.value == {"question": "two\nlines", "note": "", "answer": "x"}
    assert codes(rows[2]) == ["COLUMNS"]
    assert [row.raw for row in rows] == raws


@pytest.mark.parametrize(
    ("encoding", "codes_of_first"),
    [("gb18030", ["ENCODING"]), ("utf-8-sig", ["BOM"]), ("utf-16", ["ENCODING"]), ("utf-8", [])],
)
def test_encodings(read, encoding, codes_of_first):
    # 4 bytes in GB18030: 𠮷 and 😀, whose bytes hold digits; a comma or a quote is never part of a character
    data = '问题,回答\n我的银行卡丢了怎么办𠮷,"请立即挂失，\n然后补办"\n如何更改密码,在设置里😀\n'
    _, rows = read(data.encode(encoding))
    assert [list(row.content.value.values()) for row in rows] == [
        ["我的银行卡丢了怎么办𠮷", "请立即挂失，\n然后补办"],
        ["如何更改密码", "在设置里😀"],
    ]
    assert codes(rows[0]) == codes_of_first
    assert codes(rows[1]) == [code for code in codes_of_first if code != "BOM"]
    assert rows[1].place.line == 4
    first_lines = data[: data.index("如何更改")]
    assert rows[1].place.byte_offset == len(first_lines.encode(encoding))


@pytest.mark.parametrize(
    ("name", "delimiter", "header"),
    [
        ("x.csv", ",", ""),
        ("x.csv", ";", ""),
        ("x.csv", "\t", ""),
        ("x.tsv", "\t", ""),
        ("x.csv", "|", "sep=|\n"),
        ("x.tab", "\t", ""),
    ],
)
def test_delimiters(read, name, delimiter, header):
    body = (
        delimiter.join(["question", "answer", "note"])
        + "\n"
        + delimiter.join(["a, b; c" if delimiter == "\t" else "a b", "d", "e"])
    )
    layout, (row,) = read(header + body, name)
    assert (layout.delimiter, layout.shape) == (delimiter, "tsv" if delimiter == "\t" else "csv")
    assert list(row.content.value) == ["question", "answer", "note"]


def test_commas_inside_a_semicolon_table_do_not_mislead():
    lines = ["question;answer", "one, two;three, four, five", "six;seven", '"a;b, c";"d"']
    assert best_delimiter(lines) == ";"
    assert best_delimiter(["question,answer;note", "a,b;c", "d,e"]) == ","


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("question\nq1\n", "one column only"),
        ("q,a,q\n1,2,3\n", "names the column 'q' twice"),
        ("\n\n", "no line with column names"),
        ("question,answer\rq1,a1\r", "carriage return only"),
        (f"{'long text ' * 12},answer\nq,a\n", "long texts instead of the names"),
        ('"question,answer\nq,a\n', "never closes"),
    ],
)
def test_a_table_without_a_header_is_refused(read, data, problem):
    with pytest.raises(ArtifactError, match=problem) as caught:
        read(data)
    assert "faq.csv" in caught.value.where
    assert caught.value.fix == "the first line of a table names its columns, for example question,answer"


def test_columns_without_a_name_are_called_by_their_place(read):
    _, (row,) = read(",question,answer,\n0,q,a,x\n")
    assert row.content.value == {"column_1": "0", "question": "q", "answer": "a", "column_4": "x"}


def test_limits_and_bad_bytes(read):
    data = b"question,answer\nq," + b"x" * 300 + b"\nq,\xff\nq,a\n"
    _, rows = read(data, max_chars=200)
    assert [codes(row) for row in rows] == [["TOO_LONG"], ["BAD_UTF8"], []]
    assert rows[0].content.reason == "302 characters, limit 200"
    assert f"byte 0xff at offset {data.index(bytes([0xFF]))}" in rows[1].content.reason
    assert [row.raw for row in rows[:2]] == [None, None]


def test_json_lines_under_the_name_of_a_table(read):
    layout, (row,) = read('{"question": "q, r", "answer": "a"}\n')
    assert (layout.shape, row.content.value["question"]) == ("jsonl", "q, r")


CELL = st.one_of(st.text(max_size=8), st.sampled_from(['"', '""', ",", "\n", "a\r\nb", '"a', 'b"', ' "x"', ";", "\r"]))
TABLE = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=5)
)


@settings(max_examples=300, deadline=None)
@given(
    TABLE,
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, table, delimiter, end, quoting):
    """Golden: Python's csv module. Rows that are blank lines are no rows, and one that equals the header is refused."""
    # surrogates cannot be written, U+FEFF at the start is a mark, and csv before Python 3.13 puts no quotes around \r
    gone = "\ufeff" if quoting == csv.QUOTE_ALL else "\ufeff\r"
    table = [
        [cell.strip(gone).replace("\r", "") if "\r" in gone else cell.strip(gone) for cell in row] for row in table
    ]
    table = [[cell.encode("utf-8", "ignore").decode() for cell in row] for row in table]
    columns = [f"c{place}" for place in range(len(table[0]))]

    def written(*rows):
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
        return text.getvalue()

    path = tmp_path_factory.mktemp("t") / ("t.tsv" if delimiter == "\t" else "t.csv")
    path.write_bytes(written(columns, *table).encode())
    layout = inspect(path, max_chars=1000)
    if layout.delimiter != delimiter:  # cells that look like another table: then the sample was ambiguous
        return
    rows = list(read_rows(path, source="t", layout=layout, max_chars=1000))
    expected = [row for row in table if written(row).strip()]
    assert [list(row.content.value.values()) for row in rows] == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(CELL, min_size=1, max_size=5))
def test_cells_and_quote_states_agree_with_the_csv_module(row):
    text = io.StringIO()
    csv.writer(text, lineterminator="", quoting=csv.QUOTE_ALL).writerow(row)
    assert cells(text.getvalue(), ",") == row
    state, lines = "closed", text.getvalue().split("\n")
    for place, line in enumerate(lines):
        state = quote_state(line, ",", is_open=state == "open")
        assert state == ("closed" if place == len(lines) - 1 else state)
    assert state == "closed"
