"""Starts the `gero` command, from a checkout or from an installed wheel."""

import gc
import sys
from importlib import import_module
from pathlib import Path

PACKAGE_DIR = Path(__file__).parent


def main() -> None:
    """Run `gero`.

    In a wheel the application's folders lie inside this package; they are put
    on the path of this process alone, ahead of whatever else has their names.
    """
    if (PACKAGE_DIR / "app").is_dir():
        sys.path.insert(0, str(PACKAGE_DIR))
    # What is imported stays: looking through it for garbage, now and at the end, takes longer
    # than a quarter of what a short command does.
    gc.disable()
    command = import_module("app.cli").main
    gc.freeze()
    gc.enable()
    command()
