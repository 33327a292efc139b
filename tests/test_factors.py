"""Every row of the table of factorizations, on every layer that it suits: exact at full rank, monotone, priced right,
and its predicted loss the measured one."""

import keras
import numpy as np
import pytest
from keras import layers

from paredown import profile
from paredown.errors import DataError, ModelError
from paredown.factors import (
    FACTORIZATIONS,
    Candidate,
    Chain,
    Problem,
    evbmf_rank,
    piece_costs,
    piece_of,
    piece_positions,
    possible_savings,
    sizes,
    tucker_ranks,
)
from paredown.moments import Sums
from paredown.patches import Lattice, LinearLayer

#: (layer, input shape): every kind × stride × padding × dilation × form of the kernel.
LAYERS = {
    "dense": (lambda: layers.Dense(7), (5,)),
    "wide dense": (lambda: layers.Dense(4, activation="relu"), (3, 9)),
    "same": (lambda: layers.Conv2D(8, 3, padding="same", activation="relu"), (6, 7, 4)),
    "valid": (lambda: layers.Conv2D(8, 3, use_bias=False), (6, 7, 4)),
    "strided": (lambda: layers.Conv2D(8, 3, strides=2, padding="same"), (7, 8, 4)),
    "strided valid": (lambda: layers.Conv2D(8, 3, strides=2), (7, 8, 4)),
    "unequal strides": (lambda: layers.Conv2D(6, 3, strides=(2, 1), padding="same"), (7, 8, 4)),
    "dilated": (lambda: layers.Conv2D(8, 3, dilation_rate=2, padding="same"), (9, 8, 4)),
    "dilated valid": (lambda: layers.Conv2D(8, 3, dilation_rate=(1, 2)), (9, 8, 4)),
    "not square": (lambda: layers.Conv2D(6, (3, 5), padding="same"), (6, 7, 4)),
    "flat": (lambda: layers.Conv2D(6, (1, 5)), (6, 7, 4)),
    "pointwise": (lambda: layers.Conv2D(6, 1, strides=2), (7, 8, 4)),
    "few outputs": (lambda: layers.Conv2D(2, 3, padding="same"), (6, 7, 4)),
    "transposed": (lambda: layers.Conv2DTranspose(8, (3, 4), strides=2, padding="same"), (4, 5, 3)),
    "transposed valid": (lambda: layers.Conv2DTranspose(6, 3, strides=(1, 2)), (4, 5, 3)),
    "one axis": (lambda: layers.Conv1D(6, 5, strides=2, padding="same"), (12, 4)),
    "causal": (lambda: layers.Conv1D(6, 3, padding="causal", dilation_rate=2), (12, 4)),
    "transposed, one axis": (lambda: layers.Conv1DTranspose(4, 3, strides=2), (7, 3)),
    "three axes": (lambda: layers.Conv3D(4, 3, padding="same"), (4, 5, 4, 3)),
}
#: Kernels without some or all of their weights, as pruning leaves them.
EMPTY = {
    "zero kernel": lambda kernel: 0 * kernel,
    "zero output": lambda kernel: kernel * (np.arange(kernel.shape[-1]) > 0),
    "zero input": lambda kernel: kernel * (np.arange(kernel.shape[-2]) > 0)[:, None],
}
CASES = [
    (name, kind)
    for name, (make, _) in LAYERS.items()
    for kind, row in FACTORIZATIONS.items()
    if not row.why_not(make())
]


def _layer(name: str):
    """The layer with random weights, and inputs with correlated channels."""
    make, shape = LAYERS[name]
    generator = np.random.default_rng(3)
    layer = make()
    layer(keras.Input(shape))
    for variable in layer.weights:
        variable.assign(generator.normal(size=variable.shape))
    x = generator.normal(size=(24, *shape)) @ generator.normal(size=(shape[-1], shape[-1])) + 0.5
    return layer, x.astype("float32")


def _chain(layer, kind: str, rank, kernels, bias):
    chain = Chain(layer, FACTORIZATIONS[kind].pieces(layer, rank), layer.use_bias)
    chain(keras.Input(layer.input.shape[1:]))
    chain.assign(kernels, bias)
    return chain


