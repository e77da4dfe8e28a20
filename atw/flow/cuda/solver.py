"""TV-L1 of batches of pairs on a GPU: memory, the pyramid and the warps around the CUDA kernels.

The host only queues kernels. After two launches, four, and then every eight it asks, one round behind, how many pairs
are still at work, and ends a warp early if none is; the device decides at which iteration a pair ends. Each call has a
stream and memory of its own, so one call's copies run while another's kernels do. Both are kept for later calls from
any thread: a thread that ends must not free them, as no CUDA context would be current.
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
from numpy.typing import NDArray

from atw.files import InputError
from atw.flow.cuda import current_device
from atw.flow.cuda.kernels import (
    BLOCK,
    FIELDS,
    PLANES,
    begin,
    convert,
    differentiate,
    enlarge,
    export,
    export_levels,
    f32,
    i32,
    linearise,
    row_pitch,
    shrink,
)
from atw.flow.cuda.tiles import SMALL, TILE, Tile, iteration_kernel, launches
from atw.flow.pairs import FloatArray, Images, Parameters, StoredFlow, pyramid_sizes

# Launches between two looks at the number of pairs at work, at first and at most: eight are about a millisecond of the
# device's time.
FIRST_LOOK, LAUNCHES_A_LOOK = 2, 8
# More at a time is no faster (385 pairs of 340 x 256 px), and half of the free memory leaves room for other threads.
# The kernel that iterates counts floats of the planes in 32 bits; the padding of rows at most doubles them.
MOST_PIXELS = 1 << 25
MOST_FLOATS = 1 << 31
MOST_PAIRS = 1 << 14
SHARE_OF_FREE_MEMORY = 0.5
POLL_SECONDS = 5e-5
# px^2; a limit below this is as good as zero, and its inverse would overflow single precision.
TINY = 1e-20

Sizes = list[tuple[int, int]]
Fields = FloatArray | NDArray[np.uint8]


def wait_for(event: Any) -> None:
    """Wait until the device has passed `event`, leaving the processor and the interpreter to others.

    This asks the driver itself: numba's query logs an error for each "not ready", and its waiting keeps a core busy.
    """
    while True:
        (answer,) = binding.cuEventQuery(event.handle)
        if answer == binding.CUresult.CUDA_SUCCESS:
            return
        if answer != binding.CUresult.CUDA_ERROR_NOT_READY:
            raise CudaAPIError(answer, f"waiting for the GPU fails: {answer.name}")
        time.sleep(POLL_SECONDS)


def blocks(height: int, width: int, images: int) -> tuple[int, int, int]:
    """Return the grid of a pixelwise kernel over so many images."""
    return -(-width // BLOCK[0]), -(-height // BLOCK[1]), images


class Level:
    """The arrays of one pyramid level: both images of each pair, and the planes."""

    def __init__(self, size: tuple[int, int], images: Any, planes: Any) -> None:
        self.height, self.width = size
        self.pitch = row_pitch(self.width)
        self.shape = i32(self.height), i32(self.width), i32(self.pitch)
        self.images, self.planes = images, planes


def floats_a_pair(sizes: Sizes) -> int:
    """Return the device memory for a pair on this pyramid in floats, its 8-bit frames counted as floats."""
    area = [height * row_pitch(width) for height, width in sizes]
    return 2 * sum(area) + PLANES * sum(area[:2]) + 6 * area[0]


class Workspace:
    """Memory and stream on the current device for batches of up to `pairs` pairs of one size.

    Only two neighbouring levels need planes at a time, so all levels share those of the two finest. The flow comes back
    as float32 in px, or as uint8 levels.
    """

    def __init__(self, sizes: Sizes, pairs: int, tile: Tile, dtype: type[np.generic]) -> None:
        self.sizes, self.pairs, self.tile, self.dtype = sizes, pairs, tile, dtype
        height, width = sizes[0]
        area = [level_height * row_pitch(level_width) for level_height, level_width in sizes]
        planes = [cuda.device_array(pairs * PLANES * pixels, np.float32) for pixels in area[:2]]
        images = [cuda.device_array(pairs * 2 * pixels, np.float32) for pixels in area]
        self.levels = [Level(size, images[index], planes[index % 2]) for index, size in enumerate(sizes)]
        self.gradients = cuda.device_array(pairs * 2 * area[0], np.float32)
        self.frames = cuda.device_array(pairs * 2 * height * width, np.uint8)
        self.flow = cuda.device_array(pairs * 2 * height * width, dtype)
        self.clipped = cuda.device_array(1, np.int64)
        self.control = cuda.device_array(pairs * FIELDS + 1, np.int32)
        self.sums = cuda.device_array(pairs * (tile.iterations // 2), np.int64)
        self.host_frames = cuda.pinned_array((pairs, 2, height, width), np.uint8)
        self.host_flow = cuda.pinned_array((pairs, 2, height, width), dtype)
        self.host_clipped = cuda.pinned_array(1, np.int64)
        self.at_work = cuda.pinned_array(2, np.int32)
        self.stream, self.event = cuda.stream(), cuda.event(timing=False)
        self.looks = [cuda.event(timing=False) for _ in range(2)]
        self.sums.copy_to_device(np.zeros(self.sums.shape, np.int64))

    def solve(self, first: Images, second: Images, settings: Parameters, flow: Fields, bound: float) -> int:
        """Fill `flow` [B, 2, H, W] for a batch of at most `pairs` pairs; return how many of its levels were clipped."""
        pairs, height, width = first.shape
        pixels = pairs * 2 * height * width
        self.host_frames[:pairs, 0], self.host_frames[:pairs, 1] = first, second
        self.frames[:pixels].copy_to_device(self.host_frames[:pairs].reshape(-1), stream=self.stream)
        self.build_pyramid(pairs, settings.scale_step)
        for index in reversed(range(len(self.levels))):
            self.enter_level(index, pairs, settings.scale_step)
            for _ in range(settings.warps_of(index)):
                self.warp(self.levels[index], pairs, settings)
        self.host_clipped[0] = 0
        self.export(pairs, bound)
        self.flow[:pixels].copy_to_host(self.host_flow[:pairs].reshape(-1), stream=self.stream)
        self.event.record(self.stream)
        wait_for(self.event)
        flow[:] = self.host_flow[:pairs]
        return int(self.host_clipped[0])

    def export(self, pairs: int, bound: float) -> None:
        """Queue what turns the finest level's flow into what is copied back."""
        finest = self.levels[0]
        grid = blocks(finest.height, finest.width, pairs)
        if self.dtype is np.float32:
            export[grid, BLOCK, self.stream](finest.planes, self.control, self.flow, *finest.shape)
            return
        self.clipped.copy_to_device(self.host_clipped, stream=self.stream)
        arrays = finest.planes, self.control, self.flow, self.clipped
        export_levels[grid, BLOCK, self.stream](*arrays, *finest.shape, f32(bound), f32(255 / (2 * bound)))
        self.clipped.copy_to_host(self.host_clipped, stream=self.stream)

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
        """Queue the iterations of a warp; return the number of launches."""
        tested = settings.epsilon > 0
        enough = max(settings.epsilon**2 * level.height * level.width, TINY)
        iterate = iteration_kernel(self.tile)[
            (*self.tile.grid(level.height, level.width), pairs), (self.tile.columns, self.tile.rows), self.stream
        ]
        steps = f32(settings.tau), f32(settings.tau / settings.theta), f32(SMALL / enough if tested else 0)
        most = launches(settings.iterations, self.tile, tested=tested)
        looks, look_after = 0, FIRST_LOOK
        for launch in range(1, most + 1):
            iterate(level.planes, self.control, self.sums, *level.shape, *steps)
            if tested and launch == look_after:
                self.look(looks % 2, pairs)
                if looks > 0 and self.seen((looks - 1) % 2) == 0:
                    return launch
                looks, look_after = looks + 1, launch + min(launch, LAUNCHES_A_LOOK)
        return most

    def look(self, slot: int, pairs: int) -> None:
        """Queue a copy of the number of pairs at work."""
        count = self.control[pairs * FIELDS : pairs * FIELDS + 1]
        count.copy_to_host(self.at_work[slot : slot + 1], stream=self.stream)
        self.looks[slot].record(self.stream)

    def seen(self, slot: int) -> int:
        """Wait for that copy and return the number."""
        wait_for(self.looks[slot])
        return int(self.at_work[slot])


