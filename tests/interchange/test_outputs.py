"""No import, export or convert replaces what the user did not offer, nor what it reads, whatever is asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.interchange.imported import copied

from skipway.errors import ModelFileError, RunError
from skipway.interchange.importing import import_weights
from skipway.interchange.outputs import check_outputs
from skipway.workflows import convert_model, export_model


def test_a_file_that_exists_is_kept_unless_offered(written: Path, to: Path) -> None:
    file = written / "torchvision_resnet_zip" / "model.pth"
    to.write_bytes(b"mine")
    with pytest.raises(RunError, match=r"exists already; give another path, or --overwrite"):
        import_weights(file, to)
    assert to.read_bytes() == b"mine"
    import_weights(file, to, overwrite=True)
    assert to.read_bytes() != b"mine"


def test_nothing_is_read_before_the_path_is_known_to_be_free(to: Path, tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>")
    for path in (to, to.with_suffix(".pth"), to.with_suffix(".onnx")):
        path.write_bytes(b"mine")
    with pytest.raises(RunError, match="exists already"):
        import_weights(tmp_path / "page.pth", to)
    for path in (to.with_suffix(".pth"), to.with_suffix(".onnx")):
        with pytest.raises(RunError, match="exists already"):
            convert_model(tmp_path / "page.pth", path)
        with pytest.raises(RunError, match="exists already"):
            export_model(tmp_path / "page.pth", path)


def test_a_file_that_is_read_is_never_replaced(written: Path, to: Path, tmp_path: Path) -> None:
    file = copied(written, "torchvision_resnet_zip", tmp_path)
    held = file.read_bytes()
    alias = tmp_path / "alias.safetensors"
    alias.symlink_to(file)
    with pytest.raises(RunError, match="belongs to what is read"):
        import_weights(file, alias, overwrite=True)
    with pytest.raises(RunError, match="belongs to what is read"):
        convert_model(file, tmp_path / "." / file.name, overwrite=True)
    assert file.read_bytes() == held
    import_weights(file, to)
    with pytest.raises(RunError, match="belongs to what is read"):
        export_model(to, to, form="torchvision", overwrite=True)


@pytest.mark.parametrize(
    ("case", "given", "inside"),
    [
        ("hugging_face_folder", "", "model.safetensors"),
        ("hugging_face_folder", "", "new.safetensors"),
        ("slim_v1_saved_v2", "model.ckpt", "model.ckpt.data-00000-of-00001"),
        ("slim_v1_saved_v2", "model.ckpt.index", "model.ckpt.data-00000-of-00001"),
        ("slim_v1_saved_v1", "model.ckpt", "model.ckpt"),
    ],
)
def test_what_belongs_to_a_checkpoint_or_a_folder_is_read_too(
    written: Path, tmp_path: Path, case: str, given: str, inside: str
) -> None:
    folder = Path(shutil.copytree(written / case, tmp_path / "case"))
    with pytest.raises(RunError, match="belongs to what is read"):
        check_outputs([folder / inside], [folder / given], overwrite=True)
    check_outputs([tmp_path / "beside.safetensors"], [folder / given], overwrite=False)


def test_the_prototxt_of_a_caffemodel_is_kept(tmp_path: Path) -> None:
    for name in ("net.caffemodel", "net.prototxt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(RunError, match=r"net\.prototxt belongs to what is read"):
        check_outputs([tmp_path / "net.prototxt"], [tmp_path / "net.caffemodel"], overwrite=True)


def test_a_model_ends_as_a_model(to: Path) -> None:
    with pytest.raises(ModelFileError, match=r"call it model\.safetensors"):
        import_weights(to, to.with_suffix(".th"))


@pytest.mark.parametrize("name", ["x" * 300, "nul\0"])
def test_names_that_cannot_be_are_left_to_those_who_use_them(tmp_path: Path, name: str) -> None:
    check_outputs([tmp_path / name], [tmp_path / "file"], overwrite=False)
    check_outputs([tmp_path / "file"], [tmp_path / name], overwrite=False)
