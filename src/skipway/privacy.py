"""OpenVINO and ONNX Runtime would report their use to their makers. This module keeps them from it.

Nothing that skipway runs sends anything anywhere. `switch_off_telemetry` runs when `skipway` is imported, so that every
later import of these libraries finds it done.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType


def switch_off_telemetry() -> None:
    """Keep OpenVINO and ONNX Runtime, for the whole process, from writing and sending facts about their use.

    Each library counts its use when it is imported, writes the count and an id into the home folder, and sends both to
    its maker. OpenVINO does this with a separate package and does nothing without it: a module that is None in
    `sys.modules` does not exist for Python. (OpenVINO's own switch would write a file into the home folder.) ONNX
    Runtime reads an environment variable. OpenVINO stays as it is where it was imported before.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def import_openvino() -> ModuleType:
    """OpenVINO, with its reports switched off."""
    switch_off_telemetry()
    import openvino

    return openvino


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime, with its reports switched off, also where it was imported before."""
    switch_off_telemetry()
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
