import json
import math
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn
from training_toys import (
    KillSelf,
    OnePass,
    ToyData,
    ToyEvaluation,
    ToyModel,
    TwoPasses,
    same,
    toy_run,
    toy_trainer,
    weights,
)

from maskris.training.checkpoint import CheckpointError, load_state
from maskris.training.trainer import NonFiniteError
from maskris.utils.runstore import OtherRunError


def lines(out, event=None):
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if event in (None, record["event"])]


def close(a, b, atol=1e-6):
    return a.keys() == b.keys() and all(torch.allclose(a[key], b[key], rtol=0, atol=atol) for key in a)


def test_a_run_learns_and_tells_about_it(tmp_path):
    result = toy_run(tmp_path, steps=60, lr=0.1, log_every=20, save_every=100, dropout=0.0)
    assert (result.step, result.total_steps, result.interrupted, result.best) == (60, 60, None, None)
    records = lines(tmp_path)
    assert [record["step"] for record in records] == [20, 40, 60]
    assert [record["epoch"] for record in records] == [4, 8, 12]
    assert records[-1]["loss"] < 0.9 * records[0]["loss"]
    for record in records:
        assert record["losses"].keys() == {"clean", "noisy"}
        assert record["loss"] == pytest.approx(sum(record["losses"].values()))
        assert record["grad_norm"] > 0
        assert record["expressions_per_second"] > 0
    assert records[-1]["lr"] == pytest.approx(0.1 * (1 / 60) ** 0.9)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "last", "metrics.jsonl"}
    state = load_state(tmp_path / "last")
    assert (state["step"], state["run"]["processes"], state["run"]["strategy.noise"]) == (60, 1, 1.0)


def test_one_step_is_one_step_of_adamw(tmp_path):
    trainer = toy_trainer(
        tmp_path, steps=1, warmup_steps=0, dropout=0.0, strategy=OnePass(noise=0.0), max_grad_norm=1e-3
    )
    model, data = ToyModel(), ToyData()
    model.load_state_dict(trainer.model.state_dict())
    trainer.fit()
    batch = data.collate([data[key] for key in trainer.train.loaded])
    batch = replace(batch, images=model.preprocess.normalize(batch.images))
    nn.functional.cross_entropy(model(batch), batch.masks.long()).backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    torch.optim.AdamW(model.parameter_groups(0.01, 0.01)).step()
    assert close(weights(tmp_path), model.state_dict(), 1e-7)
    assert lines(tmp_path)[0]["grad_norm"] == pytest.approx(norm.item(), rel=1e-5)


def test_epochs_are_counted_in_full_batches(tmp_path):
    trainer = toy_trainer(tmp_path, epochs=2, batch_size=6)
    assert trainer.fit().step == 6  # 20 items are 3 batches of 6
    epochs, items = zip(*trainer.train.loaded, strict=True)
    assert epochs == (0,) * 18 + (1,) * 18
    assert len(set(items[:18])) == len(set(items[18:])) == 18


def test_each_loss_is_backpropagated_before_the_next_is_computed(tmp_path):
    seen = []

    class Watching(TwoPasses):
        def losses(self, model, batch, rng):
            seen.append(("start", model.head.weight.grad is None))
            for loss in super().losses(model, batch, rng):
                yield loss
                seen.append(("after", model.head.weight.grad.abs().sum().item() > 0))

    toy_run(tmp_path, steps=1, strategy=Watching())
    assert seen == [("start", True), ("after", True), ("after", True)]


def test_two_losses_are_one_summed_loss(tmp_path):
    toy_run(tmp_path / "two", dropout=0.0)
    toy_run(tmp_path / "one", dropout=0.0, strategy=OnePass())
    assert close(weights(tmp_path / "one"), weights(tmp_path / "two"))


class Prepared(TwoPasses):
    """Notes when it is shown a batch."""

    def __init__(self):
        super().__init__()
        self._seen = []

    def prepare(self, model, batch):
        self._seen.append((model, batch.images.dtype, model.head.weight.detach().clone(), model.training))


