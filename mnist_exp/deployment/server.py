"""The page and its API: live predictions of drawn digits, and a test set explorer."""

import asyncio
import base64
import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from mnist_exp.core.classes import MAX_CLASSES
from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset
from mnist_exp.deployment.middleware import JSON, protect
from mnist_exp.evaluation.metrics import Evaluation
from mnist_exp.inference.predictor import Predictor, PredictorCache, predictions
from mnist_exp.pictures.preprocess import PreprocessedPicture
from mnist_exp.runs.run import Run
from mnist_exp.runs.search import search_runs

DOCS = "/docs"
WEB = Path(__file__).parent / "web"
UPLOAD_SECONDS = 30.0

Byte = Annotated[int, Field(ge=0, le=255)]
Row = Annotated[list[Byte], Field(min_length=28, max_length=28)]


class Pixels(BaseModel):
    """A digit in MNIST's form: light strokes (255) on black (0)."""

    model_config = ConfigDict(strict=True)
    pixels: Annotated[list[Row], Field(min_length=28, max_length=28)]


class PredictionResponse(BaseModel):
    """The model's prediction; `digit` is null when there is none, and the note gives the reason.

    A model of other classes than the digits gives their names in `digit` and `second`.
    """

    run: str
    digit: int | str | None
    probability: float | None
    second: int | str | None
    note: str
    probabilities: list[float] | None
    pixels: list[list[int]] | None  # the input of the model


class Model(BaseModel):
    """A run of the experiment whose model can be chosen."""

    run: str
    name: str
    title: str
    accuracy: float | None  # of the test images
    classes: list[str]  # the names of the labels


class Example(BaseModel):
    """A test image and the run's prediction."""

    index: int
    label: int
    prediction: int
    probability: float  # of the prediction
    pixels: str  # 784 bytes in base64


class Examples(BaseModel):
    """A page of the matching test images, the least probable true class first."""

    matching: int
    total: int
    examples: list[Example]


# The body of /predict is either of two, which a signature cannot express.
FILE = {"type": "string", "format": "binary"}
FORM = {"type": "object", "required": ["file"], "properties": {"file": FILE}}
CONTENT = {"multipart/form-data": {"schema": FORM}, JSON: {"schema": Pixels.model_json_schema()}}
BODIES = {"requestBody": {"required": True, "content": CONTENT}}
INVALID_BODY = (
    "expected a picture as the multipart field file (curl -F file=@digit.png), or JSON "
    '{"pixels": 28 rows of 28 whole numbers from 0 to 255}'
)


class Refusal(BaseModel):
    """What was expected and what was received, in a sentence."""

    detail: str


Responses = dict[int | str, dict[str, Any]]
REFUSED: Responses = {400: {"model": Refusal}}
TOO_SLOW_OR_LARGE: Responses = {408: {"model": Refusal}, 413: {"model": Refusal}}


