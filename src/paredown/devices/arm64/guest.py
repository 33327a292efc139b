"""Runs one inference on the emulated Arm core, between two marks; nothing imports this file.

Reads model.tflite and inputs.npz from the current folder (arrays by their tensor's index), writes outputs.npz. The
marks are seen by count.c. The same steps around a call that does nothing tell how many instructions are Python's own.
"""

import gc
import os

import numpy as np
from ai_edge_litert.interpreter import Interpreter

MARK = 0o463
# Python puts quicker instructions in the place of its own while a function is called for the first times.
FIRST_CALLS = 32


def between_marks(call):
    os.umask(MARK)
    call()
    os.umask(MARK)


def main():
    interpreter = Interpreter(model_path="model.tflite", num_threads=1)
    interpreter.allocate_tensors()
    with np.load("inputs.npz") as inputs:
        for index, array in inputs.items():
            interpreter.set_tensor(int(index), array)
    mask = os.umask(0)
    gc.disable()
    interpreter.invoke()
    for _ in range(FIRST_CALLS):
        between_marks(int)
    between_marks(interpreter.invoke)
    os.umask(mask)
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    np.savez("outputs.npz", **{str(index): interpreter.get_tensor(index) for index in outputs})


if __name__ == "__main__":
    main()
