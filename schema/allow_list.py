"""The documents that a deployment allows, when it allows no others."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from resolvers.errors import DocumentNotAllowedError
from schema.documents import Documents

APOLLO: Final = "apollo-persisted-query-manifest"
NOT_ALLOWED: Final = "this server runs the documents of its allow-list alone"


class AllowListError(Exception):
    """The file can't be used; the message is one line that says why."""


class AllowList:
    """Documents by their SHA-256; each is valid.

    Args:
        texts: The documents, by hash.
    """

    def __init__(self, texts: Mapping[bytes, str]) -> None:
        self._texts = texts

    def find_text(self, sha256: bytes | None, text: str) -> str:
        """Return the allowed document that a request names by its hash, or brings.

        Raises:
            DocumentNotAllowedError: There is none.
        """
        sent = hashlib.sha256(text.encode()).digest() if text else sha256
        allowed = self._texts.get(sent) if sent else None
        if allowed is None:
            raise DocumentNotAllowedError(NOT_ALLOWED)
        return allowed


def read_allow_list(path: Path, documents: Documents) -> AllowList:
    """Read a manifest: Apollo's, or an object of documents by hash, as Relay and codegen write it.

    Raises:
        AllowListError: It can't be read, is neither, or has a document that can't be run.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise AllowListError(f"{path} can't be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise AllowListError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise AllowListError(f"{path}: must be a JSON object")
    texts: dict[bytes, str] = {}
    for key, text in _iter_documents(path, content):
        at = f"{path}: document {key!r}"
        if not isinstance(text, str):
            raise AllowListError(f"{at}: must be a string")
        sha256 = hashlib.sha256(text.encode())
        if key != sha256.hexdigest():
            raise AllowListError(
                f"{at}: is not the SHA-256 of its text, which is {sha256.hexdigest()}; have the "
                "manifest made with SHA-256"
            )
        errors = documents.pin(text).errors
        if errors:
            raise AllowListError(f"{at}: {' '.join(errors[0].message.split())}")
        texts[sha256.digest()] = text
    return AllowList(texts)


def _iter_documents(path: Path, content: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each document of a manifest after its hash.

    Source: https://www.apollographql.com/docs/graphos/platform/security/persisted-queries
    """
    if "format" not in content:
        yield from content.items()
        return
    if content["format"] != APOLLO or content.get("version") != 1:
        raise AllowListError(f"{path}: format: must be {APOLLO}, version 1")
    operations = content.get("operations")
    if not isinstance(operations, list):
        raise AllowListError(f"{path}: operations: must be a list")
    for index, operation in enumerate(operations):
        if not isinstance(operation, dict):
            raise AllowListError(f"{path}: operations[{index}]: must be an object")
        yield operation.get("id"), operation.get("body")
