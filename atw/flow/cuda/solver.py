"""TV-L1 of batches of pairs on a GPU: memory, the pyramid and the warps around the CUDA kernels.

The host only queues kernels. Every few launches it asks, one round behind, how many pairs are still at work, and ends
a warp early when none is; which iteration a pair ends at is decided on the device. Each call has a stream and memory of
its own, so that one's copies and Python run while another's kernels do. Both are kept here for later calls, whichever
thread they come from: a thread that ends frees nothing, for then no CUDA context would be current.
"""

import atexit
import contextlib
import threading
import time
from typing import Any

import numpy as np
from cuda.bindings import driver as binding
from numba import cuda
from numba.cuda.cudadrv.driver import CudaAPIError

from atw.files import InputError
from atw.flow.cuda.device import current_device
from atw.flow.cuda.iteration import SMALL, iteration_kernel
from atw.flow.cuda.kernels import BLOCK, begin, convert, differentiate, enlarge, export, f32, i32, linearise, shrink
from atw.flow.cuda.layout import FIELDS, PLANES, TILE, Tile, launches, row_pitch
from atw.flow.pairs import FloatArray, Images
from atw.flow.parameters import Parameters, pyramid_sizes

# Launches between two looks at how many pairs are at work: about a millisecond of the device's time.
LAUNCHES_A_LOOK = 8
# More at a time brings nothing (385 pairs of 340 x 256 px), and half of the free memory leaves other threads room.
MOST_PIXELS = 1 << 25
MOST_PAIRS = 1 << 14
SHARE_OF_FREE_MEMORY = 0.5
POLL_SECONDS = 5e-5
# px^2; a limit below this could as well be zero, and in single precision so would be its inverse.
TINY = 1e-20

Sizes = list[tuple[int, int]]


def wait_for(event: Any) -> None:
    """Wait until the device has come past `event`, leaving the processor and the interpreter to others.

    The driver itself is asked: numba's own question raises and logs an error for each "not ready", and its waiting
    keeps a processor busy.
    """
    while True:
        (answer,) = binding.cuEventQuery(event.handle)
        if answer == binding.CUresult.CUDA_SUCCESS:
            return
        if answer != binding.CUresult.CUDA_ERROR_NOT_READY:
            raise CudaAPIError(answer, f"waiting for the GPU fails: {answer.name}")
        time.sleep(POLL_SECONDS)


