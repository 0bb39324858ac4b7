"""Starts the `gero` command, from a checkout or from an installed wheel."""

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
    import_module("app.cli").main()
