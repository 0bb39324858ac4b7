"""What goes wrong with a store of objects, told without repeating what may be secret."""

import os
import re
from errno import EDQUOT, EMFILE, ENFILE, ENOSPC, ESTALE

from providers.objects import ObjectError, ObjectMissingError

# The library tells what went wrong in text alone. Of that we repeat what has a known form, as the
# rest is the other side's, and some servers answer with the credential that they refuse.
STATUS = re.compile(r"status code: (\d{3})\b")
S3_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
HTTP_KIND = re.compile(r"HttpError \{\s+kind: (\w+)")
OS_ERROR = re.compile(r"\(os error (\d+)\)")
OUT_OF_RANGE = "InvalidRange {"
OUT_OF_RANGE_STATUS = "416"
METADATA_SERVICES = ("/latest/api/token", "/latest/meta-data", "/computeMetadata/")
HTTP_KINDS = {
    "Connect": "can't connect",
    "Request": "the request could not be sent",
    "Timeout": "no answer in time",
    "Interrupted": "the connection was lost",
}
RETRYABLE_STATUSES = {408, 429, 500, 502, 503, 504}
# A part that came too slowly; an upload whose parts were cleared away while it went on.
RETRYABLE_S3_CODES = {"RequestTimeout", "NoSuchUpload"}
# Room or handles may be there again later; a permission is given by a person.
RETRYABLE_ERRNOS = {ENOSPC, EDQUOT, EMFILE, ENFILE, ESTALE}


def explain(error: Exception, problem: str) -> ObjectError:
    """Say what went wrong, in words that hold nothing of what was sent.

    Args:
        error: What the library or the file system raised.
        problem: What can't be done, and with which object.
    """
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return _explain_errno(error.errno, problem)
    status, code = _first(STATUS, text), _first(S3_CODE, text)
    if isinstance(error, FileNotFoundError) and code in {None, "NoSuchKey"}:
        return ObjectMissingError(f"{problem}: there is no such object")
    if status == OUT_OF_RANGE_STATUS or OUT_OF_RANGE in text:
        return ObjectError(f"{problem}: it ends before the range begins")
    if status is not None:
        return ObjectError(
            f"{problem}: the server answered {status}" + (f" {code}" if code else ""),
            is_retryable=int(status) in RETRYABLE_STATUSES or code in RETRYABLE_S3_CODES,
        )
    kind, os_error = _first(HTTP_KIND, text), _first(OS_ERROR, text)
    if kind in HTTP_KINDS:
        cause = HTTP_KINDS[kind]
        if any(path in text for path in METADATA_SERVICES):
            cause = f"no credential is set, and the machine's own can't be had: {cause}"
        return ObjectError(f"{problem}: {cause}", is_retryable=True)
    if os_error is not None:
        return _explain_errno(int(os_error), problem)
    return ObjectError(f"{problem}: {type(error).__name__}")


def _explain_errno(number: int, problem: str) -> ObjectError:
    return ObjectError(f"{problem}: {os.strerror(number)}", is_retryable=number in RETRYABLE_ERRNOS)


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found[1] if found else None
