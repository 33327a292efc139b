"""Layers of the ef-operator: a product replaced by a sum under the product's sign.

    x ⊙ w = sign(x·w)·(|x| + |w|) = sign(w)·x + sign(x)·w
    y = f(a · Σ x ⊙ w + b) = f(a · (X·sign(W) + sign(X)·W) + b)

sign(0) is 0, so that what is zero (a padded border, a removed channel, a weight of zero) adds nothing. `a` is one
trainable factor per output, the only multiplication that is left: 1 per output for n products.

sign is flat, so that training takes the slope of tanh in its place: 1 - tanh², for x and for w. At inference (and in an
exported file) there is no tanh.

Source:
    Afrasiyabi et al. 2017, arXiv:1702.02676, sections 2 and 3.
"""

import math
from typing import Any

import keras
from keras import activations, initializers, ops, regularizers
from keras.src.ops.operation_utils import compute_conv_output_shape

from paredown.blocks.arguments import one_of, pair, whole

_PACKAGE = "paredown"


def sign(x: Any, training: bool | None = None) -> Any:
    """-1, 0 or 1, exactly; in training with the slope of tanh."""
    if not training:
        return ops.sign(x)
    soft = ops.tanh(x)
    return ops.sign(x) + (soft - ops.stop_gradient(soft))  # adds 0, and the slope


class Additive(keras.layers.Layer):
    """What both layers share: weights, scale, bias, activation.

    Args:
        outputs: Number of output channels.
        activation: Behind scale and bias; None: none.
        use_bias: Whether `b` is there.
        use_scale: Whether `a` is there; without it not a single multiplication is left.
        kernel_initializer: Of W.
        bias_initializer: Of b.
        scale_initializer: Of a; None: 1 / sqrt(inputs of one output), with which inputs of variance 1 give about that.
        kernel_regularizer: Of W.
    """

    def __init__(
        self,
        outputs: int,
        activation: Any = None,
        use_bias: bool = True,
        use_scale: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        scale_initializer: Any = None,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._outputs = outputs
        self.activation = activations.get(activation)
        self.use_bias, self.use_scale = use_bias, use_scale
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.scale_initializer = initializers.get(scale_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)

    def _add_weights(self, kernel_shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=kernel_shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        self.scale = self.bias = None
        if self.use_scale:
            first = self.scale_initializer or initializers.Constant(1 / math.sqrt(math.prod(kernel_shape[:-1])))
            self.scale = self.add_weight(name="scale", shape=(self._outputs,), initializer=first)
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self._outputs,), initializer=self.bias_initializer)

    def multiply(self, x: Any, kernel: Any) -> Any:
        """The ordinary layer of this kernel, without bias and activation."""
        raise NotImplementedError(f"{type(self).__name__} defines no multiply()")

    def halves(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        """X·sign(W) and sign(X)·W, whose sum the operator gives."""
        kernel = ops.convert_to_tensor(self.kernel)
        return self.multiply(x, sign(kernel, training)), self.multiply(sign(x, training), kernel)

    def linear(self, x: Any, training: bool | None = None) -> Any:
        """a · (X·sign(W) + sign(X)·W) + b."""
        y = ops.add(*self.halves(x, training))
        if self.scale is not None:
            y = ops.multiply(y, self._along_channels(self.scale, y))
        return y if self.bias is None else ops.add(y, self._along_channels(self.bias, y))

    def call(self, x: Any, training: bool | None = None) -> Any:
        return self.activation(self.linear(x, training))

    def _along_channels(self, values: Any, y: Any) -> Any:
        first = getattr(self, "data_format", None) == "channels_first"
        return ops.reshape(values, (1, -1, *[1] * (len(y.shape) - 2))) if first else values

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "use_scale": self.use_scale,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "scale_initializer": initializers.serialize(self.scale_initializer) if self.scale_initializer else None,
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer) if self.kernel_regularizer else None,
        }


@keras.saving.register_keras_serializable(_PACKAGE)
class AdditiveDense(Additive):
    """A dense layer of the ef-operator.

    Args:
        units: Number of outputs.
        **kwargs: See `Additive`.
    Source:
        Afrasiyabi et al. 2017, arXiv:1702.02676, section 2.
    """

    def __init__(self, units: int, activation: Any = None, **kwargs: Any):
        super().__init__(whole("units", units, type(self).__name__), activation, **kwargs)
        self.units = units
        self.supports_masking = True  # As that of Dense: each position is by itself.

    def build(self, input_shape: tuple) -> None:
        self._add_weights((input_shape[-1], self.units))

    def multiply(self, x: Any, kernel: Any) -> Any:
        return ops.matmul(x, kernel)  # [..., m] = [..., n] @ [n, m]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(_PACKAGE)
class AdditiveConv2D(Additive):
    """A convolution of the ef-operator, over height and width.

    Args:
        filters: Number of output channels.
        kernel_size, strides, dilation_rate: For both axes, or (height, width).
        padding: "valid" or "same"; what is padded adds nothing.
        data_format: "channels_last" or "channels_first"; None: Keras's setting.
        **kwargs: See `Additive`.
    Source:
        Afrasiyabi et al. 2017, arXiv:1702.02676, section 2.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, int] = 1,
        activation: Any = None,
        **kwargs: Any,
    ):
        block = type(self).__name__
        super().__init__(whole("filters", filters, block), activation, **kwargs)
        self.filters = filters
        self.kernel_size = pair("kernel_size", kernel_size, block)
        self.strides = pair("strides", strides, block)
        self.dilation_rate = pair("dilation_rate", dilation_rate, block)
        self.padding = one_of("padding", padding, ("valid", "same"), block)
        data_format = keras.config.image_data_format() if data_format is None else data_format
        self.data_format = one_of("data_format", data_format, ("channels_last", "channels_first"), block)

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[1 if self.data_format == "channels_first" else -1]
        self._add_weights((*self.kernel_size, channels, self.filters))

    def multiply(self, x: Any, kernel: Any) -> Any:
        return ops.conv(x, kernel, self.strides, self.padding, self.data_format, self.dilation_rate)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return compute_conv_output_shape(
            input_shape,
            self.filters,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )

    def get_config(self) -> dict[str, Any]:
        names = ("filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
