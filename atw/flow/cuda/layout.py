"""What the CUDA kernels have in memory, how they cut images into tiles, and what that costs.

Nothing here needs CUDA.

One thread block works on one tile of one pair. It loads the tile with a halo as wide as the iterations of one launch,
keeps it in registers, runs the iterations and stores what the halo has not spoilt. With t iterations a launch a tile
of w x h px advances (w - 2 t)(h - 2 t) px, for which 10 floats a loaded pixel are read and 6 an advanced one written:

    bytes / (px iteration)       = (40 w h / ((w - 2 t)(h - 2 t)) + 24) / t       14.1 for 64 x 64 px and t = 6
    operations / (px iteration)  = 51 w h / ((w - 2 t)(h - 2 t))                  77

`work` adds this up over a schedule, with the tiles that overlap the edges of the images counted whole.
"""

import math
from typing import NamedTuple

from atw.flow.parameters import Parameters, pyramid_sizes

# Planes of a pair on a pyramid level: four coefficients of the data term, then twice the flow and its dual variables.
# An iteration reads one half of the state and writes the other, so that no tile sees what its neighbour has just done.
NORMAL_X, NORMAL_Y, RESIDUAL, LIMIT = range(4)
STATE = 4
FLOW_X, FLOW_Y = range(2)
DUAL_X, DUAL_Y = 2, 3  # of the x component; those of the y component are two further
STATE_PLANES = 6
PLANES = STATE + 2 * STATE_PLANES

# Integers of a pair that control its iterations on the device: how many are done in this warp, after how many it ends,
# which half of the state holds the flow, and how many tiles have finished the present launch.
DONE, END, HALF, ARRIVED = range(4)
FIELDS = 4

# Operations of an iteration at a pixel, counting a root and a division as one each; of linearising at a pixel.
ITERATION_OPERATIONS = 51
LINEARISE_OPERATIONS = 150
LINEARISE_BYTES = 4 * (4 + 2 + 4)


class Tile(NamedTuple):
    """How a thread block works: `columns` x `rows` threads of `patch_columns` x `patch_rows` px each.

    `iterations` a launch, even so that the update is looked at after every second one, and a multiple of
    `patch_columns`. Half of it may exceed neither `rows` nor twice `patch_rows`: the block adds up the squared updates
    with one row of threads a look, in the memory through which its patches exchange columns.
    """

    columns: int
    rows: int
    patch_columns: int
    patch_rows: int
    iterations: int

    @property
    def width(self) -> int:
        """Loaded width (px)."""
        return self.columns * self.patch_columns

    @property
    def height(self) -> int:
        """Loaded height (px)."""
        return self.rows * self.patch_rows

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Tiles in x and in y that advance an image of `height` x `width` px."""
        halo = 2 * self.iterations
        return math.ceil(width / (self.width - halo)), math.ceil(height / (self.height - halo))


# 64 x 64 px in 512 threads: 128 registers a thread and 48 KiB of shared memory, the most that needs no permission.
TILE = Tile(columns=32, rows=16, patch_columns=2, patch_rows=4, iterations=6)


def row_pitch(width: int) -> int:
    """Floats from one row of an image or plane to the next: whole runs of 128 bytes."""
    return (width + 31) // 32 * 32


def launches(iterations: int, tile: Tile, *, tested: bool) -> int:
    """Launches that are enough for the iterations of a warp.

    The stopping rule is applied after a launch; a launch that went past the stop is done again up to it.
    """
    return math.ceil(iterations / tile.iterations) + (1 if tested else 0)


def work(height: int, width: int, settings: Parameters, tile: Tile = TILE) -> tuple[int, int]:
    """Bytes that must move and operations that must be done for a pair if no warp stops early.

    A launch reads the ten planes of a pixel (four coefficients, flow and dual variables) and writes six of them:
    64 bytes, so 5.6 MB for a pair of 340 x 256 px. What tiles read and compute again where they overlap is a price of
    the method and no part of the floor. Linearising is counted, the pyramid and the transfers, done once a level or a
    pair, are not.
    """
    launch_bytes = 4 * (STATE + STATE_PLANES + STATE_PLANES)
    pixels = sum(level_height * level_width for level_height, level_width in pyramid_sizes(height, width, settings))
    each_moved = launches(settings.iterations, tile, tested=False) * launch_bytes + LINEARISE_BYTES
    each_done = settings.iterations * ITERATION_OPERATIONS + LINEARISE_OPERATIONS
    return settings.warps * pixels * each_moved, settings.warps * pixels * each_done
