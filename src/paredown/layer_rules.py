"""THE table of layers: for each layer class and keras.ops operation, how channels flow through it, which axis of
which weight carries input and output channels, which config field holds the width, and its MACs.

A row's `weights` are their shapes, spelt out: `"kernel": "h w i o"`. Axis `i` carries the input channels, `o` the
output channels, `4o` four blocks of them (a recurrent layer's gates), `r` output channels that the layer itself reads
(the recurrence), `im` the input channels times a depth multiplier; other letters carry no channel. Coupling, slicing,
rebuilding and costing all read this. What has no row is pinned and reported, never guessed.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from keras import layers
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from paredown import flows as f
from paredown import flows_attention as a
from paredown import flows_recurrent as r
from paredown import moves
from paredown.blocks.additive import AdditiveConv2D, AdditiveDense
from paredown.composites import WHOLE
from paredown.errors import SettingError
from paredown.flows_distributed import distributed, refit_inner, resize_inner
from paredown.labels import Flow, Trace
from paredown.network import Call
from paredown.parts import Part

FlowRule = Callable[[Call, list[Flow], Trace], list[Flow]]


@dataclass(frozen=True)
class Rule:
    """One row.

    Args:
        flow: `flow(call, flows, trace)` gives the output flows and writes down what the layer reads and makes.
        weights: Weight name -> its axes.
        width: The config field that holds the number of output channels.
        groups: The config field that holds the number of groups, where an input axis may hold the channels of one.
        macs_at: At which positions every `kernel` weight multiplies: those of the output or of the input.
            None: the layer has no multiply-adds that stay at inference, or they count as none (BatchNormalization
            folds into its neighbour; pooling and element-wise work are not MACs).
        refit_config: Mends config fields that name sizes, once channels went.
        refit_arguments: The same for arguments of the call.
        parts: `parts(layer)` gives the layer's weights where they are those of inner layers, instead of `weights`.
        resize: `resize(config, left)` mends the config where one `width` does not do; `left(name)` is the number of
            channels that are left under that name (see `parts`), None where there are none.
        states: Name of the channels that all outputs but the first carry; None where those carry none.
        products: `products(call, shape_of)` gives multiply-adds without a weight: pairs of a factor and the keys of
            `Channels` ("reads" or "outputs", path) whose channels it counts, and how many there are of them in full.
        derive: `derive(layer)` gives the row that holds for this very layer, None where there is none.
        sums: `sums(call, shape_of)` gives what is done in the place of MACs: additions, sign changes.
    """

    flow: FlowRule
    weights: Mapping[str, str] = field(default_factory=dict)
    width: str | None = None
    macs_at: Literal["output", "input"] | None = None
    refit_config: Callable[[Call, dict, list[tuple]], dict] | None = None
    refit_arguments: Callable[[Call, tuple, dict, list], tuple[tuple, dict]] | None = None
    parts: Callable[[Any], tuple[Part, ...]] | None = None
    resize: Callable[[dict, Callable[[str], int | None]], dict] | None = None
    states: str | None = None
    products: Callable[[Call, Callable], list[tuple[int, tuple, int]]] | None = None
    derive: "Callable[[Any], Rule | None] | None" = None
    groups: str | None = None
    sums: Callable[[Call, Callable], tuple[int, int]] | None = None


def _conv(spatial: str) -> Rule:
    return Rule(f.convolve, {"kernel": f"{spatial} i o", "bias": "o"}, "filters", "output", groups="groups")


def _conv_transpose(spatial: str) -> Rule:
    return Rule(f.make, {"kernel": f"{spatial} o i", "bias": "o"}, "filters", "input")


def _depthwise(spatial: str) -> Rule:
    return Rule(f.depthwise, {"kernel": f"{spatial} i m", "bias": "im"}, None, "output")


def _separable(spatial: str) -> Rule:
    pointwise = " ".join("1" for _ in spatial.split())
    weights = {"depthwise_kernel": f"{spatial} i m", "pointwise_kernel": f"{pointwise} im o", "bias": "o"}
    return Rule(f.make, weights, "filters", "output")


def _recurrent(layer: type) -> Rule:
    return Rule(r.recurrent, r.cell_weights(layer), "units", "input", states="")


def _conv_recurrent(spatial: str) -> Rule:
    rule = Rule(r.recurrent, r.convolved_cell_weights(spatial), "filters", states="", products=r.convolved_products)
    # With channels first time stands before them, which no other layer has.
    return replace(rule, derive=lambda layer: rule if layer.data_format == "channels_last" else None)


def _bidirectional(layer: Any) -> Rule | None:
    """The row of a Bidirectional layer whose halves have rows."""
    known = r.is_followed(layer) and all(map(rule_for, (layer.forward_layer, layer.backward_layer)))
    return LAYERS[layers.Bidirectional] if known else None


def _distributed(layer: Any) -> Rule | None:
    """The row of the layer inside TimeDistributed, with the axis of time in front."""
    inner = rule_for(layer.layer)
    if inner is None or groups_of(inner, layer.layer) > 1:
        return None
    if inner.parts or inner.resize or inner.derive or inner.states is not None:
        return None
    moved = inner.flow in (moves.move, moves.transpose)
    return replace(
        inner,
        flow=inner.flow if moved else distributed(inner.flow),
        width=None,
        groups=None,
        resize=resize_inner(inner.width) if inner.width else None,
        refit_config=refit_inner(inner.refit_config) if inner.refit_config else None,
        parts=lambda wrapper: (Part(wrapper.layer, inner.weights, at=inner.macs_at),),
    )


def _scalings(call: Call, shape_of: Callable) -> list[tuple[int, tuple, int]]:
    """What an additive layer multiplies: each output by the scale of its channel."""
    channels = call.operation.kernel.shape[-1]
    positions = math.prod(shape_of(call.outputs[0])[1:]) // channels
    return [(positions, (("outputs", call.path),), channels)] if call.operation.use_scale else []


def _sums(call: Call, shape_of: Callable) -> tuple[int, int]:
    """Each pair x ⊙ w: |x| + |w| under the sign of the product, and that added to the sum (the first to the bias)."""
    pairs = math.prod(shape_of(call.outputs[0])[1:]) * math.prod(call.operation.kernel.shape[:-1])
    return 2 * pairs, pairs


def _additive(kernel: str, width: str) -> Rule:
    return Rule(f.make, {"kernel": kernel, "scale": "o", "bias": "o"}, width, products=_scalings, sums=_sums)


_BATCH_NORM = {"gamma": "i", "beta": "i", "moving_mean": "i", "moving_variance": "i"}
TOGETHER = "its channels are normalized together, so that none can go without changing the others"
INPUT_STATISTICS = "its statistics belong to the network's inputs"

LAYERS: dict[type, Rule] = {
    layers.Dense: Rule(f.make, {"kernel": "i o", "bias": "o"}, "units", "output"),
    layers.Conv1D: _conv("w"),
    layers.Conv2D: _conv("h w"),
    layers.Conv3D: _conv("d h w"),
    layers.Conv1DTranspose: _conv_transpose("w"),
    layers.Conv2DTranspose: _conv_transpose("h w"),
    layers.Conv3DTranspose: _conv_transpose("d h w"),
    layers.DepthwiseConv1D: _depthwise("w"),
    layers.DepthwiseConv2D: _depthwise("h w"),
    layers.SeparableConv1D: _separable("w"),
    layers.SeparableConv2D: _separable("h w"),
    AdditiveDense: _additive("i o", "units"),
    AdditiveConv2D: _additive("h w i o", "filters"),
    layers.Embedding: Rule(f.embed, {"embeddings": "v o"}, "output_dim"),
    **{layer: _recurrent(layer) for layer in (layers.LSTM, layers.GRU, layers.SimpleRNN)},
    layers.ConvLSTM1D: _conv_recurrent("w"),
    layers.ConvLSTM2D: _conv_recurrent("h w"),
    layers.ConvLSTM3D: _conv_recurrent("d h w"),
    layers.Bidirectional: Rule(
        r.bidirectional, parts=r.halves, resize=r.resize_bidirectional, states=r.UNITS, derive=_bidirectional
    ),
    layers.TimeDistributed: Rule(f.keep, derive=_distributed),
    layers.MultiHeadAttention: Rule(
        a.multi_head, parts=a.multi_head_parts, resize=a.resize_multi_head, products=a.head_products
    ),
    layers.GroupQueryAttention: Rule(
        a.grouped_query, parts=a.grouped_query_parts, resize=a.resize_grouped_query, products=a.head_products
    ),
    layers.Attention: Rule(a.dot_product, {"scale": "...", "concat_score_weight": "..."}, products=a.channel_products),
    layers.AdditiveAttention: Rule(a.dot_product, parts=a.additive_parts, products=a.channel_products),
    layers.BatchNormalization: Rule(f.scale, _BATCH_NORM),
    layers.PReLU: Rule(f.scale, {"alpha": "... i"}),
    **{
        layer: Rule(f.pins(TOGETHER))
        for layer in (
            layers.LayerNormalization,
            layers.RMSNormalization,
            layers.GroupNormalization,
            layers.UnitNormalization,
            layers.Softmax,
        )
    },
    layers.Masking: Rule(f.pins("it looks at all channels together to tell which steps count")),
    layers.Normalization: Rule(f.pins(INPUT_STATISTICS)),
    **{
        layer: Rule(f.elementwise)
        for layer in (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Rescaling)
    },
    **{
        layer: Rule(f.keep)
        for layer in (
            layers.Dropout,
            layers.SpatialDropout1D,
            layers.SpatialDropout2D,
            layers.SpatialDropout3D,
            layers.AlphaDropout,
            layers.GaussianDropout,
            layers.GaussianNoise,
            layers.ActivityRegularization,
            layers.Identity,
            layers.RandomBrightness,
            layers.RandomContrast,
            layers.RandomFlip,
            layers.RandomRotation,
            layers.RandomTranslation,
            layers.RandomZoom,
        )
    },
    **{
        layer: Rule(f.spatial)
        for layer in (
            layers.MaxPooling1D,
            layers.MaxPooling2D,
            layers.MaxPooling3D,
            layers.AveragePooling1D,
            layers.AveragePooling2D,
            layers.AveragePooling3D,
            layers.UpSampling1D,
            layers.UpSampling2D,
            layers.UpSampling3D,
            layers.Cropping1D,
            layers.Cropping2D,
            layers.Cropping3D,
            layers.GlobalAveragePooling1D,
            layers.GlobalAveragePooling2D,
            layers.GlobalAveragePooling3D,
            layers.GlobalMaxPooling1D,
            layers.GlobalMaxPooling2D,
            layers.GlobalMaxPooling3D,
        )
    },
    **{layer: Rule(f.zero_pad) for layer in (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)},
    layers.Add: Rule(f.combine(f.total)),
    layers.Subtract: Rule(f.combine(f.difference)),
    layers.Multiply: Rule(f.combine(f.product)),
    layers.Average: Rule(f.combine(f.average)),
    layers.Maximum: Rule(f.combine(f.largest)),
    layers.Minimum: Rule(f.combine(f.smallest)),
    layers.Concatenate: Rule(moves.concatenate),
    layers.Flatten: Rule(moves.move),
    layers.RepeatVector: Rule(moves.move),
    layers.Permute: Rule(moves.transpose),
    layers.Reshape: Rule(moves.move, refit_config=moves.refit_target_shape),
    LayerScale: Rule(f.scale, {"gamma": "i"}, "projection_dim"),
    StochasticDepth: Rule(f.keep),
    CustomScaleLayer: Rule(f.scaled_residual),
}

OPERATIONS: dict[str, Rule] = {
    **{
        name: Rule(f.elementwise)
        for name in (
            "Absolute Abs Negative Square Sqrt Exp Expm1 Log1p Sin Tanh Sign Round Floor Ceil Clip Cast Copy "
            "Relu Relu6 Sigmoid Softplus Softsign SoftShrink Silu LeakyRelu HardSigmoid HardSilu Elu Selu Gelu Celu "
            "TanhShrink HardTanh HardShrink StopGradient ZerosLike OnesLike"
        ).split()
    },
    "Add": Rule(f.combine(f.total)),
    "Subtract": Rule(f.combine(f.difference)),
    "Multiply": Rule(f.combine(f.product)),
    "Divide": Rule(f.combine(f.quotient)),
    "TrueDivide": Rule(f.combine(f.quotient)),
    "Maximum": Rule(f.combine(f.largest)),
    "Minimum": Rule(f.combine(f.smallest)),
    "Concatenate": Rule(moves.concatenate),
    "Stack": Rule(moves.move),
    "Reshape": Rule(moves.move, refit_config=moves.refit_newshape),
    "Split": Rule(moves.move, refit_config=moves.refit_split),
    "GetItem": Rule(moves.get_item, refit_arguments=moves.refit_get_item),
    "DepthToSpace": Rule(moves.blocks),
    "SpaceToDepth": Rule(moves.blocks),
    "Pad": Rule(f.pad),
    "Mean": Rule(f.reduce),
    "Max": Rule(f.reduce),
    "Amax": Rule(f.reduce),
    "Min": Rule(f.reduce),
    "Amin": Rule(f.reduce),
    "Sum": Rule(f.reduce_sum),
    **{
        name: Rule(f.pins("it decides by a comparison"))
        for name in (
            "Equal NotEqual Greater GreaterEqual Less LessEqual Any All LogicalAnd LogicalOr LogicalNot LogicalXor"
        ).split()
    },
    "Softmax": Rule(f.pins(TOGETHER)),
    "LogSoftmax": Rule(f.pins(TOGETHER)),
    **{name: Rule(moves.transpose) for name in ("Transpose", "Swapaxes", "Moveaxis", "ExpandDims", "Flip")},
    **{name: Rule(moves.move) for name in ("Squeeze", "Repeat", "Tile")},
}


_AXES = frozenset(("i", "o", "im", "..."))


def register_layer_rule(layer_class: type, rule: Rule) -> None:
    """Gives a custom layer a row in the table: coupling, slicing, rebuilding and costing.

    Args:
        layer_class: A subclass of `keras.layers.Layer`, not one of Keras's own; the row counts for this class, not
            for what is derived from it. A second row replaces the first.
        rule: The row.
    Raises:
        SettingError: If the class is no layer of the user's, or the row names what cannot be.
    """
    if not isinstance(layer_class, type) or not issubclass(layer_class, layers.Layer):
        raise SettingError(
            f"layer_class must be a subclass of keras.layers.Layer. Received: {layer_class!r} (register_layer_rule)."
        )
    if layer_class.__module__.startswith("keras."):
        raise SettingError(
            f"layer_class must be a class of your own. Received: {layer_class.__name__} of Keras "
            "(register_layer_rule). Derive a class from it, and register that."
        )
    if not isinstance(rule, Rule) or not callable(rule.flow):
        raise SettingError(
            f"rule must be a paredown.rules.Rule with a flow. Received: {rule!r} for {layer_class.__name__} "
            "(register_layer_rule). Use e.g. Rule(rules.elementwise)."
        )
    for name, axes in rule.weights.items():
        if not _AXES & set(axes.split()):
            raise SettingError(
                f"weights must say which axis carries channels: i, o, im or .... Received: {name}={axes!r} for "
                f"{layer_class.__name__} (register_layer_rule). Use e.g. {{'kernel': 'i o', 'bias': 'o'}}."
            )
    if rule.macs_at not in (None, "output", "input"):
        raise SettingError(
            f"macs_at must be 'output', 'input' or None. Received: macs_at={rule.macs_at!r} for "
            f"{layer_class.__name__} (register_layer_rule)."
        )
    LAYERS[layer_class] = rule
    WHOLE.add(layer_class)


def rule_for(operation: Any) -> Rule | None:
    """The row of a layer or keras.ops operation; None where there is none.

    Only the class itself counts: a subclass may compute anything. Neither does a row count for a layer that has
    weights which the row does not name (an added LoRA pair, say).
    """
    if not isinstance(operation, layers.Layer):
        of_keras = type(operation).__module__.startswith("keras.")
        return OPERATIONS.get(type(operation).__name__) if of_keras else None
    rule = LAYERS.get(type(operation))
    if rule and rule.derive:
        rule = rule.derive(operation)
    if rule is None:
        return None
    parts = rule.parts(operation) if rule.parts else (Part(operation, rule.weights),)
    rows = [part for part in parts if part.weights]
    named = all({weight_name(part.owner, w) for w in part.owner.weights} <= set(part.weights) for part in rows)
    return rule if named else None


def weight_name(layer: Any, weight: Any) -> str:
    """What a row calls a weight: the layer's attribute that holds it, where it was made without a name."""
    if re.fullmatch(r"variable(_\d+)?", weight.name):
        return next((name for name, value in vars(layer).items() if value is weight), weight.name)
    return weight.name


def groups_of(rule: Rule, layer: Any) -> int:
    """In how many groups the layer's channels are, that do not meet."""
    return getattr(layer, rule.groups) if rule.groups else 1
