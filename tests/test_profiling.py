"""What networks cost, by hand."""

import keras
import pytest
from keras import layers

from networks import NETWORKS, CrossChannel, image
from paredown.channels import Channels
from paredown.errors import ModelError, SettingError
from paredown.profiling import compared, profile


def _macs(layer, shape):
    i = keras.Input(shape)
    return profile(keras.Model(i, layer(i))).macs


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (lambda: layers.Dense(5), (7,), 7 * 5),
        (lambda: layers.Dense(5), (3, 7), 3 * 7 * 5),
        (lambda: layers.Conv2D(4, 3), (8, 8, 3), 6 * 6 * 3 * 3 * 3 * 4),
        (lambda: layers.Conv2D(4, 3, strides=2, padding="same"), (8, 8, 3), 4 * 4 * 3 * 3 * 3 * 4),
        (lambda: layers.Conv2D(4, 3, groups=2, padding="same"), (8, 8, 6), 8 * 8 * 3 * 3 * (6 // 2) * 4),
        (lambda: layers.Conv1D(4, 5, padding="causal"), (16, 3), 16 * 5 * 3 * 4),
        (lambda: layers.Conv3D(4, 2), (4, 4, 4, 3), 3 * 3 * 3 * 2 * 2 * 2 * 3 * 4),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 3), 6 * 6 * 3 * 3 * 3 * 2),
        (lambda: layers.SeparableConv2D(4, 3), (8, 8, 3), 6 * 6 * 3 * 3 * 3 + 6 * 6 * 3 * 4),
        (
            lambda: layers.SeparableConv2D(4, 3, depth_multiplier=2),
            (8, 8, 3),
            6 * 6 * 3 * 3 * 3 * 2 + 6 * 6 * (3 * 2) * 4,
        ),
        # Every input position is multiplied with the whole kernel.
        (lambda: layers.Conv2DTranspose(4, 3, strides=2), (8, 8, 3), 8 * 8 * 3 * 3 * 3 * 4),
        # At each of 9 steps every gate of every unit reads all inputs and all units.
        (lambda: layers.LSTM(5), (9, 4), 9 * 4 * 5 * (4 + 5)),
        (lambda: layers.GRU(5, return_sequences=True), (9, 4), 9 * 3 * 5 * (4 + 5)),
        (lambda: layers.SimpleRNN(5), (9, 4), 9 * 5 * (4 + 5)),
        (lambda: layers.Bidirectional(layers.LSTM(5)), (9, 4), 2 * 9 * 4 * 5 * (4 + 5)),
        (lambda: layers.ConvLSTM2D(5, 3), (9, 8, 8, 2), 9 * 6 * 6 * 4 * 5 * 3 * 3 * (2 + 5)),
        (lambda: layers.TimeDistributed(layers.Conv2D(4, 3)), (6, 8, 8, 3), 6 * 6 * 6 * 3 * 3 * 3 * 4),
        (lambda: layers.TimeDistributed(layers.Dense(5)), (6, 7), 6 * 7 * 5),
        (lambda: layers.BatchNormalization(), (8, 8, 3), 0),
        (lambda: layers.MaxPooling2D(), (8, 8, 3), 0),
    ],
)
def test_multiply_adds(layer, shape, macs):
    assert _macs(layer(), shape) == macs


def _attended(layer, query, *others, **settings):
    inputs = [keras.Input(shape) for shape in (query, *others)]
    arguments = [inputs] if isinstance(layer, layers.Attention) else inputs
    return profile(keras.Model(inputs, layer(*arguments, **settings))).macs


def test_attention_projects_then_meets_position_by_position():
    # Heads of size 5 for queries and keys, of size 2 for values: query 9 x 6, value 7 x 4, key 7 x 8.
    there = 9 * 6 * 3 * 5 + 7 * 4 * 3 * 2 + 7 * 8 * 3 * 5
    met = 9 * 7 * 3 * (5 + 2)
    back = 9 * 3 * 2 * 6
    assert _attended(layers.MultiHeadAttention(3, 5, 2), (9, 6), (7, 4), (7, 8)) == there + met + back
    # Along the second axis of positions only, without a key of its own.
    there, met, back = 2 * 9 * 6 * 3 * 5 + 2 * 2 * 7 * 4 * 3 * 5, 2 * 9 * 7 * 3 * (5 + 5), 2 * 9 * 3 * 5 * 8
    layer = layers.MultiHeadAttention(3, 5, output_shape=8, attention_axes=2)
    assert _attended(layer, (2, 9, 6), (2, 7, 4)) == there + met + back


