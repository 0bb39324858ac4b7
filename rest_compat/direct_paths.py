"""Which endpoints are served past the router."""

import re
from functools import partial

from resolvers.context import Services
from resolvers.credentials import Authenticator
from rest_compat.completions import refuse_call
from rest_compat.direct import DirectEndpoint, DirectPath
from rest_compat.problems import CHAT_PATH
from rest_compat.routes import openai
from rest_compat.routes.inference import (
    ALIAS,
    ALIASES,
    INFER,
    PATHS,
    answer_inference,
)


def create_direct(services: Services, authenticator: Authenticator) -> list[DirectPath]:
    """Build the endpoints, the most wanted first."""
    infer = DirectEndpoint(services, authenticator, answer_inference, refuse_call)
    refuse_chat = partial(refuse_call, path=CHAT_PATH)
    chat = DirectEndpoint(services, authenticator, openai.answer_chat, refuse_chat)
    return [
        DirectPath("infer", INFER, re.compile(PATHS), infer),
        DirectPath("chat", CHAT_PATH, re.compile(openai.PATHS), chat),
        DirectPath("infer", ALIAS, re.compile(ALIASES), infer),
    ]
