from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import pytest

from tunewright.core.text.secrets import KINDS, find_secrets, mask

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def _draw(alphabet, count, seed=3):
    return "".join(random.Random(seed).choices(alphabet, k=count))


_UPPER, _DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
_ALNUM = _UPPER + _UPPER.lower() + _DIGITS
_HEX = "0123456789abcdef"
_JWT = ".".join(
    base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": "1234567890"})
)
# Made here, in the forms that the providers document: no key of anyone.
TOKENS = {
    "api_key": "sk-" + _draw(_HEX, 32),
    "aws_key": "AKIA" + _draw(_UPPER + "234567", 16),
    "github_token": "ghp_" + _draw(_ALNUM, 36),
    "slack_token": "xoxb-" + _draw(_DIGITS, 10) + "-" + _draw(_ALNUM, 24),
    "google_key": "AIza" + _draw(_ALNUM + "-_", 35),
    "huggingface_token": "hf_" + _draw(_ALNUM, 34),
    "gitlab_token": "glpat-" + _draw(_ALNUM, 20),
    "alibaba_key": "LTAI" + _draw(_ALNUM, 20),
    "tencent_key": "AKID" + _draw(_ALNUM, 32),
    "stripe_key": "sk_live_" + _draw(_ALNUM, 24),
    "npm_token": "npm_" + _draw(_ALNUM, 36),
    "telegram_token": _draw(_DIGITS, 10) + ":AA" + _draw(_ALNUM, 33),
    "jwt": _JWT + "." + _draw(_ALNUM + "-_", 43),
}
MORE_TOKENS = [
    ("api_key", "sk-proj-" + _draw(_ALNUM, 48)),
    ("aws_key", "ASIA" + _draw(_UPPER + "234567", 16, seed=5)),
    ("github_token", "github_pat_" + _draw(_ALNUM + "_", 60)),
    ("google_key", "GOCSPX-" + _draw(_ALNUM, 28)),
]
_PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + _draw(_ALNUM, 64) + "\n-----END RSA PRIVATE KEY-----"
ASSIGNED = [
    ("password=Tr0ub4dor&3", "password", "Tr0ub4dor&3"),
    ("密码：Qw3rT9!x，请查收", "password", "Qw3rT9!x"),
    ("密码是zhang@1998。", "password", "zhang@1998"),
    ("密码：Ｑｗ３ｒＴ９ｘｙ", "password", "Ｑｗ３ｒＴ９ｘｙ"),
    ("登录密码为 836492", "password", "836492"),
    ('{"password": "S3cr3t!Passw0rd"}', "password", "S3cr3t!Passw0rd"),
    ("DB_PASSWORD: zX9-kk2_LmQ4\n", "password", "zX9-kk2_LmQ4"),
    ("api_key = 'a8f5f167f44f4964e6c998dee827110c'", "secret_value", "a8f5f167f44f4964e6c998dee827110c"),
    ("API Key: 9f8e7d6c5b4a39281706f5e4", "secret_value", "9f8e7d6c5b4a39281706f5e4"),
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYzz8", "secret_value", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzz8"),
    ("https://x.cn/v1?access_token=8d3fa1b2c7e94455aa10", "secret_value", "8d3fa1b2c7e94455aa10"),
    ("Authorization: Bearer mF_9.B5f-4.1JqMabc12XYZ", "bearer_token", "mF_9.B5f-4.1JqMabc12XYZ"),
    ("postgres://app:S3cr3tPw@db.internal:5432/x", "connection_string", "S3cr3tPw"),
    ("redis://:p%40ssw0rd9@cache:6379", "connection_string", "p%40ssw0rd9"),
    ("mysql://root:a@b12@10.0.0.1/db", "connection_string", "a@b12"),
    ("Server=db;Database=x;User Id=sa;Password=Qx7!kk2;", "connection_string", "Qx7!kk2"),
]
NOTHING = [
    "",
    "密码ＡＢＣ",
    "卡号６２２２０２１２３４５６７８９０，密码ＡＢＣ",
    "api_key=your_api_key_here",
    "password=xxxx",
    "password: xxxxxxxxxxxx",
    "password: ********",
    "password: ${DB_PASSWORD1}",
    "password: {{ vault.password1 }}",
    "password=<your-password-1>",
    "password = get_password(user1)",
    "password = os.environ['PW_1']",
    "password == other_pass1",
    "password: string",
    "Password: must be 8 characters",
    "the password is required2",
    "password: admin123",
    "token = tokenizer2",
    "token: 128000",
    "token=abc123",
    "max_tokens=4096abc",
    "密码：123456",
    "密码：888888",
    "密码是6位数字",
    "密码：请到网点办理",
    "sk-" + "x" * 32,
    "sk-your-api-key-here-please",
    "scikit sk-learn-something-long-name",
    "task-4f3a9c1b7e2d4f6a8c0e1b3d5f7a9c2e",
    "ghp_" + "x" * 36,
    "AKIA",
    "in asia and akiabara",
    "hf_transfer",
    "eyJhbGciOiJIUzI1NiJ9",
    "Bearer token authentication is required",
    "Bearer YOUR_ACCESS_TOKEN_HERE_PLEASE",
    "bearer bonds of 1998",
    "postgres://user:password@localhost/db",
    "postgres://user:${PASS}@localhost/db",
    "postgres://user@localhost/db",
    "https://example.com:8080/@user",
    "-----BEGIN PRIVATE KEY----- starts such a file",
    "-----BEGIN PUBLIC KEY-----\n" + _draw(_ALNUM, 64) + "\n-----END PUBLIC KEY-----",
    "commit 3f9a1c5e7b2d4f6a8c0e1b3d5f7a9c2e3f9a1c5e",
]