def _numpy(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def _pre_activation(layer, x: np.ndarray) -> np.ndarray:
    activation, layer.activation = layer.activation, keras.activations.linear
    y = _numpy(layer(x)).astype("float64")
    layer.activation = activation
    return y


def _everywhere(layer, x: np.ndarray) -> tuple[LinearLayer, Sums]:
    """The sums over all rows."""
    linear = LinearLayer(layer)
    axes = len(layer(x[:1]).shape) - 2
    sums = Sums(*linear.matrix.shape)
    sums.add(linear.rows(keras.ops.convert_to_tensor(x), Lattice((0,) * axes, (1,) * axes)))
    return linear, sums


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_full_rank_reproduces_the_layer(name, kind):
    layer, x = _layer(name)
    for problem in (Problem.plain(LinearLayer(layer)), Problem.unchanged(*_everywhere(layer, x), True)):
        rank = FACTORIZATIONS[kind].most(*sizes(problem))
        kernels, product = FACTORIZATIONS[kind].solver(problem, rank).factors(rank)
        assert problem.error(product) < 1e-8
        bias = _numpy(layer.bias) if layer.use_bias else None
        wanted, given = _numpy(layer(x)), _numpy(_chain(layer, kind, rank, kernels, bias)(x))
        assert np.abs(given - wanted).max() < 1e-4 * np.ptp(wanted)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_predicted_loss_is_the_measured_one(name, kind):
    layer, x = _layer(name)
    problem = Problem.unchanged(*_everywhere(layer, x), layer.use_bias)
    rank = max(1, FACTORIZATIONS[kind].most(*sizes(problem)) // 3)
    kernels, product = FACTORIZATIONS[kind].solver(problem, rank).factors(rank)
    bias = _numpy(layer.bias) + problem.shift(product) if layer.use_bias else None
    chain = _chain(layer, kind, rank, kernels, bias)
    chain.layers[-1].activation = keras.activations.linear
    wanted, given = _pre_activation(layer, x), _numpy(chain(x)).astype("float64")
    measured = np.square(given - wanted).sum(-1).mean()
    centre = wanted.reshape(-1, wanted.shape[-1]).mean(0) if layer.use_bias else 0.0
    spread = np.square(wanted - centre).sum(-1).mean()
    assert problem.error(product) == pytest.approx(measured / spread, rel=1e-3)
    if layer.use_bias:
        error = (given - wanted).reshape(-1, wanted.shape[-1]).mean(0)
        assert np.abs(error).max() < 1e-4 * np.ptp(wanted), "the mean error is the bias's"


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_losses_never_rise_with_the_rank_and_are_those_of_the_factors(name, kind):
    layer, x = _layer(name)
    for problem in (Problem.plain(LinearLayer(layer)), Problem.unchanged(*_everywhere(layer, x), True)):
        most = FACTORIZATIONS[kind].most(*sizes(problem))
        solver = FACTORIZATIONS[kind].solver(problem, most)
        ranks = np.unique(np.linspace(1, most, 6).astype(int))
        losses = solver.losses(ranks)
        assert (np.diff(losses) <= 1e-9 * problem.total).all(), losses
        for rank, loss in zip(ranks, losses, strict=True):
            _, product = solver.factors(int(rank))
            lost = ((product - problem.wanted) * problem.times(product - problem.wanted)).sum()
            assert lost == pytest.approx(loss, rel=1e-4, abs=1e-7 * problem.total)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_data_lower_the_loss_on_them(name, kind):
    layer, x = _layer(name)
    aware = Problem.unchanged(*_everywhere(layer, x), True)
    rank = max(1, FACTORIZATIONS[kind].most(*sizes(aware)) // 3)
    plain = Problem.plain(LinearLayer(layer))
    losses = [aware.error(FACTORIZATIONS[kind].solver(problem, rank).factors(rank)[1]) for problem in (aware, plain)]
    assert losses[0] <= losses[1] * (1 + 1e-6)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_costs_are_those_of_the_layers_that_come(name, kind):
    layer, x = _layer(name)
    shape = (1, *x.shape[1:])
    problem = Problem.plain(LinearLayer(layer))
    rank = max(1, FACTORIZATIONS[kind].most(*sizes(problem)) // 2)
    chain = Chain(layer, FACTORIZATIONS[kind].pieces(layer, rank), layer.use_bias)
    inputs = keras.Input(x.shape[1:])
    counted = profile(keras.Model(inputs, chain(inputs)))
    _, channels, _ = sizes(problem)
    costs = piece_costs(chain.pieces, piece_positions(chain.pieces, layer, shape), channels, layer.use_bias)
    assert sum(macs for macs, _ in costs) == counted.macs
    assert sum(params for _, params in costs) == counted.params
    plain = profile(keras.Model(inputs, layer(inputs)))
    alone = [piece_of(layer)]
    costs = piece_costs(alone, piece_positions(alone, layer, shape), channels, layer.use_bias)
    assert costs == [(plain.macs, plain.params)]


def test_a_bound_is_where_saving_ends():
    # Dense N → M: a rank below NM/(N + M) saves. k×1, 1×k: P < NKL/(rK + L), here with r = 2 (stride 2, "same").
    for layer, shape, kind, bound in (
        (layers.Dense(30), (20,), "svd", 20 * 30 / 50),
        (layers.Conv2D(24, 3, padding="same"), (8, 8, 12), "spatial", 3 * 12 * 24 / 36),
        (layers.Conv2D(24, 3, strides=2, padding="same"), (8, 8, 12), "spatial", 3 * 12 * 24 / (2 * 12 + 24)),
    ):
        layer(keras.Input(shape))
        problem = Problem.plain(LinearLayer(layer))
        price = lambda piece: piece.macs  # noqa: E731
        candidate = Candidate("layer", problem, [(1, *shape)], True, price, (kind,))
        assert candidate.bound(kind) == int(np.ceil(bound)) - 1
        assert candidate.cost(kind, candidate.bound(kind)) < candidate.own_cost


def test_every_kind_suits_some_layers_and_says_why_not_others():
    assert {kind for _, kind in CASES} == set(FACTORIZATIONS)
    assert ("strided", "depthwise") in CASES
    reasons = {
        ("causal", "cp"): "causally",
        ("transposed", "depthwise"): "no depthwise",
        ("unequal strides", "depthwise"): "strides",
        ("three axes", "depthwise"): "three spatial axes",
        ("flat", "spatial"): "two axes",
        ("dense", "tucker"): "window of 1",
    }
    for (name, kind), reason in reasons.items():
        assert reason in FACTORIZATIONS[kind].why_not(LAYERS[name][0]())


def test_a_pair_of_ranks_is_taken_as_it_is():
    assert tucker_ranks((3, 5), 8, 16) == (3, 5)
    assert tucker_ranks(8, 8, 16) == (4, 8)


def test_evbmf_finds_the_rank_below_noise():
    generator = np.random.default_rng(0)
    for rank in (1, 4, 12):
        signal = generator.normal(size=(60, rank)) @ generator.normal(size=(rank, 100))
        assert evbmf_rank(signal + 0.3 * generator.normal(size=signal.shape)) == rank


def test_large_matrices_are_projected():
    generator = np.random.default_rng(0)
    from paredown.factors.bases import left_singular

    matrix = generator.normal(size=(1200, 20)) @ generator.normal(size=(20, 1100)) / 20
    matrix += 1e-3 * generator.normal(size=matrix.shape)
    found = left_singular(matrix, 20)
    assert np.linalg.norm(matrix - found @ (found.T @ matrix)) < 1.05 * np.linalg.norm(matrix) * 1e-2


def test_savings_are_of_the_kernels_and_the_rest_says_why():
    i = keras.Input((8, 8, 3))
    low, full = layers.Conv2D(16, 3, padding="same", name="low"), layers.Conv2D(16, 3, padding="same", name="full")
    x = layers.Conv2D(4, 3, groups=2, name="grouped")(full(low(i)))
    model = keras.Model(i, layers.Dense(4, name="last")(layers.GlobalAveragePooling2D()(x)))
    generator = np.random.default_rng(0)
    low.kernel.assign((generator.normal(size=(27, 2)) @ generator.normal(size=(2, 16))).reshape(3, 3, 3, 16))
    full.kernel.assign(np.linalg.qr(generator.normal(size=(144, 16)))[0].reshape(3, 3, 16, 16))
    found = {saving.layer: saving for saving in possible_savings(model, 0.99)}
    assert (found["low"].kind, found["low"].rank) == ("svd", 2)
    assert found["low"].saved == 64 * (27 * 16 - 2 * (27 + 16))
    assert found["low"].macs == profile(model).layers[0].macs
    assert found["full"].saved == 0
    assert found["full"].why == "no cheaper rank keeps 99% of the kernel"
    assert "grouped" in found["grouped"].why
    assert found["last"].bound == 1


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("kind", FACTORIZATIONS)
def test_kernels_of_zeros_are_factorized_like_others(kind, empty):
    layer, x = _layer("dense" if kind == "svd" else "same")
    layer.kernel.assign(EMPTY[empty](_numpy(layer.kernel)))
    for problem in (Problem.plain(LinearLayer(layer)), Problem.unchanged(*_everywhere(layer, x), True)):
        for rank in (1, FACTORIZATIONS[kind].most(*sizes(problem))):
            solver = FACTORIZATIONS[kind].solver(problem, rank)
            assert np.isfinite(solver.losses([rank])).all()
            kernels, product = solver.factors(rank)
            assert all(np.isfinite(kernel).all() for kernel in kernels)
        assert np.abs(product - problem.wanted).max() < 1e-5


def test_what_is_not_finite_is_named():
    layer, x = _layer("dense")
    x[0, 0] = np.nan
    with pytest.raises(DataError, match=rf"Received: NaN or infinity at {layer.name} \(Factorize\)"):
        Problem.unchanged(*_everywhere(layer, x), True)
    layer.kernel.assign(np.full(layer.kernel.shape, np.inf))
    with pytest.raises(ModelError, match=rf"Received: NaN or infinity in that of {layer.name} \(Factorize\)"):
        Problem.plain(LinearLayer(layer))


def test_layers_whose_parts_factors_would_not_keep_are_left_alone():
    constrained = layers.Dense(8, kernel_constraint="non_neg")
    assert "constraint" in FACTORIZATIONS["svd"].why_not(constrained)
    learned = layers.Dense(8, activation=layers.PReLU())
    learned(keras.Input((8,)))
    assert "activation with weights" in FACTORIZATIONS["svd"].why_not(learned)
    leaky = layers.Dense(8, activation=layers.LeakyReLU(0.3))
    leaky(keras.Input((8,)))
    chain = Chain(leaky, FACTORIZATIONS["svd"].pieces(leaky, 2), True)
    assert chain.layers[-1].activation is not leaky.activation
    assert chain.layers[-1].activation.negative_slope == pytest.approx(0.3)
