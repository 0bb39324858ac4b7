"""Other gateways, measured the same way where they are installed; each without a database."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TypeAlias

from bench.inference.native import Load, chat_request

LITELLM = """
model_list:
{models}
litellm_settings:
  telemetry: false
  drop_params: true
"""
LITELLM_MODEL = """
  - model_name: delay-{delay_ms}
    litellm_params:
      model: openai/delay-{delay_ms}
      api_base: {base_url}
      api_key: none
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """How a gateway is run.

    Attributes:
        argv: Its command.
        request: The bytes that it is asked with.
        variables: Further environment variables.
    """

    argv: list[str | Path]
    request: Callable[[Load], bytes]
    variables: Mapping[str, str]


Runs: TypeAlias = Callable[[Path, int, int, Path], Peer]


def run_litellm(program: Path, port: int, model_port: int, folder: Path) -> Peer:
    """Return how LiteLLM's proxy is run: *program* is the `litellm` of its environment."""
    base_url = f"http://127.0.0.1:{model_port}/v1"
    models = [LITELLM_MODEL.format(delay_ms=delay, base_url=base_url) for delay in (0, 50)]
    config = folder / "litellm.yaml"
    config.write_text(LITELLM.format(models="".join(models)))
    options = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    key = f"sk-{token_hex(32)}"  # it does not start without one
    variables = {
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would fetch its price list
        "LITELLM_LOG": "ERROR",
    }
    return Peer(
        [program, "--config", config, *options],
        lambda load: chat_request(load, headers=[f"Authorization: Bearer {key}"]),
        variables,
    )


def run_portkey(program: Path, port: int, model_port: int, _: Path) -> Peer:
    """Return how Portkey's gateway is run: *program* is its `build/start-server.js`."""
    headers = (
        "x-portkey-provider: openai",
        f"x-portkey-custom-host: http://127.0.0.1:{model_port}/v1",
        "Authorization: Bearer none",
    )
    return Peer(
        ["node", program, f"--port={port}", "--headless"],
        lambda load: chat_request(load, headers=headers),
        {},
    )


def run_smg(program: Path, port: int, model_port: int, _: Path) -> Peer:
    """Return how SMG is run: *program* is the `smg` of its environment."""
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--worker-urls": f"http://127.0.0.1:{model_port}",
        "--backend": "openai",
        "--history-backend": "none",
        "--log-level": "error",
        "--prometheus-port": str(port + 1),
    }
    argv = [part for option in options.items() for part in option]
    return Peer([program, "launch", *argv], chat_request, {})


PEERS: Mapping[str, Runs] = {"litellm": run_litellm, "portkey": run_portkey, "smg": run_smg}