def create_app(first: Run, *, upload_seconds: float = UPLOAD_SECONDS) -> FastAPI:
    """The application: the run answers unless a request names another; slow uploads are refused."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the response gives the reason
    cache = PredictorCache(first)
    site = FastAPIOffline(title="mnist_exp", docs_url=DOCS, redoc_url=None)
    site.mount("/web", StaticFiles(directory=WEB))
    protect(site, DOCS)

    @site.exception_handler(InputError)
    async def refuse(_: Request, error: InputError) -> JSONResponse:
        sentence = str(error).replace("--run ", "run=")  # the name of the query parameter
        return JSONResponse({"detail": sentence}, status_code=400)

    @site.head("/", include_in_schema=False)
    @site.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(WEB / "index.html")

    @site.head("/health", include_in_schema=False)
    @site.get("/health")
    def health() -> dict[str, str]:
        """Readiness, and the default run."""
        return {"status": "ok", "run": first.run_id}

    @site.get("/models", responses=REFUSED)
    def list_models() -> list[Model]:
        """The experiment's finished runs, the default one first."""
        runs = [first, *(r for r in search_runs(first.tracking) if r.run_id != first.run_id)]
        return [
            Model(
                run=r.run_id,
                name=r.name,
                title=r.title,
                accuracy=r.metrics.get("test/accuracy"),
                classes=list(r.classes),
            )
            for r in runs
        ]

    @site.post("/predict", openapi_extra=BODIES, responses=REFUSED | TOO_SLOW_OR_LARGE)
    async def predict(request: Request, run: str = "") -> PredictionResponse:
        """The digit, or class, on a picture, or in 28x28 pixels, by the run's model."""
        try:
            async with asyncio.timeout(upload_seconds):
                content = await _content(request)
        except TimeoutError as error:
            sentence = f"expected all of it within {upload_seconds:g} seconds; send it again"
            raise HTTPException(408, sentence) from error
        return await run_in_threadpool(lambda: _predict(cache.get(run), content))

    @site.get("/examples", responses=REFUSED)
    def examples(
        run: str = "",
        label: Annotated[int | None, Query(ge=0, lt=MAX_CLASSES, description="true class")] = None,
        prediction: Annotated[int | None, Query(ge=0, lt=MAX_CLASSES)] = None,
        below: Annotated[float, Query(ge=0, le=1, description="highest probability")] = 1,
        start: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=200)] = 60,
    ) -> Examples:
        """The run's test images, worst first."""
        data, evaluation = cache.test_set(run)
        for name, value in (("label", label), ("prediction", prediction)):
            if value is not None and value >= evaluation.classes:
                raise InputError(f"{name}: expected 0 to {evaluation.classes - 1}, got {value}")
        matches = evaluation.confidence <= below
        if label is not None:
            matches &= evaluation.labels == label
        if prediction is not None:
            matches &= evaluation.predictions == prediction
        of_truth = evaluation.probabilities[np.arange(evaluation.n), evaluation.labels]
        chosen = np.flatnonzero(matches)
        chosen = chosen[of_truth[chosen].argsort(kind="stable")]
        return Examples(
            matching=len(chosen),
            total=evaluation.n,
            examples=[_example(data, evaluation, int(k)) for k in chosen[start : start + count]],
        )

    return site


async def _content(request: Request) -> UploadFile | Pixels:
    """The picture, on disk when large, or the pixels; raises `InputError`."""
    kind = request.headers.get("content-type", "").lower()
    try:
        if kind.startswith("multipart/form-data"):
            file = (await request.form(max_files=1, max_fields=10)).get("file")
            if isinstance(file, UploadFile):
                return file
        elif kind.startswith(JSON):
            return Pixels.model_validate_json(await request.body())
    except (ValidationError, UnicodeError, HTTPException) as error:  # Unicode: of a file's name
        if isinstance(error, HTTPException) and error.status_code != 400:
            raise
        raise InputError(INVALID_BODY) from error
    raise InputError(INVALID_BODY)


def _predict(predictor: Predictor, content: UploadFile | Pixels) -> PredictionResponse:
    if isinstance(content, Pixels):
        picture = PreprocessedPicture(np.array(content.pixels, np.uint8), "")
    else:
        with content.file as file:  # read here: at most one upload per thread is in memory
            picture = predictor.run.picture_reader()(file.read(), "the picture")
    pixels = [] if picture.pixels is None else [picture.pixels]
    probabilities = [row for image in pixels for row in predictor.probabilities(image[None])]
    (prediction,) = predictions([""], [picture], probabilities, predictor.run.classes)
    return PredictionResponse(
        **vars(prediction),
        run=predictor.run.run_id,
        probabilities=probabilities[0].tolist() if pixels else None,
        pixels=pixels[0].tolist() if pixels else None,
    )


def _example(data: Dataset, evaluation: Evaluation, index: int) -> Example:
    return Example(
        index=index,
        label=int(evaluation.labels[index]),
        prediction=int(evaluation.predictions[index]),
        probability=float(evaluation.confidence[index]),
        pixels=base64.b64encode(data.test_images[index].tobytes()).decode(),
    )
