"""Which side of the split, training or validation, a row is on for ever."""

import hashlib

from engine.canonical import fold_text

VALIDATION_SHARE = 0.2
"""The share of inputs that models are judged on and never trained on."""

_PURPOSE = b"gero-split"  # so that no other digest of an input tells its side


def is_validation(input_text: str) -> bool:
    """Tell whether a row is on the validation side.

    Its input alone decides, in whatever leaderboard or snapshot: rows with the same folded input
    are on the same side, so that no model is judged on an input that it was trained on. An
    expected output that is corrected moves nothing.

    Args:
        input_text: The row's input, without unpaired surrogates.

    Returns:
        True for the inputs whose BLAKE2b digest of 8 bytes, read as a big-endian fraction of
        2^64, is below `VALIDATION_SHARE`.

    Raises:
        UnicodeEncodeError: The input holds an unpaired surrogate.
    """
    folded = fold_text(input_text).encode()
    digest = hashlib.blake2b(folded, digest_size=8, person=_PURPOSE).digest()
    return int.from_bytes(digest, "big") < VALIDATION_SHARE * 2**64
