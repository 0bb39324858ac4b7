"""What an inference takes, checked once for both edges."""

from typing import Annotated, Any, NotRequired

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from typing_extensions import TypedDict, override

from resolvers.call_bounds import BOUNDS, MAX_CHOICES, MAX_TOKENS
from resolvers.inputs import check_storable

MAX_MESSAGES = 2_000
MAX_ROLE_CHARACTERS = 100
PLAIN = ("role", "content")
TEXTS = ("input", "prompt", "question", "query")
# What use cases demand of `InferenceRequest`, for those who read the contract.
SOMETHING_TO_ANSWER: Any = [
    {"properties": {"messages": {"type": "array"}}, "required": ["messages"]},
    *(
        {"properties": {name: {"type": "string", "pattern": r"\S"}}, "required": [name]}
        for name in TEXTS
    ),
]
# What the checks below demand, for the same readers.
PART_SCHEMA: Any = {
    "type": "object",
    "required": ["type"],
    "anyOf": [
        {
            "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
            "required": ["text"],
        },
        {"properties": {"type": {"type": "string", "not": {"const": "text"}}}},
    ],
}
CONTENT_SCHEMA: Any = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": PART_SCHEMA}, {"type": "null"}],
    "description": "Text, or a list of parts; an assistant's or a function's may be null.",
}
MAY_BE_EMPTY = ("assistant", "function")
MESSAGE_SCHEMA: Any = {
    "anyOf": [
        {"properties": {"role": {"enum": MAY_BE_EMPTY}}},
        {"properties": {"content": {"type": ["string", "array"]}}, "required": ["content"]},
    ]
}


def _check_content(content: object) -> object:
    """Refuse what no chat endpoint takes as a message's content."""
    parts = content if isinstance(content, list) else []
    if not isinstance(content, str | list | None):
        raise ValueError("must be text, or a list of parts")  # noqa: TRY004 - as pydantic asks
    if not all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in parts):
        raise ValueError("each part must be an object with a type")
    if not all(isinstance(part.get("text"), str) for part in parts if part["type"] == "text"):
        raise ValueError("a part of type text must have a text")
    return content


class Message(TypedDict):
    """One message of a chat, as OpenAI's API has it."""

    __pydantic_config__ = ConfigDict(  # type: ignore[misc]
        extra="allow", json_schema_extra=MESSAGE_SCHEMA
    )

    role: Annotated[str, StringConstraints(min_length=1, max_length=MAX_ROLE_CHARACTERS)]
    content: NotRequired[
        Annotated[Any, BeforeValidator(_check_content), WithJsonSchema(CONTENT_SCHEMA)]
    ]


def _has_content(message: Message) -> Message:
    if message.get("content") is None and message["role"] not in MAY_BE_EMPTY:
        raise ValueError(f"content is required, unless the role is {' or '.join(MAY_BE_EMPTY)}")
    return message


def _is_a_number(value: object) -> object:
    """Refuse what pydantic would take for an integer, and JSON Schema does not; 5.0 is one."""
    if isinstance(value, bool | str):
        raise ValueError("must be a whole number")  # noqa: TRY004 - as pydantic asks
    return value


MaxTokens = Annotated[int, Field(ge=1, le=MAX_TOKENS), BeforeValidator(_is_a_number)]
Choices = Annotated[int, Field(ge=1, le=MAX_CHOICES), BeforeValidator(_is_a_number)]


def _pass_plain(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """Let messages of a role and a text pass, as nearly all are, without a look at each rule."""
    if isinstance(value, list) and 0 < len(value) <= MAX_MESSAGES and all(map(_is_plain, value)):
        return value
    return check(value)


def _is_plain(message: object) -> bool:
    return (
        isinstance(message, dict)
        and len(message) == len(PLAIN)
        and isinstance(role := message.get("role"), str)
        and 0 < len(role) <= MAX_ROLE_CHARACTERS
        and isinstance(message.get("content"), str)
    )


Messages = Annotated[
    list[Annotated[Message, AfterValidator(_has_content)]],
    Field(min_length=1, max_length=MAX_MESSAGES),
    WrapValidator(_pass_plain),
]


class ModelRequest(BaseModel):
    """A request to a model; other fields are forwarded to it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    messages: Messages | None = Field(
        default=None, description="OpenAI chat messages, sent as they are."
    )
    max_tokens: MaxTokens | None = Field(default=None, description="Generated at most.")
    max_completion_tokens: MaxTokens | None = Field(
        default=None, description="The newer name of max_tokens at some providers."
    )
    n: Choices | None = Field(default=None, description="How many answers; the first is `output`.")
    best_of: Choices | None = Field(default=None, description="How many answers to choose from.")
    stream: bool = False

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, value: object) -> object:
        return check_storable(value)

    @property
    def text(self) -> str | None:
        """What is asked, where it is no list of messages."""
        return None

    @property
    def user(self) -> str | None:
        """Whom it is for, as OpenAI's `user` tells; None when it does not."""
        user = (self.__pydantic_extra__ or {}).get("user")
        return user if isinstance(user, str) else None

    @property
    def params(self) -> dict[str, Any]:
        """What is forwarded to the model beside the messages."""
        given, params = self.__pydantic_fields_set__, dict(self.__pydantic_extra__ or {})
        if not given.isdisjoint(BOUNDS):
            params |= {name: getattr(self, name) for name in BOUNDS if name in given}
        return params

    @property
    def stream_params(self) -> dict[str, Any]:
        """What is forwarded besides when the answer comes in parts."""
        return {}


class InferenceRequest(ModelRequest):
    """A request to the model in production; other fields are forwarded to it."""

    model_config = ConfigDict(json_schema_extra={"anyOf": SOMETHING_TO_ANSWER})

    input: str | None = Field(default=None, max_length=2_000_000)
    prompt: str | None = Field(default=None, max_length=2_000_000)
    question: str | None = Field(default=None, max_length=2_000_000)
    query: str | None = Field(default=None, max_length=2_000_000)
    stream: bool = Field(
        default=False,
        description="Must be false: this route does not stream.",
        json_schema_extra={"const": False},
    )

    @property
    @override
    def text(self) -> str | None:
        """The input, under whichever of its names it came; a blank one is none."""
        for text in (self.input, self.prompt, self.question, self.query):
            if text is not None and text.strip():
                return text
        return None

    @property
    @override
    def params(self) -> dict[str, Any]:
        """What is forwarded to the model beside the messages."""
        params = super().params
        params.pop("model", None)
        return params
