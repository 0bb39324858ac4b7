"""What redaction finds by itself: personal data, payment data and secrets, in UTF-8 text."""

import ipaddress
import re
import string
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

Span = tuple[int, int]
"""From which byte to which, the second left out."""

_HEX = b"0123456789abcdefABCDEF"
_HASH_CHARACTERS = 32  # an MD5; digits inside so long a word are no card
_CARD_DIGITS = (13, 19)  # ISO/IEC 7812-1 allows 19; the shortest in use have 13
_SHORTEST_GROUP = 3  # with which a number begins that is printed in groups
_CARD_BEGINS = frozenset(b"23456")  # its major industries that issue payment cards
_DIGITS_PLAIN = bytes.maketrans(b"0123456789", bytes(range(10)))
_DIGITS_DOUBLED = bytes.maketrans(b"0123456789", bytes([0, 2, 4, 6, 8, 1, 3, 5, 7, 9]))
_PHONE_DIGITS = (8, 15)
# As many digits as nearly all international numbers have, up to where a group of them ends.
_WHOLE_PHONE = re.compile(rb"\+(?:[0-9][ ()./-]*){9,14}?[0-9](?![0-9])")
_BEARER_CHARACTERS = 20  # without a digit, fewer are a word

# Letters and digits that a country's account numbers have, its code and check digits included.
_IBAN_LENGTHS: Mapping[str, int] = {
    code: int(length)
    for length, codes in {
        "15": "NO",
        "16": "BE",
        "18": "DK FI FK FO GL NL SD",
        "19": "MK SI",
        "20": "AT BA EE KZ LT LU MN XK",
        "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST",
        "26": "IS TR",
        "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HN HU LB NI PL SV YE",
        "29": "BR EG PS QA UA",
        "30": "JO KW MU",
        "31": "MT SC",
        "32": "LC",
        "33": "RU",
    }.items()
    for code in codes.split()
}


