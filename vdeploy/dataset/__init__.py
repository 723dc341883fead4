"""Labelled clips: a folder or a CSV in, checked clips with labels, splits and hashes out."""

from __future__ import annotations

from vdeploy.dataset.records import Dataset, LabelledClip, Problem
from vdeploy.dataset.scanning import scan

__all__ = ["Dataset", "LabelledClip", "Problem", "scan"]
