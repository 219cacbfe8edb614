import inspect
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from squares import BERT, RECIPE, SWIN, WORDS

from maskris.data.published_counts import PUBLISHED as PUBLISHED_SIZES
from maskris.experiments.claims import load_claims
from maskris.experiments.recipe import Recipe, RecipeError, Splits, find, full_text, merge, read_recipe, shipped
from maskris.models.caris.model import CARIS
from maskris.models.encoders.packaged import PACKAGED, PREFIX
from maskris.models.lavt import LAVT
from maskris.strategies.masking import ImageMasking, TextMasking
from maskris.training.config import TrainingConfig

DOCS = Path(__file__).resolve().parents[2] / "docs"
CLIP_RESNET = {
    **{"embed_dim": 16, "vision_layers": [1, 1, 1, 1], "vision_width": 4},
    **{"vocab_size": 20, "transformer_width": 16, "transformer_layers": 3},
}
CLIPSEG = {
    **{"model_type": "clipseg", "projection_dim": 8, "extract_layers": [0, 1], "reduce_dim": 8},
    "text_config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "eos_token_id": len(WORDS) + 4},
    "vision_config": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16},
}
TINY = {  # what a recipe would load from the Hub, by the class of its model
    "CARIS": {"vision": SWIN, "text": BERT},
    "CLIPSeg": {"clipseg": CLIPSEG},
    "CRIS": {"clip": CLIP_RESNET, "fpn_out": [8, 16, 8]},
    "ETRIS": {"clip": CLIP_RESNET},
    "LAVT": {"vision": SWIN, "text": BERT},
    "TRIS": {"clip": CLIP_RESNET, "widths": [4, 4, 4, 4]},
    "TRISLocalizer": {"clip": CLIP_RESNET, "width": 8},
    "SaG": {"vision": {"width": 8, "layers": 1, "heads": 2, "patch_size": 16, "grid": 4}, "text": BERT, "width": 8},
}
PUBLISHED_SWIN = "microsoft/swin-base-patch4-window7-224-in22k"
SAG_VIT = "timm/vit_small_patch16_384.augreg_in21k_ft_1k"
LAVT_SWIN = "microsoft/swin-base-patch4-window12-384-in22k"
SIZES = {"CARIS": (448, 448), "CLIPSeg": (352, 352), "CRIS": (416, 416), "ETRIS": (416, 416), "LAVT": (480, 480)}
SIZES |= {"TRIS": (320, 320), "TRISLocalizer": (320, 320), "SaG": (384, 384)}
# By network; what stands here in no line is the default of `TrainingConfig`.
NO_WARMUP = {"warmup_steps": 0}
CLIP_BASED = {
    **{"optimizer": "adam", "weight_decay": 0.0, "schedule": "step", "lr_milestones": (0.7,), "gamma": 0.1},
    **{"max_grad_norm": None, "precision": "fp16", "protocol": "cris", "best_metric": "mIoU"},
}
TRIS = {
    **{"epochs": 15, "batch_size": 48, "lr": 5e-5, "weight_decay": 1e-2, "max_grad_norm": None, "precision": "fp32"},
    **NO_WARMUP | {"protocol": "tris", "best_metric": "mIoU"},
}
PUBLISHED = {
    "TRIS": TRIS | {"schedule": "constant"},
    "TRISLocalizer": TRIS | {"schedule": "poly", "power": 0.9, "seed": 1234},
    "CARIS": {
        **{"epochs": 50, "batch_size": 16, "lr": 1e-4, "weight_decay": 1e-2, "power": 0.9, "max_grad_norm": 1.0},
        **{"warmup_steps": 1500, "warmup_ratio": 1e-3, "first_step_full_rate": True, "precision": "fp16"},
    },
    "CRIS": {"epochs": 50, "batch_size": 64, "lr": 1e-4, "first_epoch_full_rate": True} | CLIP_BASED | NO_WARMUP,
    "ETRIS": {"epochs": 50, "batch_size": 32, "lr": 1e-4} | CLIP_BASED | NO_WARMUP,
    "LAVT": {
        **{"epochs": 40, "batch_size": 32, "lr": 5e-5, "weight_decay": 1e-2, "power": 0.9, "max_grad_norm": None},
        **NO_WARMUP | {"precision": "fp32", "protocol": "lavt"},
    },
    "CLIPSeg": {  # ours: nobody has published this training
        **{"epochs": 30, "batch_size": 64, "lr": 1e-3, "min_lr": 1e-4, "schedule": "cosine", "precision": "fp16"},
        **NO_WARMUP | {"protocol": "lavt"},
    },
    "SaG": {
        **{"steps": 188_500, "batch_size": 32, "lr": 1e-5, "weight_decay": 1e-4, "schedule": "cosine"},
        **{"decay_after": 5000, "max_grad_norm": 0.1, "precision": "fp16", "evaluate_every": 3770},
        **NO_WARMUP | {"protocol": "sag", "best_metric": "mIoU"},
    },
}
RATES = {"TRIS": {0.1, 1.0}, "TRISLocalizer": {0.1, 1.0}, "CRIS": {0.1, 1.0}, "SaG": {0.1, 1.0}}  # of the parts
RATES |= {"ETRIS": {1.0}}  # a first epoch at the full rate changes none
TEXTS = {"CARIS": "sent", "CRIS": "sent", "ETRIS": "sent", "LAVT": "raw", "CLIPSeg": None, "SaG": "sent"}
TEXTS |= {"TRIS": "sent", "TRISLocalizer": "sent"}
METHODS = {
    "maskris": "MaskRIS",
    "supervised": "Supervised",
    "aml": "AML",
    "ema": "EMATeacher",
    "augmentation": "MaskedAugmentation",
    "localize": "TextSupervised",
    "pairs": "PairContrast",
}
NAMES = [f"{data}-{method}" for data in ("refcoco", "refcoco+", "refcocog-umd", "refcocog-google", "combined")
         for method in ("supervised", "maskris")]  # fmt: skip