def test_grouped_query_attention_has_fewer_keys_than_heads():
    there = 9 * 6 * 4 * 5 + 2 * 7 * 6 * 2 * 5
    assert _attended(layers.GroupQueryAttention(5, 4, 2), (9, 6), (7, 6)) == there + 9 * 7 * 4 * (5 + 5) + 9 * 4 * 5 * 6


def test_attention_without_heads_costs_its_two_products():
    assert _attended(layers.Attention(), (9, 6), (7, 4), (7, 6)) == 9 * 7 * (6 + 4)
    assert _attended(layers.AdditiveAttention(), (9, 6), (7, 6)) == 9 * 7 * (6 + 6)


def test_a_layer_that_is_called_twice_costs_twice_and_weighs_once():
    i = keras.Input((6,))
    dense = layers.Dense(6)
    cost = profile(keras.Model(i, dense(dense(i))))
    assert cost.macs == 2 * 6 * 6
    assert cost.params == 6 * 6 + 6
    assert cost.weight_bytes == 4 * (6 * 6 + 6)


def test_peak_activation_bytes_of_a_chain():
    i = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(i)
    x = layers.ReLU()(x)
    x = layers.Conv2D(16, 3, padding="same")(x)
    cost = profile(keras.Model(i, layers.GlobalAveragePooling2D()(x)))
    # ReLU works in place; the second convolution holds its input and its output.
    assert cost.peak_activation_bytes == 4 * (8 * 8 * 4 + 8 * 8 * 16)
    assert cost.activation_bytes == 4 * (8 * 8 * 4 + 8 * 8 * 4 + 8 * 8 * 16 + 16)


def test_a_shortcut_is_kept_until_it_is_read():
    i = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 1)(i)
    y = layers.Conv2D(4, 1)(layers.Conv2D(2, 1)(x))
    cost = profile(keras.Model(i, layers.Add()([x, y])))
    # At the addition: shortcut, branch and sum.
    assert cost.peak_activation_bytes == 4 * 3 * (8 * 8 * 4)


def test_nested_models_have_the_peak_of_the_same_layers_in_line():
    def chain(x):
        x = layers.Conv2D(8, 3)(x)
        return layers.Conv2D(4, 3)(layers.ReLU()(x))

    i, inner_in = image(), image()
    inner = keras.Model(inner_in, chain(inner_in))
    flat = profile(keras.Model(i, layers.Conv2D(2, 1)(chain(i))))
    nested = profile(keras.Model(i, layers.Conv2D(2, 1)(inner(i))))
    assert nested.peak_activation_bytes == flat.peak_activation_bytes
    assert nested.macs == flat.macs


def test_unknown_layers_are_reported_and_are_not_zero():
    i = image()
    cost = profile(keras.Model(i, CrossChannel(name="cross")(layers.Conv2D(4, 1)(i))))
    assert cost.unknown == ["cross"]
    row = next(layer for layer in cost.layers if layer.name == "cross")
    assert row.macs is None
    assert row.intensity_macs_per_byte is None
    assert row.note == "no rule for CrossChannel"
    assert cost.macs == 8 * 8 * 3 * 4


def test_intensity_is_macs_over_bytes_moved():
    i = keras.Input((7,))
    cost = profile(keras.Model(i, layers.Dense(5)(i)))
    assert cost.layers[0].intensity_macs_per_byte == 7 * 5 / (4 * (7 * 5 + 5) + 4 * 7 + 4 * 5)


