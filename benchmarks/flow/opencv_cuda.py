"""Times OpenCV's CUDA TV-L1 in a process of its own, because its build of cv2 would replace the one used elsewhere.

    PYTHONPATH=FOLDER python -m benchmarks.flow.opencv_cuda PAIRS.npz SCHEDULES.json FLOWS.npz

PAIRS.npz has `first` and `second`, uint8 [N, H, W]; SCHEDULES.json gives a name to each set of `atw.flow` parameters.
Prints the seconds that each schedule takes for each pair as JSON and writes the flows. Status 3 and a reason on
standard error where there is no CUDA device. OpenCV is given every advantage: images and flow stay on the device, its
solver keeps its buffers, and its kernels have a stream of their own, since on the default one each waits.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROUNDS = 5


def main(pairs_path: str, schedules_path: str, flows_path: str) -> int:
    """Run the command line; returns the exit status."""
    cuda: Any = getattr(cv2, "cuda", None)
    if not hasattr(cuda, "OpticalFlowDual_TVL1"):
        print(f"OpenCV {cv2.__version__} was built without CUDA", file=sys.stderr)
        return 3
    if cuda.getCudaEnabledDeviceCount() < 1:
        print("OpenCV finds no CUDA device", file=sys.stderr)
        return 3
    pairs = np.load(pairs_path)
    seconds: dict[str, list[float]] = {}
    flows: dict[str, Any] = {}
    for name, settings in json.loads(Path(schedules_path).read_text(encoding="utf-8")).items():
        seconds[name], flows[name] = measure(cuda, pairs["first"], pairs["second"], settings)
    np.savez(flows_path, **flows)
    print(json.dumps(seconds))
    return 0


def measure(
    cuda: Any, first: np.ndarray, second: np.ndarray, settings: dict[str, float]
) -> tuple[list[float], np.ndarray]:
    """Median seconds of each pair and the flows [N, 2, H, W]."""
    solver = cuda.OpticalFlowDual_TVL1.create(
        tau=settings["tau"],
        lambda_=settings["lambda_"],
        theta=settings["theta"],
        nscales=settings["levels"],
        warps=settings["warps"],
        epsilon=settings["epsilon"],
        iterations=settings["iterations"],
        scaleStep=settings["scale_step"],
    )
    stream = cuda.Stream()
    seconds, flows = [], []
    for images in zip(first, second, strict=True):
        on_device = [cuda.GpuMat(), cuda.GpuMat()]
        for matrix, image in zip(on_device, images, strict=True):
            matrix.upload(image)
        found = solver.calc(*on_device, cuda.GpuMat(), stream)
        stream.waitForCompletion()
        taken = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            found = solver.calc(*on_device, found, stream)
            stream.waitForCompletion()
            taken.append(time.perf_counter() - start)
        seconds.append(float(np.median(taken)))
        flows.append(found.download().transpose(2, 0, 1))
    return seconds, np.stack(flows)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
