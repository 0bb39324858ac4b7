"""Redaction: what is found, what is left alone, and what holds for all texts."""

import copy
import ipaddress
import json
import uuid
from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from engine.detectors import DETECTORS
from engine.redaction import (
    MAX_DEPTH,
    NamedPattern,
    RedactionError,
    RedactionRules,
    Redactor,
    compile_redactor,
)

ALL = compile_redactor(
    RedactionRules(frozenset(DETECTORS), keys=frozenset({"password", "Api_Key", "ключ"}))
)
OWN = compile_redactor(
    RedactionRules(
        frozenset(DETECTORS),
        patterns=(
            NamedPattern("order", r"ORD-\d+"),
            NamedPattern("first", r"\bfoo"),
            NamedPattern("last", r"foo\b"),
            NamedPattern("letter", r"x+|\b"),
            NamedPattern("placeholders", r"redacted"),
            NamedPattern("quote", r'q"q'),
        ),
        keys=frozenset({"password", "q"}),
    )
)
API_KEYS = [
    "sk-proj-4fJ2kLm9QwErTyUiOpAsDfGh",
    "sk-ant-api03-Zx9cVb8nMq7wEr6tYu5iOp4aSd3fGh2j-AA",
    "sk-or-v1-0123456789abcdef0123456789abcdef",
    "drgero_AbCdEfGh1234_" + "x-Y_z0123456789" * 2 + "abcdefghijklm",
    "hpd_AbCdEfGh1234_" + "x-Y_z0123456789" * 2 + "abcdefghijklm",
    "hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "a1B2c3D4e5F6" * 3,
    "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz",
    "xoxb-123456789012-abcdefABCDEF",
    "AIza" + "a1B2c3D" * 5,
    "sk_live_" + "4eC39HqLyjWDarjt",
]
SECRETS = {
    "email": ["alice@example.com", "o'brien+x@mail.example.co.uk", "josé@exämple.de", "я@почта.рф"],
    "card": ["4111111111111111", "5500-0000-0000-0004", "3782 822463 10005", "6011000990139424"],
    "iban": ["DE89370400440532013000", "GB29 NWBK 6016 1331 9268 19", "NO9386011117947"],
    "us_ssn": ["123-45-6789", "899-01-0001"],
    "phone": [
        "+1 415 555 0123",
        "+442079460958",
        "(415) 555-0123",
        "415.555.0123",
        "01 23 45 67 89",
    ],
    "ipv4": ["10.0.0.1", "255.255.255.255"],
    "ipv6": ["2001:db8::8a2e:370:7334", "::1", "::ffff:192.0.2.1", "fe80:0:0:0:1:2:3:4"],
    "api_key": API_KEYS,
    "jwt": ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.AbC-_dEf012"],
    "private_key": [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ\n-----END PGP PRIVATE KEY BLOCK-----",
    ],
}
EVERY_SECRET = [(rule, secret) for rule, secrets in SECRETS.items() for secret in secrets]
PIECES = st.one_of(
    st.sampled_from([secret for _, secret in EVERY_SECRET]),
    st.sampled_from(
        ["foo", "x", "ORD-12", "[redacted:email]", "[redacted:", "]", '"', "\\", '"q":', 'q"q']
    ),
    st.sampled_from([" ", "", ",", ".", "-", "\n", "[", "{", "}", ":", "@", "4", "é", "\ud800"]),
    st.text(st.characters(), max_size=5),
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXTS | st.sampled_from(["password", "PASSWORD"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_every_detector_has_examples() -> None:
    assert {*SECRETS, "bearer"} == set(DETECTORS)


@pytest.mark.parametrize(("rule", "secret"), EVERY_SECRET)
def test_what_a_detector_is_for_is_replaced_and_counted(rule: str, secret: str) -> None:
    alone = compile_redactor(RedactionRules(frozenset({rule})))
    counts: Counter[str] = Counter()
    redacted = alone.redact_text(f"Here: {secret}, and “{secret}” again.", counts)
    assert redacted == f"Here: [redacted:{rule}], and “[redacted:{rule}]” again."
    assert counts == {rule: 2}


@pytest.mark.parametrize(("rule", "secret"), EVERY_SECRET)
def test_a_detector_that_is_off_finds_nothing(rule: str, secret: str) -> None:
    alone = compile_redactor(RedactionRules(frozenset({rule})))
    for other, examples in SECRETS.items():
        if other != rule and {other, rule} != {"ipv4", "ipv6"}:
            for text in examples:
                assert alone.redact_text(text) is text, (rule, text)


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 0.4111111111111111 at 1764153600000000000 ns.",
        "4111 1111 1111 1112 and 1234567890123456 and 41111111111111111111",
        f"{uuid.UUID(int=2**127 + 4111111111111111)} b4111111111111111f0000000000000e",
        "On 2026-11-26 at 12:34:56, version 1.2.3, std::vector<A::B>, 300.1.1.1, 1.2.3.4.5",
        "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000 1123-45-6789 123-45-67890",
        "DE89370400440532013001 and XX89370400440532013000",
        "a task-management-for-beginners, desk-internationalization, risk-assessment-2026",
        "the bearer instruments of the bearer authentication; @mention; me@localhost",
        "+12345 and 12 34 56, 555-0123, 1-800-FLOWERS",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert ALL.redact_text(text) is text


def test_the_word_bearer_stays_and_its_token_goes() -> None:
    assert ALL.redact_text("Authorization: Bearer abc123DEF==") == (
        "Authorization: Bearer [redacted:bearer]"
    )


def test_a_private_key_that_is_cut_off_goes_whole() -> None:
    assert ALL.redact_text("My key: -----BEGIN PRIVATE KEY-----\nMIIEvQ") == (
        "My key: [redacted:private_key]"
    )


def test_overlapping_matches_are_one_replacement_by_the_first() -> None:
    counts: Counter[str] = Counter()
    text = "4111111111111111alice@example.comsk-proj-4fJ2kLm9QwErTyUiOpAsDfGh"
    assert ALL.redact_text(text, counts) == "[redacted:email]"
    assert counts == {"email": 1}


@pytest.mark.parametrize(
    "text",
    [
        "DE89370400440532013000" * 2,
        "4111111111111111DE89370400440532013000",
        "AKIAIOSFODNN7EXAMPLE4111111111111111",
        "4111 1111 1111 1111 5500 0000 0000 0004",
        "+14155550123+14155550124",
    ],
)
def test_secrets_that_adjoin_all_go(text: str) -> None:
    assert not any(character.isdigit() for character in ALL.redact_text(text))


def test_values_of_redacted_keys_are_replaced_whole_at_any_depth() -> None:
    arguments = json.dumps({"to": "bob", "PassWord": {"is": ["x"]}, "n": 1})
    value = {
        "messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]}],
        "metadata": {"api_key": 5, "КЛЮЧ": True, "password": None, "passwords": "kept"},
    }
    counts: Counter[str] = Counter()
    before = copy.deepcopy(value)
    assert ALL.redact_json(value, counts) == {
        "messages": [
            {
                "role": "assistant",
                "tool_calls": [
                    {"function": {"arguments": '{"to":"bob","PassWord":"[redacted:key]","n":1}'}}
                ],
            }
        ],
        "metadata": {
            "api_key": "[redacted:key]",
            "КЛЮЧ": "[redacted:key]",
            "password": None,
            "passwords": "kept",
        },
    }
    assert counts == {"key": 3}
    assert value == before


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('```json\n{"password": "hunter 2"}\n```', '```json\n{"password": "[redacted:key]"}\n```'),
        ('{"a": 1, "Password": "cut o', '{"a": 1, "Password": "[redacted:key]'),
        ("{'password': 'it\\'s', 'b': 2}", "{'password': '[redacted:key]', 'b': 2}"),
        ('x "password" : 12, "password": null', 'x "password" : [redacted:key], "password": null'),
        (
            '```json\n{"password": {"a": "}", "b": ["it\'s"]}, "n": 1}\n```',
            '```json\n{"password": [redacted:key], "n": 1}\n```',
        ),
        ('{"n": 1}\n{"password": ["x", {"y": 2}]}', '{"n": 1}\n{"password": [redacted:key]}'),
        ('data: {"password": {"a": "cut o', 'data: {"password": [redacted:key]'),
        ("{'password': {'a': \"it's}\"}, 'b': 2}", "{'password': [redacted:key], 'b': 2}"),
        (
            r'say "{\"password\": \"a\\\" b\", \"n\": 1}"',
            r'say "{\"password\": \"[redacted:key]\", \"n\": 1}"',
        ),
        (
            r'"{\"password\": \"c:\\\\\", \"n\": 1}"!',
            r'"{\"password\": \"[redacted:key]\", \"n\": 1}"!',
        ),
        (r"{\\\"password\\\": [\\\"]\\\"], 1", r"{\\\"password\\\": [redacted:key], 1"),
        (
            r"""1: {"\u043a\u041b\u042e\u0427": "x"}""",
            r"""1: {"\u043a\u041b\u042e\u0427": "[redacted:key]"}""",
        ),
        (
            "{'password': b'hunter2', 'n': 1}",
            "{'password': [redacted:key], 'n': 1}",
        ),
        (
            "{'password': (b'a', 'hunter2'), 'p': PosixPath('/x')}",
            "{'password': [redacted:key], 'p': PosixPath('/x')}",
        ),
        ("{'password': PosixPath('/hunter2'), 'n': 1}", "{'password': [redacted:key], 'n': 1}"),
        (
            "x = {'password': '''hunter2''', 'n': 1}",
            "x = {'password': '''[redacted:key]''', 'n': 1}",
        ),
        (
            r'"{\"password\":\n\t\"hunter2\"}" ok',
            r'"{\"password\":\n\t\"[redacted:key]\"}" ok',
        ),
        ('in "password":\u00a0"hunter2"', 'in "password":\u00a0"[redacted:key]"'),
        (
            'x {"password": {\n  # don\'t log this\n  "required": true}, "n": 1}\ny = 2',
            'x {"password": [redacted:key], "n": 1}\ny = 2',
        ),
        (
            r'1: {"a": "{\"password\": \"hunt", "status": 200}',
            r'1: {"a": "{\"password\": \"[redacted:key]", "status": 200}',
        ),
        (
            r'1: {"a": "{\"password\": {\"a\": \"hunt\"", "status": 200}',
            r'1: {"a": "{\"password\": [redacted:key]", "status": 200}',
        ),
        ('\ufeff{"password": NaN, "b": {}}', '\ufeff{"password": [redacted:key], "b": {}}'),
    ],
)
def test_redacted_keys_count_where_json_is_only_part_of_a_text(text: str, redacted: str) -> None:
    assert ALL.redact_text(text) == redacted


def test_what_is_escaped_in_json_inside_a_string_is_found() -> None:
    assert ALL.redact_text(r'{"a": "alice\u0040example.com", "b": "x\nbob@example.com"}') == (
        r'{"a":"[redacted:email]","b":"x\n[redacted:email]"}'
    )


def test_a_secret_at_the_begin_of_a_line_is_found_where_json_is_part_of_a_text() -> None:
    secrets = "+14155550123", "DE89370400440532013000", "2001:db8::7", f"sk-{'a1' * 10}"
    text = "1: " + json.dumps({"t": "call\n" + "\n".join(secrets)})
    redacted = ALL.redact_text(text)
    assert not any(secret in redacted for secret in secrets)


def test_names_of_keys_are_redacted_without_losing_one() -> None:
    value = {"a@example.com": 1, "b@example.com": 2}
    assert ALL.redact_json(value) == {"[redacted:email]": 1, "[redacted:email][redacted:1]": 2}


def test_a_number_that_is_a_card_is_replaced_and_other_numbers_stay() -> None:
    numbers = [4111111111111111, 4111111111111112, 1764153600000000000, 2.5, True, 10**30]
    assert ALL.redact_json(numbers) == ["[redacted:card]", *numbers[1:]]


def test_patterns_of_ones_own_see_numbers_of_every_kind() -> None:
    own = compile_redactor(RedactionRules(patterns=(NamedPattern("id", r"^-?7731(\.5)?$"),)))
    assert own.redact_json([7731, {"a": -7731}, 7731.0, 7731.5]) == [
        "[redacted:id]",
        {"a": "[redacted:id]"},
        "[redacted:id]",
        "[redacted:id]",
    ]
    assert own.redact_json([77310, 1.5, True, None, 1e300]) == [77310, 1.5, True, None, 1e300]


def test_patterns_of_ones_own_see_json_as_it_says_and_not_as_it_is_escaped() -> None:
    own = compile_redactor(
        RedactionRules(
            patterns=(
                NamedPattern("customer", r"^CUST-\d+$"), NamedPattern("path", r"C:\\Users\\\w+"),
                NamedPattern("word", r"\bsecret\b"), NamedPattern("tiny", r"^1\.5e-7$"),
            )
        )
    )  # fmt: skip
    text = json.dumps(
        {"path": r"C:\Users\jane", "id": "CUST-7731", "note": "a\nsecret", "n": 1.5e-7}
    )
    assert own.redact_text(text) == (
        '{"path":"[redacted:path]","id":"[redacted:customer]","note":"a\\n[redacted:word]",'
        '"n":"[redacted:tiny]"}'
    )


def test_a_card_that_is_written_as_a_float_is_replaced() -> None:
    assert ALL.redact_json([4111111111111111.0, 4111111111111112.0]) == [
        "[redacted:card]",
        4111111111111112.0,
    ]


def test_what_is_nested_too_deeply_is_replaced_unseen() -> None:
    value: Any = "alice@example.com"
    for _ in range(5_000):
        value = [value]
    redacted = ALL.redact_json(value)
    for _ in range(MAX_DEPTH):
        redacted = redacted[0]
    assert redacted == "[redacted:depth]"
    assert ALL.redact_text("[" * 100_000) == "[" * 100_000


def test_without_rules_everything_is_returned_as_it_is() -> None:
    nothing = compile_redactor(RedactionRules())
    value = {"a": ["alice@example.com"]}
    assert nothing.redact_json(value) is value
    assert nothing.redact_text(value["a"][0]) is value["a"][0]


def test_equal_rules_are_one_redactor() -> None:
    rules = RedactionRules(frozenset({"email"}), (NamedPattern("a", "b"),), frozenset({"k"}))
    same = RedactionRules(frozenset({"email"}), (NamedPattern("a", "b"),), frozenset({"k"}))
    assert compile_redactor(rules) is compile_redactor(same)
    assert hash(compile_redactor(rules)) == hash(compile_redactor(same))
    assert compile_redactor(rules) != compile_redactor(RedactionRules())


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (RedactionRules(frozenset({"mail"})), "mail is no detector; there are email, card, "),
        (RedactionRules(patterns=(NamedPattern("a", "("),)), "a: is not a valid regex: missing )"),
        (RedactionRules(patterns=(NamedPattern("a", r"\\\C"),)), "a: must not match single bytes"),
        (RedactionRules(patterns=(NamedPattern("a", "x*"),)), "a: must not match the empty text"),
        (RedactionRules(patterns=(NamedPattern("A b", "x"),)), "A b: must be a small letter"),
        (RedactionRules(patterns=(NamedPattern("email", "x"),)), "email: is taken by a rule of"),
        (
            RedactionRules(patterns=(NamedPattern("a", "x"), NamedPattern("a", "y"))),
            "a: there are 2 patterns of this name",
        ),
    ],
)
def test_rules_that_can_not_be_used_are_refused_by_name(
    rules: RedactionRules, message: str
) -> None:
    with pytest.raises(RedactionError) as refused:
        compile_redactor(rules)
    assert str(refused.value).startswith(message)