def test_a_strategy_sees_the_first_batch_before_the_first_step_and_no_other(tmp_path):
    strategy = Prepared()
    trainer = toy_trainer(tmp_path, strategy=strategy, steps=3, gradient_accumulation_steps=2)
    before = trainer.model.head.weight.detach().clone()
    trainer.fit()
    ((model, dtype, weight, training),) = strategy._seen
    assert (model, dtype, training) == (trainer.model, torch.float32, True)
    assert torch.equal(weight, before)


def test_an_accumulated_batch_is_a_batch(tmp_path):
    options = {"dropout": 0.0, "strategy": TwoPasses(noise=0.0), "epochs": 2, "batch_size": 8}
    toy_run(tmp_path / "whole", **options)
    toy_run(tmp_path / "parts", **options, gradient_accumulation_steps=4)
    assert close(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert not same(weights(tmp_path / "whole"), toy_trainer(tmp_path / "x", dropout=0.0).model.state_dict())
    whole, parts = (lines(tmp_path / name) for name in ("whole", "parts"))
    assert [record["loss"] for record in whole] == pytest.approx([record["loss"] for record in parts], rel=1e-5)


def test_the_seed_is_the_run(tmp_path):
    runs = [toy_run(tmp_path / str(i), seed=seed, workers=i % 2).out for i, seed in enumerate((3, 3, 4))]
    a, b, c = map(weights, runs)
    assert same(a, b)
    assert not same(a, c)


def test_dropout_differs_between_steps_parts_and_passes(tmp_path):
    drawn = []

    class Watching(TwoPasses):
        def losses(self, model, batch, rng):
            for loss in super().losses(model, batch, rng):
                drawn.append(torch.rand(()).item())
                yield loss

    toy_run(tmp_path, steps=3, gradient_accumulation_steps=2, strategy=Watching())
    assert len(set(drawn)) == len(drawn) == 12


def test_a_first_epoch_at_the_full_rate_is_resumed_exactly(tmp_path):
    """Five steps make an epoch; one run is stopped within the first, the other after it."""
    options = {"epochs": 2, "first_epoch_full_rate": True, "warmup_steps": 0, "schedule": "constant", "lr": 0.1}
    rates = []

    class Watching(TwoPasses):
        def losses(self, model, batch, rng):
            rates.append([group["lr"] for group in trainer.optimizer.param_groups])
            yield from super().losses(model, batch, rng)

    trainer = toy_trainer(tmp_path / "whole", strategy=Watching(), **options)
    trainer.fit()
    assert trainer.steps_per_epoch == 5
    assert rates == [[0.1, 0.1]] * 5 + [[pytest.approx(0.01), 0.1]] * 5
    for moment in (2, 4, 6):
        out = tmp_path / str(moment)
        toy_run(out, strategy=TwoPasses(hook=KillSelf(moment, signal.SIGTERM)), **options)
        assert toy_run(out, **options).step == 10
        assert same(weights(out), weights(tmp_path / "whole"))
    toy_run(tmp_path / "without", **options | {"first_epoch_full_rate": False})
    assert not same(weights(tmp_path / "without"), weights(tmp_path / "whole"))
    with pytest.raises(OtherRunError, match="first_epoch_full_rate: True there, False now"):
        toy_run(tmp_path / "whole", **options | {"first_epoch_full_rate": False})


def test_steps_that_fp16_skipped_do_not_prolong_the_first_epoch(tmp_path):
    """It is the data's: the schedule counts updates, the first epoch its batches."""
    rates = []

    class Watching(TwoPasses):
        def losses(self, model, batch, rng):
            rates.append([group["lr"] for group in trainer.optimizer.param_groups])
            yield from super().losses(model, batch, rng)

    options = {"epochs": 2, "first_epoch_full_rate": True, "warmup_steps": 0, "schedule": "constant", "lr": 0.1}
    trainer = toy_trainer(tmp_path, strategy=Watching(), **options)
    trainer.state.skipped = 2
    trainer.fit()
    assert rates == [[0.1, 0.1]] * 5 + [[pytest.approx(0.01), 0.1]] * 5


def test_an_evaluation_after_every_epoch_needs_no_number(tmp_path):
    toy_run(tmp_path, steps=12, evaluate_every="epoch", validation=object())
    assert [record["step"] for record in lines(tmp_path, "evaluate")] == [5, 10, 12]


@pytest.mark.parametrize("moment", [0, 3, 7])
def test_a_run_stopped_by_sigterm_goes_on_where_it_was(tmp_path, moment):
    options = {"evaluate_every": 2, "validation": object(), "save_every": 100, "log_every": 3}
    toy_run(tmp_path / "whole", **options)
    out = tmp_path / "parts"
    handler = signal.getsignal(signal.SIGTERM)
    stopped = toy_run(out, strategy=TwoPasses(hook=KillSelf(moment, signal.SIGTERM)), **options)
    assert (stopped.interrupted, stopped.step) == (signal.SIGTERM, moment + 1)
    assert signal.getsignal(signal.SIGTERM) is handler
    ended = toy_run(out, **options)
    assert (ended.interrupted, ended.step) == (None, 8)
    assert same(weights(out), weights(tmp_path / "whole"))
    assert same(weights(out, "best"), weights(tmp_path / "whole", "best"))
    timeless = [
        [{key: value for key, value in record.items() if key != "expressions_per_second"} for record in lines(folder)]
        for folder in (out, tmp_path / "whole")
    ]
    assert timeless[0] == timeless[1]
    assert [record["step"] for record in lines(out, "evaluate")] == [2, 4, 6, 8]


def test_a_signal_to_the_whole_group_spares_the_loading_processes(tmp_path):
    sent = []

    def hook(step):
        if step == 2 and not sent:  # the hook runs for every part, and a second signal would end pytest
            sent.append(step)
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = toy_run(tmp_path / "a", strategy=TwoPasses(hook=hook), workers=2, gradient_accumulation_steps=2)
    assert (stopped.interrupted, stopped.step) == (signal.SIGTERM, 3)
    assert multiprocessing.active_children() == []
    toy_run(tmp_path / "a", workers=2, gradient_accumulation_steps=2)
    toy_run(tmp_path / "b", gradient_accumulation_steps=2)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_an_error_ends_the_loading_processes(tmp_path):
    def hook(step):
        if step == 2:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full") as caught:
        toy_run(tmp_path, strategy=TwoPasses(hook=hook), workers=2)
    assert multiprocessing.active_children() == []
    assert caught.tb is not None, "the error was kept until here, and with it what its frames hold"


def test_ctrl_c_breaks_an_evaluation_off(tmp_path):
    def interrupted(model, table, protocol, **options):
        model.eval()
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the evaluation went on")

    stopped = toy_run(tmp_path, evaluate_every=2, validation=object(), evaluate=interrupted, save_every=100)
    assert (stopped.interrupted, stopped.step) == (signal.SIGINT, 2)
    calls = []

    def counted(model, table, protocol, **options):
        calls.append((protocol, options["batch_size"], options["precision"]))
        return ToyEvaluation({"oIoU": 0.5})

    toy_run(tmp_path, evaluate_every=2, validation=object(), evaluate=counted)
    assert calls == [("maskris", 32, "fp32")] * 4  # the one at step 2 is made up for


def test_the_best_checkpoint_is_the_best(tmp_path):
    values = iter([0.3, 0.7, math.nan, 0.5])
    at = []

    def scripted(model, table, protocol, **options):
        at.append({key: value.clone() for key, value in model.state_dict().items()})
        return ToyEvaluation({"oIoU": next(values), "mIoU": 0.1})

    result = toy_run(tmp_path, evaluate_every=2, validation=object(), evaluate=scripted)
    assert (result.best, result.metrics) == (0.7, {"oIoU": 0.5, "mIoU": 0.1})
    assert same(weights(tmp_path, "best"), at[1])
    assert same(ToyModel.from_pretrained(tmp_path / "best").state_dict(), at[1])
    assert not (tmp_path / "best" / "state.json").exists()


def test_an_unknown_best_metric_is_named(tmp_path):
    with pytest.raises(KeyError, match=r"best_metric = 'IoU' is not measured; choose one of oIoU, mIoU"):
        toy_run(tmp_path, best_metric="IoU", validation=object())


def test_a_run_is_not_overwritten(tmp_path):
    toy_run(tmp_path, steps=2)
    with pytest.raises(CheckpointError, match=r"already holds a run \(last, metrics.jsonl\)"):
        toy_run(tmp_path, "never", steps=2)
    with pytest.raises(OtherRunError, match=r"lr: 0.01 there, 0.02 now\n  strategy.noise: 1.0"):
        toy_run(tmp_path, steps=2, lr=0.02, strategy=TwoPasses(noise=0.5))
    assert toy_run(tmp_path, steps=2, log_every=7).step == 2


def test_a_run_can_go_on_in_another_folder(tmp_path):
    toy_run(tmp_path / "whole")
    toy_run(tmp_path / "first", strategy=TwoPasses(hook=KillSelf(3, signal.SIGTERM)))
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        toy_run(tmp_path / "second", tmp_path / "nowhere")
    toy_run(tmp_path / "second", tmp_path / "first")
    assert same(weights(tmp_path / "second"), weights(tmp_path / "whole"))
    assert [record["step"] for record in lines(tmp_path / "second")] == [5, 6, 7, 8]


class Spoilt(TwoPasses):
    def __init__(self, where):
        super().__init__()
        self.where = where

    def losses(self, model, batch, rng):
        for number, loss in enumerate(super().losses(model, batch, rng)):
            yield loss + math.inf if (rng.key[2], rng.key[4], number) == self.where else loss


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    toy_run(tmp_path / "good", steps=5, gradient_accumulation_steps=2)
    trainer = toy_trainer(tmp_path / "bad", steps=5, gradient_accumulation_steps=2, strategy=Spoilt((3, 1, 1)))
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit()
    items = [item for _, item in trainer.train.loaded][14:16]  # second part of two of the fourth batch of four
    assert "A loss is not finite in step 3" in str(caught.value)
    assert "part 1, noisy = inf, expressions:\n" + "\n".join(f"    toys, ref_id {i}" for i in items) in str(
        caught.value
    )
    assert "clean" not in str(caught.value)
    assert load_state(tmp_path / "bad" / "last")["step"] == 3
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path):
    class Steep(TwoPasses):
        def losses(self, model, batch, rng):
            yield from super().losses(model, batch, rng)
            model.head.weight.grad.fill_(math.nan)

    trainer = toy_trainer(tmp_path, strategy=Steep())
    with pytest.raises(NonFiniteError, match=r"The gradient is not finite in step 0(.|\n)*toys, ref_id"):
        trainer.fit()
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())


