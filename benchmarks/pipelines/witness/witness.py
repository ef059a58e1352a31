"""What the steps of every program call: who ran, what came out, where to wait for the kill. On the path of all, part of none.

The files lie outside the project that is measured, so that no tool sees them as an input or an output.
"""

import json
import os
import time


def ran(step):
    """Note that the body of a step was entered."""
    with open(os.environ["WITNESS_RAN"], "a") as file:
        file.write(f"{step}\n")


def answer(value):
    """Note what came out, and pass it on."""
    with open(os.environ["WITNESS_ANSWER"], "w") as file:
        json.dump(value, file)
    return value


def hold():
    """Wait to be killed, as long as the file that says so exists."""
    while os.path.exists(os.environ["WITNESS_HOLD"]):
        time.sleep(0.05)