def out_of_memory(error: CudaAPIError) -> bool:
    """Whether the GPU, or the host's pinned memory, had no room."""
    return bool(error.code == binding.CUresult.CUDA_ERROR_OUT_OF_MEMORY)


class Pool:
    """The idle workspaces of a device; the device's context must be current in each method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Workspace] = []
        self._most: dict[tuple[tuple[int, int], ...], int] = {}

    def take(self, sizes: Sizes, pairs: int, dtype: type[np.generic]) -> Workspace:
        """Return a workspace for these sizes with room for `pairs` pairs, or for as many as fit and are worth it."""
        with self._lock:
            room = self._room(sizes, pairs)
            for number, space in enumerate(self._idle):
                if (space.sizes, space.dtype) == (sizes, dtype) and space.pairs >= room:
                    return self._idle.pop(number)
            self._idle.clear()
            while True:
                try:
                    return Workspace(sizes, room, TILE, dtype)
                except CudaAPIError as error:
                    room = self._halved(sizes, room, error)

    def halve(self, space: Workspace, error: CudaAPIError) -> None:
        """Halve the pairs of later workspaces after `error` in this one; raise it if that cannot help."""
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


POOLS: dict[int, Pool] = {}


@atexit.register
def release() -> None:
    """Free the memory of all devices, before numba does so without a context."""
    for device, pool in POOLS.items():
        with contextlib.suppress(CudaAPIError), cuda.gpus[device]:
            pool.clear()


def solve(first: Images, second: Images, settings: Parameters) -> FloatArray:
    """Compute the flow [B, 2, H, W] in px between checked batches [B, H, W].

    Raises:
        InputError: the GPU has no room for one pair.
    """
    flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)
    fill(flow, first, second, settings)
    return flow


def store(first: Images, second: Images, settings: Parameters, bound: float) -> StoredFlow:
    """Compute the same as levels of `bound` (px).

    Raises:
        InputError: the GPU has no room for one pair.
    """
    levels = np.empty((len(first), 2, *first.shape[1:]), np.uint8)
    return StoredFlow(levels, fill(levels, first, second, settings, bound))


def fill(flow: Fields, first: Images, second: Images, settings: Parameters, bound: float = 0.0) -> int:
    """Compute `flow` in px or in levels of `bound`, as its type says; return how many levels were clipped."""
    if len(first) == 0:
        return 0
    height, width = first.shape[1:]
    if height * row_pitch(width) * PLANES >= MOST_FLOATS:
        raise InputError(f"images of {width} x {height} px are too large for the backend cuda: take numba")
    sizes = pyramid_sizes(height, width, settings)
    device = current_device()
    try:
        with cuda.gpus[device]:
            return fill_in_batches(flow, first, second, settings, sizes, POOLS.setdefault(device, Pool()), bound)
    except CudaAPIError as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            f"the GPU has no room for the flow of one pair of {width} x {height} px, which takes "
            f"{4 * floats_a_pair(sizes) / 2**20:.0f} MiB: end what else computes there (nvidia-smi lists it), or set "
            "flow.backend to numba, which computes on the CPU"
        ) from None


def fill_in_batches(
    flow: Fields, first: Images, second: Images, settings: Parameters, sizes: Sizes, pool: Pool, bound: float
) -> int:
    """Compute `flow` in batches, halved as long as the device has no room for them."""
    while True:
        space = pool.take(sizes, len(first), flow.dtype.type)
        clipped = 0
        try:
            for start in range(0, len(first), space.pairs):
                some = slice(start, start + space.pairs)
                clipped += space.solve(first[some], second[some], settings, flow[some], bound)
            pool.put(space)
            return clipped
        except CudaAPIError as error:
            pool.halve(space, error)
        del space  # else its memory would still be held when the next one is made
