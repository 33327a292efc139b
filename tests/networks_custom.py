"""Small networks with custom layers: made of other layers, with a row of their own, and such as are not followed."""

import keras
from keras import layers, ops

from network_parts import conv, head, image, network
from paredown import register_layer_rule, rules
from paredown.blocks import AdditiveConv2D, AdditiveDense


@keras.saving.register_keras_serializable("paredown_tests")
class Block(layers.Layer):
    """A residual block, whose class could not be told another width of its input."""

    def __init__(self, wide, filters=8, **kwargs):
        super().__init__(**kwargs)
        self.wide, self.filters = wide, filters
        self.first = layers.Conv2D(wide, 1, name="first")
        self.norm = layers.BatchNormalization(name="norm")
        self.drop = layers.Dropout(0.2, name="drop")
        self.last = layers.Conv2D(filters, 3, padding="same", name="last")

    def build(self, shape):
        self.first.build(shape)
        self.norm.build((*shape[:-1], self.wide))
        self.last.build((*shape[:-1], self.wide))

    def call(self, x, training=None):
        y = ops.relu(self.norm(self.first(x), training=training))
        return x + self.last(self.drop(y, training=training))

    def get_config(self):
        return {**super().get_config(), "wide": self.wide, "filters": self.filters}


@keras.saving.register_keras_serializable("paredown_tests")
class Stage(layers.Layer):
    """Custom layers in a custom layer; two tensors in, two out."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [Block(5, name="a"), Block(6, name="b")]

    def build(self, left_shape, right_shape):
        for block in self.blocks:
            block.build(left_shape)

    def call(self, left, right):
        left = self.blocks[0](left)
        right = self.blocks[1](ops.reshape(right, (-1, 8, 8, 8)))
        return {"left": left * ops.sigmoid(right), "right": right}


@keras.saving.register_keras_serializable("paredown_tests")
class Swish(layers.Layer):
    def call(self, x):
        return x * ops.sigmoid(x)


@keras.saving.register_keras_serializable("paredown_tests")
class Gained(layers.Layer):
    """With a row: a convolution of window one, and a gain that has no name."""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def build(self, shape):
        self.kernel = self.add_weight(shape=(self.size, shape[-1]), name="kernel")
        self.gain = self.add_weight(shape=(self.size,))

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.kernel)) * self.gain

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("paredown_tests")
class Doubled(layers.Layer):
    """With a row, without weights."""

    def call(self, x):
        return 2 * x + 1


register_layer_rule(Gained, rules.Rule(rules.make, {"kernel": "o i", "gain": "o"}, "size", "output"))
register_layer_rule(Doubled, rules.Rule(rules.elementwise))


@keras.saving.register_keras_serializable("paredown_tests")
class Uneven(layers.Layer):
    """Does other work in training."""

    def call(self, x, training=None):
        return x * ops.mean(x) if training else x


@keras.saving.register_keras_serializable("paredown_tests")
class Looking(layers.Layer):
    """Its call asks for values, which symbolic tensors do not have."""

    def call(self, x):
        return x if isinstance(x, keras.KerasTensor) is False else x.values()

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


@network
def composite():
    i = image()
    x = Block(12, name="block")(conv(i, 8))
    twice = Block(6, name="twice")
    return i, head(conv(twice(twice(x)), 5))


@network
def composite_in_composite():
    i = image()
    given = conv(i, 8)
    out = Stage(name="stage")(given, right=layers.Reshape((64, 8))(conv(i, 8)))
    return i, head(conv(layers.Concatenate()([out["right"], out["left"]]), 5))


@network
def additive():
    """Layers of the ef-operator, with and without a scale, behind zeros, constants (0.5) and signed values."""
    i = image()
    x = AdditiveConv2D(8, 3, padding="same", activation="relu", name="padded")(conv(i, 6))
    x = layers.BatchNormalization()(AdditiveConv2D(7, 3, 2, use_scale=False, name="unscaled")(x))
    x = layers.Conv2D(6, 3, activation="sigmoid")(x)
    x = AdditiveConv2D(5, 1, use_bias=False, name="pointwise")(x)
    x = AdditiveDense(9, activation="relu", name="additive_dense")(layers.Flatten()(x))
    return i, layers.Dense(3)(x)


@network
def composite_untouched():
    """Nothing can go in it or before it: it stays what it is."""
    i = image(8)
    return i, [head(Block(1, name="block")(i)), Block(6, name="other")(i)]


@network
def own_rows():
    i = image()
    x = Gained(8, name="gained")(conv(i, 6))
    x = layers.Conv2D(6, 3)(Doubled(name="doubled")(x))
    return i, head(Gained(4, name="again")(layers.ReLU()(x)))


@network
def own_operations():
    """Without weights and without a row."""
    i = image()
    return i, head(conv(Swish(name="swish")(conv(i, 8, act=None)), 6))


@network
def not_looked_into():
    i = image()
    x = Uneven(name="uneven")(conv(i, 8))
    return i, head(conv(Looking(name="looking")(conv(x, 7)), 6))
