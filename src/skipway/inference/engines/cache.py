"""What engines compile is kept in the user's cache, under the digest of what it was compiled from.

Nothing beside a model file is read: whoever hands a model over could put programs there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from skipway.errors import CacheError, StorageError
from skipway.machine import cpu_features, cpu_name
from skipway.models.network import Network
from skipway.reporting import escaped
from skipway.user_cache import CacheEntry, claimed_entry, scratch_entry

_FORMAT = 1  # of what is kept here; a newer one makes everything again
_LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")
_CHOICES = "choices.json"
_LARGEST_CHOICES = 2**20  # bytes


class Cache:
    """What was built for a network: in the user's cache with `kept`, else in a folder that ends with the process.

    The folder of the user's cache is this process's alone inside `claimed`, where all other calls belong. A cache that
    cannot be trusted or written is reported through `tell` (by default as a warning of the log `skipway`), and
    replaced by a folder that ends with the process.
    """

    def __init__(self, network: Network, *, kept: bool, tell: Callable[[str], None] | None = None) -> None:
        self._about = _about(network)
        self._key = ""  # of the entry in the user's cache; "" without one
        self._entry: CacheEntry | None = None
        if kept:
            self._key = key_of(network)
        else:
            self._entry = scratch_entry()
        if tell is None:
            tell = logging.getLogger("skipway").warning
        self._report_line = tell

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """While an engine is built: other processes that want the same one wait, and find it built."""
        if self._entry is not None:
            yield
            return
        with ExitStack() as stack:
            try:
                entry = stack.enter_context(claimed_entry(self._key, self._about, self._report_line))
            except (CacheError, StorageError, OSError) as error:
                entry = self._scratch(error)
            self._entry = entry
            try:
                yield
            finally:
                if self._key:
                    self._entry = None

    def file(self, name: str) -> Path | None:
        """The file of that name, unchanged since it was kept, or None."""
        return self._claimed_entry().file(name)

    def keep(self, name: str, write: Callable[[Path], object]) -> Path:
        """Let `write` make the file of that name. Raises StorageError where not even a temporary folder has room."""
        try:
            return self._claimed_entry().keep(name, write)
        except (StorageError, CacheError) as error:
            if not self._key:
                raise
            self._entry = self._scratch(error)
            return self._entry.keep(name, write)

    @contextmanager
    def tree(self, name: str) -> Iterator[Path]:
        """A folder for a library that keeps files of its own: what it left there before, unchanged, or nothing."""
        with self._claimed_entry().tree(name) as folder:
            yield folder

    def remembered(self, key: str) -> str | None:
        """The text that `remember` got for a key, None where it got none."""
        text = self._choices().get(key)
        if not isinstance(text, str):
            return None
        return text

    def remember(self, key: str, value: str) -> None:
        """Keep a text. A full disk loses it, which costs no more than measuring once more."""
        choices = self._choices()
        choices[key] = value
        text = json.dumps(choices)
        try:
            self.keep(_CHOICES, lambda to: to.write_text(text, encoding="utf-8"))
        except StorageError:
            return

    def _choices(self) -> dict[str, object]:
        """All texts that were remembered; none where their file is missing, too large or damaged."""
        file = self.file(_CHOICES)
        if file is None:
            return {}
        if file.stat().st_size > _LARGEST_CHOICES:
            return {}
        try:
            text = file.read_text(encoding="utf-8")
            choices = json.loads(text)
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(choices, dict):
            return {}
        return choices

    def _claimed_entry(self) -> CacheEntry:
        assert self._entry is not None, "the cache is read and written inside `claimed`"
        return self._entry

    def _scratch(self, error: Exception) -> CacheEntry:
        self._report_line(f"without the cache, what is built now is not kept: {error}")
        self._key = ""
        return scratch_entry()


def key_of(network: Network) -> str:
    """64 hexadecimal digits: SHA-256 of a network's layout and weights, the libraries' versions and the processor."""
    facts = [
        digest(network),
        str(_FORMAT),
        platform.python_version(),
        platform.machine(),
        cpu_name(),
        cpu_features(),
    ]
    for name in _LIBRARIES:
        facts.append(f"{name} {_version(name)}")
    text = "\n".join(facts)
    return hashlib.sha256(text.encode()).hexdigest()


def digest(network: Network) -> str:
    """64 hexadecimal digits: the SHA-256 of a network's layout and weights."""
    layout = json.dumps(network.spec.to_dict(), sort_keys=True)
    result = hashlib.sha256(layout.encode())
    for name, tensor in sorted(network.state_dict().items()):
        header = f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n"
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        result.update(header.encode())
        result.update(flat.view(torch.uint8).numpy().data)
    return result.hexdigest()


def _about(network: Network) -> str:
    return f"{escaped(network.spec.name)}, {network.spec.num_classes} classes, torch {torch.__version__}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
