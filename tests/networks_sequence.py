"""Small networks of sequence layers: recurrent, attention, TimeDistributed."""

import keras
from keras import layers, ops

from network_parts import image, network


# Recurrent layers.
@network
def lstm_stack():
    i = keras.Input((7, 4))
    x = layers.LSTM(6, return_sequences=True)(layers.Conv1D(8, 3, activation="relu")(i))
    x = layers.BatchNormalization()(layers.LSTM(5, go_backwards=True, dropout=0.1, use_bias=False)(x))
    return i, layers.Dense(2)(x)


@network
def gru_both_ways():
    i = keras.Input((None, 4))
    x = layers.GRU(6, return_sequences=True)(i)
    x = layers.GRU(6, reset_after=False, return_sequences=True, recurrent_dropout=0.2)(x)
    x = layers.Dropout(0.2)(layers.Add()([x, layers.GRU(6, return_sequences=True, use_bias=False)(x)]))
    return i, layers.Dense(2)(layers.SimpleRNN(5, activation="relu", unroll=False)(x))


@network
def recurrent_masked():
    """Padded sentences: which steps count is handed on beside the tensors."""
    i = keras.Input((9,), dtype="int32")
    x = layers.Embedding(10, 6, mask_zero=True)(i)
    x = layers.LSTM(7, return_sequences=True)(x)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(6, activation="relu"))(x)
    return i, layers.Dense(3)(layers.LSTM(6)(x))


@network
def recurrent_of_masking():
    i = keras.Input((6, 3))
    x = layers.GRU(6, return_sequences=True)(layers.Masking(0.5)(i))
    return i, layers.Dense(3)(layers.LSTM(5)(x))


@network
def encoder_decoder():
    """The decoder starts from the encoder's states: their units are the same channels."""
    i, j = keras.Input((7, 4)), keras.Input((5, 3))
    x, h, c = layers.LSTM(6, return_sequences=True, return_state=True)(i)
    y = layers.LSTM(6, return_sequences=True)(j, initial_state=[h, c])
    z, s = layers.GRU(5, return_state=True)(x)
    z = layers.SimpleRNN(5)(y, initial_state=s + z)
    return [i, j], layers.Dense(2)(layers.Concatenate()([z, c, layers.GlobalAveragePooling1D()(y)]))


@network
def initial_state_given():
    i, h = keras.Input((7, 4)), keras.Input((5,))
    x = layers.GRU(5, return_sequences=True)(layers.LSTM(6, return_sequences=True)(i), initial_state=h)
    return [i, h], layers.Dense(2)(layers.Flatten()(x))


@network
def bidirectional_merged():
    i = keras.Input((6, 4))
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(i)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True), merge_mode="sum")(x)
    x = layers.Bidirectional(
        layers.SimpleRNN(5, return_sequences=True),
        backward_layer=layers.LSTM(5, return_sequences=True, go_backwards=True),
        merge_mode="mul",
    )(x)
    a, b = layers.Bidirectional(layers.GRU(4, reset_after=False, return_sequences=True), merge_mode=None)(x)
    x = layers.Bidirectional(layers.LSTM(6), merge_mode="ave")(layers.Concatenate()([a, b]))
    return i, layers.Dense(2)(x)


@network
def bidirectional_states():
    i, j = keras.Input((6, 4)), keras.Input((5, 3))
    x, *states = layers.Bidirectional(layers.LSTM(5, return_sequences=True, return_state=True))(i)
    y = layers.Bidirectional(layers.LSTM(5))(j, initial_state=states)
    return [i, j], layers.Dense(2)(layers.Concatenate()([y, layers.GlobalMaxPooling1D()(x), states[2]]))


@network
def stateful():
    i = keras.Input(batch_shape=(2, 6, 4))
    x = layers.Bidirectional(layers.GRU(5, stateful=True, return_sequences=True))(i)
    return i, layers.Dense(2)(layers.LSTM(5, stateful=True)(x))


@network
def recurrent_shared():
    i, j = keras.Input((6, 4)), keras.Input((8, 4))
    dense, layer = layers.Dense(5), layers.LSTM(6)
    return [i, j], layers.Dense(2)(layers.Subtract()([layer(dense(i)), layer(dense(j))]))


@network
def recurrent_mixing():
    """A softmax over the units couples them all."""
    i = keras.Input((6, 4))
    x = layers.LSTM(5, activation="softmax", return_sequences=True)(i)
    return i, layers.Dense(2)(layers.GRU(6, recurrent_activation="softmax")(layers.Dense(5, activation="sigmoid")(x)))


# TimeDistributed.
@network
def video():
    i = keras.Input((4, 8, 8, 3))
    x = layers.TimeDistributed(layers.Conv2D(6, 3, padding="same", use_bias=False))(i)
    x = layers.TimeDistributed(layers.ReLU())(layers.TimeDistributed(layers.BatchNormalization())(x))
    x = layers.TimeDistributed(layers.DepthwiseConv2D(3))(layers.TimeDistributed(layers.MaxPooling2D())(x))
    x = layers.TimeDistributed(layers.SeparableConv2D(5, 2, activation="relu"))(x)
    x = layers.TimeDistributed(layers.Flatten())(layers.TimeDistributed(layers.PReLU())(x))
    return i, layers.Dense(2)(layers.LSTM(6)(x))


