"""What `write_shard` is asked to store, and what it says it stored."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Stored = dict[str, NDArray[np.uint8]]
WriteShard = Callable[..., Stored]

VIDEOS = {"b/2.avi": 2, "a/1.avi": 3, "a/0.avi": 0, "c/#3 é.avi": 1}