def is_ours(name):
    """Whether nothing like this recipe was published."""
    return "shapes-" in name or name.startswith("photos-")


def written(folder, **changes):
    """The tiny recipe with changes, such as ``training__lr=3``; None removes a key."""
    values = json.loads(json.dumps(RECIPE))
    for path, value in changes.items():
        *way, last = path.split("__")
        node = values
        for key in way:
            node = node.setdefault(key, {})
        if value is None:
            del node[last]
        else:
            node[last] = value
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def test_all_published_settings_are_shipped():
    assert set(NAMES) <= set(shipped())
    assert any(name.startswith("shapes-") for name in shipped())
    for name in shipped():
        assert find(name).read_text().startswith("# "), "its first line says what it is"


@pytest.mark.parametrize("name", shipped())
def test_recipes_begin_with_the_published_swin(name):
    """All published runs of CARIS and MaskRIS have windows of 7 pixels, those of LAVT windows of 12."""
    model = read_recipe(name)["model"]
    expected = {"maskris.CARIS": PUBLISHED_SWIN, "maskris.LAVT": LAVT_SWIN, "maskris.SaG": SAG_VIT}.get(
        model["class_path"]
    )
    if name.startswith("photos-"):
        assert model["init_args"]["vision"].removeprefix(PREFIX) in PACKAGED
        assert model["init_args"]["text"].removeprefix(PREFIX) in PACKAGED
    elif expected is None or "shapes-" in name:
        assert "vision" not in model["init_args"] or isinstance(model["init_args"]["vision"], dict)
    else:
        assert model["init_args"]["vision"] == expected


@pytest.mark.parametrize("name", [name for name in shipped() if not is_ours(name)])
def test_text_encoders_are_run_as_published(name):
    """CARIS, LAVT and TRIS were trained on cut sentences without their end, LAVT without dropout in BERT."""
    model = read_recipe(name)["model"]
    kind = model["class_path"]
    keeps = kind in ("maskris.CRIS", "maskris.ETRIS", "maskris.CLIPSeg", "maskris.SaG")
    assert model["init_args"].get("keep_end_token", True) is keeps
    assert model["init_args"].get("text_dropout") is (False if kind == "maskris.LAVT" else None)


