"""Refusing query parameters that a route does not know: of a misspelt filter, all would be told."""

from fastapi import Request
from fastapi.routing import APIRoute

from resolvers.inputs import invalid_input


async def refuse_unknown_parameters(request: Request) -> None:
    """Check that a request has no query parameters but those of its route.

    Raises:
        InvalidInputError: It has others.
    """
    given = request.query_params.keys()
    if given and (unknown := given - _parameters_of(request.scope["route"])):
        raise invalid_input(
            [
                {"type": "extra_forbidden", "loc": (name,), "msg": "", "input": None}
                for name in sorted(unknown)
            ]
        )


def _parameters_of(route: APIRoute) -> set[str]:
    found: set[str] = set()
    dependants = [route.dependant]
    while dependants:
        dependant = dependants.pop()
        found.update(field.alias for field in dependant.query_params)
        dependants += dependant.dependencies
    return found
