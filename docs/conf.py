"""Sphinx: `make docs`. Nothing is downloaded to build or to read the pages."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from geomm._version import __version__  # noqa: E402

project = "geomm"
author = "the authors of geomm"
version = release = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "reference",  # docs/reference.py: the public names, the command line, the notebooks
]
exclude_patterns = ["_build", "images", "*.py"]
suppress_warnings = ["myst.xref_missing"]  # links of CONTRIBUTING.md into the repository

# Notebooks are Python files of jupytext, in notebooks/.
nb_ipywidgets_js = {}  # from a CDN otherwise
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"  # only those that have changed
nb_execution_cache_path = str(HERE / "_build" / "notebooks")
nb_execution_timeout = 600
nb_execution_raise_on_error = True

myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False
nitpicky = False

html_theme = "pydata_sphinx_theme"
html_title = f"geomm {release}"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": False, "show_prev_next": True, "secondary_sidebar_items": ["page-toc"]}
html_context = {"default_mode": "light"}
