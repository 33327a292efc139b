"""The container: every file comes back byte for byte, every damage is refused, and nothing bursts."""

import collections
import contextlib
import hashlib
import io
import json
import struct
import tracemalloc
import zlib

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown import export_litert
from paredown.cli.main import run
from paredown.container import pack, pack_file, unpack, unpack_file, unpacked
from paredown.container.codes import Codes, find_codes
from paredown.container.numbers import Reader, leb128
from paredown.container.runs import Runs
from paredown.container.streams import METHODS, Stream, packed_stream
from paredown.errors import ModelError, SettingError
from paredown.measure.size import deflated_bytes
from paredown.tflite import find_buffers

#: What a container has around its streams: far less than the few hundred bytes that it may exceed a zip by.
OVERHEAD = 80


def clustered(k, share_of_zeros=0.0, seed=0):
    """A network whose kernels take k values each, so many of them zero."""
    rng = np.random.default_rng(seed)
    keras.utils.clear_session()
    image = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(16, 5, activation="relu")(image)
    x = keras.layers.Dense(100, activation="relu")(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.Dense(10)(x))
    for weight in model.weights:
        if len(weight.shape) > 1:
            values = rng.normal(size=k).astype("float32")
            value = values[rng.integers(0, k, weight.shape)]
            weight.assign(np.where(rng.random(weight.shape) < share_of_zeros, 0, value))  # 0 · -1 would be another zero
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name -> a .tflite file: 16 shared values, 8 of which all but a tenth zero, and float32."""
    folder = tmp_path_factory.mktemp("files")
    networks = {"shared": clustered(16), "sparse": clustered(8, 0.9), "float": clustered(100_000)}
    for name, model in networks.items():
        export_litert(model, folder / f"{name}.tflite")
    export_litert(networks["shared"], folder / "float16.tflite", "float16")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def small():
    """A container small enough to try every byte, which holds a codebook all the same."""
    content = with_buffers([np.tile(np.float32([1, 2, 3]), 40).tobytes(), drawn(0, 400, 9, "<u4", 0.9), b"abc" * 9])
    packed = pack(content)
    assert any(find_codes(content[start:end]) for start, end in find_buffers(content))
    return content, packed


def with_buffers(buffers):
    """A .tflite file with these buffers and no network."""
    from ai_edge_litert.tools import flatbuffer_utils

    schema = flatbuffer_utils.schema_fb
    model = schema.ModelT()
    model.version, model.buffers, model.subgraphs, model.operatorCodes = 3, [schema.BufferT()], [], []
    for data in buffers:
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(data, "u1")
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def drawn(seed, count, k, dtype, common):
    """Bytes of `count` values, k of which differ; `common` of them are the first."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (k, np.dtype(dtype).itemsize), "u1").view(dtype).ravel()
    return np.where(rng.random(count) < common, values[0], rng.choice(values, count)).astype(dtype).tobytes()


few = st.builds(
    drawn,
    st.integers(0, 99),
    st.integers(0, 1500),
    st.sampled_from([1, 2, 3, 5, 16, 17, 33, 200, 300]),
    st.sampled_from(["<u4", "<u2", "u1"]),
    st.sampled_from([0, 0.5, 0.9, 0.995]),
)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400) | few | st.integers(0, 50_000).map(bytes))
def test_any_bytes_come_back(content):
    packed = pack(content)
    assert unpack(packed) == content
    assert len(packed) <= deflated_bytes(content) + OVERHEAD


@settings(max_examples=40, deadline=None)
@given(st.lists(few | st.binary(max_size=90), max_size=4), st.integers(0, 200), st.binary(max_size=6))
def test_any_flatbuffer_comes_back_also_cut_or_with_bytes_behind(buffers, cut, behind):
    content = with_buffers(buffers)
    for variant in (content, content[: max(8, len(content) - cut)], content + behind):
        assert unpack(pack(variant)) == variant


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_flatbuffer_with_wrong_offsets_comes_back(data):
    content = bytearray(with_buffers([bytes(100), b"xy" * 60]))
    for _ in range(3):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert unpack(pack(bytes(content))) == content


