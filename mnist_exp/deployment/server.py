"""The page and its API: a digit is read while it is drawn, and the test set can be explored."""

import asyncio
import base64
import logging
from pathlib import Path
from threading import Lock
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

from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset
from mnist_exp.deployment.middleware import JSON, protect
from mnist_exp.evaluation.metrics import Evaluation
from mnist_exp.inference.predictor import Predictor, predictions
from mnist_exp.pictures import preprocess as images
from mnist_exp.pictures.preprocess import Reading
from mnist_exp.runs.find import resolve_run, search_runs
from mnist_exp.runs.run import Run

DOCS = "/docs"
WEB = Path(__file__).parent / "web"
PATIENCE = 30.0  # seconds until a body has to be there
KEPT = 8  # models, and test sets, in memory

Byte = Annotated[int, Field(ge=0, le=255)]
Line = Annotated[list[Byte], Field(min_length=28, max_length=28)]


class Pixels(BaseModel):
    """A digit in MNIST's form: light strokes (255) on black (0)."""

    model_config = ConfigDict(strict=True)
    pixels: Annotated[list[Line], Field(min_length=28, max_length=28)]


class PredictionResponse(BaseModel):
    """What the model says; `digit` is null when the note says why there is none."""

    run: str
    digit: int | None
    probability: float | None
    second: int | None
    note: str
    probabilities: list[float] | None
    pixels: list[list[int]] | None  # what the model saw


class Model(BaseModel):
    """A run of the experiment, which can be asked to predict."""

    run: str
    name: str
    title: str


class Example(BaseModel):
    """A test image and what the run said of it."""

    index: int
    label: int
    prediction: int
    probability: float  # of the prediction
    pixels: str  # 784 bytes in base64


class Examples(BaseModel):
    """Some of the test images that fit, those with the least probable true digit first."""

    matching: int
    total: int
    examples: list[Example]


BODIES = {  # /predict takes either: FastAPI cannot tell that from a signature
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            JSON: {"schema": Pixels.model_json_schema()},
        },
    }
}
NEITHER = (
    "expected a picture as the multipart field file (curl -F file=@digit.png), or JSON "
    '{"pixels": 28 rows of 28 whole numbers from 0 to 255}'
)


class Refusal(BaseModel):
    """What was expected and what came, in a sentence."""

    detail: str


Responses = dict[int | str, dict[str, Any]]
REFUSED: Responses = {400: {"model": Refusal}}
TOO_SLOW_OR_LARGE: Responses = {408: {"model": Refusal}, 413: {"model": Refusal}}


class Models:
    """The experiment's runs at work; each is loaded when it is first asked for, and kept."""

    def __init__(self, first: Run) -> None:
        self.first = first
        self._ready = {first.run_id: Predictor(first)}
        self._test_sets: dict[str, tuple[Dataset, Evaluation]] = {}
        self._loading = Lock()

    def get(self, run: str) -> Predictor:
        """The classifier of the run, the first one's for ""; raises `InputError`."""
        found = self._ready.get(run or self.first.run_id)
        if found is None:
            wanted = resolve_run(run, self.first.tracking)
            found = self._ready.get(wanted.run_id) or self._load(wanted)
        return found

    def _load(self, wanted: Run) -> Predictor:
        with self._loading:  # those that are ready answer meanwhile
            found = self._ready.get(wanted.run_id) or Predictor(wanted)
            if len(self._ready) == KEPT and wanted.run_id not in self._ready:
                del self._ready[list(self._ready)[1]]  # the first is always there
            self._ready[wanted.run_id] = found
            return found

    def test_set(self, run: str) -> tuple[Dataset, Evaluation]:
        """The run's test images, and what it said of them; raises `InputError`."""
        found = self.get(run).run
        with self._loading:
            if found.run_id not in self._test_sets:
                if len(self._test_sets) == KEPT:
                    self._test_sets.clear()
                self._test_sets[found.run_id] = found.dataset(), found.evaluation()
            return self._test_sets[found.run_id]


