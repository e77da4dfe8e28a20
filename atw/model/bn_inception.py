"""BN-Inception, the network of the paper's tables: Ioffe and Szegedy, 2015, arXiv:1502.03167, appendix.

Layers lie side by side in one module under the names of the published weights: every convolution is followed by the
batch norm of its name with `_bn` and a rectifier. It takes BGR in levels 0..255, less the mean colour.

Shapes: B images, C channels, S side in px.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 1024


class Block(NamedTuple):
    """One inception block: channels of its branches, which are joined in this order."""

    single: int
    """1 x 1; 0: none."""
    triple: tuple[int, int]
    """1 x 1, then 3 x 3."""
    double: tuple[int, int]
    """1 x 1, then 3 x 3 twice."""
    pool: Literal["average", "max"]
    """3 x 3, on the block's input."""
    projection: int
    """1 x 1 after the pool; 0: none, the pool's channels are joined as they are."""
    stride: int = 1
    """Of the last 3 x 3 of each branch and of the pool."""


BLOCKS = {
    "3a": Block(64, (64, 64), (64, 96), "average", 32),
    "3b": Block(64, (64, 96), (64, 96), "average", 64),
    "3c": Block(0, (128, 160), (64, 96), "max", 0, stride=2),
    "4a": Block(224, (64, 96), (96, 128), "average", 128),
    "4b": Block(192, (96, 128), (96, 128), "average", 128),
    "4c": Block(160, (128, 160), (128, 160), "average", 128),
    "4d": Block(96, (128, 192), (160, 192), "average", 128),
    "4e": Block(0, (128, 192), (192, 256), "max", 0, stride=2),
    "5a": Block(352, (192, 320), (160, 224), "average", 128),
    "5b": Block(352, (192, 320), (192, 224), "max", 128),
}


class BNInception(nn.Module):
    """The network up to its pooled features; the published classifier is not part of it."""

    def __init__(self) -> None:
        super().__init__()
        self._add("conv1_7x7_s2", 3, 64, side=7, stride=2)
        self._add("conv2_3x3_reduce", 64, 64, side=1)
        self._add("conv2_3x3", 64, 192, side=3)
        channels = 192
        for name, block in BLOCKS.items():
            channels = self._add_block(f"inception_{name}", channels, block)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, S, S] to pooled features [B, 1024]."""
        x = self._convolve("conv1_7x7_s2", x)  # [B, 64, S / 2, S / 2]
        x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)  # [B, 64, S / 4, S / 4]
        x = self._convolve("conv2_3x3", self._convolve("conv2_3x3_reduce", x))
        x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)  # [B, 192, S / 8, S / 8]
        for name, block in BLOCKS.items():
            x = self._join(f"inception_{name}", x, block)
        return x.mean((2, 3))  # from [B, 1024, S / 32, S / 32]

    def _add(self, name: str, channels_in: int, channels_out: int, *, side: int, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(channels_in, channels_out, side, stride, padding=side // 2))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(channels_out))

    def _add_block(self, name: str, channels: int, block: Block) -> int:
        """Add the layers of a block for an input of so many channels, and return how many come out."""
        if block.single:
            self._add(f"{name}_1x1", channels, block.single, side=1)
        reduced, triple = block.triple
        self._add(f"{name}_3x3_reduce", channels, reduced, side=1)
        self._add(f"{name}_3x3", reduced, triple, side=3, stride=block.stride)
        reduced, double = block.double
        self._add(f"{name}_double_3x3_reduce", channels, reduced, side=1)
        self._add(f"{name}_double_3x3_1", reduced, double, side=3)
        self._add(f"{name}_double_3x3_2", double, double, side=3, stride=block.stride)
        if block.projection:
            self._add(f"{name}_pool_proj", channels, block.projection, side=1)
        return block.single + triple + double + (block.projection or channels)

    def _convolve(self, name: str, x: Tensor) -> Tensor:
        """Convolution, batch norm and rectifier."""
        return F.relu(self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x)))

    def _join(self, name: str, x: Tensor, block: Block) -> Tensor:
        """The branches of a block side by side."""
        triple = self._convolve(f"{name}_3x3", self._convolve(f"{name}_3x3_reduce", x))
        double = self._convolve(f"{name}_double_3x3_1", self._convolve(f"{name}_double_3x3_reduce", x))
        branches = [triple, self._convolve(f"{name}_double_3x3_2", double), self._pool(x, block)]
        if block.single:
            branches.insert(0, self._convolve(f"{name}_1x1", x))
        if block.projection:
            branches[-1] = self._convolve(f"{name}_pool_proj", branches[-1])
        return torch.cat(branches, 1)

    def _pool(self, x: Tensor, block: Block) -> Tensor:
        # As published: averages count the zeros of the padding, and a pool of stride 2 keeps the last row and column.
        if block.pool == "average":
            return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=True)
        return F.max_pool2d(x, 3, block.stride, padding=1 if block.stride == 1 else 0, ceil_mode=True)
