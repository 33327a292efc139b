"""LeNet-300-100 and LeNet-5 for MNIST, as Deep Compression has them: 266,610 and 431,080 parameters.

Source: LeCun et al. 1998; the widths are those of Han et al. 2016, arXiv:1510.00149, section 5.1.
"""

from typing import Any

NAMES = ("LeNet-300-100", "LeNet-5")


def lenet(name: str, seed: int, dense: Any = None, convolution: Any = None) -> Any:
    """A network at random.

    Args:
        name: Row of `NAMES`.
        seed: Of the weights; Keras's global seed is set to it.
        dense, convolution: What makes a layer of so many outputs (and a window) in the place of Keras's own.
    Returns:
        A Functional model: images, shape (n, 28, 28, 1), values 0..255, to scores of ten classes, shape (n, 10).
    """
    import keras
    from keras import layers

    dense, convolution = dense or layers.Dense, convolution or layers.Conv2D
    keras.utils.set_random_seed(seed)
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Rescaling(1 / 255, name="rescale")(image)
    if name == "LeNet-5":
        for number, filters in enumerate((20, 50), 1):
            x = convolution(filters, 5, name=f"conv{number}")(x)
            x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
        x = layers.Flatten(name="flatten")(x)
        x = dense(500, activation="relu", name="hidden")(x)
    else:
        x = layers.Flatten(name="flatten")(x)
        x = dense(300, activation="relu", name="first")(x)
        x = dense(100, activation="relu", name="second")(x)
    x = dense(10, name="scores")(x)
    return keras.Model(image, layers.Softmax(name="classes")(x), name=name.lower().replace("-", "_"))
