"""A trained network in a form that runs without this package: ONNX or PyTorch's exported program.

Input is uint8 [B, N, C, S, S] as `VideoNetwork.forward` takes it, so normalisation is inside; the outputs are those of
`atw.model.network.Output`. Numbers of videos B and of snippets N are free. The file says by itself what it is: classes,
settings, training and provenance of model.pt as JSON under `atw`, as metadata (ONNX) or as an extra file `atw.json`.
"""

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from atw.files import InputError, atomic_path
from atw.model.modelfile import load_model
from atw.model.network import Output, VideoNetwork

TOLERANCE = 1e-4
"""Largest difference from the original that is let through, relative to the largest number of an output or to 1."""

_ONNX_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
_TRACED_VIDEOS = 2
_TRIED = ((1, 1), (2, 3), (3, 7))
"""Numbers of videos and snippets that are compared, other than the traced ones."""

Runner = Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]


def export_model(model: Path, out: Path) -> float:
    """Write the network of a model.pt as `out`; returns the largest difference from the original, as `TOLERANCE` is.

    Raises:
        InputError: an unknown ending, a library that is not installed, no model file, or a result that
            differs by more than `TOLERANCE`; then nothing is written.
    """
    if out.suffix.lower() not in (".onnx", ".pt2"):
        raise InputError(f"--out {out} must end in .onnx, or in .pt2 for torch.export; change its name")
    onnx = out.suffix.lower() == ".onnx"
    missing = [name for name in _ONNX_LIBRARIES if onnx and importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"an .onnx file needs {', '.join(missing)}; install them with: pip install 'atw[export]'")
    trained = load_model(model)
    network, segments = trained.network, trained.settings.sampling.segments
    side = trained.settings.augment.input_size
    try:
        description = json.dumps(trained.description(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{model} is damaged: its settings are none ({error}); train the stream again") from None
    snippets = _snippets(network, _TRACED_VIDEOS, segments + 1, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn of their own inner workings
        program = _traced(network, snippets)
        data, run = (_to_onnx if onnx else _to_torch)(program, snippets, description)
    worst = max(_difference(network, run, videos, number, side) for videos, number in _TRIED)
    if not worst <= TOLERANCE:
        raise InputError(
            f"{model} as {out.suffix} differs from the original by {worst:.2g}, more than {TOLERANCE:g}; "
            f"nothing was written, take the other ending or other versions of {', '.join(_ONNX_LIBRARIES)}"
        )
    with atomic_path(out) as temporary:
        temporary.write_bytes(data)
    return worst


def _traced(network: VideoNetwork, snippets: Tensor) -> ExportedProgram:
    shapes = ({0: Dim("videos", min=1), 1: Dim("snippets", min=1)},)
    program = torch.export.export(_Plain(network), (snippets,), dynamic_shapes=shapes)
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # lines of source, with the paths of this machine's files
    return program


def _to_torch(program: ExportedProgram, _: Tensor, description: str) -> tuple[bytes, Runner]:
    stream = io.BytesIO()
    torch.export.save(program, stream, extra_files={"atw.json": description})
    data = stream.getvalue()
    module = torch.export.load(io.BytesIO(data)).module()

    def run(snippets: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        with torch.no_grad():
            return [output.numpy() for output in module(torch.from_numpy(snippets))]

    return data, run


def _to_onnx(program: ExportedProgram, snippets: Tensor, description: str) -> tuple[bytes, Runner]:
    import onnxruntime

    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they tell of every constant
    converted: Any = torch.onnx.export(
        program,
        (snippets,),
        dynamo=True,
        input_names=["snippets"],
        output_names=list(Output._fields),
        verbose=False,
    )
    proto = converted.model_proto
    _strip(proto)
    proto.metadata_props.add(key="atw", value=description)
    data: bytes = proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(snippets: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return list(session.run(list(Output._fields), {"snippets": snippets}))

    return data, run


def _strip(message: Any) -> None:
    """Take out what the exporter notes of its own work, this machine's paths among it."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _strip(part)


class _Plain(nn.Module):
    """A network whose outputs are a plain tuple, which every format can hold."""

    def __init__(self, network: VideoNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, snippets: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(snippets))


def _snippets(network: VideoNetwork, videos: int, number: int, side: int) -> Tensor:
    """Random ones, the same at each call: uint8 [videos, number, C, side, side]."""
    generator = torch.Generator().manual_seed(videos * 1000 + number)
    shape = (videos, number, network.channels, side, side)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def _difference(network: VideoNetwork, run: Runner, videos: int, number: int, side: int) -> float:
    """Largest difference of an output, relative to its largest number or to 1."""
    snippets = _snippets(network, videos, number, side)
    with torch.no_grad():
        expected = [output.numpy() for output in network(snippets)]
    found = run(snippets.numpy())
    return max(
        float(np.abs(has - should).max() / max(1.0, float(np.abs(should).max())))
        if has.shape == should.shape
        else float("inf")
        for has, should in zip(found, expected, strict=True)
    )