def test_a_backslash_before_c_is_no_single_byte() -> None:
    own = compile_redactor(RedactionRules(patterns=(NamedPattern("path", r"C:\\Code"),)))
    assert own.redact_text(r"in C:\Code, é") == "in [redacted:path], é"


def test_a_pattern_that_lays_its_next_match_bare_is_bounded() -> None:
    text = "foo" * 100_000
    redacted = OWN.redact_text(f"{text} and é")
    assert "foo" not in redacted
    assert redacted.endswith(" and é")


def test_a_pattern_that_looks_far_ahead_for_each_match_is_bounded() -> None:
    far = compile_redactor(RedactionRules(patterns=(NamedPattern("far", "a[^b]*b|a"),)))
    counts: Counter[str] = Counter()
    assert set(far.redact_text("a" * 1_000_000, counts).split("[redacted:far]")) == {""}
    assert counts["far"] < 1_000


def test_a_pattern_that_looks_far_ahead_is_bounded_in_many_short_texts_too() -> None:
    far = compile_redactor(RedactionRules(patterns=(NamedPattern("far", "a[^b]*b|a"),)))
    counts: Counter[str] = Counter()
    texts = ["a" * 17_000] * 3
    redacted = far.redact_json(texts, counts)
    assert set("".join(redacted).split("[redacted:far]")) == {""}
    assert counts["far"] <= 3 * 1_001


