"""What it took, and what it came from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atw.extras.report.gathered import Gathered
from atw.terminal import read_usage

_PREPROCESSING = {"rgb": "frames", "flow": "flow", "warped": "warped"}


def times(gathered: Gathered, logs: Path) -> list[dict[str, Any]]:
    """The stages, from the logs of their jobs.

    Args:
        gathered: the result.
        logs: folder of the workflow's logs.

    Returns:
        Each with `stage`, its number of `jobs`, how many of them were `measured`, and, of these, `seconds` and `joules`
        in sum; None where no job says.
    """
    return [_summed(stage, [logs / f"{place}.log" for place in places]) for stage, places in _jobs(gathered)]


def _jobs(gathered: Gathered) -> Iterator[tuple[str, list[str]]]:
    """The logs of each stage, as the rules name them."""
    first = gathered.first
    experiment = f"/experiments/{first.experiment}" if first.experiment else ""
    place = f"{first.dataset}{experiment}/{first.split}"
    for stream, rule in _PREPROCESSING.items():
        names = sorted((gathered.scores.get(stream) or first).told(dict, "shards"))
        if stream in gathered.stored:
            yield rule, [f"{rule}/{first.dataset}/{Path(name).name}" for name in names]
    for rule in ("train", "score"):
        for stream in gathered.scores:
            yield f"{rule} {stream}", [f"{rule}/{place}/{stream}"]
    yield "fuse", [f"fuse/{place}"]


def _summed(stage: str, paths: list[Path]) -> dict[str, Any]:
    found = [usage for usage in map(read_usage, paths) if usage]
    energies = [taken.joules for taken in found if taken.joules is not None]
    return {
        "stage": stage,
        "jobs": len(paths),
        "measured": len(found),
        "seconds": sum(taken.seconds for taken in found) if found else None,
        "joules": sum(energies) if energies and len(energies) == len(found) else None,
    }


def provenance(gathered: Gathered) -> dict[str, Any]:
    """In short, `rows` of a stream each; and all of it as JSON text: of the `fusion`, and by stream in `streams`."""
    told = gathered.result["provenance"]
    rows = []
    for stream in gathered.scores:
        one = told[stream]
        rows.append(
            {
                "stream": stream,
                "model": one["model"]["sha256"],
                "shards": len(one.get("shards", ())),
                "seed": one["seed"],
                "hardware": one.get("hardware", ""),
                "software": ", ".join(f"{name} {version}" for name, version in one.get("software", {}).items()),
            }
        )
    texts = {stream: _text(told[stream]) for stream in gathered.scores}
    return {"rows": rows, "fusion": _text(told["fuse"]), "streams": texts}


def _text(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
