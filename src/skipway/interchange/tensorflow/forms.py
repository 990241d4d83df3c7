"""The forms in which weights are exported for TensorFlow, by the names of TF-Slim."""

from __future__ import annotations

from pathlib import Path

from skipway.errors import RunError
from skipway.interchange.form import Arrays, Form
from skipway.interchange.tensorflow import checkpoint, write_graph
from skipway.weights.bundle import Bundle


def _write_v2(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001 (all forms are written alike)
    checkpoint.write(to, arrays)


def _write_v1(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001
    index = to.with_name(f"{to.name}.index")
    if index.exists():
        raise RunError(f"{index} is that of a V2 checkpoint, which is read wherever both are; give another path")
    checkpoint.write(to, arrays, "V1")


def _write_frozen(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001
    write_graph.write(to, arrays)


def _index_and_shard(prefix: Path) -> tuple[Path, ...]:
    index = prefix.with_name(f"{prefix.name}.index")
    shard = prefix.with_name(f"{prefix.name}.data-00000-of-00001")
    return index, shard


FORMS = (
    Form("slim", (".ckpt",), _write_v2, scope=True, files=_index_and_shard),
    Form("slim_checkpoint_v1", (), _write_v1, named=(".ckpt",), scope=True),
    Form("slim_frozen", (".pb",), _write_frozen, scope=True),
)