@pytest.mark.parametrize("redactor", [ALL, OWN], ids=["detectors", "own patterns"])
@given(value=JSON)
@example(value={"a@example.com": 1, "[redacted:email]": 2, "b@example.com": 3})
@example(value='{"q": "q"q"}')
def test_redacting_twice_is_redacting_once_and_changes_no_input(
    redactor: Redactor, value: Any
) -> None:
    before = copy.deepcopy(value)
    once = redactor.redact_json(value)
    assert value == before
    counts: Counter[str] = Counter()
    assert redactor.redact_json(once, counts) is once
    assert counts == {}


@given(value=JSON)
def test_objects_and_arrays_keep_their_shape(value: Any) -> None:
    def compare(redacted: Any, original: Any) -> None:
        if redacted == "[redacted:key]":
            return
        if isinstance(original, dict):
            assert len(redacted) == len(original)
            for (_, new), (_, old) in zip(redacted.items(), original.items(), strict=True):
                compare(new, old)
        elif isinstance(original, list):
            assert len(redacted) == len(original)
            for new, old in zip(redacted, original, strict=True):
                compare(new, old)
        elif isinstance(original, str) or type(original) in {int, float}:
            assert type(redacted) in {type(original), str}
        else:
            assert redacted is original

    compare(ALL.redact_json(value), value)


