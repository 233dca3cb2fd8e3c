"""The book. Sphinx reads the clone from its root, so that the links which work on GitHub work here, too.

``dslearn book`` builds it; ``sphinx-build -c book . build/book`` does the same.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

BOOK = Path(__file__).parent
sys.path[:0] = [str(BOOK.parent), str(BOOK / "_ext")]

from results import results  # noqa: E402

from dslearn import __version__  # noqa: E402

# The contents' extension looks at every object there is, and torch minds being looked at.
warnings.filterwarnings("ignore", message=".*torch.distributed.reduce_op")

project = "dslearn"
author = "the dslearn authors"
copyright = "the dslearn authors. MIT licence; the fonts: SIL Open Font License"
release = __version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_external_toc",
    "sphinxcontrib.bibtex",
    "explorer",
    "mathml",
    "notebooks",
    "signatures",
]
include_patterns = [
    "book/*.md",
    "book/api/*.md",
    "chapters/*.ipynb",
    "solutions/*.ipynb",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "NOTEBOOK.md",
]
external_toc_path = "book/_toc.yml"
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
templates_path = ["_templates"]

# The notebooks are stored with what they printed; `make chapters` runs them.
nb_execution_mode = "off"
# Our widgets carry their own page; nothing of Jupyter's has to be loaded beside them.
nb_mime_priority_overrides = [("html", "text/html", 0)]
nb_ipywidgets_js = {}
myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath", "substitution"]
myst_heading_anchors = 3
myst_substitutions = results(BOOK)
html_math_renderer = "mathml"

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 72
add_module_names = False
default_role = "py:obj"
nitpicky = True
# Other projects' pages cannot be asked offline. Our own public names must all be found.
nitpick_ignore_regex = [("py:.*", r"(?!dslearn\.).*|.*\._\w+")]
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = "dslearn"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_extra_path = ["_root"]
html_css_files = ["book.css"]
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {
        "text": "dslearn",
        "image_light": "_static/favicon.svg",
        "image_dark": "_static/favicon.svg",
        "alt_text": "",
    },
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "use_download_button": False,  # the extension `notebooks` knows which file a page comes from
    "use_fullscreen_button": False,
    # Sphinx sizes everything of the class "body", which an explorer has, too.
    "body_min_width": "0",
    "body_max_width": "none",
    # One header is enough: the search has its place beside the contents.
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
    "footer_content_items": "copyright.html",
    "search_bar_text": "Search the book",
    "toc_title": "On this page",
}
