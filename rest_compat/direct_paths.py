"""Which endpoints are served past the router."""

import re

from resolvers.context import Services
from resolvers.credentials import Authenticator
from rest_compat.direct import DirectEndpoint, DirectPath
from rest_compat.problems import problem_response
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
    infer = DirectEndpoint(services, authenticator, answer_inference, problem_response)
    chat = DirectEndpoint(services, authenticator, openai.answer_chat, openai.refuse_openai)
    return [
        DirectPath("infer", INFER, re.compile(PATHS), infer),
        DirectPath("chat", openai.CHAT, re.compile(openai.PATHS), chat),
        DirectPath("infer", ALIAS, re.compile(ALIASES), infer),
    ]
