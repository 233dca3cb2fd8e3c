"""Formulas as MathML, made while the book is built.

A page then needs no script and no request to show them, and a screen reader can read them. docutils has the converter.
"""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_THIN = '<mspace width="0.1667em"/>'


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def _displayed(translator: HTML5Translator, node: nodes.math_block) -> None:
    # Wider than a phone, a formula moves in its own box, which the keyboard can reach.
    translator.body.append(f'<div class="math" tabindex="0">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def _spaced(mathml: str) -> str:
    """As TeX has it: a thin space on both sides of a function's name but not before a bracket, none around a slash."""
    mathml = re.sub(r"(</m(?:i|n|row|sub|sup)>)(\s*<mi>\w+</mi>\s*<mo>&ApplyFunction;)", rf"\1{_THIN}\2", mathml)
    mathml = re.sub(r"(<mo>&ApplyFunction;</mo>)(?!\s*<mo[^>]*>\()", rf"\1{_THIN}", mathml)
    return re.sub(r"<mo[^>]*>/</mo>", '<mo lspace="0" rspace="0" stretchy="false">/</mo>', mathml)


def _mathml(node: nodes.Element, *, as_block: bool) -> str:
    try:
        return _spaced(tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        logging.getLogger(__name__).warning("%s: %s", node.astext(), error, location=node)
        return ""
