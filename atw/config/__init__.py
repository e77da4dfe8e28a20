"""Every setting there is, and what each stage depends on.

The workflow imports this package, `atw.plan` and `atw.datasets` again in every remote job, so they import little.
"""

from atw.config.datasets import KINDS, Archives, DemoDataset, FolderDataset, StreamOverrides
from atw.config.documents import Document, read, read_all
from atw.config.sections import (
    ON_GPU,
    SECTIONS,
    STREAM_DEFAULTS,
    STREAMS,
    Compute,
    Evaluate,
    Flow,
    Fusion,
    Preprocess,
    Section,
    Settings,
    Train,
    Warp,
)
from atw.config.stages import (
    RECIPES,
    attention_settings,
    audit_settings,
    fuse_settings,
    fused_streams,
    location,
    render_settings,
    same_scores,
    score_settings,
    shard_settings,
    train_settings,
)
from atw.config.whole import TABLE_EXPERIMENTS, Config, effective, load, load_json, sources

__all__ = [
    "KINDS",
    "ON_GPU",
    "RECIPES",
    "SECTIONS",
    "STREAMS",
    "STREAM_DEFAULTS",
    "TABLE_EXPERIMENTS",
    "Archives",
    "Compute",
    "Config",
    "DemoDataset",
    "Document",
    "Evaluate",
    "Flow",
    "FolderDataset",
    "Fusion",
    "Preprocess",
    "Section",
    "Settings",
    "StreamOverrides",
    "Train",
    "Warp",
    "attention_settings",
    "audit_settings",
    "effective",
    "fuse_settings",
    "fused_streams",
    "load",
    "load_json",
    "location",
    "read",
    "read_all",
    "render_settings",
    "same_scores",
    "score_settings",
    "shard_settings",
    "sources",
    "train_settings",
]