def test_models_begin_with_the_published_swin_by_default():
    assert inspect.signature(CARIS).parameters["vision"].default == PUBLISHED_SWIN
    assert inspect.signature(LAVT).parameters["vision"].default == LAVT_SWIN
    for network in (CARIS, LAVT):
        assert inspect.signature(network).parameters["keep_end_token"].default is True


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_can_be_built(name):
    kind = read_recipe(name)["model"]["class_path"].removeprefix("maskris.")
    small = {} if "shapes-" in name else TINY[kind] | {"tokenizer": WORDS}
    recipe = Recipe(name, [f"--model.{k}={json.dumps(v)}" for k, v in small.items()])
    model, strategy = recipe.instantiate()
    assert type(model).__name__ == kind
    unnamed = "ObjectRIS" if "shapes-" in name else "CARIS"
    named = name.startswith(kind.lower().removesuffix("localizer"))
    assert named is (kind not in (unnamed, "PairLocalizer")), f"{unnamed} is the network that isn't named"
    method = METHODS[name.split("-")[-1]]
    assert type(strategy).__name__ == ("SlotContrast" if kind == "SaG" else method)
    if kind == "SaG":
        assert strategy.masks is (method == "MaskRIS")
    if not is_ours(name):
        assert model.preprocess.size == SIZES[kind]
        if kind in RATES:
            assert {group["lr"] for group in model.parameter_groups(1.0, 0.0)} == RATES[kind]
        assert recipe.training == TrainingConfig(**{"evaluate_every": "epoch"} | PUBLISHED[kind])
        clips_words = 22 if "refcocog" in name else 17
        assert model.tokenizer.max_length == {"CRIS": clips_words, "ETRIS": clips_words, "CLIPSeg": 77, "SaG": 64}.get(
            kind, 20
        )
    combined = name.startswith("combined")
    assert recipe.splits.exclude_overlap is combined
    assert recipe.splits.validation_dataset == ("refcoco" if combined else None)
    assert recipe.splits.text == (None if is_ours(name) else TEXTS[kind])


@pytest.mark.parametrize("name", shipped())
def test_a_header_says_what_is_published_and_what_is_not_verified(name):
    head = " ".join(line.lstrip("# ") for line in full_text(name).split("\n\n")[0].splitlines())
    if is_ours(name):
        return
    claimed = {claim.recipe for claim in load_claims()}
    assert ("Claimed" in head) is (name in claimed), "a number is claimed where claims.yaml has one"
    assert ("Not verified by us" in head) or ("claims nothing" in head) or ("no number" in head)
    if name.startswith(("cris-", "etris-")) and "refcoco+" in name:
        assert "the best checkpoint is the best on testB" in head


