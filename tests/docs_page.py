"""Runs the blocks of a page of the docs in a folder that holds what they speak of, and checks those that can't run."""

import importlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs_blocks import ROOT, SHELL, Block, Command, commands_of
from docs_world import TINY_MODEL, TINY_OPTIONS, TINY_TRAINING
from PIL import Image

from maskris.cli import arguments
from maskris.cli.main import commands, main
from maskris.experiments.recipe import SECTIONS, Recipe, find, read_recipe
from maskris.experiments.study import check_variant, plan_study, read_study
from maskris.inference.batch_inputs import read_rows


class Page:
    """Runs the blocks of one page, as somebody who reads it from top to bottom would."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.names: dict[str, Any] = {"__name__": "docs"}
        self.python = ""

    def take(self, block: Block) -> None:
        os.chdir(self.folder)
        kinds = {"python": self.run_python, "json": self.read_json, "yaml": self.read_yaml, "csv": self.read_csv}
        kinds["text"] = self.look_at
        kinds |= dict.fromkeys(SHELL, self.run_shell)
        assert block.language in kinds, (
            f"{block.where}: a block of {block.language or 'no language'} is neither run nor read; known: {list(kinds)}"
        )
        kinds[block.language](block)

    def run_python(self, block: Block) -> None:
        code = compile("\n" * (block.line - 1) + block.text, str(block.file), "exec")
        if not block.needs:
            self.python += block.text
            exec(code, self.names)

    def look_at(self, block: Block) -> None:
        """Output and layouts of folders; commands have languages."""
        commands = [line for line in block.text.splitlines() if re.match(r"(\$ )?(maskris|pip|python) ", line)]
        assert not commands, f"{block.where}: {commands[0]!r} in a block of text; call it sh"

    def read_json(self, block: Block) -> None:
        """Referents, one per line, are read by `maskris prepare`; their photos and masks are made here."""
        try:
            values = [json.loads(block.text)]
        except ValueError:
            values = [json.loads(line) for line in block.text.splitlines()]
        if not all("image" in value and "expressions" in value for value in values):
            return
        for value in values:
            size = tuple(reversed(value["mask"]["size"])) if isinstance(value.get("mask"), dict) else (640, 480)
            for name in (value["image"], value.get("mask")):
                if isinstance(name, str):
                    (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                    Image.new("RGB", size, "white").save(self.folder / name)
        (self.folder / "mine.jsonl").write_text(block.text, encoding="utf-8")
        self.maskris(Command(block.where, ("maskris", "prepare", "mine.jsonl", "--out", "mine.parquet")))

    def read_csv(self, block: Block) -> None:
        """Photos and phrases, as `maskris predict` reads them."""
        (self.folder / "block.csv").write_text(block.text, encoding="utf-8")
        rows = read_rows(self.folder / "block.csv")
        assert [row.given["expression"] for row in rows if row.error is None], f"{block.where}: no phrase in it"

    def read_yaml(self, block: Block) -> None:
        """Studies and parts of recipes are read by their readers, and every class in them is built."""
        values = yaml.safe_load(block.text)
        (self.folder / "block.yaml").write_text(block.text, encoding="utf-8")
        if "variants" in values:
            study = read_study(self.folder / "block.yaml")
            for variant in study.variants:
                check_variant(variant, self.folder / "recipes" / f"{variant.folder}.yaml", []).instantiate()
        elif set(values) <= {"base", *SECTIONS}:
            (self.folder / "my_package.py").write_text(self.python, encoding="utf-8")
            recipe = read_recipe(self.folder / "block.yaml" if "base" in values else "shapes-maskris")
            recipe |= {} if "base" in values else values
            recipe["data"] = {"train": "train"} | recipe["data"]
            (self.folder / "block.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
            read = Recipe(self.folder / "block.yaml")
            read.instantiate()
            assert len(read.augmentations) == len(recipe["data"].get("augment", []))

    def run_shell(self, block: Block) -> None:
        for command in commands_of(block):
            first = command.words[0]
            if "-m" in command.words and (rest := command.words[command.words.index("-m") + 1 :])[0] == "maskris":
                self.check(Command(command.where, rest))  # torchrun … -m maskris train …
                assert block.needs, f"{command}: several processes are not started here; mark the block"
            elif first == "cd":
                os.chdir(command.words[1])
            elif first == "maskris":
                self.check(command) if block.needs else self.maskris(command)
            elif command.words[:3] == ("python", "-m", "benchmarks"):
                self.check_benchmark(command)
                assert block.needs, f"{command}: benchmarks take minutes; mark the block"
            else:
                assert block.needs, f"{command}: this test can't run {first}; mark the block with what it needs"

    def maskris(self, command: Command) -> None:
        """Run a command, made tiny: one step, a network of some thousand parameters."""
        name, *rest = command.words[1:]
        values = self.check(command)
        own = {argument.name for argument in arguments.arguments_of(commands()[name].function(name))}
        own = set() if name == "predict" else own  # whose workers are threads, at least one
        tiny = {f"--{option}": value for option, value in TINY_OPTIONS.items() if option in own}
        if name == "train":
            out = Path(values["out"] or Path("runs") / Path(values["recipe"]).stem)
            if (out / "stand-in").exists():
                shutil.rmtree(out)
            tiny |= TINY_TRAINING | ({} if values["recipe"].startswith("shapes-") else TINY_MODEL)
        elif name == "reproduce" and not values["list"]:
            tiny |= {} if values["checkpoint"] else TINY_TRAINING | TINY_MODEL
        # What the page says itself comes last and counts.
        assert main([name, *(f"{key}={value}" for key, value in tiny.items()), *rest]) == 0, f"{command} failed"

    def check(self, command: Command) -> dict[str, Any]:
        """Whether a command takes these arguments, and what it names exists here.

        Returns:
            Its arguments by name.
        """
        assert len(command.words) > 1, f"{command}: no command"
        assert command.words[1] in commands(), f"{command}: there is no such command"
        name, *rest = command.words[1:]
        function = commands()[name].function(name)
        try:
            values = arguments.parse(name, function, rest)
        except SystemExit as end:
            pytest.fail(f"{command}: not what `maskris {name} --help` says (exit code {end.code})")
        overrides = values.get("overrides") or []
        try:
            if name == "study" and not values["name"].endswith(".yaml"):
                for variant in plan_study(values["name"], values["vary"]).variants:
                    check_variant(variant, self.folder / "recipes" / f"{variant.folder}.yaml", overrides)
            elif name == "recipes" and values["name"]:
                find(values["name"])
            elif values.get("recipe"):
                own = values["recipe"].endswith(".yaml")  # whatever it holds
                Recipe("shapes-maskris" if own else values["recipe"], overrides)
        except (ValueError, AssertionError) as error:
            pytest.fail(f"{command}: {error}")
        return values

    def check_benchmark(self, command: Command) -> None:
        self.monkeypatch.syspath_prepend(ROOT)
        benchmarks = importlib.import_module("benchmarks.__main__")

        self.monkeypatch.setattr(benchmarks, "run", lambda **_: None)
        self.monkeypatch.setattr(sys, "argv", ["benchmarks", *command.words[3:]])
        try:
            benchmarks.main()
        except SystemExit as end:
            pytest.fail(f"{command}: exit code {end.code}")
