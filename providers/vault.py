"""Encryption of the secrets that are stored: provider keys and endpoint credentials."""

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = "v1"
NONCE_BYTES = 12
KEY_BYTES = 32


class VaultError(Exception):
    """A box can't be opened: another key, another owner, or a changed byte."""


class Vault:
    """Seals secrets into text boxes that open only for the owner they were sealed for.

    The owner (a table, a row and a column) is AES-GCM's associated data, so a
    box copied to another row does not open there.

    Source: NIST SP 800-38D; 96-bit random nonces, far below 2^32 boxes a key.
    """

    def __init__(self, key: bytes) -> None:
        """Hold *key*, 32 bytes.

        Raises:
            ValueError: *key* has another length.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"the vault key has {len(key)} bytes, not {KEY_BYTES}")
        self._cipher = AESGCM(key)

    def seal(self, secret: str, *, owner: str) -> str:
        """Return *secret* encrypted for *owner*."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, secret.encode(), _bound_to(owner))
        return f"{VERSION}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, box: str, *, owner: str) -> str:
        """Return the secret in *box*.

        Raises:
            VaultError: *box* was not sealed for *owner* with this key.
        """
        version, _, body = box.partition(".")
        if version != VERSION:
            raise VaultError("a stored secret has an unknown format")
        try:
            raw = base64.urlsafe_b64decode(body)
            plain = self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound_to(owner))
        except (InvalidTag, ValueError) as error:
            raise VaultError(
                "a stored secret can't be decrypted; was GERO_SECRET_KEY changed?"
            ) from error
        return plain.decode()


def _bound_to(owner: str) -> bytes:
    return f"{VERSION}|{owner}".encode()
