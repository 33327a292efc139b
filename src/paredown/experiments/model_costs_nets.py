"""The networks of the experiment `model-costs`, with random weights: what they cost depends on their shapes alone.

They end in scores, without a softmax: of random weights it makes outputs that are all alike to rounding, and an export
could not be told from a wrong one.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import applications, layers

from paredown import blocks


def application(name: str, size: int = 224) -> Callable[[], Any]:
    """Builds a network of keras.applications that ends in scores."""
    build = getattr(applications, name)
    return lambda: build(weights=None, input_shape=(size, size, 3), classifier_activation=None)


def squeezenet() -> Any:
    """SqueezeNet 1.0 (Iandola et al. 2016, arXiv:1602.07360, table 1)."""

    def fire(x: Any, squeezed: int, expanded: int, name: str) -> Any:
        x = layers.Conv2D(squeezed, 1, activation="relu", name=f"{name}_squeeze")(x)
        small = layers.Conv2D(expanded, 1, activation="relu", name=f"{name}_expand1")(x)
        large = layers.Conv2D(expanded, 3, padding="same", activation="relu", name=f"{name}_expand3")(x)
        return layers.Concatenate(name=f"{name}_concat")([small, large])

    image = keras.Input((224, 224, 3), name="image")
    x = layers.Conv2D(96, 7, strides=2, activation="relu", padding="same", name="conv1")(image)
    widths = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    for number, (squeezed, expanded) in enumerate(widths, 2):
        if number in (2, 5, 9):
            x = layers.MaxPooling2D(3, 2, name=f"pool{number}")(x)
        x = fire(x, squeezed, expanded, f"fire{number}")
    x = layers.Conv2D(1000, 1, activation="relu", name="conv10")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D(name="scores")(x), name="squeezenet")


def wide_resnet() -> Any:
    """Wide ResNet-50-2: ResNet-50 with twice the channels in the 3×3 of every bottleneck (Zagoruyko and Komodakis 2016,
    arXiv:1605.07146, section 3.4)."""
    image = keras.Input((224, 224, 3), name="image")
    x = blocks.convolution(image, 64, 7, 2, name="conv1")
    x = layers.MaxPooling2D(3, 2, "same", name="pool")(x)
    for stage, count in enumerate((3, 4, 6, 3)):
        for number in range(count):
            filters, strides = 256 * 2**stage, 2 if stage and not number else 1
            x = blocks.residual(
                x,
                filters,
                blocks.bottleneck,
                strides=strides,
                strides_at="3x3",
                width=filters // 2,
                name=f"conv{stage + 2}_{number + 1}",
            )
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(image, layers.Dense(1000, name="scores")(x), name="wide_resnet50_2")


#: Name on the page -> builds it.
NETWORKS: dict[str, Callable[[], Any]] = {
    "VGG16": application("VGG16"),
    "VGG19": application("VGG19"),
    "ResNet-34": lambda: blocks.resnet(34),
    "ResNet-50": application("ResNet50"),
    "ResNet-101": application("ResNet101"),
    "Wide ResNet-50-2": wide_resnet,
    "InceptionV3": application("InceptionV3", 299),
    "InceptionResNetV2": application("InceptionResNetV2", 299),
    "Xception": application("Xception", 299),
    "DenseNet121": application("DenseNet121"),
    "SqueezeNet": squeezenet,
    "MobileNetV1": application("MobileNet"),
    "MobileNetV2": application("MobileNetV2"),
    "MobileNetV3Small": application("MobileNetV3Small"),
    "MobileNetV3Large": application("MobileNetV3Large"),
    "EfficientNetB0": application("EfficientNetB0"),
    "NASNetMobile": application("NASNetMobile"),
}
