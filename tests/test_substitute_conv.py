"""Every structure on every form of convolution, and SubstituteConv on whole networks."""

import keras
import numpy as np
import pytest
from keras import layers

from networks import NETWORKS, examples, randomize
from paredown import Data, PruneChannels, Split, SubstituteConv, export_litert, profile
from paredown.checks import largest_difference
from paredown.data import hold_out
from paredown.errors import DataError, SettingError
from paredown.factors import Chain, Piece, Problem, piece_costs, piece_positions
from paredown.network import Network
from paredown.patches import LinearLayer
from paredown.structures import STRUCTURES, Seat, composed
from paredown.transforms.layer_training import HELD_OUT

#: Settings of a convolution, and the height and width of its input.
FORMS = {
    "same": ({"padding": "same"}, (7, 8)),
    "valid": ({}, (7, 8)),
    "strided": ({"strides": 2, "padding": "same"}, (7, 8)),
    "strided valid": ({"strides": 2}, (8, 9)),
    "dilated": ({"dilation_rate": 2, "padding": "same"}, (9, 10)),
    "dilated valid": ({"dilation_rate": 2}, (11, 10)),
    "unequal strides": ({"strides": (1, 2), "padding": "same"}, (7, 8)),
}
CASES = [
    (structure, form)
    for structure in STRUCTURES
    for form in FORMS
    if (structure, form) != ("separable", "unequal strides")
]


def _seat(structure: str, form: str = "same", filters: int = 8, groups: int = 2, relu: bool = False) -> Seat:
    """A convolution with 6 input channels and random weights."""
    settings, sizes = FORMS[form]
    layer = layers.Conv2D(filters, 5 if structure == "stacked" else 3, name="conv", **settings)
    layer(keras.Input((*sizes, 6)))
    generator = np.random.default_rng(2)
    for variable in layer.weights:
        variable.assign(generator.normal(size=variable.shape))
    shape = (1, *sizes, 6)
    groups = groups if structure == "grouped" else 1
    assert STRUCTURES[structure].why_not(layer, groups, shape) is None
    return Seat("conv", layer, shape, shape, structure, groups, relu)


def _chain(seat: Seat, width: int, kernels=None) -> Chain:
    chain = Chain(seat.layer, seat.pieces(width), True)
    chain(keras.Input(seat.shape[1:]))
    if kernels is not None:
        chain.assign(kernels, keras.ops.convert_to_numpy(seat.layer.bias))
    return chain


def _outputs(layer, seat: Seat) -> np.ndarray:
    x = np.random.default_rng(3).normal(size=(3, *seat.shape[1:])).astype("float32")
    return keras.ops.convert_to_numpy(layer(x))


def _random_kernels(seat: Seat, width: int) -> list[np.ndarray]:
    generator, inputs, kernels = np.random.default_rng(4), seat.inputs, []
    for piece in seat.pieces(width):
        if piece.has_kernel:
            kernels.append(generator.normal(size=piece.kernel_shape(inputs)))
        inputs = piece.outputs(inputs)
    return kernels


@pytest.mark.parametrize(("structure", "form"), CASES)
def test_a_structure_is_the_one_kernel_that_it_stands_for(structure, form):
    seat = _seat(structure, form)
    kernels = _random_kernels(seat, 2)
    given = _outputs(_chain(seat, 2, kernels), seat)
    seat.layer.kernel.assign(composed(seat.pieces(2), kernels))
    assert largest_difference([_outputs(seat.layer, seat)], [given]) < 1e-5


@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_a_structure_can_represent_it_represents(structure):
    # Widths at which the decomposition is the only one; of two 3×3 the search could stop elsewhere.
    for width in (2, 4):
        seat = _seat(structure, "strided")
        seat.layer.kernel.assign(composed(seat.pieces(width), _random_kernels(seat, width)))
        problem = Problem.plain(LinearLayer(seat.layer))
        chain = _chain(seat, width, seat.start(problem, width))
        assert largest_difference([_outputs(seat.layer, seat)], [_outputs(chain, seat)]) < 1e-4


@pytest.mark.parametrize("structure", [name for name in STRUCTURES if name != "bottleneck"])
def test_nothing_is_lost_at_the_largest_width(structure):
    seat = _seat(structure)
    kernels = seat.start(Problem.plain(LinearLayer(seat.layer)), seat.most)
    assert largest_difference([_outputs(seat.layer, seat)], [_outputs(_chain(seat, seat.most, kernels), seat)]) < 1e-4