def test_the_updates_of_combined_data_follow_from_published_sizes():
    members = ("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")
    sizes = [PUBLISHED_SIZES[member]["train"].referents for member in members]
    recipe = Recipe("combined-maskris")
    updates = recipe.training.total_steps(sum(sizes) // recipe.training.batch_size)
    for text in (find("combined-maskris"), DOCS / "data.md"):
        words = text.read_text(encoding="utf-8")
        assert f"{sum(sizes):,} " in words
        assert " + ".join(f"{size:,}" for size in sizes) in words
        assert f"{updates:,} updates" in words


ALL = ["refcoco", "refcoco+", "refcocog-umd"]
DATA = {"": [*ALL, "refcocog-google", "combined"], "clipseg-": ["refcoco"]}
DATA |= {"tris-": ["refcoco"]}
DATA |= dict.fromkeys(("cris-", "cris-r101-", "etris-", "lavt-"), ALL)
TEST = {"refcocog-umd": ["val", "test"], "refcocog-google": ["val"], "combined": ["val", "testA", "testB", "test"]}
CLIPS = {"tris-": "RN50", "cris-": "RN50", "cris-r101-": "RN101", "etris-": "RN101"}


@pytest.mark.parametrize("network", DATA)
def test_what_a_recipe_does_not_say_comes_from_its_base(network):
    for data in DATA[network]:
        values = read_recipe(f"{network}{data}-maskris")
        assert values["model"]["init_args"].get("clip") == CLIPS.get(network)
        assert values["data"]["test"] == TEST.get(data, ["val", "testA", "testB"])
        image = values["strategy"]["init_args"].pop("image")
        assert (image, values["strategy"]["init_args"].pop("text")) == (
            {"ratio": 0.75, "patch_size": 32},
            {"ratio": 0.15, "mask": 0.8, "random": 0.1},
        )
        assert values["strategy"]["init_args"].pop("clean_weight") == 0.5
        twin = read_recipe(f"{network}{data}-supervised")
        criterion = values["strategy"]["init_args"].get("criterion")
        assert twin.pop("strategy") == {
            "class_path": "maskris.Supervised",
            **({"init_args": {"criterion": criterion}} if criterion else {}),
        }
        assert {key: values[key] for key in twin} == twin


PAPERS_METHOD = {
    **{"image": {"ratio": 0.75, "patch_size": 32, "sampling": "random", "fill": 0.0}, "clean_weight": 0.5},
    **{"text": {"ratio": 0.15, "mask": 0.8, "random": 0.1}, "criterion": None},
    **{"single_forward": False, "teacher_without_dropout": False},
}
BINARY = {
    "class_path": "maskris.MaskCriterion",
    "init_args": {
        **{"background": 1.0, "referent": 1.0, "resolution": "logits", "soft_weights": None, "normalize_soft": False},
    },
}
PUBLISHED_MODELS = {  # all that is no encoder, tokenizer or preprocessing
    "": {
        **{"width": 256, "layers": 6, "heads": 8, "points": 4, "levels": 3, "prompts": 5, "prompt_levels": [1, 2]},
        **{"ffn_ratio": 4, "attention_ratio": 4, "init": "published", "drop_path": 0.3, "encoder_lr": 0.1},
        **{"max_tokens": 20, "keep_end_token": False, "gradient_checkpointing": False},
    },
    "lavt-": {
        **{"fusion_heads": [1, 1, 1, 1], "fusion_dropout": 0.0, "drop_path": 0.3, "trained_text_layers": 10},
        **{"text_dropout": False, "max_tokens": 20, "keep_end_token": False},
    },
    "cris-": {
        **{"fpn_out": [256, 512, 1024], "num_layers": 3, "num_head": 8, "dim_ffn": 2048, "dropout": 0.1},
        **{"encoder_lr": 0.1, "max_tokens": 17},
    },
    "etris-": {
        **{"ladder_dim": 64, "nhead": 4, "multi_stage": 3, "stride": [2, 1, 2], "num_layers": 3, "num_head": 8},
        **{"dim_ffn": 512, "dropout": 0.1, "init": "published", "freeze_clip": True, "freeze_statistics": False},
        **{"encoder_lr": 1.0, "max_tokens": 17},
    },
}
PUBLISHED_MODELS["cris-r101-"] = PUBLISHED_MODELS["cris-"]


@pytest.mark.parametrize("network", PUBLISHED_MODELS)
def test_every_value_of_model_and_method_is_the_published_one(network):
    """With the defaults of the classes, which a recipe doesn't repeat."""
    resolved = yaml.safe_load(Recipe(f"{network}refcoco-maskris").to_yaml())
    model, method = (resolved[part]["init_args"] for part in ("model", "strategy"))
    outside = {"vision", "text", "clip", "tokenizer", "preprocess"}
    assert {key: value for key, value in model.items() if key not in outside} == PUBLISHED_MODELS[network]
    clips = "cris-" in network or "etris-" in network
    assert method == PAPERS_METHOD | ({"criterion": BINARY} if clips else {})
    first = read_recipe(f"{network}refcoco-maskris")
    for data in DATA[network]:  # what differs between data sets is the length of CLIP's sentences alone
        other = read_recipe(f"{network}{data}-maskris")
        if clips and "refcocog" in data:
            assert other["model"]["init_args"].pop("max_tokens") == 22
            other["model"]["init_args"]["max_tokens"] = 17
        assert [other[part] for part in ("model", "strategy")] == [first[part] for part in ("model", "strategy")]


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_is_printed_as_one_file(name, tmp_path):
    text = full_text(name)
    assert yaml.safe_load(text) == read_recipe(name)
    assert "base" not in read_recipe(name)
    head = find(name).read_text().split("\n\n")[0]
    assert text.startswith(head)
    assert max(map(len, text.removeprefix(head).splitlines())) <= 120


def test_a_recipe_of_ones_own_may_have_a_base(recipe, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "low.yaml").write_text("base: shapes-maskris\ntraining: {lr: 3.0}\nstrategy: {init_args: {text: null}}\n")
    (tmp_path / "top.yaml").write_text(
        "base: mine/low.yaml\nstrategy: supervised\nmodel: {init_args: {image_layers: 3}}\n"
    )
    low, top = Recipe(folder / "low.yaml"), Recipe(tmp_path / "top.yaml")
    assert (low.training.lr, low.training.steps, low.instantiate()[1].text) == (
        3.0,
        Recipe("shapes-maskris").training.steps,
        None,
    )
    assert low.instantiate()[1].image == ImageMasking(0.75, 8)
    model, strategy = top.instantiate()
    assert (top.training.lr, type(strategy).__name__, len(model.cell_layers)) == (3.0, "Supervised", 3)
    (folder / "low.yaml").write_text("base: ../top.yaml\n")
    with pytest.raises(RecipeError, match=r"in a circle: .*top\.yaml -> .*low\.yaml -> .*top\.yaml"):
        Recipe(tmp_path / "top.yaml")
    (folder / "low.yaml").write_text("base: refcoco-maskri\n")
    with pytest.raises(RecipeError, match=r"low\.yaml: There is no recipe 'refcoco-maskri'.*did you mean"):
        Recipe(folder / "low.yaml")


def test_another_class_takes_the_place_of_the_old_one_with_its_arguments():
    old = {"strategy": {"class_path": "A", "init_args": {"x": 1}}, "training": {"steps": 3, "lr": 1}}
    new = {"strategy": {"class_path": "B"}, "training": {"lr": 2}}
    assert merge(old, new) == {"strategy": {"class_path": "B"}, "training": {"steps": 3, "lr": 2}}


def test_classes_of_this_package_have_short_names(recipe, tmp_path):
    values = read_recipe(recipe)
    values["model"]["class_path"] = "caris"
    values["data"]["augment"] = [{"class_path": "horizontal_flip"}]
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(values))
    short = Recipe(tmp_path / "short.yaml", ["--strategy", "ema_teacher", "--strategy.decay=0.5"])
    model, strategy = short.instantiate()
    assert (type(model), type(strategy).__name__, strategy.decay) == (CARIS, "EMATeacher", 0.5)
    kept = yaml.safe_load(short.to_yaml())
    assert [kept[key]["class_path"] for key in ("model", "strategy")] == ["maskris.CARIS", "maskris.EMATeacher"]
    assert type(short.augmentations[0]).__name__ == "HorizontalFlip"
    assert type(Recipe(recipe, ["--strategy=aml", "--strategy.patch_size=8"]).instantiate()[1]).__name__ == "AML"
    with pytest.raises(RecipeError, match="There is no strategy 'maskri'; did you mean maskris"):
        Recipe(recipe, ["--strategy=maskri"])


