import numpy as np
from numpy.typing import NDArray

from atw.data.augment import Box, Crop, cut_snippets


def cut(frames: NDArray[np.uint8], *, box: Box, size: int, flip: bool, stream: str) -> NDArray[np.uint8]:
    """One crop of snippets [N, H, W, 3] or [N, L, 2, H, W]."""
    shape = (len(frames), 1 if stream == "rgb" else frames.shape[1])
    items = frames if stream == "rgb" else frames.reshape(-1, *frames.shape[2:])
    placed = (([place], item) for place, item in enumerate(items))
    return cut_snippets(placed, [Crop(box, flip)], shape=shape, size=size, stream=stream)[0]
