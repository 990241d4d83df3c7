"""How the pictures of an imported network are prepared: by the convention of its source, and Caffe's mean files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from skipway.data.mean_image import MeanImage
from skipway.data.preprocessing import Preprocessing, preset
from skipway.errors import ModelFileError, SkipwayError
from skipway.interchange.caffe import read as caffe
from skipway.interchange.caffe.read import MEAN
from skipway.interchange.doubt import Doubt
from skipway.interchange.foreign import checked_head, describe_foreign
from skipway.interchange.keras.input import input_scaling
from skipway.interchange.keras.read_h5 import PREPROCESSING
from skipway.interchange.numpy import read as npy
from skipway.interchange.source import Array, WeightFile
from skipway.models.network import Spec
from skipway.reporting import counted

# TF-Slim's README has its ResNet v2 weights, of 1,001 classes, evaluated at 299 pixels; the code's own default is 224.
_SLIM_V2_SIDE = 299


def prepared(spec: Spec, name: str, mean: Path | None = None) -> tuple[Spec, Preprocessing]:
    """The convention `name` for a network, with the mean of a file; and the network for the size of these pictures.

    Raises UnknownNameError for the name, ModelFileError for the file.
    """
    if name == spec.preprocessing == "slim_v2" and (spec.num_classes, spec.input_size) == (1001, 224):
        spec = spec.replaced({"input_size": _SLIM_V2_SIDE})
    rule = preset(name, spec.input_size, grey=spec.in_channels == 1)
    return spec, with_mean(rule, mean) if mean else rule


def stated(source: WeightFile, spec: Spec, scheme: str) -> tuple[Preprocessing | None, tuple[Doubt, ...]]:
    """What a file says of its pictures, and a line about it where layers of the network say it.

    Whole models that we exported say all of it. Keras's layers say the values; the geometry is the convention's.
    Returns None where the file says nothing. Raises ModelFileError.
    """
    plain = source.notes.get("skipway_preprocessing")
    if plain is not None:
        try:
            return Preprocessing.from_dict(plain, where=PREPROCESSING), ()
        except SkipwayError as error:
            raise ModelFileError(f"{source.path}: {error}; or name the convention with --preprocessing") from None
    if scheme != "keras_graph":
        return None, ()
    scaling = input_scaling(source)
    if scaling is None:
        return None, ()
    convention = preset(spec.preprocessing, spec.input_size, grey=spec.in_channels == 1)
    rule = scaling.of(convention)
    layers = ", ".join(f"'{name[:80]}'" for name in scaling.names)
    values = f"counts times {rule.scale:.4g}, minus {rule.mean}, over {rule.std}, in {rule.channels} order"
    return rule, (Doubt("pictures", f"the network's own layers {layers} prepare its pictures: {values}"),)


def with_mean(rule: Preprocessing, file: Path) -> Preprocessing:
    """`rule` with what a `.binaryproto` or `.npy` holds: a mean image (C, H, W), or a mean pixel (C,) or (C, 1, 1),
    both in the order blue, green, red. Raises ModelFileError.
    """
    if rule.channels == "RGB" or rule.scale != 1:
        raise ModelFileError(
            f"{file} is a mean as Caffe subtracts it, of counts in the order BGR, and the pictures are "
            f"{rule.channels}, counts times {rule.scale:.4g}; give --preprocessing caffe or caffe_resnet with it"
        )
    array = _mean_array(file)
    shape = _with_three_axes(array.shape)
    if len(shape) != 3:
        raise ModelFileError(f"{file} has the shape {array.shape}; give a mean image (C, H, W) or a mean pixel (C,)")
    try:
        if shape == (rule.depth, 1, 1):
            pixel = MeanImage(array.read().reshape(shape))
            return replace(rule, mean=tuple(pixel.channels), mean_image=None)
        rule.check_mean_image(shape)  # before any number is read
        image = MeanImage(array.read().reshape(shape))
    except ModelFileError:
        raise
    except SkipwayError as error:
        raise ModelFileError(f"{file}: {error}") from None
    return replace(rule, mean=image.channels, mean_image=image)


def _with_three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A mean's shape as (C, H, W): a pixel has no sides, a blob of Caffe four axes, a grey picture perhaps two."""
    if len(shape) == 4 and shape[0] == 1:
        return shape[1:]
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) == 1:
        return (*shape, 1, 1)
    return shape


def _mean_array(file: Path) -> Array:
    head = checked_head(file)
    if npy.looks_like(head, file):
        arrays = npy.read(file).arrays
        if len(arrays) != 1:
            raise ModelFileError(
                f"{file} holds {counted(len(arrays), 'array')}; give the mean alone, saved with numpy.save"
            )
        return next(iter(arrays.values()))
    if caffe.looks_like_mean(head, file):
        return caffe.read_mean(file).arrays[MEAN]
    raise ModelFileError(f"{file} is no mean but {describe_foreign(head)}; give Caffe's .binaryproto or an .npy")
