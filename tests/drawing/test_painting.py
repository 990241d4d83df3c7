"""Pictures as files: three forms from one scene, the same bytes each time, and refusals that name the fix."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image

from skipway.cli import main
from skipway.drawing.outline import outline
from skipway.drawing.picture import compose, draw, draw_spec
from skipway.errors import RunError, StorageError, UnknownNameError
from skipway.models.catalog import find_spec
from skipway.models.joins import Carry

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", ["highway_mlp_10", "resnet_v1_20.cifar"])
@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_files_are_whole_and_the_same_each_time(name: str, ending: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}" / f"picture.{ending}" for number in (1, 2)]
    pictures = [draw(name, file) for file in files]
    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert [file.name for file in files[0].parent.iterdir()] == [files[0].name]
    width, height = pictures[0].width, pictures[0].height
    if ending == "png":
        with Image.open(files[0]) as image:
            assert image.size == pytest.approx((width / 72 * 200, height / 72 * 200), abs=1)
            assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 20
    elif ending == "pdf":
        assert first.startswith(b"%PDF-")
        assert first.rstrip().endswith(b"%%EOF")
        assert b"CreationDate" not in first
    else:
        root = ElementTree.fromstring(first)
        assert [float(side) for side in root.attrib["viewBox"].split()] == pytest.approx([0, 0, width, height], abs=1)
        words = [element.text for element in root.iter(f"{SVG}text")]
        assert Counter(words) == Counter(label.text for label in compose(outline(find_spec(name))).labels)
        assert name in words
        assert b"date" not in first


@pytest.mark.parametrize("carry", get_args(Carry))
def test_what_becomes_of_an_identity_is_painted(carry: str, tmp_path: Path) -> None:
    spec = find_spec("resnet_v1_20.cifar").replaced({"carry": carry})
    draw_spec(spec, tmp_path / "picture.svg")
    words = [element.text for element in ElementTree.parse(tmp_path / "picture.svg").iter(f"{SVG}text")]
    assert Counter(words) == Counter(label.text for label in compose(outline(spec)).labels)


def test_painting_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    matplotlib.get_backend()  # settled on first use, whoever asks
    before = matplotlib.rcParams.copy()
    draw("highway_mlp_10", tmp_path / "a.svg")
    assert matplotlib.rcParams == before


def test_a_users_own_style_does_not_change_the_picture(tmp_path: Path) -> None:
    draw("highway_mlp_10", tmp_path / "a.svg")
    with matplotlib.rc_context({"font.family": ["serif"], "lines.linewidth": 7, "savefig.bbox": "tight"}):
        draw("highway_mlp_10", tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_network_of_ones_own(tmp_path: Path) -> None:
    spec = find_spec("resnet_v1_20.cifar").replaced({"name": "mine & <yours> $x$", "paper": "", "source": ""})
    picture = draw_spec(spec, tmp_path / "mine.svg")
    assert picture.name == spec.name
    root = ElementTree.fromstring((tmp_path / "mine.svg").read_bytes())
    assert spec.name in [element.text for element in root.iter(f"{SVG}text")]


def test_bad_input_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown file ending '\.jpg'.*\.svg.*call the picture, say, a\.svg"):
        draw("alexnet", tmp_path / "a.jpg")
    with pytest.raises(UnknownNameError, match=r"unknown file ending ''"):
        draw("alexnet", tmp_path / "picture")
    with pytest.raises(UnknownNameError, match=r"nearest: alexnet"):
        draw("alexnt", tmp_path / "a.svg")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"could not be written.*choose another folder"):
        draw("highway_mlp_10", tmp_path / "file" / "a.svg")
    (tmp_path / "a.pdf").write_text("precious")
    with pytest.raises(RunError, match=r"a\.pdf exists already; give another --to, or --overwrite"):
        draw("alexnet", tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_text() == "precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pdf", "file"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "a.SVG"
    assert run("draw", "highway_mlp_10", "--to", str(file), "--num-classes", "7", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"name": "highway_mlp_10", "to": str(file), "width": answer["width"], "height": answer["height"]}
    assert answer["width"] > answer["height"] > 100
    assert "fc, 7" in file.read_text()
    assert run("draw", "highway_mlp_10", "--to", str(file)) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run("draw", "highway_mlp_10", "--to", str(file), "--overwrite") == 0
    assert f"drawn to {file}" in capsys.readouterr().out
    assert "fc, 10" in file.read_text()
    assert run("draw", "highway_mlp_10", "--to", str(tmp_path / "a.bmp")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown file ending '.bmp'")
    assert error.count("\n") == 1
