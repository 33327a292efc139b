"""A lossless container for .tflite files on their way: codebooks and entropy-coded codes, restored byte for byte."""

from paredown.container.container import MOST_BYTES, pack, unpack, unpacked
from paredown.container.packing import Packed, pack_file, unpack_file

__all__ = ["MOST_BYTES", "Packed", "pack", "pack_file", "unpack", "unpack_file", "unpacked"]
