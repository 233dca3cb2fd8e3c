"""``dslearn book``: the book as a static site, warnings counting as errors."""

from __future__ import annotations

from dslearn._extras import require
from dslearn.cli import CommandError
from dslearn.cli.lab import find_course


def build_book(*, browser: bool = False) -> int:
    """Build the book into ``build/book``, say where it begins, and return the exit code.

    Raises:
        CommandError: the chapters are not here, or Sphinx had something to say.
        MissingExtraError: Sphinx is not installed.
    """
    sphinx = require("sphinx.cmd.build", "book")
    root = find_course()
    site = root / "build" / "book"
    # Anew each time: a page that is not read again repeats no warning.
    options = ["-E", "-a", "-q", "-W", "-n", "--keep-going", "-b", "html", "-d", str(root / "build" / "doctrees")]
    if sphinx.main([*options, "-c", str(root / "book"), str(root), str(site)]):
        raise CommandError("the book is not as it should be; the lines above say where")
    start = (site / "index.html").as_uri()
    print(f"The book is built. It begins at\n\n    {start}\n")
    if browser:
        import webbrowser

        webbrowser.open(start)
    return 0
