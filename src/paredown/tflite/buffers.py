"""Where the weights lie in a .tflite file."""

import struct

#: What reading offsets that lead nowhere raises.
_LOST = (struct.error, IndexError, TypeError, ValueError, OverflowError, AttributeError)


def find_buffers(content: bytes, least_bytes: int = 1) -> list[tuple[int, int]]:
    """(start, end) of the buffers in a .tflite file, in order and apart; none where it cannot be read as one.

    Those behind the flatbuffer, as files of more than 2 GB have them, too.

    Args:
        content: Of the file, which may be damaged.
        least_bytes: Smaller buffers are left out.
    """
    if content[4:8] != b"TFL3":
        return []
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(content, 0)
        found = [_place(content, model.Buffers(i)) for i in range(model.BuffersLength())]
    except _LOST:
        return []
    apart, last = [], 0
    for start, end in sorted(found):
        if last <= start and start + least_bytes <= end <= len(content):
            apart.append((start, end))
            last = end
    return apart


def _place(content: bytes, buffer: object) -> tuple[int, int]:
    """Of one buffer; (0, 0) for an empty one."""
    outside = buffer.Offset()  # type: ignore[attr-defined]
    if outside > 1:
        return outside, outside + buffer.Size()  # type: ignore[attr-defined]
    table = buffer._tab  # type: ignore[attr-defined]
    field = table.Offset(4)  # `data`, the first field
    if not field:
        return 0, 0
    start = table.Vector(field)
    return start, start + table.VectorLen(field)
