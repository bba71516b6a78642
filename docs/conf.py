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
default_role = "literal"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # links to headings, as on GitHub
napoleon_use_ivar = True  # attributes of dataclasses would be described twice otherwise
suppress_warnings = ["ref.python"]  # words such as "path" in a type line name several attributes
