"""Messages of ONNX Runtime without the place in its C++ source that they begin with."""

from __future__ import annotations

import re

__all__ = ["without_source"]

_PLACE = r"(?<!\S)\S{1,300}\.(?:cc|cpp|cuh?|h|hpp):\d+ "
_ARGUMENTS = r"\((?:[^()]|\((?:[^()]|\([^()]{0,100}\)){0,200}\)){0,800}\)"
_FUNCTION = r"(?:[^()]|\(anonymous namespace\)){0,300}?::(?:operator\(\)|[^\s()]{1,200})"
_SIGNATURE = rf"{_FUNCTION}{_ARGUMENTS}(?:::<lambda{_ARGUMENTS}>)?(?: const)?(?: \[with [^\]]*\])?(?: |$)"
_CONDITION = r"(?:(?! was false\. )[^\n]){1,300} was false\. "
_SOURCE = re.compile(rf"{_PLACE}(?:{_SIGNATURE}|\w+ )(?:{_CONDITION})?")
"""A file with a line, the function there, and the condition that does not hold."""


def without_source(message: str) -> str:
    r"""Drops where in its source ONNX Runtime has found an error.

    Example:
        >>> without_source("FAIL : /ort/core/model.cc:256 onnxruntime::Model::Model(int, bool) Unsupported version\n")
        'FAIL : Unsupported version'
    """
    return _SOURCE.sub("", message).strip()
