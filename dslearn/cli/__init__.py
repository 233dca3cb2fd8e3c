"""The command ``dslearn``: open the course, judge exercises, show a demo, build the book, train models."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence

from dslearn import __version__
from dslearn._extras import MissingExtraError
from dslearn.demos import DEMOS


class CommandError(Exception):
    """What the user is told instead of a traceback: what was asked, what stands in the way, what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; ``arguments`` are the process's own by default."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (CommandError, MissingExtraError) as error:
        print(f"dslearn: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dslearn", description="Learn how DeepSeek-style systems work by building them."
    )
    parser.add_argument("--version", action="version", version=f"dslearn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    lab = commands.add_parser("lab", help="open the course in JupyterLab, on this machine only")
    lab.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    lab.add_argument("--port", type=_port, default=8888, metavar="N", help="default: %(default)s")
    lab.set_defaults(run=_lab)

    check = commands.add_parser("check", help="judge the exercises in work/ with the solutions' checks")
    check.add_argument("what", nargs="?", type=_number, metavar="NN", help="such as 01, or 01.5; default: all")
    check.set_defaults(run=_check)

    progress = commands.add_parser("progress", help="show what is done of the exercises")
    progress.add_argument("--report", metavar="FILE", help="also write it there as Markdown, to be shown around")
    progress.set_defaults(run=_progress)

    demo = commands.add_parser("demo", help="try a chapter's model in the browser, on this machine only")
    demo.add_argument("name", choices=DEMOS, metavar="NAME", help=f"one of: {', '.join(DEMOS)}")
    demo.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    demo.add_argument("--port", type=_port, default=7860, metavar="N", help="default: %(default)s")
    demo.set_defaults(run=_demo)

    _add_train(commands)

    book = commands.add_parser("book", help="build the book, a static site, into build/book")
    book.add_argument("--open", action="store_true", help="show it in a browser when it is built")
    book.set_defaults(run=_book)

    doctor = commands.add_parser("doctor", help="look at this machine and say what is missing")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = commands.add_parser("train", help="train a model that the chapters use; interrupted, it resumes")
    models = train.add_subparsers(title="models", metavar="MODEL", required=True)
    language = models.add_parser("language", help="the language model: 90 minutes on two cores with bfloat16, or hours")
    language.add_argument("--folder", default="work/language", help="where it is kept; default: %(default)s")
    language.add_argument("--until", metavar="PHASE", help="the last phase to train; default: all of them")
    language.set_defaults(run=_train_language)

    mixtures = models.add_parser("mixtures", help="four small mixtures of experts: about half an hour on two cores")
    mixtures.add_argument("--folder", default="work/mixtures", help="where they are kept; default: %(default)s")
    mixtures.set_defaults(run=_train_mixtures)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")
    return int(text)


def _number(text: str) -> str:
    if not re.fullmatch(r"\d{1,2}(\.\d{1,2})?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"give a chapter such as 01, or an exercise such as 01.5; not {text!r}")
    chapter, *exercise = (int(part) for part in text.split("."))
    return ".".join([f"{chapter:02d}", *map(str, exercise)])


# Each command is imported when it runs: `dslearn --help` answers at once.


def _lab(options: argparse.Namespace) -> int:
    from dslearn.cli.lab import open_lab

    return open_lab(port=options.port, browser=not options.no_browser)


def _check(options: argparse.Namespace) -> int:
    from dslearn.cli.exercises import check

    return check(options.what)


def _progress(options: argparse.Namespace) -> int:
    from dslearn.cli.exercises import show_progress

    return show_progress(options.report)


def _book(options: argparse.Namespace) -> int:
    from dslearn.cli.book import build_book

    return build_book(browser=options.open)


def _demo(options: argparse.Namespace) -> int:
    from dslearn.cli.demo import open_demo

    return open_demo(options.name, port=options.port, browser=not options.no_browser)


def _doctor(_: argparse.Namespace) -> int:
    from dslearn.cli.doctor import report

    return report()


def _train_language(options: argparse.Namespace) -> int:
    from dslearn.training.recipes import train_language

    return _resumable(lambda: train_language(options.folder, until=options.until), options.folder)


def _train_mixtures(options: argparse.Namespace) -> int:
    from dslearn.training.mixture import train_mixtures

    return _resumable(lambda: train_mixtures(options.folder), options.folder)


def _resumable(train: Callable[[], object], folder: str) -> int:
    try:
        train()
    except KeyboardInterrupt:
        print("\nStopped, and nothing is lost: the same command goes on from here.", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    print(f"What was trained is in {folder}")
    return 0
