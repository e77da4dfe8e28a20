"""The content of table{1,2,3,4}.json; accuracies are fractions of 1."""

from typing import Any

from pydantic import field_serializer, model_serializer

from atw.config.paper import Column
from atw.evaluate.attention import StreamAttention
from atw.evaluate.compare import Comparison
from atw.evaluate.metrics import OMITTED, Accuracy, Record


class SplitsAccuracy(Record):
    """Ours in Table 4: mean and standard deviation over the splits, and accuracy and interval of all videos pooled."""

    top1: float
    top1_std: float | None
    top1_ci95: tuple[float, float]
    pooled_top1: float


class Difference(Record):
    """A comparison with the row of that label, as one object whose first name is `with`."""

    against: str
    test: Comparison

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"with": self.against, **self.test.to_dict()}


class Cell(Record):
    """The paper's number by dataset, and ours: none where the paper cites somebody else's work.

    `comparison` is none for the row that others are compared with.
    """

    published: dict[str, float]
    ours: Accuracy | SplitsAccuracy | None = None
    comparison: Difference | None = None

    @field_serializer("ours")
    def _without_classes(self, ours: Accuracy | SplitsAccuracy | None) -> dict[str, Any] | None:
        return ours.model_dump(exclude={"top1_decodable", "top5", "per_class"}) if ours else None


class StreamOrigin(Record):
    """Where a stream's scores come from, and what its attention is like."""

    backbone: str
    weights_sha256: str | None
    consensus: str
    seed: int
    attention: StreamAttention
    model_sha256: str
    settings_digest: str


class RowContent(Record):
    """A row: its streams (not in Table 4), and its cells by the name of the column."""

    label: str
    group: str | None = None
    experiment: str | None = None
    streams: dict[str, StreamOrigin] | None = OMITTED
    cells: dict[str, Cell]


class PaperSource(Record):
    """Where the paper has its table, and of which network."""

    page: int
    network: str


class TableProvenance(Record):
    """Digests of the score files by experiment and stream, or of summary.json; and the settings of the table."""

    scores: dict[str, dict[str, str]] | None = OMITTED
    summary: str | None = OMITTED
    settings: dict[str, Any]


class TableContent(Record):
    """A table: `published_on` names the paper's datasets, `split` and `dataset` are ours."""

    format: int
    table: int
    dataset: str
    published_on: list[str]
    split: str
    caption: str
    decimals: int
    paper: PaperSource
    columns: list[Column]
    rows: list[RowContent]
    notes: list[str]
    footnotes: list[str]
    provenance: TableProvenance
