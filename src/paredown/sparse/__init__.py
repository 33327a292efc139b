"""Single weights: which kernels hold them, what each is worth, which go, and how the rest makes up for them."""

from paredown.sparse.kernels import KINDS, Kernel, kernels
from paredown.sparse.methods import METHODS, Method
from paredown.sparse.patterns import Pattern, count_to_zero, zeros
from paredown.sparse.second_moments import Hessian, hessians
from paredown.sparse.surgeon import refitted

__all__ = [
    "KINDS",
    "METHODS",
    "Hessian",
    "Kernel",
    "Method",
    "Pattern",
    "count_to_zero",
    "hessians",
    "kernels",
    "refitted",
    "zeros",
]
