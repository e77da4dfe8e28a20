"""The four tables of the paper: its numbers as printed, and the experiments that compute ours beside them.

Zang et al., "Attention-Based Temporal Weighted Convolutional Neural Network for Action Recognition", section 4. Numbers
are percent, as printed. Footnotes say where the paper contradicts itself; every written table repeats them.

Each row names an experiment after its table and itself, with only the settings that it needs: the workflow knows these
experiments without a line in config.yaml. If neither a dataset nor config.yaml names a backbone, it is the table's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atw.config.sections import Stream

UCF101, HMDB51 = "UCF-101", "HMDB-51"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of Tables 1 to 3: one stream, or the fusion of several."""

    name: str
    streams: tuple[Stream, ...]


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A row of Tables 1 to 3 (Table 3 is printed with its rows as columns)."""

    label: str
    experiment: str
    overrides: Mapping[str, Mapping[str, Any]]
    """Settings by section, over those of config.yaml and the dataset."""
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Percent by column and dataset."""
    against: str = ""
    """Experiment of the row that this one is tested against; empty for that row itself."""
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One of Tables 1 to 3, which are all of the first split."""

    caption: str
    page: int
    decimals: int
    """Of the printed percentages."""
    network: str
    backbone: str
    """The paper's network as `model.backbone` names it."""
    columns: tuple[Column, ...]
    rows: tuple[PublishedRow, ...]
    footnotes: tuple[str, ...]

    def columns_of(self, weights: Mapping[Stream, float]) -> list[Column]:
        """The columns that a fusion with these weights has: a stream without weight is not trained."""
        return [column for column in self.columns if all(map(weights.get, column.streams))]


SPLIT = "split1"
_SPATIAL = Column(name="spatial", streams=("rgb",))
_ATTENTION_TWICE = "Attention over N = 4 segments, spatial: 86.7 in Table 1, 85.80 in Tables 2 and 3."


def _consensus(name: str, label: str, percent: tuple[float, float, float] | None) -> PublishedRow:
    published = {}
    if percent:
        names = ("spatial", "temporal", "two-stream", "three-stream")
        published = {name: {UCF101: value} for name, value in zip(names, (*percent, percent[2]), strict=True)}
    return PublishedRow(
        label=label,
        experiment=f"table1-{name}",
        overrides={"model": {"consensus": name}, "sampling": {"segments": 4}},
        published=published,
        against="" if name == "attention" else "table1-attention",
    )


def _initialisation(name: str, label: str, percent: float) -> PublishedRow:
    model = {"attention_init": name, "attention_activation": "relu"}
    return _attention(name, label, percent, "initialisation", "gaussian", model)


def _activation(name: str, percent: float) -> PublishedRow:
    model: dict[str, Any] = {"attention_init": "gaussian", "attention_activation": name}
    if name != "relu":
        # Near a bias of 6, which keeps the rectifier open, these are flat: they start where they are steepest.
        model["attention_bias"] = 0.0
    return _attention(name, name, percent, "activation", "relu", model)


def _attention(
    name: str, label: str, percent: float, group: str, against: str, model: Mapping[str, Any]
) -> PublishedRow:
    return PublishedRow(
        label=label,
        experiment=f"table2-{name}",
        overrides={"model": {"consensus": "attention", **model}, "sampling": {"segments": 4}},
        published={"spatial": {UCF101: percent}},
        against="" if name == against else f"table2-{against}",
        group=group,
    )


def _segments(number: int, ucf101: float, hmdb51: float) -> PublishedRow:
    return PublishedRow(
        label=f"N = {number}",
        experiment=f"table3-n{number}",
        overrides={"model": {"consensus": "attention"}, "sampling": {"segments": number}},
        published={"spatial": {UCF101: ucf101, HMDB51: hmdb51}},
        against="" if number == 4 else "table3-n4",
    )