@pytest.mark.parametrize(("kind", "token"), [*TOKENS.items(), *MORE_TOKENS])
@pytest.mark.parametrize("frame", ["{}", "我的密钥{}，谢谢", "key = '{}'\n", '{{"k": "{}"}}'])
def test_keys_and_tokens(kind, token, frame):
    text = frame.format(token)
    spans = find_secrets(text)
    assert [(span.kind, text[span.start : span.end]) for span in spans] == [(kind, token)]
    assert mask(text, spans, label=lambda span, original: "<SECRET>") == frame.format("<SECRET>")


@pytest.mark.parametrize("kind", TOKENS)
def test_half_a_token_is_none(kind):
    assert find_secrets(TOKENS[kind][:9]) == []


def test_private_keys_whole_and_cut_off():
    assert [(span.kind, span.start, span.end) for span in find_secrets(f"钥{_PEM}。")] == [
        ("private_key", 1, 1 + len(_PEM))
    ]
    cut = _PEM.partition("\n-----END")[0]
    assert [span.end for span in find_secrets(cut)] == [len(cut)]
    assert [span.kind for span in find_secrets(_PEM.replace("\n", "\\n"))] == ["private_key"]


@pytest.mark.parametrize(("text", "kind", "value"), ASSIGNED)
def test_only_the_value_is_the_secret(text, kind, value):
    assert [(span.kind, text[span.start : span.end]) for span in find_secrets(text)] == [(kind, value)]


@pytest.mark.parametrize("text", NOTHING)
def test_near_misses(text):
    assert find_secrets(text) == []


def test_every_kind_has_an_example():
    assert set(KINDS) == {*TOKENS, "private_key", *(kind for _, kind, _ in ASSIGNED)}


def test_long_texts_take_linear_time():
    for unit in (
        "password: ",
        "密码：a1",
        "a://b:c",
        "sk-",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "Host=a;",
        "Bearer a",
    ):
        find_secrets(unit * (100_000 // len(unit)))


@pytest.mark.parametrize("name", ["banking77", "gsm8k", "medical_zh", "belle_eval", "crosswoz_zh"])
def test_no_false_alarm_in_real_conversations(name):
    if not (SHARED / name).is_dir():
        pytest.skip("the collection of data is not beside this checkout")
    for path in sorted((SHARED / name).glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").rstrip().split("\n"):
            for turn in json.loads(line).get("conversation", []):
                assert find_secrets(turn["content"]) == [], turn["content"]
