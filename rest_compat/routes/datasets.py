"""/api/datasets."""

from fastapi import APIRouter

from resolvers import hub_check
from resolvers.hub_check import HubCheck
from resolvers.inputs import HubFile
from rest_compat.dataset_shapes import (
    HubCheckShape,
)
from rest_compat.deps import Ctx

router = APIRouter(prefix="/api/datasets", tags=["datasets"])


@router.post(
    "/huggingface/check", operation_id="checkHuggingFaceDataset", response_model=HubCheckShape
)
async def check_hugging_face_dataset(ctx: Ctx, body: HubFile) -> HubCheck:
    """Read a file's first rows as a run would, and say what is there and what is wrong."""
    return await hub_check.check_hub_file(ctx, body)
