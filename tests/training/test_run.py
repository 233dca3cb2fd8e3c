"""Runs: interrupted and resumed, refused, failed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dslearn.data import TokenStream
from dslearn.models import LanguageModel, ModelConfig
from dslearn.training import LanguageModule, LearningCurve, SelectorStages, fit

STEPS = 12


def module(*, attention: str = "dense", steps: int = STEPS, threads: int = 1) -> LanguageModule:
    config = ModelConfig(
        vocab_size=50, dim=16, num_layers=2, num_heads=2, hidden_dim=24, attention=attention, block_size=4, top_k=2
    )
    return LanguageModule(LanguageModel(config), steps=steps, threads=threads)


def stream() -> TokenStream:
    tokens = torch.randint(0, 50, (400,), generator=torch.Generator().manual_seed(0))
    return TokenStream(tokens, batch_size=4, seq_len=12, seed=1)


def interrupted_at(*steps: int):
    """Batches that press Ctrl-C once before each of some steps."""
    left = set(steps)

    def batch_at(step: int) -> torch.Tensor:
        if step in left:
            left.remove(step)
            os.kill(os.getpid(), signal.SIGINT)
        return stream().batch(step)

    return batch_at


@pytest.mark.parametrize(("attention", "threads"), [("dense", 1), ("dense", 2), ("sparse", 1)])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, attention: str, threads: int) -> None:
    def stages() -> list[SelectorStages]:
        return [SelectorStages(dense_steps=3, warmup_steps=4)] if attention == "sparse" else []

    valid = {"text": stream().batch(99)}
    whole = module(attention=attention, threads=threads)
    expected = fit(whole, stream().batch, callbacks=stages(), curve=LearningCurve(valid, valid_every=3))

    batch_at = interrupted_at(2, 5, 9)
    for _ in range(3):
        with pytest.raises(
            KeyboardInterrupt, match=r"Stopped after step \d+ of 12, saved in .*last.ckpt. Run the same"
        ):
            fit(module(attention=attention, threads=threads), batch_at, folder=tmp_path, callbacks=stages())
    resumed = module(attention=attention, threads=threads)
    curve = LearningCurve(valid, valid_every=3)
    fit(resumed, batch_at, folder=tmp_path, callbacks=stages(), curve=curve)

    assert curve.steps["cross_entropy"] == expected.steps["cross_entropy"]
    assert curve.steps.get("selector_loss") == expected.steps.get("selector_loss")
    assert len(curve.steps["seconds"]) == STEPS
    assert curve.steps["seconds"] == sorted(curve.steps["seconds"])
    assert curve.valid[-1] == expected.valid[-1]
    for name, parameter in resumed.model.state_dict().items():
        assert torch.equal(parameter, whole.model.state_dict()[name]), name


def test_a_run_learns() -> None:
    repeated = torch.arange(10).repeat(40)
    tokens = TokenStream(repeated, batch_size=4, seq_len=12, seed=0)
    curve = fit(module(steps=80), tokens.batch)
    assert curve.steps["cross_entropy"][0] > 3.5
    assert curve.steps["cross_entropy"][-1] < 1.5


PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_run import fit, module, stream

def batch_at(step):
    print("step", step, flush=True)
    time.sleep(0.05)
    return stream().batch(step)

fit(module(steps=60), batch_at, folder=sys.argv[2])
"""


@pytest.mark.slow
def test_ctrl_c_in_a_real_process(tmp_path: Path) -> None:
    """SIGINT to a training process: it saves, says how to go on, and going on ends where an undisturbed run ends."""
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line == "step 7\n" for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    stopped = re.search(r"KeyboardInterrupt: Stopped after step (\d+) of 60.*Run the same command again", errors)
    assert stopped, errors
    asked: list[int] = []

    def batch_at(step: int) -> torch.Tensor:
        asked.append(step)
        return stream().batch(step)

    resumed = fit(module(steps=60), batch_at, folder=tmp_path)
    assert asked[0] == int(stopped[1])
    undisturbed = fit(module(steps=60), stream().batch)
    assert resumed.steps["cross_entropy"] == undisturbed.steps["cross_entropy"]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = module()
    fit(first, stream().batch, folder=tmp_path)

    def unwanted(step: int) -> torch.Tensor:
        raise AssertionError(f"step {step} was asked for")

    again = module()
    curve = fit(again, unwanted, folder=tmp_path)
    assert len(curve.steps["cross_entropy"]) == STEPS
    assert torch.equal(again.model.embedding.weight, first.model.embedding.weight)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    fit(module(steps=2), stream().batch, folder=tmp_path, settings={"seed": 1, "data": "prose"})
    with pytest.raises(ValueError, match=r"last.ckpt was made with other settings: seed was 1, now 2\. Use those"):
        fit(module(steps=4), stream().batch, folder=tmp_path, settings={"seed": 2, "data": "prose"})


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", None])
def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path: Path, content: bytes | None) -> None:
    fit(module(steps=2), stream().batch, folder=tmp_path)
    path = tmp_path / "last.ckpt"
    content = path.read_bytes()[:-500] if content is None else content
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last.ckpt is damaged or no checkpoint of this training"):
        fit(module(steps=4), stream().batch, folder=tmp_path)
    assert path.read_bytes() == content


class Treacherous:
    """What a foreign checkpoint might carry."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"global_step": 1, "settings": {}, "state_dict": Treacherous()}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        fit(module(), stream().batch, folder=tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_full_disk_is_told_and_the_checkpoint_before_survives(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    with pytest.raises(KeyboardInterrupt):
        fit(module(), interrupted_at(5), folder=tmp_path)
    before = (tmp_path / "last.ckpt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # a file cannot grow beyond 1,000 bytes
    try:
        with pytest.raises(OSError, match=r"Cannot write a checkpoint to .*; the one before it is kept in .*last.ckpt"):
            fit(module(), stream().batch, folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_an_impossible_folder_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Cannot make the folder for checkpoints"):
        fit(module(), stream().batch, folder=tmp_path / "file" / "run")


def test_the_signal_handler_is_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    fit(module(steps=2), stream().batch, folder=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
