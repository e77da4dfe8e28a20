"""ActivityNet's form of detections, classifications and their truth, and reading it.

    {"results": {VIDEO: [{"label": CLASS, "score": NUMBER, "segment": [START, END]}, ...], ...}}
    {"database": {VIDEO: {"subset": NAME, "annotations": [{"label": CLASS, "segment": [START, END]}, ...]}, ...}}

Times are seconds. Numbers may be text, and there may be other keys. A classification has no segments.
"""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from atw.config.jsontext import parse
from atw.files import InputError

_LONGEST = 60  # characters of a wrong value that a message shows


def _in_order(segment: tuple[float, float]) -> tuple[float, float]:
    if segment[0] > segment[1]:
        raise ValueError("a segment must not end before it starts")
    return segment


Segment = Annotated[tuple[float, float], AfterValidator(_in_order)]


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Detection(_Form):
    """A class that a video is said to show, from start to end in seconds; without a segment, somewhere."""

    label: str
    score: float
    segment: Segment | None = None


class Detections(_Form):
    """The predictions of each video, in any order."""

    results: dict[str, list[Detection]]


class Annotation(_Form):
    """A class that a video shows, from start to end in seconds."""

    label: str
    segment: Segment | None = None


class AnnotatedVideo(_Form):
    """What a video shows; `subset` is None in a truth without subsets."""

    annotations: list[Annotation]
    subset: str | None = None


class Truth(_Form):
    """What each video shows."""

    database: dict[str, AnnotatedVideo]


_FormT = TypeVar("_FormT", Detections, Truth)


def read_detections(path: Path) -> Detections:
    """Read a file of detections, or of classifications.

    Raises:
        InputError: it is missing, or is none in ActivityNet's form.
    """
    return _read(path, Detections, '"results", which maps each video to a list of label, score and segment')


def read_truth(path: Path) -> Truth:
    """Read a file of annotations; errors as in `read_detections`."""
    return _read(path, Truth, '"database", which maps each video to its subset and annotations')


def _read(path: Path, form: type[_FormT], content: str) -> _FormT:
    try:
        return form.model_validate(parse(path.read_text(encoding="utf-8"), str(path)))
    except ValidationError as error:
        first = error.errors()[0]
        place, value = ".".join(map(str, first["loc"])), repr(first["input"])
        shown = value if len(value) <= _LONGEST else value[:_LONGEST] + "..."
        raise InputError(f"{path}: {place} is {shown}: {first['msg']}; it needs {content}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); it needs {content}") from None
