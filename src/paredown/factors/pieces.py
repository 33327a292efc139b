"""The layers that take the place of one layer, called one after another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import layers

_PLAIN = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
_TRANSPOSED = {1: layers.Conv1DTranspose, 2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}
_DEPTHWISE = {1: layers.DepthwiseConv1D, 2: layers.DepthwiseConv2D}


@dataclass(frozen=True)
class Piece:
    """One layer of several.

    Args:
        suffix: What follows the name of the layer that is replaced.
        kind: "dense", "conv", "transposed", "depthwise", or "border": zeros put around an image.
        window: Kernel sizes, one per spatial axis; empty for "dense" and "border".
        width: Output channels; of "depthwise" the outputs per input channel.
        strides, dilation: One per spatial axis; 1 where left out.
        groups: Of "conv": groups of channels that do not meet.
        relu: Whether a bias and a ReLU follow.
        padding: As Keras names it; empty: that of the layer that is replaced.
        border: Of "border": zeros before and behind, one pair per spatial axis.
    """

    suffix: str
    kind: str
    window: tuple[int, ...]
    width: int
    strides: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    relu: bool = False
    padding: str = ""
    border: tuple[tuple[int, int], ...] = ()

    @property
    def has_kernel(self) -> bool:
        return self.kind != "border"

    def kernel_shape(self, inputs: int) -> tuple[int, ...]:
        """Of the kernel as Keras holds it, for so many input channels."""
        if not self.has_kernel:
            return (0,)
        last = (self.width, inputs) if self.kind == "transposed" else (inputs // self.groups, self.width)
        return (*self.window, *last)

    def outputs(self, inputs: int) -> int:
        """Output channels, for so many input channels."""
        return {"depthwise": inputs * self.width, "border": inputs}.get(self.kind, self.width)

    def layer(self, of: Any, last: bool, use_bias: bool, name: str = "") -> Any:
        """The layer, which is not built yet.

        Args:
            of: The layer that is replaced: names, data type, padding and, for the last piece, activation come from it.
            last: Whether this piece gives the outputs.
            use_bias: Whether the last piece has a bias.
            name: Its name; empty: that of the layer that is replaced, and the suffix.
        """
        config = {"name": name or f"{of.name}_{self.suffix}", "dtype": of.dtype_policy}
        if self.kind == "border":
            return layers.ZeroPadding2D(self.border, data_format=of.data_format, **config)
        config |= {"use_bias": self.relu or (last and use_bias), "activation": "relu" if self.relu else None}
        if last:
            config |= {"activation": _own(of.activation), "bias_regularizer": of.bias_regularizer}
            config |= {"activity_regularizer": of.activity_regularizer, "bias_constraint": of.bias_constraint}
        if self.kind == "dense":
            return layers.Dense(self.width, kernel_regularizer=of.kernel_regularizer, **config)
        ones = (1,) * len(self.window)
        config |= {"kernel_size": self.window, "data_format": of.data_format}
        config |= {"strides": self.strides or ones, "dilation_rate": self.dilation or ones}
        # A window of one needs no padding, and Keras knows no causal one but for Conv1D.
        config["padding"] = "valid" if set(self.window) == {1} else self.padding or of.padding
        rank = len(self.window)
        if self.kind == "depthwise":
            config |= {"depthwise_regularizer": of.kernel_regularizer, "depth_multiplier": self.width}
            if rank == 1:
                # One size for all axes is what one-dimensional depthwise layers take.
                config |= {key: config[key][0] for key in ("kernel_size", "strides", "dilation_rate")}
            return _DEPTHWISE[rank](**config)
        config |= {"kernel_regularizer": of.kernel_regularizer, "filters": self.width}
        if self.groups > 1:
            config["groups"] = self.groups
        return (_TRANSPOSED if self.kind == "transposed" else _PLAIN)[rank](**config)

    def kept_kernel(self, kernel: np.ndarray) -> np.ndarray:
        """A kernel (*window, inputs, width) in the order in which Keras holds it (`patches`)."""
        if self.kind != "transposed":
            return kernel
        return np.flip(np.swapaxes(kernel, -1, -2), tuple(range(len(self.window))))


@dataclass(eq=False)
class Chain:
    """Layers called one after another, in the place of one.

    Args:
        of: The layer that is replaced.
        pieces: What takes its place.
        use_bias: Whether the last of them has a bias.
        name: What their names begin with; empty: that of the layer.
        last_name: The whole name of the last, where that must not change.
    """

    of: Any
    pieces: Sequence[Piece]
    use_bias: bool
    name: str = ""
    last_name: str = ""
    layers: list[Any] = field(init=False)

    def __post_init__(self):
        name = self.name or self.of.name
        names = [f"{name}_{piece.suffix}" for piece in self.pieces]
        names[-1] = self.last_name or names[-1]
        self.layers = [
            piece.layer(self.of, piece is self.pieces[-1], self.use_bias, own)
            for piece, own in zip(self.pieces, names, strict=True)
        ]

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs

    @property
    def trainable(self) -> bool:
        return self.of.trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    def assign(self, kernels: Sequence[np.ndarray], bias: np.ndarray | None) -> None:
        """Gives the built layers their weights: kernels (*window, inputs, width), and the last one's bias."""
        pairs = [(layer, piece) for layer, piece in zip(self.layers, self.pieces, strict=True) if piece.has_kernel]
        for (layer, piece), kernel in zip(pairs, kernels, strict=True):
            layer.kernel.assign(piece.kept_kernel(kernel).reshape(layer.kernel.shape))
            layer.trainable = self.of.trainable
        if bias is not None:
            self.layers[-1].bias.assign(bias)

    def take(self, other: "Chain") -> None:
        """Gives the built layers the weights of those of another chain of the same pieces."""
        for layer, given in zip(self.layers, other.layers, strict=True):
            layer.set_weights(given.get_weights())
            layer.trainable = self.of.trainable


