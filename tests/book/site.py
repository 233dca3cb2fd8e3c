"""The built book, and what is wrong with its pages: dead links, requests elsewhere, missing names."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "book"
# Where a learner's own JupyterLab answers: the one address that need not be secured.
LAB = "http://127.0.0.1:8888/lab/tree/"
# What a browser fetches by itself when it shows a page.
FETCHED = "script[src], img[src], iframe[src], source[src], audio[src], video[src], embed[src], object[data]"
_IN_STYLES = re.compile(r"""@import\s+["']([^"']+)|url\(\s*["']?([^"')]+)""")

Pages = Mapping[Path, BeautifulSoup]


def build() -> Path:
    """Build the book as ``make book`` does, and return its folder."""
    built = subprocess.run([sys.executable, "-m", "dslearn.cli", "book"], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return SITE


def sources() -> list[str]:
    """The pages by the files that they are made from, without suffix, as ``chapters/00_start_here``."""
    patterns = ("book/*.md", "book/api/*.md", "chapters/*.ipynb", "solutions/*.ipynb", "C[HO]*.md", "NOTEBOOK.md")
    files = (path for pattern in patterns for path in ROOT.glob(pattern))
    return sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in files)


def read_pages(site: Path) -> dict[Path, BeautifulSoup]:
    """Every page; the theme also leaves a template among its own files, which is none."""
    paths = (path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts)
    return {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in paths}


def dead_links(site: Path, pages: Pages) -> list[str]:
    """Links and embedded files inside the site that lead nowhere, or to a place that is not on the page."""
    names = {
        path: {tag.get("id") or tag.get("name") for tag in soup.select("[id], a[name]")} for path, soup in pages.items()
    }
    found = []
    for path, soup in pages.items():
        for link in _links(soup):
            where = urlsplit(link)
            if where.scheme or where.netloc:
                continue
            target = (path.parent / unquote(where.path)).resolve() if where.path else path
            missing = not target.is_file() or not target.is_relative_to(site)
            if missing or (where.fragment and unquote(where.fragment) not in names.get(target, ())):
                found.append(f"{path.relative_to(site)}: {link}")
    return found


def odd_links(pages: Pages) -> list[str]:
    """Links that leave the site and are not a well-formed https address."""
    outward = (link for soup in pages.values() for link in _links(soup) if urlsplit(link).scheme not in ("", "data"))
    return sorted({link for link in outward if not (link.startswith(LAB) or _is_https(link))})


def fetched_elsewhere(site: Path, pages: Pages) -> list[str]:
    """What a browser would fetch from another host to show the pages: scripts, styles, fonts, pictures."""
    found = []
    for path, soup in pages.items():
        asked = [tag.get("src") or tag.get("data") for tag in soup.select(FETCHED)]
        asked += [tag.get("href") for tag in soup.select("link[href]") if "canonical" not in (tag.get("rel") or ())]
        styles = [tag.get_text() for tag in soup.select("style")] + [tag["style"] for tag in soup.select("[style]")]
        asked += [address for style in styles for address in _in_style(str(style))]
        found += [f"{path.relative_to(site)}: {address}" for address in asked if _is_elsewhere(str(address))]
    for path in sorted(site.rglob("*.css")):
        addresses = _in_style(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)}: {address}" for address in addresses if _is_elsewhere(address)]
    return found


def untidy(site: Path, pages: Pages) -> list[str]:
    """Pages without a language, a title or exactly one main heading, and pictures without alternative text."""
    found = []
    for path, soup in pages.items():
        root, title, headings = soup.find("html"), soup.find("title"), len(soup.find_all("h1"))
        wrong = {
            "no language": not (isinstance(root, Tag) and root.get("lang")),
            "no title": not (title and title.get_text(strip=True)),
            f"{headings} main headings": headings != 1,
            "a picture without alternative text": bool(soup.select("img:not([alt])")),
        }
        found += [f"{path.relative_to(site)}: {what}" for what, is_so in wrong.items() if is_so]
    return found


def in_contents(page: Path, soup: BeautifulSoup) -> set[Path]:
    """The pages that the contents beside ``page`` lead to."""
    links = (str(tag["href"]).partition("#")[0] for tag in soup.select(".bd-links a.internal[href]"))
    return {(page.parent / link).resolve() if link else page for link in links}


def _links(soup: BeautifulSoup) -> Iterator[str]:
    for tag in soup.select("[href], [src]"):
        yield str(tag.get("href") if tag.has_attr("href") else tag.get("src"))


def _in_style(style: str) -> list[str]:
    return [first or second for first, second in _IN_STYLES.findall(style)]


def _is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme in ("http", "https", "ftp")


def _is_https(link: str) -> bool:
    where = urlsplit(link)
    return where.scheme == "https" and "." in (where.hostname or "") and not re.search(r"\s", link)