def test_open_sizes_must_be_given():
    model = NETWORKS["open_size"]()
    with pytest.raises(SettingError, match=r"\(None, None, None, 3\)\. Received: input_shape=None"):
        profile(model)
    with pytest.raises(SettingError, match=r"Received: input_shape=\(8, 8, 4\)"):
        profile(model, (8, 8, 4))
    # conv 3 -> 8 at 8x8, conv 8 -> 6 at 4x4, 1x1 conv 6 -> 2.
    assert profile(model, (8, 8, 3)).macs == 64 * 9 * 3 * 8 + 16 * 9 * 8 * 6 + 16 * 6 * 2


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_plain_data(name):
    model = NETWORKS[name]()
    first = model.inputs[0].shape[1:]
    cost = profile(model, tuple(size or 12 for size in first) if None in first else None)
    assert cost.params == model.count_params()
    assert cost.to_dict()["macs"] == cost.macs
    assert cost.peak_activation_bytes > 0


def test_what_can_be_removed_and_why_not():
    i = image()
    x = layers.Conv2D(4, 1, name="free")(i)
    x = layers.Conv2D(6, 1, groups=1, name="before")(x)
    x = CrossChannel(name="cross")(x)
    x = layers.Conv2D(4, 1, name="single")(x)
    x = layers.Add()([x[..., :-1], x[..., 1:]])
    found = {
        r.name: r for r in profile(keras.Model(i, layers.Dense(3, name="last")(layers.ReLU(name="relu")(x)))).layers
    }
    assert (found["free"].channels, found["free"].removable, found["free"].why) == (4, 4, "")
    unknown = "no rule for CrossChannel: its neighbours must stay"
    assert (found["before"].removable, found["before"].why) == (0, f"cross: {unknown}")
    assert (found["cross"].channels, found["cross"].removable, found["cross"].why) == (6, 0, unknown)
    assert (found["single"].removable, found["single"].why) == (4, "its channels can only go all together")
    assert (found["last"].removable, found["last"].why) == (0, "network output")
    assert found["relu"].removable is None


#: Networks of which everything can go but what the output or a constant holds, and the reasons that hold the rest.
FREE = {
    "grouped": {"network output"},
    "grouped_finely": {"network output"},
    "resnext": {"network output"},
    "shufflenet": {"network output"},
    "squeeze_and_excitation": {"network output"},
    "zero_shortcuts": {"network output"},
    "slices_with_steps": {"network output"},
    "pixels_shuffled_by_hand": {"network output"},
    "composite": {"network output"},
    "own_rows": {"network output"},
    "own_operations": {"network output"},
    "padded_shortcuts": {
        "network output",
        "add combines it with a network input or constant",
        "add_1 combines it with a network input or constant",
    },
}


@pytest.mark.parametrize("name", FREE)
def test_nothing_is_pinned_without_need(name):
    channels = Channels(NETWORKS[name]())
    free = {path: channels.prunable[components] for path, components in channels.outputs.items()}
    reasons = {channels.reasons[c] for path, x in channels.outputs.items() for c in x[~free[path]].tolist()}
    assert reasons == FREE[name]
    assert sum(not kept.any() for kept in free.values()) == 1  # the output itself


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_with_weights_says_what_can_be_removed(name):
    model = NETWORKS[name]()
    (first, *_) = model.inputs
    shape = tuple(size or 12 for size in first.shape[1:]) if None in first.shape[1:] else None
    for row in profile(model, shape).layers:
        if row.params:
            assert row.removable is not None
            assert 0 <= row.removable <= row.channels
            assert row.why or row.removable == row.channels


def test_models_whose_calls_cannot_be_seen_are_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ModelError, match="of class Subclassed"):
        profile(Subclassed())
    with pytest.raises(ModelError, match="'lazy' without a known input shape"):
        profile(keras.Sequential([layers.Dense(3)], name="lazy"))


def test_new_layers_stand_behind_those_whose_place_they_take():
    def net(names):
        keras.utils.clear_session(free_memory=False)
        x = i = keras.Input((4,), name="i")
        for name in names:
            x = keras.layers.Dense(4, name=name)(x)
        return profile(keras.Model(i, x))

    rows = compared(net(["a", "b", "c", "d"]), net(["a", "b_reduce", "b_expand", "c", "e"]))
    assert [row["name"] for row in rows] == ["a", "b", "b_reduce", "b_expand", "c", "d", "e"]
    assert (rows[1]["macs_before"], rows[1]["macs_after"]) == (16, None)
    assert (rows[2]["channels_before"], rows[2]["channels_after"]) == (None, 4)