def app(first: Run) -> FastAPI:
    """The application that answers by the run's model unless another is asked for."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the answer says it
    models = Models(first)
    site = FastAPIOffline(title="mnist_exp", docs_url=DOCS, redoc_url=None)
    site.mount("/web", StaticFiles(directory=WEB))
    protect(site, DOCS)

    @site.exception_handler(InputError)
    async def refuse(_: Request, error: InputError) -> JSONResponse:
        sentence = str(error).replace("--run ", "run=")  # as it is called here
        return JSONResponse({"detail": sentence}, status_code=400)

    @site.head("/", include_in_schema=False)
    @site.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(WEB / "index.html")

    @site.head("/health", include_in_schema=False)
    @site.get("/health")
    def health() -> dict[str, str]:
        """Whether the server is ready, and the run that answers."""
        return {"status": "ok", "run": first.run_id}

    @site.get("/models", responses=REFUSED)
    def list_models() -> list[Model]:
        """The experiment's finished runs, the one that answers first."""
        found = [run for run in search_runs(first.tracking) if run.run_id != first.run_id]
        return [Model(run=r.run_id, name=r.name, title=r.title) for r in [first, *found]]

    @site.post("/predict", openapi_extra=BODIES, responses=REFUSED | TOO_SLOW_OR_LARGE)
    async def predict(request: Request, run: str = "") -> PredictionResponse:
        """The digit on a picture, or in 28x28 pixels, by the run's model."""
        try:
            async with asyncio.timeout(PATIENCE):
                content = await _content(request)
        except TimeoutError as error:
            sentence = f"expected all of it within {PATIENCE:g} seconds; send it again"
            raise HTTPException(408, sentence) from error
        return await run_in_threadpool(lambda: _predict(models.get(run), content))

    @site.get("/examples", responses=REFUSED)
    def examples(
        run: str = "",
        label: Annotated[int | None, Query(ge=0, le=9, description="the true digit")] = None,
        prediction: Annotated[int | None, Query(ge=0, le=9)] = None,
        below: Annotated[float, Query(ge=0, le=1, description="highest probability")] = 1,
        start: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=200)] = 60,
    ) -> Examples:
        """Test images of the run, the worst first."""
        data, said = models.test_set(run)
        fits = said.confidence <= below
        if label is not None:
            fits &= said.labels == label
        if prediction is not None:
            fits &= said.predictions == prediction
        true = said.probabilities[np.arange(said.n), said.labels]
        chosen = np.flatnonzero(fits)
        chosen = chosen[true[chosen].argsort(kind="stable")]
        return Examples(
            matching=len(chosen),
            total=said.n,
            examples=[_example(data, said, int(k)) for k in chosen[start : start + count]],
        )

    return site


async def _content(request: Request) -> UploadFile | Pixels:
    """The picture, a large one on disk, or the pixels; raises `InputError`."""
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith("multipart/form-data"):
        try:
            file = (await request.form(max_files=1, max_fields=10)).get("file")
            if isinstance(file, UploadFile):
                return file
        except UnicodeError as error:  # a name that its own charset cannot read
            raise InputError(NEITHER) from error
        except HTTPException as error:
            if error.status_code != 400:
                raise
            raise InputError(NEITHER) from error
    if kind.startswith(JSON):
        try:
            return Pixels.model_validate_json(await request.body())
        except ValidationError as error:
            raise InputError(NEITHER) from error
    raise InputError(NEITHER)


def _predict(classifier: Predictor, content: UploadFile | Pixels) -> PredictionResponse:
    if isinstance(content, Pixels):
        reading = Reading(np.array(content.pixels, np.uint8), "")
    else:
        with content.file as file:  # in memory now, of as many as there are threads
            reading = images.read(file.read(), "the picture")
    seen = [] if reading.pixels is None else [reading.pixels]
    shares = [row for pixels in seen for row in classifier.probabilities(pixels[None])]
    (answer,) = predictions([""], [reading], shares)
    return PredictionResponse(
        run=classifier.run.run_id,
        digit=answer.digit,
        probability=answer.probability,
        second=answer.second,
        note=answer.note,
        probabilities=shares[0].tolist() if seen else None,
        pixels=seen[0].tolist() if seen else None,
    )


def _example(data: Dataset, said: Evaluation, index: int) -> Example:
    return Example(
        index=index,
        label=int(said.labels[index]),
        prediction=int(said.predictions[index]),
        probability=float(said.confidence[index]),
        pixels=base64.b64encode(data.test_images[index].tobytes()).decode(),
    )