@pytest.mark.parametrize(("yields", "words"), [(1, "only 1 losses"), (3, "more losses")])
def test_a_strategy_must_keep_its_word(tmp_path, yields, words):
    class Wrong(TwoPasses):
        def losses(self, model, batch, rng):
            for _ in range(yields):
                yield model(batch).mean()

    with pytest.raises(RuntimeError, match=f"Wrong has 2 terms, but one step yielded {words}"):
        toy_run(tmp_path, strategy=Wrong())


def test_bf16_computes_in_bf16_and_keeps_the_weights_in_fp32(tmp_path):
    kinds = []

    class Watching(TwoPasses):
        def losses(self, model, batch, rng):
            model.head.register_forward_hook(lambda *call: kinds.append(call[2].dtype))
            for loss in super().losses(model, batch, rng):
                kinds.append(loss.dtype)
                yield loss

    trainer = toy_trainer(tmp_path / "a", precision="bf16", steps=3, strategy=Watching())
    trainer.fit()
    assert kinds[:4] == [torch.bfloat16, torch.float32] * 2
    assert {value.dtype for value in weights(tmp_path / "a").values()} == {torch.float32}
    toy_run(tmp_path / "b", precision="fp32", steps=3)  # another precision in the same process
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_fp16_needs_a_gpu(tmp_path):
    with pytest.raises(ValueError, match="fp16 needs a GPU and this is a cpu; set precision to bf16 or fp32"):
        toy_trainer(tmp_path, precision="fp16")