def test_methods_are_trained_alike():
    names = [name.removesuffix("-maskris") for name in shipped() if name.endswith("-maskris")]
    assert {f"{name}-supervised" for name in names} == {name for name in shipped() if name.endswith("-supervised")}
    for name in names:
        ours, theirs = Recipe(f"{name}-maskris"), Recipe(f"{name}-supervised")
        assert (ours.training, ours.splits) == (theirs.training, theirs.splits)
    other = ("shapes-boxes-supervised", "shapes-boxes-maskris", "shapes-pairs")  # less is known of the referents
    shapes = [name for name in shipped() if name.startswith("shapes-") and name not in other]
    shapes = [yaml.safe_load(Recipe(name).to_yaml()) for name in shapes]
    methods = len(METHODS) - 2  # all but those that localize
    assert len(shapes) == methods
    assert len({values.pop("strategy")["class_path"] for values in shapes}) == methods
    assert all(values == shapes[0] for values in shapes)


@pytest.mark.parametrize(
    ("overrides", "name", "settings"),
    [
        (["--strategy", "maskris.strategies.aml.AML", "--strategy.patch_size", "8"], "AML", {"patch_size": 8}),
        (
            ["--strategy=maskris.strategies.ema_teacher.EMATeacher", "--strategy.decay=0.9"],
            "EMATeacher",
            {"decay": 0.9},
        ),
        (
            ["--strategy", "maskris.strategies.masked_augmentation.MaskedAugmentation", "--strategy.clean_weight=0.5"],
            "MaskedAugmentation",
            {"clean_weight": 0.5, "terms": ("clean", "masked"), "image": ImageMasking(0.75, 8)},  # as in the recipe
        ),
        (["--strategy.image=null"], "MaskRIS", {"image": None, "text": TextMasking()}),
        (["--strategy.text=null"], "MaskRIS", {"image": ImageMasking(0.75, 8), "text": None}),
        (["--strategy.image.sampling=grid"], "MaskRIS", {"image": ImageMasking(0.75, 8, "grid")}),
    ],
)
def test_the_method_can_be_changed_on_the_command_line(overrides, name, settings):
    strategy = Recipe("shapes-maskris", overrides).instantiate()[1]
    assert type(strategy).__name__ == name
    assert {key: vars(strategy)[key] for key in settings} == settings


