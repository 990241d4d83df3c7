"""Network descriptions in text: all forms give the same layers; every turn of the syntax; broken ones in one line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from skipway.errors import ModelFileError
from skipway.interchange.caffe import prototxt
from skipway.interchange.caffe import read as caffe
from skipway.interchange.caffe.check import mismatches, spatial
from skipway.interchange.caffe.message import TextError
from skipway.interchange.caffe.prototxt import parse
from skipway.interchange.source import WeightFile

FIXTURES = Path(__file__).parent / "fixtures" / "caffe"


def read(tmp_path: Path, text: str | bytes, **named: str) -> WeightFile:
    file = tmp_path / "net.prototxt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return prototxt.read(file, **named)


def refused(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        read(tmp_path, text)
    assert told in str(caught.value)
    assert str(tmp_path / "net.prototxt") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_old_forms_describe_the_same_network() -> None:
    def told(form: str) -> list[Any]:
        layers = prototxt.read(FIXTURES / f"{form}.prototxt").layers
        fields = [{key: value for key, value in layer.fields.items() if key != "param"} for layer in layers]
        return [
            (layer.name, layer.kind, layer.inputs, layer.outputs, one)
            for layer, one in zip(layers, fields, strict=True)
        ]

    today = [layer for layer in told("v2") if layer[0] not in ("data", "bn1", "scale1")]
    assert told("v0") == told("v1") == today
    assert today[0] == (
        "conv1", "Convolution", ("data",), ("conv1",),
        {"convolution_param": {"num_output": 8, "kernel_size": (3,), "stride": (2,), "pad": (1,)}},
    )  # fmt: skip


@pytest.mark.parametrize("form", ["v0", "v1", "v2"])
def test_inputs_are_read_in_each_form(form: str) -> None:
    source = prototxt.read(FIXTURES / f"{form}.prototxt")
    assert source.notes["inputs"] == {"data": (1, 3, 8, 8)}
    assert source.notes["name"] == "small"
    assert source.arrays == {}


def test_input_shape_and_two_inputs(tmp_path: Path) -> None:
    text = 'input: "a" input: "b" input_shape { dim: [1, 3] } input_shape { dim: 7 } layer { name: "x" }'
    assert read(tmp_path, text).notes["inputs"] == {"a": (1, 3), "b": (7,)}
    assert read(tmp_path, 'input: "a" layer { name: "x" }').notes["inputs"] == {"a": ()}
    refused(tmp_path, 'input: "a" input_dim: 3 layer { name: "x" }', "1 input_dim for 1 input;")
    refused(tmp_path, 'input: "a" input_shape { dim: -3 } layer { name: "x" }', "a side of -3")


def test_layers_of_the_other_phase_are_left_out(tmp_path: Path) -> None:
    text = """
    layer { name: "data" type: "Data" top: "data" include { phase: TRAIN } transform_param { crop_size: 227 } }
    layer { name: "data" type: "Data" top: "data" include { phase: TEST } transform_param { crop_size: 224 } }
    layer { name: "drop" type: "Dropout" exclude { phase: TEST } }
    layer { name: "staged" type: "ReLU" include { stage: "deploy" } }
    layer { name: "leveled" type: "ReLU" include { min_level: 1 } }
    """
    test, train = read(tmp_path, text), read(tmp_path, text, phase="TRAIN")
    assert [layer.fields["transform_param"]["crop_size"] for layer in test.layers] == [224]
    assert [layer.name for layer in train.layers] == ["data", "drop"]


def test_names_that_occur_twice(tmp_path: Path) -> None:
    refused(tmp_path, 'layer { name: "a" type: "Convolution" } layer { name: "a" type: "ReLU" }', "'a' occurs 2 times")
    source = read(tmp_path, 'layer { name: "a" type: "ReLU" } layer { name: "a" type: "ReLU" }')
    assert source.warnings == ("1 name is that of several layers without weights ('a')",)


def test_weights_spelt_out_are_left_out(tmp_path: Path) -> None:
    (layer,) = read(tmp_path, 'layer { name: "a" blobs { shape { dim: 2 } data: 1 data: 2.5 } }').layers
    assert (layer.arrays, layer.fields) == ((), {})


def test_every_turn_of_the_syntax() -> None:
    text = r"""
    a: 1, b: -2; c: 0x1F  # a comment with { and "
    d: 017 e: 1.5 f: 2.f g: -1e-3 h: .5 i: - 4
    j: "it's" ' \'and\' ' "\x41\102\n\\ \303\251"
    k < l: MAX > m { n: [1, 2, 3] o: [] } p: { q: true }
    r: inf s: -nan
    a: "again"
    """
    found = parse(text)
    assert found["a"] == [1, "again"]
    assert [found[key][0] for key in "bcdefghi"] == [-2, 31, 15, 1.5, 2.0, -1e-3, 0.5, -4]
    assert found["j"] == ["it's 'and' AB\n\\ é"]
    assert found["k"] == [{"l": ["MAX"]}]
    assert found["m"] == [{"n": [1, 2, 3], "o": []}]
    assert found["p"] == [{"q": ["true"]}]
    assert found["r"] == [float("inf")]
    assert found["s"][0] != found["s"][0]


def test_unknown_settings_are_kept(tmp_path: Path) -> None:
    text = """layer { name: "a" type: "Own" own_param { mode: FAST on: true sides: 1 sides: 2 } empty_param { } }"""
    (layer,) = read(tmp_path, text).layers
    assert layer.fields == {"own_param": {"mode": "FAST", "on": True, "sides": (1, 2)}, "empty_param": {}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name: "a" layer {', "ends within 1 open braces"),
        ('name: "a"\n}', "line 2: '}' where the name of a field"),
        ('name: "a"\n\nlayer { name "b" }', "line 3: '\"b\"' after 'name'"),
        ('name: "a', "is no part of this form"),
        ('name: "a" layer { k: 1.2.3 }', "is no part of this form"),
        ("name: { }", "name is a message"),
        ("name: 5 layer { }", "name is '5'"),
        ("name: word layer { }", "name is 'word'"),
        ('name: "a" name: "b" layer { }', "name stands 2 times"),
        ('layer { convolution_param { num_output: "8" } }', "layer.convolution_param.num_output is '8'"),
        ("layer { convolution_param { num_output: 1.5 } }", "num_output is '1.5'"),
        ("layer { convolution_param { num_output: MAX } }", "num_output is 'MAX'"),
        ("layer { convolution_param: 5 }", "layer.convolution_param is '5'"),
        ("layer { convolution_param { bias_term: 7 } }", "bias_term is '7'"),
        ("layer { name: -word }", "where a value is due"),
        ("layer { name: [1 2] }", "in a list"),
        ("layer { name: [1, 2", "the end of the text in a list"),
        ("layer { name: }", "where a value is due"),
        ("layer { a: " + "9" * 65 + " }", "65 digits"),
        ("layer { a: 99999999999999999999 }", "more than 64 bits"),
        ("layer { } layer > a", "'>' after 'layer', where : or { is due"),
        ('layer { name: "a" > ', "'>' where the name"),
        ('name: "only a name"', "no layers in phase TEST"),
        ("layer { } layers { }", "old form"),
        ("layers { layer { } } layers { name: 'a' }", "first form"),
        ('layer { name: "' + "x" * 2000 + '" }', "2,000 letters"),
        ("layer { " + "a { " * 40, "more than 32 braces"),
        ("layer { }\n" * 10_001, "10,001 layers"),
        ("layer { " + "a: 1 " * 300_000 + "}", "more than 300,000 fields"),
        ("layer { } # " + "x" * (4 << 20), "more than 4,194,304 bytes"),
        ('layers { layer { name: "p" type: "padding" pad: 1 } top: "x" } '
         'layers { layer { name: "r" type: "relu" } bottom: "x" }', "cannot pad"),
    ],
)  # fmt: skip
def test_broken_texts_are_refused(tmp_path: Path, text: str, told: str) -> None:
    refused(tmp_path, text, told)


def test_depth_does_not_exhaust_the_stack(tmp_path: Path) -> None:
    start = time.monotonic()
    for opening in ("{", "<", ": {", "{ a: ["):
        refused(tmp_path, "layer " + (f"a {opening} " * 200_000)[2:], "line 1")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("form", ["v0", "v1", "v2"])
def test_cut_texts_are_refused_or_shorter(tmp_path: Path, form: str) -> None:
    whole = (FIXTURES / f"{form}.prototxt").read_text()
    layers = len(prototxt.read(FIXTURES / f"{form}.prototxt").layers)
    refusals = 0
    for sixteenth in range(1, 16):
        try:
            assert len(read(tmp_path, whole[: len(whole) * sixteenth // 16]).layers) < layers
        except ModelFileError:
            refusals += 1
    assert refusals > 9


def test_other_files_under_its_name_are_told(tmp_path: Path) -> None:
    refused(tmp_path, b"<html></html>", "web page")
    refused(tmp_path, (FIXTURES / "v1.caffemodel").read_bytes(), "a .caffemodel")
    refused(tmp_path, b"version https://git-lfs.github.com/spec/v1\n", "Git LFS")
    refused(tmp_path, b"", "is empty")
    refused(tmp_path, b"name: 'a'\0", "something else")


def test_a_byte_order_mark_and_foreign_letters(tmp_path: Path) -> None:
    source = read(tmp_path, b"\xef\xbb\xbfname: 'gbk \xb0\xa1' # \xb0\xa1\nlayer { name: '\xc3\xa9' }")
    assert source.notes["name"] == r"gbk \xb0\xa1"
    assert source.layers[0].name == "é"


def test_padding_layers_may_begin_with_a_capital(tmp_path: Path) -> None:
    text = (FIXTURES / "v0.prototxt").read_text()
    assert text.count('type: "padding"') == 1
    assert (
        read(tmp_path, text.replace('"padding"', '"Padding"')).layers == prototxt.read(FIXTURES / "v0.prototxt").layers
    )


def test_errors_of_the_parser_name_the_line() -> None:
    with pytest.raises(TextError, match=r"^line 3: "):
        parse("a: 1\nb: 2\nc 3")


def test_settings_in_all_spellings() -> None:
    assert spatial({"kernel_size": (3,)}, "kernel_size", 1) == (3, 3)
    assert spatial({"kernel_size": 3}, "kernel_size", 1) == (3, 3)
    assert spatial({"kernel_size": (3, 5)}, "kernel_size", 1) == (3, 5)
    assert spatial({"kernel_h": 1, "kernel_w": 7}, "kernel_size", 1) == (1, 7)
    assert spatial({}, "stride", 1) == (1, 1)


@pytest.mark.parametrize("form", ["v0", "v1", "v2"])
def test_weights_fit_their_own_description(form: str) -> None:
    assert mismatches(prototxt.read(FIXTURES / f"{form}.prototxt"), caffe.read(FIXTURES / f"{form}.caffemodel")) == ()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("group: 2", "", "conv2: group is 1, its weight (6, 4, 3, 3) for 8 channels has 2"),
        ("num_output: 5", "num_output: 7", "fc: num_output is 7, its weight (1, 1, 5, 24) has 5"),
        ("num_output: 8", "num_output: 8 bias_term: false", "conv1: bias_term is false, 2 blobs are stored"),
        ("kernel_size: 3 stride", "kernel_size: 5 stride", "conv1: the kernel is 5x5, its weight (8, 3, 3, 3) has 3x3"),
        ('name: "fc"', 'name: "fc8"', "fc: the prototxt has no such layer"),
        ('name: "fc"', 'name: "fc8"', "fc8: the caffemodel has no weights for it"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = (FIXTURES / "v1.prototxt").read_text()
    assert old in text
    described = read(tmp_path, text.replace(old, new))
    assert told in mismatches(described, caffe.read(FIXTURES / "v1.caffemodel"))
