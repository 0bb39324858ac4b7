"""Files that are put in place whole or not at all, once, and stay there through a power cut."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

# Where files are written before they get their name. A key can't begin with a dot, and the library
# that reads the directory takes names that end so for its own unfinished ones: it hides them.
INCOMING = ".incoming"
INCOMING_SUFFIX = "#1"
COPY_BYTES = 1024 * 1024
# Writing a file renews its time at every block, so that none this old is still being written.
ABANDONED_SECONDS = 3600.0


def prepare_directory(root: Path) -> None:
    """Make *root* where it is missing, and clear what killed processes left unfinished in it.

    Raises:
        OSError: It can't be made, or is not a directory.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    incoming = root / INCOMING
    incoming.mkdir(exist_ok=True)
    for left in incoming.iterdir():
        with suppress(FileNotFoundError):  # another process clears up as well, or has finished it
            if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                left.unlink()
    for directory in (root, *root.parents):
        # Directories that we may not read are not ones that we have made.
        with suppress(PermissionError):
            _sync_directory(directory)


def put_durably(source: BinaryIO, root: Path, name: str) -> bool:
    """Copy *source* to *root*/*name*, unless that is there already.

    The file is written and synced under another name, and linked to its own one, which only one of
    several can do. When this returns, whoever made the file, its bytes and its name are on disk.

    Source: fsync(2): syncing a file does not sync its entry in the directory.

    Returns:
        Whether this call made it.

    Raises:
        OSError: It can't be written.
    """
    target = root / name
    directories = target.parents[: len(Path(name).parts)]
    if target.is_file():
        is_new = False
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        is_new = _link_copy(source, root / INCOMING, target)
    # Also when another made it: it may not have come as far as this, and we vouch for it too.
    for directory in directories:
        _sync_directory(directory)
    return is_new


def _link_copy(source: BinaryIO, incoming: Path, target: Path) -> bool:
    written = incoming / f"{uuid4().hex}{INCOMING_SUFFIX}"
    try:
        with written.open("xb") as file:
            shutil.copyfileobj(source, file, COPY_BYTES)
            file.flush()
            os.fsync(file.fileno())
        target.hardlink_to(written)
    except FileExistsError:
        if not target.is_file():  # a directory: its name is the beginning of other keys
            raise
        return False
    finally:
        written.unlink(missing_ok=True)
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
