"""Ways to read a training sample, most giving uint8 [N, C, S, S]: ours, and what a user would have instead."""

import importlib.util
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from atw.data import augment
from benchmarks.reader.material import SIZE_PX, STACK, Material, Sample, image_path

Images = NDArray[np.uint8]
Read = Callable[[Sample], Any]


def shards(material: Material, stream: str) -> Read:
    """The reader of the training."""
    source = material.shards[stream]
    stack = 1 if stream == "rgb" else STACK
    return lambda sample: source.snippets(sample.video, sample.starts, stack, [sample.crop], SIZE_PX)[0]


def jpeg_folders(material: Material, stream: str) -> Read:
    """Images of frames, or of x and y of fields; Pillow opens, crops, resizes and mirrors, as in TSN's loaders."""

    def cut(image: Image.Image, sample: Sample) -> Image.Image:
        top, left, height, width = sample.crop.box
        cut = image.crop((left, top, left + width, top + height)).resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR)
        return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if sample.crop.flip else cut

    def frame(sample: Sample, start: int) -> Images:
        with Image.open(image_path(material.images, sample.video, "img", start)) as image:
            return np.asarray(cut(image.convert("RGB"), sample)).transpose(2, 0, 1)

    def stack(sample: Sample, start: int) -> Images:
        planes = []
        for number in range(start, start + STACK):
            for kind in ("flow_x", "flow_y"):
                with Image.open(image_path(material.images, sample.video, kind, number)) as image:
                    plane = cut(image.convert("L"), sample)
                planes.append(np.asarray(ImageOps.invert(plane) if sample.crop.flip and kind == "flow_x" else plane))
        return np.stack(planes)

    read = frame if stream == "rgb" else stack
    return lambda sample: np.ascontiguousarray(np.stack([read(sample, int(start)) for start in sample.starts]))


def normalised(read: Read) -> Read:
    """What TSN's loaders do besides: to float32, divided by 255 and normalised channel by channel, on the CPU."""

    def convert(sample: Sample) -> torch.Tensor:
        levels = torch.from_numpy(read(sample)).float().div(255)
        for channel in levels.unbind(1):
            channel.sub_(0.5).div_(0.226)
        return levels

    return convert


def _from_video(material: Material, decode: Callable[[str, list[int]], Images]) -> Read:
    """Frames decoded from the raw video, at the working size, then cut by our code."""
    preprocess = material.shards["rgb"].settings.preprocess
    size = (preprocess.width, preprocess.height)

    def read(sample: Sample) -> Images:
        frames = decode(str(material.root / sample.video), sample.starts.tolist())
        items = (
            ([place], frame if frame.shape[1::-1] == size else cv2.resize(frame, size))
            for place, frame in enumerate(frames)
        )
        shape = (len(sample.starts), 1)
        return augment.cut_snippets(items, [sample.crop], shape=shape, size=SIZE_PX, stream="rgb")[0]

    return read


def decord(material: Material) -> Read:
    """decord, one thread, a reader opened for each sample, resizing to the working size itself."""
    import decord

    preprocess = material.shards["rgb"].settings.preprocess
    size = preprocess.model_dump(include={"width", "height"})

    def decode(path: str, numbers: list[int]) -> Images:
        reader: Any = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1, **size)
        images: Images = reader.get_batch(numbers).asnumpy()
        return images

    return _from_video(material, decode)


def torchcodec(material: Material) -> Read:
    """torchcodec, one thread, a decoder opened for each sample."""
    from torchcodec.decoders import VideoDecoder

    def decode(path: str, numbers: list[int]) -> Images:
        reader = VideoDecoder(path, num_ffmpeg_threads=1, dimension_order="NHWC", seek_mode="approximate")
        images: Images = reader.get_frames_at(numbers).data.numpy()
        return images

    return _from_video(material, decode)


def torchvision_reads_videos() -> bool:
    """Whether this torchvision still has a video reader of its own."""
    from torchvision import io

    return hasattr(io, "read_video")


VIDEO_READERS: dict[str, Callable[[Material], Read]] = {"decord": decord, "torchcodec": torchcodec}


def installed(name: str) -> bool:
    """Whether the library is there; the project itself needs none of them."""
    return importlib.util.find_spec(name) is not None
