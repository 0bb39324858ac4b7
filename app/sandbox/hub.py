"""The Hugging Face routes: dataset files behind `resolve` URLs, and the token check."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from app.sandbox.faults import JsonResponse
from app.sandbox.hub_files import (
    FILES,
    OWNER,
    MovingDataset,
    find_file,
    list_file_urls,
    repo_commit,
)

HUB_TOKEN_PREFIX = "hf_sandbox"  # noqa: S105 - it opens nothing but the sandbox
"""Every token that starts with it is valid."""

HINT = (
    f"Datasets of {OWNER} come from this sandbox; GERO_HUGGINGFACE_URL need not be set to the"
    " real hub for them."
)

GATED_DATASET = "gated"


class HubRoutes:
    """The hub's routes, and the one that moves the branch of the dataset `moving`."""

    def __init__(self) -> None:
        self._moving = MovingDataset()

    def list_routes(self) -> list[Route]:
        """List the routes."""
        return [
            Route("/datasets/{owner}/{dataset}/resolve/{revision}/{path:path}", self._resolve_file),
            Route(
                f"/datasets/{OWNER}/{MovingDataset.NAME}/move", self._move_branch, methods=["POST"]
            ),
            Route("/api/whoami-v2", _show_account),
        ]

    async def _resolve_file(self, request: Request) -> Response:
        """Serve a file as the hub would.

        Source: https://huggingface.co/docs/huggingface_hub (the X-Error-Code,
        X-Repo-Commit and X-Linked headers that its client reads).
        """
        owner, dataset, revision, path = (
            request.path_params[part] for part in ("owner", "dataset", "revision", "path")
        )
        if owner != OWNER or dataset not in (*FILES, MovingDataset.NAME):
            return _refuse(404, "RepoNotFound", f"There is no dataset {owner}/{dataset}.")
        if dataset == GATED_DATASET and not _has_token(request):
            message = f"Access to dataset {owner}/{dataset} is restricted: log in with a token."
            return _refuse(401, "GatedRepo", message)
        try:
            answer = self._find_file(dataset, revision, path)
        except LookupError:
            return _refuse(404, "RevisionNotFound", f"There is no revision {revision!r}.")
        if answer is None:
            return _refuse(404, "EntryNotFound", f"There is no file {path!r} in {OWNER}/{dataset}.")
        if _is_known(request, answer):
            return Response(status_code=304, headers=_validators(answer))
        if request.method == "HEAD" and isinstance(answer, StreamingResponse):
            return Response(status_code=answer.status_code, headers=answer.headers)
        return answer

    def _find_file(self, dataset: str, revision: str, path: str) -> Response | None:
        """Make the answer for a file; None if there is no such file.

        Raises:
            LookupError: There is no such revision.
        """
        if dataset == MovingDataset.NAME:
            return self._moving.find_file(revision, path)
        if revision not in ("main", repo_commit()):
            raise LookupError(revision)
        return find_file(dataset, path)

    async def _move_branch(self, _request: Request) -> Response:
        return JsonResponse({"branch": "main", "commit": self._moving.move()})


async def _show_account(request: Request) -> Response:
    if not _has_token(request):
        message = {"error": "Invalid credentials in Authorization header"}
        return JsonResponse(message, status_code=401)
    return JsonResponse(
        {
            "type": "user",
            "name": OWNER,
            "fullname": "Gero sandbox (simulated)",
            "auth": {
                "type": "access_token",
                "accessToken": {"displayName": "sandbox", "role": "read"},
            },
        }
    )


def _has_token(request: Request) -> bool:
    authorization = request.headers.get("authorization", "")
    return authorization.startswith(f"Bearer {HUB_TOKEN_PREFIX}")


def _is_known(request: Request, answer: Response) -> bool:
    etag = answer.headers.get("etag")
    return etag is not None and request.headers.get("if-none-match") == etag


def _validators(answer: Response) -> Mapping[str, str]:
    return {name: answer.headers[name] for name in ("etag", "x-repo-commit")}


def _refuse(status: int, code: str, message: str) -> Response:
    content: dict[str, object] = {"error": message}
    if status == 404:  # noqa: PLR2004 - Not Found
        content |= {"dataset_files": list_file_urls(), "hint": HINT}
    return JsonResponse(content, status_code=status, headers={"X-Error-Code": code})
