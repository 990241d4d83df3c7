"""Libraries that would report their use to their makers, kept from it.

Nothing that skipway runs sends anything anywhere. `switch_off_telemetry` runs when `skipway` is imported, so that no
way to these libraries can miss it.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType


def switch_off_telemetry() -> None:
    """Before OpenVINO and ONNX Runtime are imported, see to it that they neither send nor write anything of that kind.

    Each counts its use, writes that and an id into the home folder when it is imported, and sends both to its maker.
    OpenVINO does so by a package of its own, without which it does nothing: a module that is None in `sys.modules` is
    absent to Python. (Its own switch would write a file into the home folder.) ONNX Runtime looks for a variable. A
    library that somebody imported before stays as it is.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def import_openvino() -> ModuleType:
    """OpenVINO, silent."""
    switch_off_telemetry()
    import openvino

    return openvino


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime, silent, also where it was imported before."""
    switch_off_telemetry()
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