@given(
    before=st.text(" ,;\n(é", min_size=1, max_size=3),
    secrets=st.lists(st.sampled_from(EVERY_SECRET), min_size=1, max_size=6),
)
@example(before="(", secrets=[("phone", "+1 415 555 0123"), ("phone", "(415) 555-0123")])
@example(before=" ", secrets=[("phone", "+1 415 555 0123"), ("phone", "415.555.0123")])
def test_no_secret_survives_among_others(before: str, secrets: list[tuple[str, str]]) -> None:
    redacted = ALL.redact_text(before + before.join(secret for _, secret in secrets) + before)
    for _, secret in secrets:
        assert secret not in redacted


@given(text=TEXTS)
def test_nothing_that_a_rule_finds_is_left_between_replacements(text: str) -> None:
    redacted = ALL.redact_text(text)
    for name in DETECTORS:
        redacted = redacted.replace(f"[redacted:{name}]", "\x00")
    for piece in redacted.split("\x00"):
        assert ALL.redact_text(piece) == piece


def luhn_by_textbook(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value // 10 + value % 10
    return total % 10 == 0


@given(
    digits=st.text("0123456789", min_size=10, max_size=22),
    separator=st.sampled_from(["", " ", "-"]),
)
def test_a_card_is_what_luhns_formula_admits(digits: str, separator: str) -> None:
    cards = compile_redactor(RedactionRules(frozenset({"card"})))
    written = separator.join(digits[at : at + 4] for at in range(0, len(digits), 4))
    groups = [digits[at : at + 4] for at in range(0, len(digits), 4)] if separator else [digits]
    windows = [
        "".join(groups[first:last])
        for first in range(len(groups))
        for last in range(first + 1, len(groups) + 1)
    ]
    is_card = any(
        13 <= len(window) <= 19 and window[0] in "23456" and luhn_by_textbook(window)
        for window in windows
    )
    assert (cards.redact_text(written) != written) is is_card


@given(account=st.text("ABCXYZ0123456789", min_size=18, max_size=18), check=st.integers(0, 99))
def test_an_iban_is_what_the_remainder_admits(account: str, check: int) -> None:
    ibans = compile_redactor(RedactionRules(frozenset({"iban"})))
    remainder = 0
    for character in f"{account}DE{check:02}":
        for digit in str("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(character)):
            remainder = (remainder * 10 + int(digit)) % 97
    iban = f"DE{check:02}{account}"
    assume("DE" not in account)
    assert (ibans.redact_text(iban) == "[redacted:iban]") is (remainder == 1)


@given(address=st.ip_addresses())
def test_addresses_are_found_in_the_form_that_python_writes(address: Any) -> None:
    written = str(address)
    assume(any(character.isdigit() for character in written))
    version = ipaddress.ip_address(written).version
    assert ALL.redact_text(f"at {written}.") == f"at [redacted:ipv{version}]."
