"""The shard format, version 3: one HDF5 file per dataset, stream and shard, readable with plain h5py and hdf5plugin.

    rgb           data    uint8 [bytes]                 JPEG images one after the other
                  offset  int64 [items + 1]             image i is data[offset[i]:offset[i + 1]]
    flow, warped  data    uint8 [items, 2, H, W]        one chunk per field, compressed with Zstandard; channel 0 is x
    all           crc32   uint32 [items]                of each item's stored bytes: the image, or the compressed chunk
                  index/* one row per video, sorted by id (`Entry`); a quarantined video has a reason and no items
                  time_offset int64 [videos + 1]
                  time    float64 [all]                 video v has time[time_offset[v]:time_offset[v+1]]: when each of
                                                        its n frames is shown, and when the last one ends, n + 1 seconds
                                                        from the first frame; none if the video file does not say
    attributes    format, stream, dataset, shard, width, height, bound, zero, items, times, digest, checksum; as JSON
                  settings, software and flow, the effective parameters and the backend of flow and warped (`Header`)

A video's items are `first` to `first + count - 1`: n frames in rgb, n - 1 fields in flow and warped; field i leads from
frame i to frame i + 1. Displacements are quantised to 1..255 with zero at 128, so a horizontal flip is exactly 256 - v.
`digest` is the SHA-256 over items, index and times, `times` that of time_offset and time alone, `checksum` that of the
canonical JSON form of the list of the other attributes and the rows of the index; nothing in the file depends on when,
where or how fast it was written.

`format` holds the data model, `writing` and `reading` the access to files, `tools` the commands of `atw shards`.
"""

from atw.shards.format import (
    FORMAT,
    SINGLE,
    ZERO,
    Entry,
    Header,
    decode_field,
    decode_frame,
    decode_luma,
    dequantise,
    differing,
    encode_field,
    encode_frame,
    places_of,
    quantise,
)
from atw.shards.reading import Shard
from atw.shards.writing import Encoded, Writer, create

__all__ = [
    "FORMAT",
    "SINGLE",
    "ZERO",
    "Encoded",
    "Entry",
    "Header",
    "Shard",
    "Writer",
    "create",
    "decode_field",
    "decode_frame",
    "decode_luma",
    "dequantise",
    "differing",
    "encode_field",
    "encode_frame",
    "places_of",
    "quantise",
]
