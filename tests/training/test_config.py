import re
import subprocess
import sys
from dataclasses import fields

import pytest
from jsonargparse import ArgumentParser

from maskris.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "exactly one of epochs and steps"),
        ({"epochs": 1, "steps": 1}, "exactly one of epochs and steps"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 1, "evaluate_every": 0}, "evaluate_every must be epoch, at least 1, or null, not 0"),
        ({"steps": 1, "evaluate_every": "day"}, "evaluate_every must be epoch, at least 1, or null, not 'day'"),
        ({"steps": 1, "lr": 0.0}, "lr must be positive, not 0.0"),
        ({"steps": 1, "betas": [0.9, 1.0]}, "betas must be two numbers from 0 to below 1"),
        ({"steps": 1, "betas": [0.9]}, "betas must be two numbers from 0 to below 1"),
        ({"steps": 1, "warmup_ratio": 1.5}, "warmup_ratio must be between 0 and 1"),
        ({"steps": 1, "lr_milestones": [0.7, 35]}, "lr_milestones must be shares of the run, between 0 and 1"),
        ({"steps": 1, "gamma": 0.0}, "gamma must be above 0 and at most 1"),
        ({"steps": 1, "optimizer": "sgd"}, "optimizer must be adamw or adam, not 'sgd'"),
        ({"steps": 1, "schedule": "linear"}, "schedule must be poly, step, cosine or constant"),
        ({"steps": 1, "prefetch_factor": 0}, "prefetch_factor must be at least 1, not 0"),
        ({"steps": 1, "max_grad_norm": 0.0}, "max_grad_norm must be positive, or null"),
        ({"steps": 1, "precision": "fp8"}, "precision must be fp32, bf16 or fp16, not 'fp8'"),
        (
            {"steps": 1, "batch_size": 6, "gradient_accumulation_steps": 4},
            "gradient_accumulation_steps = 4 does not divide batch_size = 6",
        ),
    ],
)
def test_wrong_values_are_named(changes, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        TrainingConfig(**changes)


def test_the_length_of_a_run():
    assert TrainingConfig(steps=7).total_steps(100) == 7
    assert TrainingConfig(epochs=3).total_steps(100) == 300
    every = [TrainingConfig(steps=7, evaluate_every=value).evaluation_interval(100) for value in (None, 5, "epoch")]
    assert every == [None, 5, 100]


def test_what_a_checkpoint_must_have_in_common():
    identity = TrainingConfig(steps=7).identity()
    assert {"seed", "lr", "batch_size", "steps", "precision", "gradient_accumulation_steps"} <= identity.keys()
    harmless = {"workers", "prefetch_factor", "log_every", "save_every", "tensorboard", "device"}
    assert not harmless & identity.keys()


def test_every_field_has_its_line_in_the_help():
    parser = ArgumentParser()
    parser.add_class_arguments(TrainingConfig, "training")
    text = parser.format_help()
    for field in fields(TrainingConfig):
        line = re.search(rf"--training\.{field.name}\b[^\n]*(.*?)(?=\n  --training|\Z)", text, re.DOTALL)
        assert line is not None
        assert len(line[1].split("(")[0].split()) >= 3, field.name  # words before "(type: …)"
    parsed = parser.parse_args(["--training.steps=3", "--training.max_grad_norm=null"])
    assert TrainingConfig(**vars(parsed.training)) == TrainingConfig(steps=3, max_grad_norm=None)
    for text, value in {"epoch": "epoch", "5": 5, "null": None}.items():
        assert parser.parse_args(["--training.steps=3", f"--training.evaluate_every={text}"]).training[
            "evaluate_every"
        ] == value  # fmt: skip


def test_the_configuration_is_light():
    heavy = "('torch', 'transformers', 'pyarrow')"
    code = f"import sys, maskris.training.config; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