@pytest.mark.parametrize(("structure", "form"), CASES)
def test_costs_are_those_of_the_layers_that_come(structure, form):
    seat = _seat(structure, form, relu=form in ("same", "strided valid"))
    chain, inputs = _chain(seat, 4), keras.Input(seat.shape[1:])
    counted = profile(keras.Model(inputs, chain(inputs)))
    assert seat.macs(4) == counted.macs
    costs = piece_costs(chain.pieces, piece_positions(chain.pieces, seat.layer, seat.shape), seat.inputs, True)
    assert sum(params for _, params in costs) == counted.params
    assert seat.macs_now == profile(keras.Model(inputs, seat.layer(inputs))).macs


def test_costs_by_hand():
    positions, inner = 7 * 8, (7 + 4 - 2) * (8 + 4 - 2)
    for structure, width, macs in (
        ("one_dimensional", 5, positions * 3 * 5 * (6 + 8)),
        ("separable", 1, positions * 6 * (9 + 8)),
        ("bottleneck", 3, positions * (6 * 3 + 9 * 3 * 3 + 3 * 8)),
        ("grouped", 4, positions * (9 * 6 * 4 // 2 + 4 * 8)),
        ("stacked", 4, inner * 9 * 6 * 4 + positions * 9 * 4 * 8),
    ):
        assert _seat(structure).macs(width) == macs


def test_widths():
    seat = _seat("one_dimensional", filters=12)
    # 3·R·(6 + 12) against 9·6·12: cheaper below 12.
    assert seat.width(None, None) == 11
    assert seat.width(3, None) == 3
    assert seat.width(12, None) == "width 12 is not cheaper: it would have to be at most 11"
    assert seat.width(None, 0.5) == 6
    assert seat.width(None, 0.01) == "no width costs 0.01 of its MACs or less"
    assert _seat("grouped", groups=3).width(None, 0.7) % 3 == 0
    macs = f"{9 * 9 * 9 * 6 + 4 * 4 * 9} against {4 * 4 * 25 * 6} MACs"
    assert _seat("stacked", "strided", filters=1).width(None, None) == f"no stacked structure is cheaper: {macs}"


def test_why_not():
    for structure, size, settings, reason in (
        ("one_dimensional", (1, 5), {}, "has no window of two axes"),
        ("separable", 3, {"strides": (1, 2)}, "has strides that depthwise convolutions cannot have"),
        ("bottleneck", 1, {}, "has a window of 1"),
        ("grouped", 3, {}, "has 6 input channels, which 4 groups do not divide"),
        ("stacked", 3, {}, "has a window of 3×3, not of 5×5"),
        ("stacked", 5, {"groups": 2}, "is a grouped convolution"),
        ("stacked", 5, {"strides": 2, "padding": "same"}, "has strides and padding 'same' on an input of open size"),
    ):
        layer = layers.Conv2D(8, size, **settings)
        layer(keras.Input((None, None, 6)))
        assert reason in STRUCTURES[structure].why_not(layer, 4, (None, None, None, 6))


def test_dense_kernels_hold_zeros_where_channels_do_not_meet():
    grouped = composed([Piece("a", "conv", (1, 1), 4, groups=2)], [np.ones((1, 1, 3, 4))])
    assert np.array_equal(grouped[0, 0], np.kron(np.eye(2), np.ones((3, 2))))
    depthwise = composed([Piece("a", "depthwise", (1, 1), 2)], [np.ones((1, 1, 3, 2))])
    assert np.array_equal(depthwise[0, 0], np.kron(np.eye(3), np.ones((1, 2))))


# ---- whole networks


def _network():
    keras.utils.clear_session(free_memory=False)
    i = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(12, 5, padding="same", activation="relu", name="first")(i)
    x = layers.Conv2D(12, 5, strides=2, padding="same", use_bias=False, name="second")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return randomize(keras.Model(i, layers.Dense(3, name="scores")(x), name="little"))


@pytest.fixture(scope="module")
def model():
    return _network()


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(1)
    smooth = generator.normal(size=(96, 4, 4, 3)).repeat(2, 1).repeat(2, 2) @ generator.normal(size=(3, 4))
    return Data(calibration=(smooth + 0.1 * generator.normal(size=(96, 8, 8, 4))).astype("float32"))


#: One setting that suits both layers of the little network, per structure.
SETTINGS = {
    "one_dimensional": {"layer_macs": 0.3},
    "separable": {},
    "bottleneck": {"width": 4},
    "grouped": {"groups": 4, "width": 8},
    "stacked": {"width": 3},
}


QUICK = {"epochs": 8, "batch_size": 16, "learning_rate": 0.01}


def _substitute(structure: str, **settings) -> SubstituteConv:
    return SubstituteConv(structure, **{**QUICK, **SETTINGS[structure], **settings})


def test_every_structure_has_its_settings():
    assert SETTINGS.keys() == STRUCTURES.keys()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_training_brings_the_structure_nearer(model, data, structure, relu, tmp_path):
    before = [np.array(w) for w in model.get_weights()]
    transform = _substitute(structure, relu=relu)
    result = transform(model, data)
    assert {c.layer for c in result.changes} == {"first", "second"}
    assert not result.skips
    losses = result.log["losses"].values()
    assert all(0 < each["after"] <= each["before"] < 1.2 for each in losses)
    # Tucker's factors are near the best already without a ReLU: then the start is what is kept.
    if relu or structure != "bottleneck":
        assert any(each["after"] < (0.97 if relu else 1) * each["before"] for each in losses)
    saved = sum(change.before - change.after for change in result.changes)
    assert profile(result.model).macs == profile(model).macs - saved
    assert all(check.passed for check in transform.prove(model, result, [data.calibration.x[:4]]))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    if relu == (structure == "stacked"):
        export = export_litert(result.model, tmp_path / "net.tflite", data=data)
        assert all(check.passed for check in export.checks)


def test_losses_are_those_of_the_outputs(model, data):
    result = _substitute("one_dimensional", layers="second")(model, data, seed=3)
    x, (_, held) = data.calibration.x[:], hold_out(Split(np.arange(96)), HELD_OUT, 3)
    wanted, given = (
        keras.Model(m.inputs, m.get_layer(name).output).predict(x, verbose=0)
        for m, name in ((model, "second"), (result.model, "second_horizontal"))
    )
    measured = np.square(wanted - given)[held.x[:]].sum(-1).mean() / wanted.var((0, 1, 2)).sum()
    assert result.log["losses"]["second"]["after"] == pytest.approx(measured, rel=1e-3)


def test_without_data_structures_start_from_the_kernels(model):
    transform = _substitute("stacked")
    result = transform(model)
    assert {skip.layer for skip in result.skips} == {"first", "second"}
    assert all("not trained: there are no data" in skip.reason for skip in result.skips)
    assert not result.model.get_layer("second_second").use_bias
    assert all(check.passed for check in transform.prove(model, result, examples(model)))
    with pytest.raises(DataError, match=r"relu=True needs data.*Received: none \(SubstituteConv\)"):
        _substitute("stacked", relu=True)(model)


def test_names_that_are_not_there_and_layers_that_stay(model, data):
    with pytest.raises(SettingError, match=r"layers must name layers .*Received: \['third'\] \(SubstituteConv\)"):
        _substitute("stacked", layers=("third",))(model, data)
    result = _substitute("stacked", layers=("first", "scores", "second"), exclude="second", epochs=0)(model, data)
    assert {s.layer: s.reason for s in result.skips} == {"scores": "it is no Conv2D", "second": "excluded"}
    names = [layer.name for layer in result.model.layers]
    assert names[1:4] == ["first_border", "first_first", "first_second"]
    losses = result.log["losses"]["first"]
    assert losses["before"] == losses["after"]


def test_prune_then_substitute_and_substitute_then_prune(model, data):
    prune, substitute = PruneChannels("l2_norm", sparsity=0.25), _substitute("grouped", groups=2, width=4, epochs=1)
    inputs = [data.calibration.x[:4]]
    for first, second in ((prune, substitute), (substitute, prune)):
        one = first(model, data)
        two = second(one.model, data)
        assert two.changes
        assert all(check.passed for check in first.prove(model, one, inputs))
        assert all(check.passed for check in second.prove(one.model, two, inputs))


@pytest.mark.parametrize(
    "name", ["residual", "nested_twice", "shared_layers", "composite", "open_size", "mixed_precision"]
)
def test_on_other_networks(name):
    network = randomize(NETWORKS[name]())
    inputs = examples(network, 8)
    transform = SubstituteConv("one_dimensional", layer_macs=0.8, epochs=1)
    result = transform(network, Data(calibration=Split(tuple(inputs) if len(inputs) > 1 else inputs[0])))
    assert all(check.passed for check in transform.prove(network, result, inputs))
    told = {c.layer for c in result.changes} | {s.layer for s in result.skips}
    assert {c.path for c in Network(network).all_calls() if type(c.operation) is layers.Conv2D} <= told