def test_overrides_win(recipe):
    chosen = Recipe(recipe, ["--training.lr", "5e-5", "--model.layers=2", "--data.validation", "null"])
    assert chosen.training.lr == 5e-5
    assert chosen.training.batch_size == 4
    assert chosen.splits == Splits(validation=None, test=("val", "testA"))
    assert len(chosen.instantiate()[0].decoder.layers) == 2
    assert type(Recipe(recipe, ["--strategy", "maskris.Supervised"]).instantiate()[1]).__name__ == "Supervised"


def test_reduced_decoding_is_off_unless_a_recipe_says_otherwise(recipe, tmp_path):
    assert not any(Recipe(name).reduced_decoding for name in shipped())
    chosen = Recipe(recipe, ["--data.reduced_decoding=true"])
    assert chosen.reduced_decoding
    assert chosen.splits == Recipe(recipe).splits
    (tmp_path / "kept.yaml").write_text(chosen.to_yaml())
    assert Recipe(tmp_path / "kept.yaml").reduced_decoding
    with pytest.raises(RecipeError, match=r"data\.reduced_decoding: expected bool"):
        Recipe(recipe, ["--data.reduced_decoding=half"])


def test_the_resolved_recipe_says_everything_and_reads_as_itself(recipe, tmp_path):
    first = Recipe(recipe, ["--strategy.image.ratio=0.5", "--training.max_grad_norm=null"])
    text = first.to_yaml()
    (tmp_path / "again.yaml").write_text(text)
    again = Recipe(tmp_path / "again.yaml")
    assert again.to_yaml() == text
    assert (again.training, again.splits) == (first.training, first.splits)
    values = yaml.safe_load(text)
    assert values["strategy"]["init_args"]["image"]["ratio"] == 0.5
    assert values["training"]["max_grad_norm"] is None
    assert values["training"]["seed"] == 0  # a default
    assert values["model"]["init_args"]["heads"] == 2
    assert "config" not in values