_ESCAPES = frozenset({rb"\n", rb"\r", rb"\t"})
_DIGIT = re.compile(rb"[0-9]")
_LETTER_VALUES = {ord(letter): str(int(letter, 36)) for letter in string.ascii_uppercase}
_IBANS = {
    code.encode(): re.compile(rb"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){%d}" % (length - 4))
    for code, length in _IBAN_LENGTHS.items()
}


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of thing that is found.

    Attributes:
        pattern: Where it may be, in RE2 syntax.
        narrow: Which parts of such a place are it, given the whole text.
    """

    pattern: str
    narrow: Callable[[bytes, int, int], Iterator[Span]]


def _passes_mod_97(iban: str) -> bool:
    """Tell whether an account number of capitals and digits has the right check digits.

    Source: ISO 13616-1 and ISO/IEC 7064 MOD 97-10: the first four characters go to the end,
    letters count from A = 10, and the number leaves 1 when divided by 97.
    """
    return int((iban[4:] + iban[:4]).translate(_LETTER_VALUES)) % 97 == 1


def _whole(_text: bytes, start: int, end: int) -> Iterator[Span]:
    yield start, end


def _cards(text: bytes, start: int, end: int) -> Iterator[Span]:
    """Find card numbers in a run of digits, of which single spaces and hyphens make groups.

    A number is whole groups, with spaces or with hyphens, so that neither a longer number is
    torn apart nor one card of several hidden by the others.
    """
    run = text[start:end].replace(b"-", b" ")
    bounds = list(accumulate(map(len, run.split(b" ")), initial=0))
    digits = run.replace(b" ", b"")
    last_group = len(bounds) - 1
    for first, after in _luhn_windows(digits, bounds):
        begin, stop = start + bounds[first] + first, start + bounds[after] + after - 1
        at_edge = (first == 0 and _continues_left(text, begin)) or (
            after == last_group and _continues_right(text, stop)
        )
        is_mixed = b" " in text[begin:stop] and b"-" in text[begin:stop]
        if not at_edge and not is_mixed and not _is_in_hash(text, begin, stop):
            yield begin, stop


def _luhn_windows(digits: bytes, bounds: list[int]) -> Iterator[Span]:
    """Yield which groups are a card number together, in linear time.

    Args:
        digits: All of them.
        bounds: Where each group begins, and where the last one ends.

    Source: ISO/IEC 7812-1, annex B: from the right, every second digit is doubled, the digits of
    what comes of it are added, and the sum is a multiple of ten.
    """
    shortest, longest = _CARD_DIGITS
    if all(after - before > longest for before, after in pairwise(bounds)):
        return
    plain, doubled = digits.translate(_DIGITS_PLAIN), digits.translate(_DIGITS_DOUBLED)
    sums = []
    for parity in (0, 1):  # of the last digit's place, which is not doubled
        mixed = bytearray(doubled)
        mixed[parity::2] = plain[parity::2]
        sums.append(list(accumulate(mixed, initial=0)))
    for first, begin in enumerate(bounds[:-1]):
        short = bounds[first + 1] - begin < _SHORTEST_GROUP
        if short or digits[begin] not in _CARD_BEGINS:
            continue
        after = bisect_left(bounds, begin + shortest, first + 1)
        while after < len(bounds) and bounds[after] - begin <= longest:
            stop = bounds[after]
            total = sums[(stop - 1) % 2]
            if (total[stop] - total[begin]) % 10 == 0:
                yield first, after
            after += 1


def _continues_left(text: bytes, start: int) -> bool:
    """Tell whether what is before makes digits the fraction of a number."""
    return text[max(0, start - 1) : start] == b"." and text[max(0, start - 2) : start - 1].isdigit()


def _continues_right(text: bytes, end: int) -> bool:
    return text[end : end + 1] == b"." and text[end + 1 : end + 2].isdigit()


def _is_in_hash(text: bytes, start: int, end: int) -> bool:
    before = text[max(0, start - _HASH_CHARACTERS) : start]
    after = text[end : end + _HASH_CHARACTERS]
    around = len(before) - len(before.rstrip(_HEX)) + len(after) - len(after.lstrip(_HEX))
    return around > 0 and around + end - start >= _HASH_CHARACTERS


def _ibans(text: bytes, start: int, _end: int) -> Iterator[Span]:
    """Find account numbers by their first four characters; the country says where they end."""
    written = _IBANS[text[start : start + 2]].match(text, start)
    if written is None or _byte_before(text, start).isalpha():
        return
    if _passes_mod_97(written.group().replace(b" ", b"").decode()):
        yield written.span()


def _social_security_numbers(text: bytes, start: int, end: int) -> Iterator[Span]:
    area, group, serial = text[start:end].split(b"-")
    given = area not in {b"000", b"666"} and area < b"900" and group != b"00" and serial != b"0000"
    if given and _stands_alone(text, start, end, b"-"):
        yield start, end


def _stands_alone(text: bytes, start: int, end: int, joins: bytes) -> bool:
    """Tell whether no digit follows or goes before, alone or after one of *joins*."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return not (
        before[-1:].isdigit()
        or after[:1].isdigit()
        or (before[-1:] and before[-1:] in joins and before[:-1].isdigit())
        or (after[:1] and after[:1] in joins and after[1:].isdigit())
    )


def _phones(text: bytes, start: int, end: int) -> Iterator[Span]:
    shortest, longest = _PHONE_DIGITS
    if _byte_before(text, start).isalnum():
        return
    if text[end : end + 1].isdigit():  # it ran on into the next number
        first = _WHOLE_PHONE.match(text, start)
        if first is None:
            return
        end = first.end()
    if shortest <= len(_DIGIT.findall(text, start, end)) <= longest:
        yield start, end


def _ipv4(text: bytes, start: int, end: int) -> Iterator[Span]:
    if _stands_alone(text, start, end, b"."):
        yield start, end


def _ipv6(text: bytes, start: int, end: int) -> Iterator[Span]:
    """Find an address that has a digit: `A::B` is a name in several languages."""
    if any(map(_is_of_a_word, (_byte_before(text, start), text[end : end + 1]))):
        return
    written = text[start:end].decode()
    if _DIGIT.search(text, start, end):
        try:
            ipaddress.IPv6Address(written)
        except ValueError:
            return
        yield start, end


def _byte_before(text: bytes, start: int) -> bytes:
    """Return the byte before; none where it ends an escape, as JSON has in the place of a line."""
    before = text[max(0, start - 2) : start]
    return b"" if before in _ESCAPES else before[-1:]


