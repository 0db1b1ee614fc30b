"""Model packages: a folder that can be used years later, by people who never saw its training.

``model.safetensors`` (weights), ``mlm.json`` (a STAC item with the MLM extension: what goes in, what comes out),
``README.md`` (card) and ``SHA256SUMS``; where a text encoder needs them, ``text/`` with its tokeniser, configuration
and the weights of its pretrained tower. Nothing in it is pickled.
"""

from __future__ import annotations

from geomm.package.contract import InputContract, check_cube, check_scale
from geomm.package.files import ModelPackage, load_package, save_package

__all__ = ["InputContract", "ModelPackage", "check_cube", "check_scale", "load_package", "save_package"]