def test_random_weights_follow_from_the_seed_and_disturb_nobody(recipe):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    states = [Recipe(recipe, [f"--training.seed={seed}"]).instantiate()[0].state_dict() for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    weight = "decoder.layers.0.v_norm1.weight"
    weight = next(name for name, value in states[0].items() if value.ndim == 2 and value.std() > 0 and name != weight)
    assert torch.equal(states[0][weight], states[1][weight])
    assert not torch.equal(states[0][weight], states[2][weight])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__stepz": 3}, "unknown key training.stepz; did you mean training.steps?"),
        ({"modle": {"a": 1}}, "unknown key modle; did you mean model?"),
        ({"model__init_args__layerz": 3}, "unknown key model.layerz; did you mean model.layers?"),
        (
            {"strategy__init_args__image__rato": 3},
            "unknown key strategy.image.rato; did you mean strategy.image.ratio?",
        ),
        ({"model__init_args__preprocess__heigth": 3}, "unknown key model.preprocess.heigth; did you mean"),
        ({"training__steps": "many"}, "training.steps: expected int, not many"),
        ({"training__precision": "fp8"}, "training.precision: expected one of 'fp32', 'bf16', 'fp16', not fp8"),
        ({"training__epochs": 3}, "training: Give exactly one of epochs and steps"),
        ({"training__lr": -1.0}, "training: lr must be positive, not -1.0"),
        ({"data__train": ["a"]}, "data.train: expected str, not ['a']"),
        ({"model": 3}, "model: expected a class_path of a RISModel"),
        ({"training": [1]}, "training must hold keys with values"),
        ({"strategy": None}, "the following arguments are required: strategy"),
        (
            {"model__class_path": "maskris.CARISS"},
            "maskris.CARISS is no model: maskris has no subclass of RISModel under",
        ),
        ({"strategy__class_path": "maskris.CARIS"}, "strategy: "),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, changes, message):
    file = written(tmp_path, **changes)
    with pytest.raises(RecipeError, match=re.escape(message)) as caught:
        Recipe(file)
    assert str(caught.value).startswith(f"Recipe {file}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--training.stepz", "3"], "--training.stepz 3: unknown key training.stepz; did you mean training.steps?"),
        (["--model.layerz=3"], "unknown key model.layerz; did you mean model.layers?"),
        (["--strategy.image.rato=3"], "unknown key strategy.image.rato"),
        (["--model.layers", "3.5"], "model.layers: expected int, not 3.5"),
        (["--model.preprocess.resize", "crop"], "model.preprocess.resize: expected one of 'stretch', 'letterbox', not"),
        (["--strategy", "maskris.Nothing"], "maskris.Nothing is no strategy: maskris has no subclass of Strategy"),
        (["--training.lr"], "argument --training.lr: expected one argument"),
        (["--model", "caris-refcoco"], "trained model; --training.init_from caris-refcoco starts from its weights"),
    ],
)
def test_what_is_wrong_in_an_override_is_named(recipe, overrides, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        Recipe(recipe, overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["--model.levels=7"],
            "--model.levels=7: levels must be 1 to 4, the maps of the vision encoder, not 7",
        ),
        (["--strategy.clean_weight=2"], "clean_weight must lie in [0, 1], not 2"),
        (["--model.vision={model_type: swin, embed_dm: 8}"], "A configuration of swin has no key embed_dm"),
    ],
)
def test_arguments_that_contradict_each_other_are_named(recipe, overrides, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        Recipe(recipe, overrides).instantiate()


@pytest.mark.parametrize(("text", "message"), [("", "holds no keys"), ("a: [1\nb: }", "line 2"), ("- 3", "holds no")])
def test_files_that_are_no_recipes(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(RecipeError, match=rf"x\.yaml: .*{message}"):
        Recipe(tmp_path / "x.yaml")


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(RecipeError, match=r"no recipe 'refcoco-mask'.*did you mean refcoco-maskris"):
        Recipe("refcoco-mask")
    with pytest.raises(RecipeError, match="`maskris recipes` lists"):
        find("zzz")
    with pytest.raises(RecipeError, match=r"nor as a YAML file|neither shipped"):
        find(tmp_path / "none.yaml")