def _is_of_a_word(character: bytes) -> bool:
    return character.isalnum() or character in {b":", b"_"}


def _api_keys(text: bytes, start: int, end: int) -> Iterator[Span]:
    """Find keys; `sk-` is also the end of words, such as `task-`."""
    if text.startswith(b"sk-", start) and _byte_before(text, start).isalpha():
        longest = max(text[start:end].replace(b"_", b"-").split(b"-"), key=len)
        if len(longest) < _BEARER_CHARACTERS or longest.isalpha():
            return
    yield start, end


def _bearers(text: bytes, start: int, end: int) -> Iterator[Span]:
    """Find the token alone, and not what is said of the bearer of something."""
    token_length = len(text[start:end].split()[-1])
    token = text[end - token_length : end]
    if token_length >= _BEARER_CHARACTERS or _DIGIT.search(token):
        yield end - token_length, end


_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PRIVATE_KEY = r"[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"

DETECTORS: Mapping[str, Detector] = {
    # RFC 5322 dot-atoms and RFC 6531's letters of any script, less what rarely is in a name.
    "email": Detector(
        r"[\pL\pN_][\pL\pN\pM._%+'-]*@(?:[\pL\pN][\pL\pN\pM-]*\.)+(?:\pL{2,}|xn--[A-Za-z0-9-]+)",
        _whole,
    ),
    "card": Detector(r"[0-9](?:[ -]?[0-9]){12,}", _cards),
    # SWIFT, IBAN Registry; in groups of four on paper.
    "iban": Detector(rf"(?:{'|'.join(_IBAN_LENGTHS)})[0-9]{{2}}", _ibans),
    # Social Security Administration, POMS RM 10201.035: which numbers were never given.
    "us_ssn": Detector(r"[0-9]{3}-[0-9]{2}-[0-9]{4}", _social_security_numbers),
    # ITU-T E.164 with a plus sign; the national forms of North America, the United Kingdom
    # and France, which are written in few ways.
    "phone": Detector(
        r"\+[1-9](?:[ ()./-]{0,2}[0-9]){7,14}"
        r"|\([2-9][0-9]{2}\) ?[0-9]{3}[ .-][0-9]{4}"
        r"|[2-9][0-9]{2}[.-][2-9][0-9]{2}[.-][0-9]{4}"
        r"|\(?0[1-9][0-9]{1,3}\)? [0-9]{3,4} [0-9]{3,4}"
        r"|0[1-9](?:[ .][0-9]{2}){4}",
        _phones,
    ),
    "ipv4": Detector(rf"{_OCTET}(?:\.{_OCTET}){{3}}", _ipv4),
    # RFC 4291, section 2.2.
    "ipv6": Detector(
        rf"(?:[0-9A-Fa-f]{{0,4}}:){{2,6}}{_OCTET}(?:\.{_OCTET}){{3}}"
        r"|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}",
        _ipv6,
    ),
    # The forms that OpenAI, Anthropic and OpenRouter (sk-), this product, Hugging Face, AWS,
    # GitHub, GitLab, Slack, Stripe, Google and Groq publish for secret scanning.
    "api_key": Detector(
        r"sk-[A-Za-z0-9_-]{16,}"
        r"|(?:drgero|hpd)_[A-Za-z0-9]{12}_[A-Za-z0-9_-]{43}"
        r"|hf_[A-Za-z0-9]{30,}"
        r"|(?:AKIA|ASIA)[A-Z0-9]{16}"
        r"|gh[oprsu]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,}"
        r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}"
        r"|(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}"
        r"|AIza[A-Za-z0-9_-]{35}|gsk_[A-Za-z0-9]{40,}",
        _api_keys,
    ),
    # RFC 7519 in the compact form of RFC 7515: the first two parts are JSON objects.
    "jwt": Detector(r"eyJ[A-Za-z0-9_-]{6,}\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*", _whole),
    # RFC 7468; one that is cut off is a key all the same.
    "private_key": Detector(
        rf"-----BEGIN {_PRIVATE_KEY}\C*?(?:-----END {_PRIVATE_KEY}|\z)", _whole
    ),
    # RFC 6750, section 2.1.
    "bearer": Detector(r"(?i:bearer)[ \t]+[A-Za-z0-9._~+/-]{8,}=*", _bearers),
}
"""Every detector by its name."""
