"""QuantizeAware: its twin computes what the quantized file computes, and what it gives is a plain network."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from networks import randomize
from paredown import Data, FineTune, PruneWeights, QuantizeAware, Split, export_litert
from paredown.compiled import gradient
from paredown.errors import DataError
from paredown.export import FORMATS as EXPORTED
from paredown.measure.litert_runner import LiteRTRunner
from paredown.transforms.fake_quantize import FakeQuantize, rounded, rounded_weight
from paredown.transforms.rounding import FORMATS

ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow")


def image():
    return keras.Input((12, 12, 3), name="image")


def end(x, activation=None):
    return layers.Dense(5, activation, name="scores")(layers.GlobalAveragePooling2D(name="pool")(x))


def mobile():
    """Depthwise and pointwise, folded BatchNormalization, ReLU of both kinds, a residual sum."""
    x = layers.Rescaling(0.5, offset=-0.1, name="rescale")(first := image())
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = short = layers.ReLU(6.0, name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.ReLU(name="relu2")(layers.BatchNormalization(name="norm2")(x))
    x = layers.BatchNormalization(name="norm3")(layers.Conv2D(8, 1, name="pointwise")(x))
    return keras.Model(first, end(layers.ReLU(name="relu3")(layers.Add(name="add")([short, x]))), name="mobile")


def strided():
    """A projection shortcut, as every ResNet has, and an activation inside the layers."""
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(first := image())
    y = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="second")(x)
    short = layers.Conv2D(8, 1, strides=2, name="projection")(x)
    return keras.Model(first, end(layers.ReLU(name="relu")(layers.Add(name="add")([y, short]))), name="strided")


def alone():
    """BatchNormalization that no kernel takes up."""
    x = short = layers.Conv2D(8, 3, padding="same", name="stem")(first := image())
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(8, 3, padding="same", name="conv")(x)
    x = layers.BatchNormalization(name="norm2")(layers.Add(name="add")([short, x]))
    return keras.Model(first, end(layers.ReLU(name="relu2")(x)), name="alone")


def activations(last=None):
    """Activations that are operations of their own, with ranges of their own or prescribed ones."""
    x = layers.Conv2D(8, 3, activation="sigmoid", name="sigmoid")(first := image())
    x = layers.Conv2D(8, 3, activation="tanh", name="tanh")(x)
    x = layers.LeakyReLU(0.1, name="leaky")(layers.Conv2D(8, 3, name="conv")(x))
    return keras.Model(first, end(x, last), name="activations")


def branches():
    """Joined and pooled: ranges that several tensors share."""
    x = layers.Conv2D(6, 3, activation="relu", name="left")(first := image())
    # Of 9 values: the mean of 4 would often lie halfway between two steps, where runtimes round either way.
    y = layers.AveragePooling2D(3, name="average")(layers.Conv2D(4, 3, name="right")(first))
    joined = layers.Concatenate(name="joined")([layers.MaxPooling2D(3, name="largest")(x), y])
    x = layers.Dropout(0.5, name="dropout")(layers.ReLU(name="relu")(joined))
    x = layers.Flatten(name="flat")(layers.ZeroPadding2D(name="pad")(x))
    return keras.Model(first, layers.Dense(5, name="scores")(x), name="branches")


def transposed():
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="down")(first := image())
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="same", name="up")(x)
    return keras.Model(first, layers.Conv2D(2, 1, name="out")(x), name="transposed")


def nested():
    inner = keras.Sequential(
        [keras.Input((10, 10, 6)), layers.BatchNormalization(name="norm"), layers.ReLU()], name="in"
    )
    x = layers.Conv2D(6, 3, name="conv")(first := image())
    return keras.Model(first, end(inner(x)), name="nested")


NETS = {f.__name__: f for f in (mobile, strided, alone, activations, branches, transposed, nested)}


def make(name):
    keras.utils.clear_session(free_memory=False)
    return randomize(NETS[name]())


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    # No whole numbers: a value that lies between two steps is rounded either way.
    return Data((rng.normal(size=(48, 12, 12, 3)).astype("float32"), rng.integers(0, 5, 48)))


def outputs(model, x):
    return np.array(model(x, training=False))


def exported(model, data, quantization, folder):
    path = folder / "model.tflite"
    export_litert(model, path, quantization, data)
    return path.read_bytes()


def rms(a):
    return float(np.sqrt(np.mean(np.square(a))))


def in_plain_kernels(content, x):
    """Outputs of LiteRT's own kernels, without XNNPACK."""
    from ai_edge_litert import interpreter as litert

    resolver = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = litert.Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    (read,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for row in x:
        interpreter.set_tensor(read["index"], row[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(made["index"])[0])
    return np.stack(rows)


@ON_TENSORFLOW
@pytest.mark.parametrize("name", NETS)
def test_the_twin_computes_what_the_file_computes(name, data, tmp_path):
    model, x = make(name), data.train.x[:]
    content = exported(model, data, "int8", tmp_path)
    twin = outputs(QuantizeAware().twin(model, data).model, x)
    # LiteRT has two kernels for most operations; they round pooling, and sums and products, differently.
    files = LiteRTRunner(content).run((x,))[0], in_plain_kernels(content, x)
    file = min(files, key=lambda one: rms(twin - one))
    step = (max(file.max(), 0) - min(file.min(), 0)) / 255
    assert abs(twin - file).max() <= 3 * step
    assert rms(twin - file) <= 0.5 * rms(outputs(model, x) - file)


@ON_TENSORFLOW
@pytest.mark.parametrize("quantization", FORMATS)
def test_the_twins_kernels_are_the_files(quantization, data, tmp_path):
    """Also where a BatchNormalization is folded into them: each output channel's step scales with it."""
    model = make("mobile")
    twin = QuantizeAware(quantization=quantization).twin(model, data).model
    held = constants(exported(model, data, quantization, tmp_path))
    for name, norm, axis in (
        ("stem", "norm", 0),
        ("depthwise", "norm2", 3),
        ("pointwise", "norm3", 0),
        ("scores", None, 0),
    ):
        layer = twin.get_layer(name)
        got = np.array(layer._rounded(layer.kernel) if hasattr(layer, "rounds") else layer.kernel)
        if norm:
            folded = model.get_layer(norm)
            factor = np.array(folded.gamma) / np.sqrt(np.array(folded.moving_variance) + folded.epsilon)
            got = got * (factor[:, None] if name == "depthwise" else factor)
        got = got.transpose(3, 0, 1, 2) if axis == 0 and got.ndim == 4 else got.T if got.ndim == 2 else got
        got = got.reshape(1, *got.shape[:2], -1) if axis == 3 else got
        assert any(got.shape == c.shape and np.allclose(got, c, rtol=1e-4, atol=1e-6) for c in held), name


def constants(content):
    """All constants of a file in float32, the rounded ones times their steps."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    found = []
    for detail in interpreter.get_tensor_details():
        try:
            value = interpreter.get_tensor(detail["index"])
        except ValueError:
            continue
        scales = detail["quantization_parameters"]["scales"]
        shape = [1] * value.ndim
        if len(scales) > 1:
            shape[detail["quantization_parameters"]["quantized_dimension"]] = -1
        found.append(value * scales.reshape(shape) if len(scales) and value.ndim > 1 else value)
    return found


def test_every_format_is_one_of_the_exports():
    assert FORMATS.keys() <= EXPORTED.keys()
    assert {name for name, row in FORMATS.items() if row.activations} == {"int8"}


def test_rounded_values():
    # A range from -1 to 1.55 has steps of 0.01 and its zero at -28: -1 is -128 and 1.55 is 127.
    x = np.array([-7.0, -1.0, -0.004, 0.0, 0.0149, 1.55, 9.0], "float32")
    np.testing.assert_allclose(rounded(x, -1.0, 1.55), [-1.0, -1.0, 0.0, 0.0, 0.01, 1.55, 1.55], atol=1e-6)
    # One that does not hold 0 is widened to it.
    np.testing.assert_allclose(rounded(x, 1.0, 2.55), [0, 0, 0, 0, 0.01, 1.55, 2.55], atol=1e-6)
    weight = np.array([[1.27, -0.5], [0.004, 0.07], [-0.026, 0.0]], "float32")
    # Steps of 1.27 / 127 = 0.01, and with 4 bits of 0.07 / 7.
    np.testing.assert_allclose(rounded_weight(weight[:, 0], (0,), 8), [1.27, 0.0, -0.03], atol=1e-6)
    np.testing.assert_allclose(rounded_weight(weight, (1,), 4)[1], [0.0, 0.07], atol=1e-6)
    assert not np.array(rounded_weight(np.zeros((2, 3), "float32"), (0,), 8)).any()


def test_gradients_pass_where_values_fit():
    x = np.array([[-7.0, -0.999, -0.004, 0.5, 1.549, 9.0]], "float32")
    model = keras.Sequential([keras.Input((6,)), layers.Identity()])
    slopes = ops.arange(1.0, 7.0, dtype="float32")
    of_activation = gradient(lambda given: ops.sum(slopes * rounded(given[0], -1.0, 1.55)), model)
    np.testing.assert_allclose(of_activation([x])[0], [[0, 2, 3, 4, 5, 0]])
    of_weight = gradient(lambda given: ops.sum(slopes * rounded_weight(given[0], (1,), 8)), model)
    np.testing.assert_allclose(of_weight([x])[0], [[1, 2, 3, 4, 5, 6]])


@pytest.mark.parametrize(("name", "quantization"), [("alone", "int8"), ("nested", "int8"), ("activations", "dynamic")])
def test_nothing_moves_without_a_step(name, quantization, data):
    model = make(name)
    still = FineTune(optimizer="sgd", learning_rate=1e-30, batch_size=16)
    result = QuantizeAware(still, quantization)(model, data)
    for before, after in zip(model.weights, result.model.weights, strict=True):
        np.testing.assert_array_equal(before, after, before.path)
    assert result.log["quantization"] == quantization


def test_what_comes_back_is_a_plain_network(data, tmp_path):
    model = randomize(activations("softmax"))
    model.compile("sgd", "sparse_categorical_crossentropy")
    result = QuantizeAware(FineTune(batch_size=16, learning_rate=0.01))(model, data)
    assert result.model.get_config() == model.get_config()
    assert result.model.get_compile_config() == model.get_compile_config()
    result.model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert not any(isinstance(layer, FakeQuantize) for layer in loaded._flatten_layers())
    for before, after in zip(result.model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(before, after)
    x = data.train.x[:4]
    np.testing.assert_array_equal(outputs(result.model, x), outputs(loaded, x))


def test_statistics_stay_and_the_rest_learns(data):
    model = make("alone")
    tuned = QuantizeAware(FineTune(batch_size=16, learning_rate=0.01))(model, data).model
    for before, after in zip(model.weights, tuned.weights, strict=True):
        stays = before.name.startswith("moving")
        assert np.array_equal(before, after) is stays, before.path


def test_frozen_layers_and_zeros_stay(data):
    model = PruneWeights("magnitude", sparsity=0.5)(make("mobile"), data).model
    model.get_layer("stem").trainable = False
    tune = FineTune(batch_size=16, learning_rate=0.01, keep_zeros=True)
    tuned = QuantizeAware(tune)(model, data).model
    np.testing.assert_array_equal(model.get_layer("stem").kernel, tuned.get_layer("stem").kernel)
    before, after = (np.array(m.get_layer("pointwise").kernel) for m in (model, tuned))
    assert (before == 0).any()
    np.testing.assert_array_equal(before == 0, after == 0)


def test_it_learns_from_a_teacher_without_labels(data):
    tune = FineTune(batch_size=16, features="auto", feature_weight=1.0)
    log = QuantizeAware(tune)(make("strided"), Data(train=data.train.x)).log
    assert log["target"] == "original outputs"
    assert log["history"]["feature_loss"][0] > 0
    # The unrounded network is its own teacher: what is learned from is the rounding alone.
    assert log["history"]["loss"][0] > 0


@ON_TENSORFLOW
def test_the_file_loses_less(tmp_path):
    """A dense network in int4, towards its own unrounded outputs."""
    keras.utils.set_random_seed(0)
    dense = [layers.Dense(24, "relu", name=f"hidden{i}") for i in range(2)]
    model = randomize(keras.Sequential([keras.Input((16,)), *dense, layers.Dense(4, name="out")]))
    x = np.random.default_rng(1).normal(size=(1024, 16)).astype("float32")
    data, expected = Data(train=x), outputs(model, x)
    tune = FineTune(epochs=10, batch_size=32, learning_rate=4e-3, schedule="cosine")

    def lost(network):
        file = LiteRTRunner(exported(network, data, "int4", tmp_path)).run((x,))[0]
        return rms(file - expected)

    assert lost(QuantizeAware(tune, "int4")(model, data).model) < 0.6 * lost(model)


@ON_TENSORFLOW
def test_ranges_are_those_of_the_export(data, tmp_path):
    model = make("mobile")
    twin = QuantizeAware().twin(model, data).model
    steps = {(max(h, 0) - min(lo, 0)) / 255 for lo, h in (np.array(q.range) for q in quantizers(twin))}
    held = activation_steps(exported(model, data, "int8", tmp_path))
    assert steps
    # Rescaling is two operations in the file, whose first has a range that no layer's output has.
    for step in steps:
        assert min(abs(step / other - 1) for other in held) < 1e-4


def quantizers(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, FakeQuantize)]


def activation_steps(content):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    details = [d for d in interpreter.get_tensor_details() if d["dtype"] is np.int8]
    return [float(s) for d in details for s in d["quantization_parameters"]["scales"]]


def test_what_is_left_unrounded_is_named():
    steps = keras.Input((6, 4), name="steps")
    model = keras.Model(steps, layers.Dense(2, name="out")(layers.LSTM(3, name="lstm")(steps)))
    x = np.random.default_rng(0).normal(size=(8, 6, 4)).astype("float32")
    (skip,) = QuantizeAware()(model, Data(train=x)).skips
    assert (skip.layer, skip.reason) == ("lstm", "LSTM has no kernel of a kind that is treated: trained unrounded")


def test_data_are_needed(data):
    with pytest.raises(DataError, match=r"QuantizeAware learns from data\.train\. Received: data=None"):
        QuantizeAware()(make("strided"))
    with pytest.raises(DataError, match=r"learns from data\.train\. Received: no training data"):
        QuantizeAware()(make("strided"), Data(calibration=Split(data.train.x[:4])))