TABLES = {
    1: PublishedTable(
        caption="Exploration of different segmental consensus functions on the UCF-101 dataset (split1)",
        page=104,
        decimals=1,
        network="BN-Inception",
        backbone="bninception",
        columns=(
            _SPATIAL,
            Column(name="temporal", streams=("flow",)),
            Column(name="two-stream", streams=("rgb", "flow")),
            Column(name="three-stream", streams=("rgb", "flow", "warped")),
        ),
        rows=(
            _consensus("max", "max", (85.0, 86.0, 91.6)),
            _consensus("average", "average", (85.0, 87.9, 94.4)),
            _consensus("weighted", "weighted average", None),
            _consensus("attention", "attention", (86.7, 88.3, 94.6)),
        ),
        footnotes=(
            "The text speaks of four consensus functions, one of them a weighted average; the printed table has three "
            "rows. The fourth is computed here.",
            "The printed column is headed Two-Stream, while the text fuses three streams. Both fusions are computed "
            "here, and the one printed number stands beside both.",
            _ATTENTION_TWICE,
            "The paper averages after the class softmax, ours before it, as attention does.",
        ),
    ),
    2: PublishedTable(
        caption="Experiments of different initialization strategies for initializing the attention layer's parameters "
        "and several traditional activation functions on the UCF-101 dataset (split1)",
        page=104,
        decimals=2,
        network="BN-Inception",
        backbone="bninception",
        columns=(_SPATIAL,),
        rows=(
            _initialisation("mean", "weight = 1/N", 84.44),
            _initialisation("ones", "weight = 1", 85.17),
            _initialisation("gaussian", "random Gaussian", 85.80),
            _activation("tanh", 84.91),
            _activation("sigmoid", 85.29),
            _activation("relu", 85.80),
        ),
        footnotes=(
            "The text gives 85.80 to weight 1 and bias 0, the table to the Gaussian.",
            "The table calls weight = 1/N equivalent to average consensus. That holds for equal weights of the "
            "snippets, not for equal weights of the class scores, with which the attention starts here.",
            "The paper does not say with which initialisation the activations were compared; 85.80 for relu is the "
            "Gaussian's number, so it is the Gaussian here.",
            "The bias of tanh and sigmoid is 0 here, as the text has it; that of relu is the setting "
            "model.attention_bias, because with 0 the rectifier can close for ever.",
            _ATTENTION_TWICE,
        ),
    ),
    3: PublishedTable(
        caption="Exploration of ATW CNN with more number of segments on the UCF-101 dataset and HMDB-51 dataset "
        "(split1)",
        page=104,
        decimals=2,
        network="BN-Inception",
        backbone="bninception",
        columns=(_SPATIAL,),
        rows=(
            _segments(1, 83.33, 50.07),
            _segments(2, 83.89, 53.33),
            _segments(3, 84.80, 53.01),
            _segments(4, 85.80, 53.88),
            _segments(5, 85.29, 53.33),
            _segments(6, 85.21, 55.36),
            _segments(7, 85.04, 53.20),
            _segments(8, 85.55, 53.14),
        ),
        footnotes=(
            "The text names its numbers of N = 4 on both datasets; on HMDB-51 the printed best is N = 6.",
            "The text calls these accuracies mAP.",
            _ATTENTION_TWICE,
            "With N = 1 the one weight is 1 whatever the attention says, so it learns nothing; at test it weighs many "
            "snippets all the same.",
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Cited:
    """A row of Table 4: mean accuracy over three splits, percent."""

    model: str
    published: Mapping[str, float]


OURS = "Proposed ATW"
TABLE4_DECIMALS = 1
TABLE4_CAPTION = (
    "Comparison of our method with other state-of-the-art methods on the UCF-101 dataset and HMDB-51 dataset"
)
TABLE4_PAGE = 105
TABLE4_NETWORK = "ResNet"
TABLE4 = (
    Cited(model="DT [40]", published={HMDB51: 55.9, UCF101: 83.5}),
    Cited(model="iDT [18]", published={HMDB51: 57.2, UCF101: 85.9}),
    Cited(model="BoVW [41]", published={HMDB51: 61.1, UCF101: 87.9}),
    Cited(model="MoFAP [42]", published={HMDB51: 61.7, UCF101: 88.3}),
    Cited(model="Two Stream [10]", published={HMDB51: 59.4, UCF101: 88.0}),
    Cited(model="VideoDarwin [47]", published={HMDB51: 63.7}),
    Cited(model="MPR [48]", published={HMDB51: 65.5}),
    Cited(model="C3D [14]", published={UCF101: 85.2}),
    Cited(model="2 stream + LSTM [11]", published={UCF101: 88.6}),
    Cited(model="FCN [43]", published={HMDB51: 59.1, UCF101: 88.1}),
    Cited(model="TDD + FV [44]", published={HMDB51: 63.2, UCF101: 90.3}),
    Cited(model="LTC [45]", published={HMDB51: 64.8, UCF101: 91.7}),
    Cited(model="KVMF [46]", published={HMDB51: 63.3, UCF101: 93.1}),
    Cited(model="TSN [12]", published={HMDB51: 69.4, UCF101: 93.4}),
    Cited(model=OURS, published={HMDB51: 70.5, UCF101: 94.6}),
)
TABLE4_FOOTNOTES = (
    "The paper does not say which ResNet.",
    "94.6 on UCF-101 is also the number of Table 1, there with BN-Inception on the first split alone.",
)

EXPERIMENTS = {row.experiment: row.overrides for table in TABLES.values() for row in table.rows}
BACKBONES = {row.experiment: table.backbone for table in TABLES.values() for row in table.rows}
