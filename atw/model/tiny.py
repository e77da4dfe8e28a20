"""The demo's network: small enough to be trained on one core, and deep enough to need its snippets."""

import torch.nn.functional as F
from torch import Tensor, nn

STEM_CHANNELS = 16
BLOCKS = ((16, 1), (32, 2), (64, 2), (128, 2))
"""Output channels and stride of the four residual blocks."""
FEATURES = BLOCKS[-1][0]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is 1 x 1 where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, S, S] to [B, channels_out, S / stride, S / stride]."""
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.bn2(self.conv2(inner)))


class Tiny(nn.Module):
    """A stride-2 stem, four residual blocks and global average pooling: 0.31 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        widths = [STEM_CHANNELS, *(channels for channels, _ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(ResidualBlock(before, after, stride=step) for before, (after, step) in zip(widths, BLOCKS, strict=False))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, S, S] to pooled features [B, 128]."""
        x = F.relu(self.bn1(self.conv1(x)))  # [B, 16, S / 2, S / 2]
        x = self.blocks(x)  # [B, 128, S / 16, S / 16]
        return x.mean((2, 3))