@settings(max_examples=80, deadline=None)
@given(few)
def test_codes_give_their_buffer_back(buffer):
    codes = find_codes(buffer)
    if codes is not None:
        packed = codes.pack(buffer)
        assert len(packed) == codes.packed_bytes
        assert codes.unpack(packed)[: len(buffer)] == buffer
        assert Codes.read(codes.item, codes.count, codes.codebook.tobytes()).unpack(packed) == codes.unpack(packed)


@settings(max_examples=60, deadline=None)
@given(few)
def test_gaps_and_codes_give_their_buffer_back(buffer):
    codes = find_codes(buffer)
    runs = codes and Runs.of(codes, buffer)
    if runs:
        gaps, packed = runs.pack(buffer)
        others = io.BytesIO(runs.others.unpack(packed))
        assert b"".join(runs.values(Stream(Reader(packed_stream(gaps))), others.read)) == buffer


@pytest.mark.parametrize("gap", [0, 1, 254, 255, 256, 509, 510, 511, 70_000])
def test_gaps_of_any_length(gap):
    values = np.array([7, *[5] * gap, 9, 9, *[5] * gap], "<u4")
    runs = Runs(np.array([5], "<u4"), Codes(4, np.array([7, 9], "<u4"), 3), len(values))
    gaps, packed = runs.pack(values.tobytes())
    assert gaps == bytes([0, *[255] * (gap // 255), gap % 255, 0])
    others = io.BytesIO(runs.others.unpack(packed))
    assert b"".join(runs.values(Stream(Reader(packed_stream(gaps))), others.read)) == values.tobytes()


@pytest.mark.parametrize(
    ("k", "width", "per_byte"), [(1, 1, 8), (2, 1, 8), (3, 2, 4), (8, 3, 2), (16, 4, 2), (17, 5, 1), (256, 8, 1)]
)
def test_codes_have_their_true_width(k, width, per_byte):
    codes = Codes(4, np.arange(k, dtype="<u4"), 1000)
    assert (codes.width, codes.per_byte, codes.packed_bytes) == (width, per_byte, -(-1000 // per_byte))


@pytest.mark.parametrize("method", range(len(METHODS)))
def test_every_method_gives_pieces_of_the_size_asked_for(method):
    length = 600_000  # Packed to more than is handed to a decompressor at once.
    plain = np.random.default_rng(0).integers(0, 3, length).astype("u1").tobytes()
    packed = METHODS[method].pack(plain)
    stream = Stream(Reader(bytes([method]) + leb128(len(plain)) + leb128(len(packed)) + packed))
    pieces = list(stream.pieces(4096))
    assert [len(piece) for piece in pieces] == [*[4096] * (length // 4096), length % 4096]
    assert b"".join(pieces) == plain


def test_networks_come_back_and_are_no_larger_than_zipped(files, tmp_path):
    for name, path in files.items():
        made = pack_file(path, tmp_path / f"{name}.pdz")
        assert made.size_bytes == path.stat().st_size
        assert made.zipped_bytes == deflated_bytes(path.read_bytes())
        assert made.packed_bytes == made.path.stat().st_size <= made.zipped_bytes + OVERHEAD
        assert unpack_file(made.path, tmp_path / "back.tflite") == made.size_bytes
        assert (tmp_path / "back.tflite").read_bytes() == path.read_bytes()


def test_shared_values_cost_what_their_frequencies_say(files):
    """16 values, equally likely: 4 bits each; a tenth of 8: their entropy, and what adapting to it takes."""
    weights = 5 * 5 * 16 + 8 * 8 * 16 * 100 + 100 * 10
    of_network = 8_000  # biases, names, the graph
    assert len(pack(files["shared"].read_bytes())) < weights * 4 / 8 * 1.01 + of_network
    zero, others = 0.9, 0.1 / 8
    entropy = -(zero * np.log2(zero) + 8 * others * np.log2(others))
    assert entropy < 1
    assert len(pack(files["sparse"].read_bytes())) < weights * entropy / 8 * 1.05 + of_network


def test_every_single_byte_of_damage_is_refused(small):
    content, packed = small
    for place in range(len(packed)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(packed)
            damaged[place] ^= flip
            with pytest.raises(ModelError, match="Received: the container"):
                unpack(bytes(damaged))
    assert unpack(packed) == content


def test_what_is_cut_short_or_followed_is_refused(small):
    _, packed = small
    for length in range(len(packed)):
        with pytest.raises(ModelError, match=r"truncated|begins with"):
            unpack(packed[:length])
    with pytest.raises(ModelError, match=rf"with 2 bytes behind its {len(packed)}\. Copy it again"):
        unpack(packed + b"ab")


def _overwritten(data, packed):
    """Some bytes in a row replaced: by zeros, by noise, by others of the same container."""
    start = data.draw(st.integers(0, len(packed) - 1))
    length = data.draw(st.integers(1, len(packed) - start))
    source = data.draw(st.integers(0, len(packed) - length))
    parts = st.sampled_from([bytes(length), packed[source : source + length]]) | st.binary(
        min_size=length, max_size=length
    )
    return packed[:start] + data.draw(parts) + packed[start + length :]


def _lost(data, packed):
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(packed))] * 2)))
    return packed[:start] + packed[end:]


def _inserted(data, packed):
    at = data.draw(st.integers(0, len(packed)))
    return packed[:at] + data.draw(st.binary(min_size=1, max_size=300)) + packed[at:]


def _flipped(data, packed):
    damaged = bytearray(packed)
    for place in data.draw(st.sets(st.integers(0, 8 * len(packed) - 1), min_size=1, max_size=40)):
        damaged[place // 8] ^= 1 << place % 8
    return bytes(damaged)


@pytest.mark.parametrize("damage", [_overwritten, _lost, _inserted, _flipped])
def test_fuzzed_damage_is_refused(small, damage):
    content, packed = small

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def tried(data):
        damaged = damage(data, packed)
        if damaged == packed:
            assert unpack(damaged) == content
            return
        with pytest.raises(ModelError, match="Received: the container, "):
            unpack(damaged)

    tried()


def test_another_version_is_named(small):
    _, packed = small
    with pytest.raises(ModelError, match=r"must be of version 1\. Received: the container, of version 7"):
        unpack(packed[:3] + b"\x07" + packed[4:])


def sealed(content_hash, *streams):
    """A container with right length and CRC, whatever is in it."""
    body = content_hash + b"".join(streams)
    head = b"PDZ\x01" + struct.pack("<Q", 16 + len(body))
    return head + body + struct.pack("<I", zlib.crc32(head + body))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_under_a_right_checksum_is_refused_or_harmless(small, data):
    """What somebody made on purpose: only a ModelError may come of it, or the file."""
    content, packed = small
    body = bytearray(packed[44:-4])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    made = sealed(packed[12:44], bytes(body))
    with contextlib.suppress(ModelError):
        assert unpack(made, most_bytes=1 << 20) == content


def numbers(*values):
    return packed_stream(b"".join(map(leb128, values)))


def stream(method, length, packed):
    return bytes([method]) + leb128(length) + leb128(len(packed)) + packed


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        ((numbers(1 << 40, 0),), r"a file of 1099511627776 bytes stands where 2147483648 are the most"),
        ((stream(4, 1 << 40, b""),), r"a stream of 1099511627776 bytes stands where"),
        ((numbers(10, 0), stream(9, 10, b"")), r"method 9 is unknown"),
        ((numbers(10, 0), stream(0, 10, b"abc")), r"a stream holds 3 of its 10 bytes"),
        ((numbers(2, 0), stream(0, 2, b"abc")), r"a stream holds more than its 2 bytes"),
        ((numbers(10, 0), stream(1, 10, b"\xff")), r"a stream cannot be read|breaks off"),
        ((numbers(10, 0), stream(2, 10, b"\xff\xff")), r"a stream cannot be read|breaks off"),
        ((numbers(10, 0), stream(0, 9, b"123456789")), r"the parts do not add up to 10 bytes"),
        ((numbers(0, 1 << 50),), r"bytes are asked for where 0 are left"),
        ((numbers(0, 1, 0, 3, 5, 0, 0),), r"a codebook of 0 values of 3 bytes cannot be"),
        (
            (numbers(4, 1, 0, 1, 4, 2, 5, 6, 2), numbers(), stream(0, 1, b"\x09"), stream(0, 1, b"\x00")),
            r"gaps lead 6 values beyond a buffer of 4",
        ),
        (
            (numbers(4, 1, 0, 1, 4, 2, 5, 6, 2), numbers(), stream(0, 1, b"\x01"), stream(0, 1, b"\x00")),
            r"values are left over behind the last gap",
        ),
        ((numbers(0, 0) + b"",), r"bytes are asked for where 0 are left"),
        ((numbers(0, 0), numbers(), b"x"), r"1 bytes belong to no stream"),
    ],
)
def test_containers_made_to_mislead_are_refused(streams, message):
    with pytest.raises(ModelError, match=rf"must hold what its table says\. Received: x\.pdz, in which .*({message})"):
        unpack(sealed(bytes(32), *streams), name="x.pdz")


def test_another_files_content_is_refused():
    with pytest.raises(
        ModelError, match=r"must fit its SHA-256\. Received: the container, " + hashlib.sha256(b"ab").hexdigest()[:16]
    ):
        unpack(sealed(bytes(32), numbers(2, 0), stream(0, 2, b"ab")))


def test_memory_stays_bounded_while_a_bomb_unpacks():
    """64 megabytes of zeros in 64 kilobytes: handed out a piece at a time."""
    size = 1 << 26
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    bomb = sealed(bytes(32), numbers(size, 0), stream(1, size, zeros))
    tracemalloc.start()
    with pytest.raises(ModelError, match="SHA-256"):
        collections.deque((len(piece) for piece in unpacked(bomb)), maxlen=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    with pytest.raises(ModelError, match=rf"a file of {size} bytes stands where {1 << 20} are the most"):
        unpack(bomb, most_bytes=1 << 20)


def test_the_command_line_packs_and_restores(files, tmp_path, capsys):
    network = tmp_path / "net.tflite"
    network.write_bytes(files["shared"].read_bytes())
    assert run(["pack", str(network)]) == 0
    packed = tmp_path / "net.pdz"
    told = {line[:22].strip(): line[22:] for line in capsys.readouterr().out.splitlines()}
    before = network.stat().st_size
    assert told["File"].endswith(f"({before:,} bytes)")
    assert told["File, zipped"].endswith(f"({deflated_bytes(network.read_bytes()):,} bytes)")
    assert told["Container"].endswith(f"({packed.stat().st_size:,} bytes)")
    assert told["Memory while running"].endswith("B, unpacked; on this computer, one thread")
    assert run(["unpack", str(packed)]) == 2
    assert f"Without --out nothing is replaced. Received: {network}" in capsys.readouterr().err
    assert run(["unpack", str(packed), "-o", str(tmp_path / "back.tflite")]) == 0
    assert (tmp_path / "back.tflite").read_bytes() == network.read_bytes()
    capsys.readouterr()
    assert run(["pack", str(network), "-o", str(packed), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["packed_bytes"] == packed.stat().st_size < figures["zipped_bytes"] < figures["size_bytes"]
    assert figures["running_bytes"] > figures["size_bytes"] == before


def test_a_file_that_cannot_run_is_packed_and_its_memory_unknown(tmp_path, capsys):
    (tmp_path / "net.tflite").write_bytes(with_buffers([b"ab" * 50]))
    assert run(["pack", str(tmp_path / "net.tflite"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["running_bytes"] is None
    assert err.startswith("Memory while running is unknown. LiteRT must be able to run the file. Received: ")


def test_a_damaged_container_leaves_nothing_and_says_so_in_one_line(small, tmp_path, capsys):
    _, packed = small
    container, out = tmp_path / "x.pdz", tmp_path / "x.tflite"
    container.write_bytes(packed[:-30] + bytes([packed[-30] ^ 1]) + packed[-29:])
    out.write_bytes(b"what was here")
    assert run(["unpack", str(container), "-o", str(out)]) == 2
    out_text, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert f"must fit its CRC-32. Received: {container}, damaged" in err
    assert out_text == ""
    assert out.read_bytes() == b"what was here"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pdz", "x.tflite"]


def test_source_and_result_are_two_files(files):
    path = files["float"]
    before = path.read_bytes()
    with pytest.raises(SettingError, match=rf"Received: {path} for both"):
        pack_file(path, path)
    assert path.read_bytes() == before


def test_what_is_no_network_is_not_packed(tmp_path, capsys):
    (tmp_path / "a.tflite").write_bytes(b"PK\x03\x04")
    assert run(["pack", str(tmp_path / "a.tflite")]) == 2
    assert "Received" in capsys.readouterr().err
    assert run(["unpack", str(tmp_path / "a.tflite")]) == 2
    assert "Received" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tflite"]