@network
def frames_reshaped():
    i = keras.Input((None, 5))
    x = layers.TimeDistributed(layers.Dense(12, activation="sigmoid"))(i)
    x = layers.TimeDistributed(layers.Reshape((2, 2, 3)))(layers.TimeDistributed(layers.Dense(12))(x))
    x = layers.TimeDistributed(layers.Conv2D(6, 1))(x)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(layers.TimeDistributed(layers.Softmax())(x))
    return i, layers.TimeDistributed(layers.Dense(2))(x)


@network
def frames_unknown():
    """What stands in a TimeDistributed layer without a row of its own."""
    i = keras.Input((3, 6, 4))
    x = layers.TimeDistributed(layers.LSTM(5))(layers.Dense(6)(i))
    return i, layers.Dense(2)(layers.Dense(6)(x))


# Attention. Keras cannot run values of another size than keys under JAX unless the layer has dropout.
def feed_forward(x, hidden):
    return layers.Dense(x.shape[-1])(layers.Dense(hidden, activation="gelu")(x))


@network
def transformer_pre_norm():
    """A vision transformer: patches, a class token, positions, two blocks with their norms in front."""
    i, positions = image(size=8), keras.Input((5,), dtype="int32")
    x = layers.Reshape((4, 8))(layers.Conv2D(8, 4, strides=4)(i))
    token = layers.Embedding(1, 8)(ops.zeros_like(positions[:, :1]))
    x = layers.Concatenate(axis=1)([token, x])
    x = layers.Add()([x, layers.Embedding(10, 8)(positions)])
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 3, dropout=0.1)(y, y)])
        x = layers.Add()([x, feed_forward(layers.LayerNormalization()(x), 12)])
    return [i, positions], layers.Dense(3)(layers.LayerNormalization()(x)[:, 0])


@network
def transformer_post_norm():
    """Padded sentences in a causal decoder that looks at an encoder."""
    i, j = keras.Input((7,), dtype="int32"), keras.Input((5,), dtype="int32")
    memory = layers.Embedding(10, 6, mask_zero=True)(i)
    x = layers.Embedding(10, 8, mask_zero=True)(j)
    x = layers.LayerNormalization()(
        x + layers.MultiHeadAttention(3, 2, value_dim=4, dropout=0.1)(x, x, use_causal_mask=True)
    )
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 2, use_bias=False)(x, memory))
    return [i, j], layers.Dense(3)(layers.LayerNormalization()(x + feed_forward(x, 10)))


@network
def attention_without_norm():
    """Nothing holds the residual stream: the projections' inputs and outputs go as well."""
    i, j = keras.Input((6, 5)), keras.Input((4, 3))
    x, y, z = layers.Dense(8)(i), layers.Dense(6, activation="relu")(j), layers.Dense(7)(j)
    attended, scores = layers.MultiHeadAttention(2, 3)(x, y, key=z, return_attention_scores=True)
    x = layers.Add()([x, attended])
    x = layers.MultiHeadAttention(3, 2, output_shape=6)(x, x)
    x = layers.BatchNormalization()(
        layers.MultiHeadAttention(3, 2, value_dim=5, dropout=0.1)(x, x, attention_mask=ones(i))
    )
    return [i, j], [layers.Dense(2)(x), scores]


def ones(i):
    return ops.expand_dims(i[:, :, 0], 1) + ops.expand_dims(i[:, :, 0], 2) > 0


@network
def attention_over_axes():
    """Attention along one of two axes of positions, and with features on two axes."""
    i = keras.Input((3, 4, 5))
    x = layers.MultiHeadAttention(3, 2, attention_axes=2)(layers.Dense(6)(i), i)
    x = layers.MultiHeadAttention(2, 3, output_shape=(2, 3), attention_axes=(1, 2))(x, x)
    return i, layers.Dense(2)(layers.Flatten()(x))


@network
def grouped_query():
    i = keras.Input((6, 5))
    x = layers.Dense(8)(i)
    x = layers.Add()([x, layers.GroupQueryAttention(3, 6, 3)(x, x, use_causal_mask=True)])
    x = layers.GroupQueryAttention(2, 4, 2, use_bias=False)(layers.Dense(8, activation="sigmoid")(x), x)
    x = layers.GroupQueryAttention(2, 6, 2)(layers.Dense(6)(x), layers.Dense(6)(x), layers.Dense(7)(i))
    return i, layers.Dense(2)(x)


@network
def attention_of_channels():
    """Attention without heads: channels of query and key meet in pairs."""
    i, j = keras.Input((6, 5)), keras.Input((4, 3))
    q, k, v = layers.Dense(8)(i), layers.Dense(8)(j), layers.Dense(6, activation="relu")(j)
    x = layers.Attention(use_scale=True)([q, v, k])
    y = layers.AdditiveAttention()([layers.Dense(6)(i), v])
    z = layers.Attention(score_mode="concat")([layers.Dense(5, activation="sigmoid")(i), layers.Dense(5)(j)])
    return [i, j], layers.Dense(2)(layers.Concatenate()([x, y, z]))


@network
def conv_lstm():
    i = keras.Input((3, 6, 6, 2))
    x = layers.TimeDistributed(layers.Conv2D(5, 1))(i)
    x = layers.ConvLSTM2D(4, 3, return_sequences=True, padding="same", strides=2)(x)
    x = layers.BatchNormalization()(layers.ConvLSTM2D(5, 2, use_bias=False)(x))
    return i, layers.Dense(2)(layers.ConvLSTM1D(4, 2, go_backwards=True)(x))
