"""The server `product`: the application as `gero serve` has it, and nothing else."""

import os
import sys
from pathlib import Path
from tempfile import gettempdir

from starlette.types import ASGIApp

from app.logs import configure_logs
from app.server import create_app as create_product
from app.settings import Settings, load_settings
from bench.graphql.scene import Scene

SECRET_KEY = "A" * 43 + "="
COMPILED_SETTING = "graphql_compiled"


def settings_of(scene: Scene) -> Settings:
    """Return the default settings on the scene's database, but for how long traces are kept."""
    return load_settings(
        database_url=scene.database_url,
        secret_key=SECRET_KEY,
        object_store_url=gettempdir(),
        # The scene's traces are of a fixed day, so that the same size is the same content.
        trace_retention_days=3_650,
    )


def create_app(scene: Scene) -> ASGIApp:
    """Build the application."""
    return create_product(settings_of(scene))


def as_served(scene: Scene) -> ASGIApp:
    """Build the application in a process of its own, which logs each request as usual."""
    settings = settings_of(scene)
    sys.stderr = Path(os.devnull).open("w", buffering=1)  # noqa: SIM115 - for the process's life
    configure_logs(settings.log_level, settings.log_format)
    return create_app(scene)


def as_served_uncompiled(scene: Scene) -> ASGIApp:
    """Build it with the compiled executor turned off."""
    os.environ[f"GERO_{COMPILED_SETTING.upper()}"] = "false"
    return as_served(scene)


def has_compiled_executor() -> bool:
    """Tell whether there is an executor to turn off."""
    return COMPILED_SETTING in Settings.model_fields
