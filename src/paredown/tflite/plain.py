"""Operations of any size, made without a network."""

from paredown.tflite.operation import Operation, Tensor


def convolution(size: int, channels: int, window: int) -> Operation:
    """`window` × `window`, as many channels out as in, on an image of `size` × `size`; float32."""
    options = {"padding": 0, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    image = Tensor((1, size, size, channels), "FLOAT32")
    kernel = Tensor((channels, window, window, channels), "FLOAT32", "weights")
    bias = Tensor((channels,), "FLOAT32", "weights")
    return Operation("CONV_2D", 1, "Conv2DOptions", tuple(sorted(options.items())), (image, kernel, bias), (image,))


def dense(inputs: int, outputs: int) -> Operation:
    """Fully connected, float32."""
    read, made = Tensor((1, inputs), "FLOAT32"), Tensor((1, outputs), "FLOAT32")
    kernel, bias = Tensor((outputs, inputs), "FLOAT32", "weights"), Tensor((outputs,), "FLOAT32", "weights")
    return Operation("FULLY_CONNECTED", 1, "FullyConnectedOptions", (), (read, kernel, bias), (made,))