def _own(activation: Any) -> Any:
    """The activation, a layer made anew: two networks must not share one."""
    return type(activation).from_config(activation.get_config()) if isinstance(activation, layers.Layer) else activation


def piece_positions(pieces: Sequence[Piece], of: Any, shape: tuple[int, ...]) -> list[int]:
    """At how many positions of one example each piece multiplies, whatever its width.

    Args:
        of: The layer that is replaced.
        shape: Of its input, (1, …).
    """
    first, counts = getattr(of, "data_format", None) == "channels_first", []
    for piece in pieces:
        after = tuple(piece.layer(of, piece is pieces[-1], False).compute_output_shape(shape))
        at = shape if piece.kind == "transposed" else after
        counts.append(math.prod(at[2:] if first else at[1:-1]))
        shape = after
    return counts


def piece_costs(
    pieces: Sequence[Piece], positions: Sequence[int], inputs: int, use_bias: bool
) -> list[tuple[int, int]]:
    """(MACs, parameters) of each piece.

    Args:
        positions: As `piece_positions` gives them.
        inputs: Input channels of the first.
        use_bias: Whether the last has a bias.
    """
    costs = []
    for piece, count in zip(pieces, positions, strict=True):
        size = math.prod(piece.kernel_shape(inputs))
        inputs = piece.outputs(inputs)
        has_bias = piece.relu or (use_bias and piece is pieces[-1])
        costs.append((count * size, size + (inputs if has_bias else 0)))
    return costs


def piece_of(layer: Any) -> Piece:
    """The layer as the one piece that it is."""
    if isinstance(layer, layers.Dense):
        return Piece("", "dense", (), layer.units)
    kind = "transposed" if type(layer) in _TRANSPOSED.values() else "conv"
    return Piece("", kind, layer.kernel_size, layer.filters, layer.strides, layer.dilation_rate)


def window_of(layer: Any) -> tuple[int, ...]:
    """Kernel sizes; empty for Dense."""
    return tuple(getattr(layer, "kernel_size", ()))


def is_transposed(layer: Any) -> bool:
    return type(layer) in _TRANSPOSED.values()
