"""Sphinx configuration."""

from zoobot_3d import __version__

project = "zoobot-3d"
author = "the zoobot-3d developers"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"zoobot-3d {release}"
exclude_patterns = ["_build"]
autodoc_typehints = "none"  # the docstrings say them, with shapes and units
napoleon_google_docstring = False
default_role = "code"
myst_enable_extensions = ["dollarmath"]
