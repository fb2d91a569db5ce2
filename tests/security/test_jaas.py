"""JAAS entries as people write them, and as they should not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkapy.config.setting import ConfigError
from kafkapy.security.jaas import LoginModule, parse_entry, parse_file

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (f'{PLAIN} required username="admin" user_admin="x";', {"username": "admin", "user_admin": "x"}),
        (f"{PLAIN} required\n  user_a='b c'\n  user_d-e=\"f\" ;\n", {"user_a": "b c", "user_d-e": "f"}),
        (f'{PLAIN} REQUIRED a="say \\"hi\\" \\\\ \\101\\n";', {"a": 'say "hi" \\ A\n'}),
        (f'{PLAIN} /* who */ optional // all\n a="//none" b=true;', {"a": "//none", "b": "true"}),
        (f"{PLAIN} required;", {}),
    ],
)
def test_an_entry_is_read(text: str, options: dict[str, str]) -> None:
    assert parse_entry(text) == LoginModule(PLAIN, options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Login module not specified"),
        (PLAIN, "Login module control flag not specified"),
        (f"{PLAIN} needed;", "Invalid login module control flag"),
        (f'{PLAIN} required a="hunter2"', "not terminated by semi-colon"),
        (f"{PLAIN} required hunter2;", "Value not specified"),
        (f"{PLAIN} required a=;", "Value not specified"),
        (f"{PLAIN} required a=42;", "Value not specified"),
        (f"{PLAIN} required; {PLAIN} required;", "contains 2 login modules, should be 1"),
    ],
)
def test_a_malformed_entry_is_refused_in_words_without_its_secrets(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        parse_entry(text)
    assert "hunter2" not in str(refusal.value)


def test_a_file_has_sections() -> None:
    text = f'KafkaServer {{ {PLAIN} required user_a="1"; x.Y optional; }};\nother.KafkaServer {{ }};'
    assert parse_file(text) == {
        "KafkaServer": [LoginModule(PLAIN, {"user_a": "1"}), LoginModule("x.Y", {})],
        "other.KafkaServer": [],
    }


@pytest.mark.parametrize("text", ["KafkaServer", "KafkaServer { ", "KafkaServer { }", "{};", f"{PLAIN} required;"])
def test_a_malformed_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_file(text)


@given(st.text(" a=;{}\"'\\/*\n1-é", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_entry, parse_file):
        try:
            parse(text)
        except ConfigError:
            pass


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(max_size=20)))
def test_every_password_can_be_written(options: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        return "".join(f"\\{ord(c):03o}" if ord(c) < 128 else c for c in value).replace("\r", "").replace("\n", "")

    text = " ".join(f'{key}="{quoted(value)}"' for key, value in options.items())
    assert parse_entry(f"{PLAIN} required {text};").options == options
