"""What is sent: where a URL leads, and heads that are one head."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import ProviderError, ProviderErrorCode
from providers.http_requests import OURS, Origin, parse_url, write_head

URL = "https://model.example/v1"


def head_of(
    url: str, headers: dict[str, str], *, method: str = "GET", content: bytes | None = None
) -> str:
    return write_head(method, parse_url(url, public_only=False), headers, content).decode()


def refusal_of(url: str, headers: dict[str, str]) -> str:
    with pytest.raises(ProviderError) as at:
        head_of(url, headers)
    assert (at.value.code, at.value.is_retryable) == (ProviderErrorCode.REJECTED, False)
    return str(at.value)


def test_a_head_is_written_in_full() -> None:
    assert head_of(URL, {"X-Key": "a b"}, method="POST", content=b"{}") == (
        "POST /v1 HTTP/1.1\r\nHost: model.example\r\nUser-Agent: gero\r\nAccept: */*\r\n"
        "Accept-Encoding: gzip, deflate\r\nX-Key: a b\r\nContent-Length: 2\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "content", "length"),
    [
        ("GET", None, None),
        ("HEAD", None, None),
        ("POST", None, 0),
        ("POST", b"", 0),
        ("PUT", b"a", 1),
    ],
)
def test_a_length_is_stated_where_one_is_expected(
    method: str, content: bytes | None, length: int | None
) -> None:
    stated = "" if length is None else f"Content-Length: {length}\r\n"
    head = head_of(URL, {}, method=method, content=content)
    assert head.endswith(f"Accept-Encoding: gzip, deflate\r\n{stated}\r\n")
    assert head.count("Content-Length") == (length is not None)


def test_a_default_gives_way_however_it_is_written() -> None:
    head = head_of(URL, {"ACCEPT": "a/b", "accept-encoding": "identity"})
    assert head.lower().count("\r\naccept:") == 1
    assert head.endswith("User-Agent: gero\r\nACCEPT: a/b\r\naccept-encoding: identity\r\n\r\n")


@pytest.mark.parametrize(
    ("url", "origin", "authority", "target"),
    [
        ("http://a.example", Origin("http", "a.example", 80), "a.example", "/"),
        ("HTTPS://A.Example:443/", Origin("https", "a.example", 443), "a.example", "/"),
        ("http://a.example:8080?q", Origin("http", "a.example", 8080), "a.example:8080", "/?q"),
        ("http://a.example./x#part", Origin("http", "a.example.", 80), "a.example", "/x"),
        ("http://[::1]:81/x", Origin("http", "::1", 81), "[::1]:81", "/x"),
        ("http://bücher.example/ü?ü", Origin("http", "xn--bcher-kva.example", 80),
         "xn--bcher-kva.example", "/%C3%BC?%C3%BC"),
        ("http://a.example/a%2Fb/%20c d", Origin("http", "a.example", 80), "a.example",
         "/a%2Fb/%20c%20d"),
        ("http://my_model.example/", Origin("http", "my_model.example", 80), "my_model.example",
         "/"),
    ],
)  # fmt: skip
def test_a_url_is_taken_apart(url: str, origin: Origin, authority: str, target: str) -> None:
    address = parse_url(url, public_only=False)
    assert (address.origin, address.authority, address.target) == (origin, authority, target)


@pytest.mark.parametrize(
    "value", ["a\nb", "a\rb", "a\r\nX-Other: 1", "a\x00", "\x1b", "\x7f", "a\n"]
)
def test_a_value_that_would_be_more_than_one_header_is_refused(value: str) -> None:
    said = "a header holds a line end or another control character"
    assert refusal_of(URL, {"X-Key": value}) == said
    assert refusal_of(URL, {value: "key"}) == said


@pytest.mark.parametrize("name", ["", " ", "X Key", "X:Key", "X-Kéy", "(x)", " X-Key"])
def test_a_name_that_no_header_can_have_is_refused(name: str) -> None:
    assert refusal_of(URL, {name: "key"}) == f"{name!r} can't be the name of a header"


@pytest.mark.parametrize("name", [*sorted(OURS), "Content-Length", "TRANSFER-ENCODING"])
def test_where_a_request_ends_and_leads_is_not_the_callers_to_say(name: str) -> None:
    said = f"the header {name} is set by the connection, and by nothing else"
    assert refusal_of(URL, {name: "1"}) == said


def test_half_a_character_is_refused() -> None:
    assert refusal_of(URL, {"X-Key": "\ud800"}) == "a header holds half a character"


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3))
def test_whatever_headers_hold_a_head_ends_once(headers: dict[str, str]) -> None:
    try:
        head = head_of(URL, headers)
    except ProviderError:
        return
    lines = head.split("\r\n")
    assert lines[-2:] == ["", ""]
    assert "" not in lines[:-2]
    assert "\n" not in head.replace("\r\n", "")
    assert {line.partition(": ")[0] for line in lines[2:-2]} >= set(headers)


@given(host=st.text(max_size=30), path=st.text(max_size=30), public_only=st.booleans())
def test_whatever_a_url_holds_it_is_refused_or_one_line(
    host: str, path: str, *, public_only: bool
) -> None:
    try:
        address = parse_url(f"http://{host}/{path}", public_only=public_only)
    except ProviderError as error:
        assert error.code in {ProviderErrorCode.REJECTED, ProviderErrorCode.REFUSED_ADDRESS}  # noqa: PT017
        return
    for part in (address.authority, address.target, address.origin.host):
        assert part.isascii()
        assert part.isprintable()
        assert " " not in part