def blocks(height: int, width: int, images: int) -> tuple[int, int, int]:
    """Grid of a pixelwise kernel over that many images."""
    return -(-width // BLOCK[0]), -(-height // BLOCK[1]), images


class Level:
    """Arrays of one pyramid level: both images of each pair, and the planes."""

    def __init__(self, size: tuple[int, int], images: Any, planes: Any) -> None:
        self.height, self.width = size
        self.pitch = row_pitch(self.width)
        self.shape = i32(self.height), i32(self.width), i32(self.pitch)
        self.images, self.planes = images, planes


def floats_a_pair(sizes: Sizes) -> int:
    """Device memory for a pair on a pyramid of these sizes, in floats, its 8-bit frames counted as floats."""
    area = [height * row_pitch(width) for height, width in sizes]
    return 2 * sum(area) + PLANES * sum(area[:2]) + 6 * area[0]


class Workspace:
    """Everything that batches of up to `pairs` pairs of one size need on the device whose context is current.

    The planes of two neighbouring levels exist at a time, so all levels share those of the two finest.
    """

    def __init__(self, sizes: Sizes, pairs: int, tile: Tile) -> None:
        self.sizes, self.pairs, self.tile = sizes, pairs, tile
        height, width = sizes[0]
        area = [level_height * row_pitch(level_width) for level_height, level_width in sizes]
        planes = [cuda.device_array(pairs * PLANES * pixels, np.float32) for pixels in area[:2]]
        images = [cuda.device_array(pairs * 2 * pixels, np.float32) for pixels in area]
        self.levels = [Level(size, images[index], planes[index % 2]) for index, size in enumerate(sizes)]
        self.gradients = cuda.device_array(pairs * 2 * area[0], np.float32)
        self.frames = cuda.device_array(pairs * 2 * height * width, np.uint8)
        self.flow = cuda.device_array(pairs * 2 * height * width, np.float32)
        self.control = cuda.device_array(pairs * FIELDS + 1, np.int32)
        self.sums = cuda.device_array(pairs * (tile.iterations // 2), np.int64)
        self.host_frames = cuda.pinned_array((pairs, 2, height, width), np.uint8)
        self.host_flow = cuda.pinned_array((pairs, 2, height, width), np.float32)
        self.at_work = cuda.pinned_array(2, np.int32)
        self.stream, self.event = cuda.stream(), cuda.event(timing=False)
        self.looks = [cuda.event(timing=False) for _ in range(2)]
        self.sums.copy_to_device(np.zeros(self.sums.shape, np.int64))

    def solve(self, prev: Images, next_: Images, settings: Parameters, flow: FloatArray) -> None:
        """Fill `flow` [B, 2, H, W] for a batch of no more pairs than there is room for."""
        pairs, height, width = prev.shape
        pixels = pairs * 2 * height * width
        self.host_frames[:pairs, 0], self.host_frames[:pairs, 1] = prev, next_
        self.frames[:pixels].copy_to_device(self.host_frames[:pairs].reshape(-1), stream=self.stream)
        self.build_pyramid(pairs, settings.scale_step)
        for index in reversed(range(len(self.levels))):
            self.enter_level(index, pairs, settings.scale_step)
            for _ in range(settings.warps):
                self.warp(self.levels[index], pairs, settings)
        finest = self.levels[0]
        grid = blocks(height, width, pairs)
        export[grid, BLOCK, self.stream](finest.planes, self.control, self.flow, *finest.shape)
        self.flow[:pixels].copy_to_host(self.host_flow[:pairs].reshape(-1), stream=self.stream)
        self.event.record(self.stream)
        wait_for(self.event)
        flow[:] = self.host_flow[:pairs]

    def build_pyramid(self, pairs: int, scale_step: float) -> None:
        """Fill the images of all levels from the frames."""
        finest = self.levels[0]
        grid = blocks(finest.height, finest.width, 2 * pairs)
        convert[grid, BLOCK, self.stream](self.frames, finest.images, *finest.shape)
        for finer, level in zip(self.levels, self.levels[1:], strict=False):
            grid = blocks(level.height, level.width, 2 * pairs)
            images = finer.images, *finer.shape, level.images, *level.shape
            shrink[grid, BLOCK, self.stream](*images, f32(1 / scale_step))

    def enter_level(self, index: int, pairs: int, scale_step: float) -> None:
        """Start a level from the flow of the coarser one, or the coarsest from zero."""
        level = self.levels[index]
        grid = blocks(level.height, level.width, pairs)
        differentiate[grid, BLOCK, self.stream](level.images, self.gradients, *level.shape)
        if level is self.levels[-1]:
            begin[grid, BLOCK, self.stream](level.planes, self.control, *level.shape)
            return
        coarse = self.levels[index + 1]
        scales = f32(coarse.height / level.height), f32(coarse.width / level.width), f32(1 / scale_step)
        planes = coarse.planes, *coarse.shape, level.planes
        enlarge[grid, BLOCK, self.stream](*planes, self.control, *level.shape, *scales)

    def warp(self, level: Level, pairs: int, settings: Parameters) -> None:
        """Linearise for the present flow and iterate until every pair is done."""
        grid = blocks(level.height, level.width, pairs)
        images = level.images, self.gradients, level.planes, self.control
        weight = f32(settings.lambda_ * settings.theta)
        linearise[grid, BLOCK, self.stream](*images, *level.shape, weight, i32(settings.iterations))
        self.relax(level, pairs, settings)

    def relax(self, level: Level, pairs: int, settings: Parameters) -> int:
        """Queue the iterations of a warp; returns in how many launches."""
        tested = settings.epsilon > 0
        enough = max(settings.epsilon**2 * level.height * level.width, TINY)
        iterate = iteration_kernel(self.tile)[
            (*self.tile.grid(level.height, level.width), pairs), (self.tile.columns, self.tile.rows), self.stream
        ]
        steps = f32(settings.tau), f32(settings.tau / settings.theta), f32(SMALL / enough if tested else 0)
        most = launches(settings.iterations, self.tile, tested=tested)
        for launch in range(most):
            iterate(level.planes, self.control, self.sums, *level.shape, *steps)
            if tested and (launch + 1) % LAUNCHES_A_LOOK == 0:
                number = launch // LAUNCHES_A_LOOK
                self.look(number % 2, pairs)
                if number > 0 and self.seen((number - 1) % 2) == 0:
                    return launch + 1
        return most

    def look(self, slot: int, pairs: int) -> None:
        """Queue a copy of the number of pairs at work."""
        count = self.control[pairs * FIELDS : pairs * FIELDS + 1]
        count.copy_to_host(self.at_work[slot : slot + 1], stream=self.stream)
        self.looks[slot].record(self.stream)

    def seen(self, slot: int) -> int:
        """Wait for that copy."""
        wait_for(self.looks[slot])
        return int(self.at_work[slot])


def out_of_memory(error: CudaAPIError) -> bool:
    """Whether the GPU, or the host's memory that it copies from, had no room."""
    return bool(error.code == binding.CUresult.CUDA_ERROR_OUT_OF_MEMORY)


class Pool:
    """The workspaces of a device that no call is using. Each method needs the device's context to be current."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Workspace] = []
        self._most: dict[tuple[tuple[int, int], ...], int] = {}

    def take(self, sizes: Sizes, pairs: int) -> Workspace:
        """A workspace for these sizes, with room for `pairs` pairs or as many as are worth it and fit."""
        with self._lock:
            room = self._room(sizes, pairs)
            for number, space in enumerate(self._idle):
                if space.sizes == sizes and space.pairs >= room:
                    return self._idle.pop(number)
            self._idle.clear()
            while True:
                try:
                    return Workspace(sizes, room, TILE)
                except CudaAPIError as error:
                    room = self._halved(sizes, room, error)

    def halve(self, space: Workspace, error: CudaAPIError) -> None:
        """Give half as many pairs from now on, after `error` in this workspace; raises it if that cannot help."""
        with self._lock:
            self._halved(space.sizes, space.pairs, error)

    def put(self, space: Workspace) -> None:
        """Keep a workspace for the next call."""
        with self._lock:
            self._idle.append(space)

    def clear(self) -> None:
        """Free everything."""
        with self._lock:
            self._idle.clear()

    def _room(self, sizes: Sizes, pairs: int) -> int:
        height, width = sizes[0]
        worth = min(pairs, MOST_PAIRS, MOST_PIXELS // (height * width), self._most.get(tuple(sizes), pairs))
        free = min(cuda.current_context().get_memory_info().free * SHARE_OF_FREE_MEMORY, 2**60)
        return max(1, min(worth, int(free) // (4 * floats_a_pair(sizes))))

    def _halved(self, sizes: Sizes, pairs: int, error: CudaAPIError) -> int:
        if not out_of_memory(error) or pairs == 1:
            raise error
        self._most[tuple(sizes)] = pairs // 2
        return pairs // 2


_pools: dict[int, Pool] = {}


@atexit.register
def release() -> None:
    """Free the memory of all devices, before numba does so without a context."""
    for device, pool in _pools.items():
        with contextlib.suppress(CudaAPIError), cuda.gpus[device]:
            pool.clear()


def solve(prev: Images, next_: Images, settings: Parameters) -> FloatArray:
    """Flow [B, 2, H, W] in px between checked batches [B, H, W].

    Raises InputError where the GPU has no room for one pair.
    """
    flow = np.empty((len(prev), 2, *prev.shape[1:]), np.float32)
    if len(prev) == 0:
        return flow
    sizes = pyramid_sizes(prev.shape[1], prev.shape[2], settings)
    device = current_device()
    try:
        with cuda.gpus[device]:
            fill(flow, prev, next_, settings, sizes, _pools.setdefault(device, Pool()))
    except CudaAPIError as error:
        if not out_of_memory(error):
            raise
        height, width = sizes[0]
        raise InputError(
            f"the GPU has no room for the flow of one pair of {width} x {height} px, which takes "
            f"{4 * floats_a_pair(sizes) / 2**20:.0f} MiB: end what else computes there (nvidia-smi lists it), or set "
            "flow.backend to numba, which computes on the CPU"
        ) from None
    return flow


def fill(flow: FloatArray, prev: Images, next_: Images, settings: Parameters, sizes: Sizes, pool: Pool) -> None:
    """Compute `flow` in batches that are halved as long as the device has no room for them."""
    done = False
    while not done:
        space = pool.take(sizes, len(prev))
        try:
            for first in range(0, len(prev), space.pairs):
                some = slice(first, first + space.pairs)
                space.solve(prev[some], next_[some], settings, flow[some])
            pool.put(space)
            done = True
        except CudaAPIError as error:
            pool.halve(space, error)
        del space  # or its memory would still be held while the next one is made
