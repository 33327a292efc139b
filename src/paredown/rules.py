"""What a rule for a layer of your own is made of; docs/custom-layers.md has examples.

`register_layer_rule(MyLayer, Rule(flow, weights, width, macs_at))` gives a custom layer coupling, slicing, rebuilding
and costing. `flow` is one of the functions here:

    make            a kernel: reads all input channels, makes channels of its own
    scale           element-wise with weights per channel: hands channels on
    depthwise       each input channel gives `depth_multiplier` output channels
    elementwise     one element from one element, no weights; a constant in, a constant out
    keep            the identity at inference (dropout, noise)
    spatial         pooling, up-sampling, cropping: positions change, a channel stays a channel
    zero_pad        zeros around the positions
    combine(of)     several tensors, element by element; `of(values)` does it to a list of constants
    move            data moves between axes, or within one, as `Reshape` and `Concatenate` do
    pins(reason)    channels depend on each other, and all stay
"""

from paredown.flows import combine, depthwise, elementwise, keep, make, pins, scale, spatial, zero_pad
from paredown.layer_rules import Rule, register_layer_rule
from paredown.moves import move

__all__ = [
    "Rule",
    "combine",
    "depthwise",
    "elementwise",
    "keep",
    "make",
    "move",
    "pins",
    "register_layer_rule",
    "scale",
    "spatial",
    "zero_pad",
]
