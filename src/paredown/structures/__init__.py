"""Efficient structures in the place of a convolution: what each is made of, and where its weights start from."""

from paredown.structures.compose import composed
from paredown.structures.seat import Seat
from paredown.structures.table import STRUCTURES, Structure

__all__ = ["STRUCTURES", "Seat", "Structure", "composed"]
