"""The options of a training call: one list of names, types and defaults."""

from __future__ import annotations

import dataclasses
import typing

from skipway.training.request import Options, TrainOptions


def test_the_keywords_are_the_fields() -> None:
    fields = typing.get_type_hints(TrainOptions)
    assert typing.get_type_hints(Options) == fields
    assert all(field.default is not dataclasses.MISSING for field in dataclasses.fields(TrainOptions))
