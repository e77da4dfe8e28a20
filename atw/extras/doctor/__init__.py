"""What this machine can do for the pipeline, and why not where it cannot.

Nothing here may keep the report from being made: each part that fails says so in its own place.
"""

import sys
from collections.abc import Callable
from typing import Any

from atw.errors import printable
from atw.extras.doctor import machine
from atw.files import json_text

Report = dict[str, Any]
Rows = list[tuple[str, str]]


def examine(*, measure: bool = True) -> Report:
    """Look at the machine; `works` is False where flow or decoding cannot work at all.

    A part that fails is {"fails": reason}. With `measure` the flow backends are timed, which takes some seconds each.
    """
    report = {
        "machine": _safely(machine.describe),
        "gpus": _safely(machine.gpus),
        "opencv": _safely(_opencv),
        "decoding": _safely(_decoding),
        "flow": _safely(lambda: _backends(measure)),
        "ray": _safely(_ray),
        "slurm": _safely(_slurm),
    }
    works = report["flow"].get("auto") is not None and not report["decoding"].get("fails")
    return {"works": works, **report}


def _safely(part: Callable[[], Report]) -> Report:
    try:
        return part()
    except Exception as error:
        return {"fails": f"{type(error).__name__}: {error}"}


# Imported where they are used: a broken library must cost its own part of the report only.
def _opencv() -> Report:
    from atw.extras.doctor.software import opencv

    return opencv()


def _decoding() -> Report:
    from atw.extras.doctor.software import decoding

    return decoding()


def _ray() -> Report:
    from atw.extras.doctor.software import ray

    return ray()


def _slurm() -> Report:
    from atw.extras.doctor.software import slurm

    return slurm()


def _backends(measure: bool) -> Report:
    from atw.extras.doctor.speed import backends

    return backends(cores=machine.usable_cores(), measure=measure)


def show(report: Report, *, as_json: bool) -> None:
    """Print the report: as JSON, as a table on a terminal, as plain lines otherwise."""
    if as_json:
        print(json_text(report))
        return
    rows = [row for part, describe in _PARTS.items() for row in _rows(part, report[part], describe)]
    rows.append(("verdict", "flow and decoding work" if report["works"] else "flow or decoding does NOT work"))
    if not sys.stdout.isatty():
        width = max(len(name) for name, _ in rows) + 2
        for name, text in rows:
            print(printable(f"{name:{width}}{text}".rstrip()))
        return
    from rich.table import Table

    from atw.terminal import console

    table = Table("what", "here", show_lines=False)
    for name, text in rows:
        table.add_row(name, text)
    console().print(table)


def _rows(part: str, content: Report, describe: Callable[[Report], Rows]) -> Rows:
    return [(part, f"FAILS: {content['fails']}")] if content.get("fails") else describe(content)


def _machine_rows(content: Report) -> Rows:
    memory = f"{content['memory_gib']} GiB, {content['memory_available_gib']} GiB of it free"
    cores = f"{content['cores']} usable of {content['cores_of_machine']}, {content['busy_cores']} busy lately"
    return [
        ("processor", content["processor"]),
        ("cores", cores),
        ("SIMD", " ".join(content["simd"]) or "none known"),
        ("memory", memory),
        ("disk", f"{content['disk_free_gib']} GiB free in {content['folder']}"),
    ]


def _gpu_rows(content: Report) -> Rows:
    rows = []
    for number, gpu in enumerate(content["devices"]):
        memory = f"{gpu['memory_gib']} GiB, " if gpu["memory_gib"] else ""
        text = f"{gpu['name']}, {memory}driver {gpu['driver']}, compute capability {gpu['compute_capability']}"
        rows.append((f"GPU {number}", text))
    if not rows:
        rows.append(("GPU", f"none: {content['why_none']}"))
    if content["cuda_visible_devices"] is not None:
        rows.append(("CUDA_VISIBLE_DEVICES", content["cuda_visible_devices"]))
    return rows


def _opencv_rows(content: Report) -> Rows:
    cuda = content["built_with_cuda"]
    if cuda:
        devices = content["cuda_devices"] or "no"
        text = f"built with CUDA {cuda} for compute capability {content['built_for_gpus']}, {devices} device found"
    else:
        text = "built without CUDA"
    solvers = [name for name, there in (("CPU", content["tvl1"]), ("CUDA", content["tvl1_cuda"])) if there]
    return [("OpenCV", f"{content['version']}, {text}; TV-L1: {' and '.join(solvers) or 'none'}")]


def _decoding_rows(content: Report) -> Rows:
    there = [name for name, decodes in content["codecs"].items() if decodes]
    absent = [name for name, decodes in content["codecs"].items() if not decodes]
    rows = [("decoding", f"PyAV {content['pyav']}, {' '.join(there)}")]
    return rows + ([("no decoder for", " ".join(absent))] if absent else [])


def _flow_rows(content: Report) -> Rows:
    rows = [("flow by auto", content["auto"] or "no backend can run")]
    for name, entry in content["backends"].items():
        if entry["unusable"]:
            text = f"cannot run: {entry['unusable']}"
        else:
            text = entry["what"]
            for preset, rates in (entry["pairs_per_second"] or {}).items():
                by_threads = ", ".join(
                    f"{rate} pairs/s with {threads} thread{'s' * (threads != 1)}" for threads, rate in rates.items()
                )
                text += f"; {preset}: {by_threads}"
        rows.append((f"flow backend {name}", text))
    return rows


def _ray_rows(content: Report) -> Rows:
    where = f", RAY_ADDRESS={content['address']}" if content["address"] else ""
    return [("Ray", (content["version"] or "not installed") + where)]


def _slurm_rows(content: Report) -> Rows:
    plugin = content["snakemake_plugin"]
    return [
        ("Snakemake", content["snakemake"] or "not installed"),
        ("Slurm", content["version"] or "not here: no sbatch"),
        ("Snakemake's Slurm plugin", plugin or "not installed: snakemake-executor-plugin-slurm"),
    ]


_PARTS: dict[str, Callable[[Report], Rows]] = {
    "machine": _machine_rows,
    "gpus": _gpu_rows,
    "opencv": _opencv_rows,
    "decoding": _decoding_rows,
    "flow": _flow_rows,
    "ray": _ray_rows,
    "slurm": _slurm_rows,
}
