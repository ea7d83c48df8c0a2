"""The search: its space, what it draws, what it remembers, what it refuses."""

import math
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_exp.config.compose import compose, validate
from mnist_exp.config.schema import SearchSettings
from mnist_exp.core.errors import InputError, PrunedError
from mnist_exp.runs.result import RunResult
from mnist_exp.sweeps import search_space as space
from mnist_exp.sweeps.optuna_strategy import OptunaStrategy
from mnist_exp.sweeps.pruning import Trial
from mnist_exp.sweeps.results import JobResult

RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-2))"
DROPOUT = "model.dropout=interval(0,0.5)"
SETTINGS = {
    "n_trials": 6, "n_jobs": 1, "sampler": "tpe", "seed": 0, "prune": True, "max_failed": 3,
    "storage": None,
}  # fmt: skip


def read(*overrides: str) -> tuple[dict[str, optuna.distributions.BaseDistribution], tuple[str]]:
    return space.read(OverridesParser.create().parse_overrides(list(overrides)))


def search(
    folder: Path,
    *overrides: str,
    begin: bool = True,
    config: Sequence[str] = (),
    remote: bool = False,
    **changes: object,
) -> OptunaStrategy:
    """A search whose study lies in `folder`, begun."""
    settings = validate(SearchSettings, SETTINGS | changes)
    plan = OptunaStrategy(*read(*(overrides or (RATE, DROPOUT))), settings)
    if begin:
        uri = f"tracking.uri=sqlite:///{folder}/mlflow.db"
        (folder / "sweep").mkdir(exist_ok=True)
        plan.earlier = plan.begin(
            [compose(["data=mnist5k", uri, *config])], folder / "sweep", remote
        )
    return plan


def score(result: JobResult) -> float:
    """Best at a learning rate of 5e-3; dropout hardly matters."""
    decades = math.log10(float(result.choices["optimizer.learning_rate"]) / 5e-3)
    return 1 - abs(decades) / 10 - 0.001 * float(result.choices.get("model.dropout", 0))


def finished(result: JobResult, value: float | None = None) -> JobResult:
    metrics = {"val/accuracy": score(result) if value is None else value}
    outcome = RunResult("a title", Path("outputs/run"), "0123", metrics, "MNIST")
    return JobResult(**vars(result) | {"outcome": outcome})


def work(plan: OptunaStrategy, batches: int = 99) -> list[Mapping[str, str]]:
    """Draws and finishes so many batches; what was drawn."""
    drawn = []
    while batches and (batch := plan.ask()):
        plan.tell([finished(result) for result in batch])
        drawn += [result.choices for result in batch]
        batches -= 1
    return drawn


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a=interval(0,1)", FloatDistribution(0, 1)),
        ("a=int(interval(1,9))", IntDistribution(1, 9)),
        ("a=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("a=tag(log,int(interval(16,512)))", IntDistribution(16, 512, log=True)),
        ("a=range(1,5)", IntDistribution(1, 4)),
        ("a=range(16,65,16)", IntDistribution(16, 64, step=16)),
        ("a=range(0.1,0.5,0.1)", FloatDistribution(0.1, 0.4, step=0.1)),
        ("a=choice([1],[2,3])", CategoricalDistribution(["[1]", "[2,3]"])),
        ("a=x,y,x", CategoricalDistribution(["x", "y"])),
        ("a='x y',z", CategoricalDistribution(["'x y'", "z"])),
    ],
)
def test_hydra_s_syntax_is_the_search_space(override: str, expected: object) -> None:
    assert read(override, "b=3", "+c=[1,2]") == ({"a": expected}, ("b=3", "+c=[1,2]"))


def test_the_last_word_on_a_key_counts() -> None:
    assert read("a=1,2", "b=1", "a=5", "b=interval(0,1)") == (
        {"b": FloatDistribution(0, 1)},
        ("a=5",),
    )


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.dropout=interval(1,0)", "expected the lower bound first"),
        ("model.dropout=tag(log,interval(0,1))", "needs a lower bound above 0"),
        ("model.dropout=tag(log,range(1,9))", "write tag(log, interval(...))"),
        ("model.dropout=range(5,5)", "nothing to choose from"),
        ("seed=0,1,2", "seed: a search would find the luckiest seed"),
        ("model=cnn", "nothing to search"),
    ],
)
def test_a_space_without_sense_is_refused(tmp_path: Path, override: str, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        search(tmp_path, override, begin=False)


def test_every_bound_and_choice_is_probed(tmp_path: Path) -> None:
    plan = search(tmp_path, "model.dropout=interval(0,1)", "optimizer=adam,sgd,rmsprop", "a=1")
    assert sorted(plan.probes) == [
        ("a=1", "model.dropout=0.0", "optimizer=adam"),
        ("a=1", "model.dropout=0.0", "optimizer=rmsprop"),
        ("a=1", "model.dropout=0.0", "optimizer=sgd"),
        ("a=1", "model.dropout=1.0", "optimizer=adam"),
    ]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_draws_the_same_and_another_one_differently(
    tmp_path: Path, sampler: str
) -> None:
    drawn = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        drawn.append(work(search(folder, seed=seed, sampler=sampler, n_trials=13)))
    assert drawn[0] == drawn[1]
    assert not any(choices in drawn[0] for choices in drawn[2])
    assert len({tuple(choices.values()) for choices in drawn[0]}) == 13


def test_the_sampler_is_the_one_asked_for(tmp_path: Path) -> None:
    drawn = [work(search(tmp_path, sampler=name, n_trials=12)) for name in ("tpe", "random")]
    assert drawn[0][11] != drawn[1][11]


def test_a_second_command_goes_on_as_the_first_would_have(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = work(search(tmp_path / "whole", n_trials=14))
    first = work(search(tmp_path / "parts", n_trials=14), batches=12)
    second = search(tmp_path / "parts", n_trials=14)
    assert [result.state for result in second.earlier] == ["reused"] * 12
    assert [result.choices for result in second.earlier] == first
    assert first + work(second) == whole
    assert not search(tmp_path / "parts", n_trials=14).ask()
    assert len(work(search(tmp_path / "parts", n_trials=15))) == 1


def test_tpe_finds_better_than_chance(tmp_path: Path) -> None:
    """The median of what is drawn after the random start lies nearer the optimum."""
    scores = []
    plan = search(tmp_path, n_trials=30)
    while batch := plan.ask():
        plan.tell([finished(result) for result in batch])
        scores += [score(result) for result in batch]
    assert sorted(scores[10:])[10] > sorted(scores[:10])[5]
    assert plan.importances()["optimizer.learning_rate"] > 0.8


def test_another_space_config_or_seed_is_another_study(tmp_path: Path) -> None:
    plans = [
        search(tmp_path),
        search(tmp_path, RATE, "model.dropout=interval(0,0.6)"),
        search(tmp_path, config=["model.units=[64]"]),
        search(tmp_path, seed=1),
        search(tmp_path, config=["tracking.experiment=other"]),
    ]
    assert len({plan.study.study_name for plan in plans}) == 5
    same = search(tmp_path, config=["optimizer.learning_rate=0.5"], n_trials=99)  # it is swept
    assert same.study.study_name == plans[0].study.study_name


def test_a_batch_is_drawn_at_once_and_never_beyond_the_last_trial(tmp_path: Path) -> None:
    plan = search(tmp_path, n_jobs=4)
    sizes = []
    while batch := plan.ask():
        sizes.append(len({result.number for result in batch}))
        plan.tell([finished(result) for result in batch])
    assert sizes == [4, 2]


def test_what_became_of_each_trial_is_remembered(tmp_path: Path) -> None:
    plan = search(tmp_path, n_jobs=4, n_trials=4)
    good, pruned, failed, lost = plan.ask()
    plan.tell(
        [
            finished(good),
            JobResult(**vars(pruned) | {"error": "pruned after epoch 2", "pruned": True}),
            JobResult(**vars(failed) | {"error": "the loss became nan"}),
            lost,
        ]
    )
    states = [trial.state.name for trial in plan.study.trials]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "WAITING"]
    again = search(tmp_path, n_jobs=4, n_trials=4)
    assert [result.state for result in again.earlier] == ["reused", "pruned", "failed"]
    assert again.earlier[2].error == "the loss became nan"
    (redrawn,) = again.ask()  # a failed trial has been tried, an interrupted one has not
    assert redrawn.choices == lost.choices


def test_the_same_values_are_not_trained_twice(tmp_path: Path) -> None:
    plan = search(tmp_path, "model=cnn,dropout", n_trials=4)
    states = []
    while batch := plan.ask():
        states += [result.state for result in batch]
        plan.tell([r if r.outcome else finished(r, 0.5) for r in batch])
    assert sorted(states) == ["reused", "reused", "unfinished", "unfinished"]


def test_trials_of_a_dead_sweep_are_ended_and_what_they_finished_is_kept(tmp_path: Path) -> None:
    dead = search(tmp_path, n_jobs=2)
    done, lost = dead.ask()
    folder = tmp_path / "sweep" / str(done.number)
    folder.mkdir()
    RunResult("done", folder, "0123", {"val/accuracy": 0.9}, "MNIST").save()
    elsewhere = search(tmp_path, n_jobs=1)  # its own sweep's folder is abandoned as well
    assert [result.outcome.title for result in elsewhere.earlier] == ["done"]
    assert [result.choices for result in elsewhere.ask()] == [lost.choices]


def test_trials_of_another_machine_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(platform, "node", lambda: "elsewhere")
        search(tmp_path).ask()
    assert [trial.state.name for trial in search(tmp_path).study.trials] == ["RUNNING"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"config": ["data.validation_split=0"]}, "set data.validation_split=0.1"),
        ({"remote": True}, "give the URL of a database server"),
        ({"storage": "sqlite:////nowhere/x.db"}, "there is no folder /nowhere"),
        ({"storage": "nonsense"}, "no study can be kept in nonsense"),
        ({"storage": "postgresql://me:s3cret@127.0.0.1:1/x"}, "in postgresql://***@127.0.0.1:1/x"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)) as error:
        search(tmp_path, **changes)
    assert "s3cret" not in str(error.value)


def test_workers_on_other_machines_need_no_database_when_nothing_is_pruned(tmp_path: Path) -> None:
    plan = search(tmp_path, remote=True, prune=False)
    assert plan.job_settings(0) == {}


def worker(plan: OptunaStrategy, number: int) -> Trial:
    """The trial as the job of that number would see it."""
    told = plan.job_settings(number)
    study, _, trial = told["hydra.sweeper.trial"].rpartition("/")
    return Trial(told["hydra.sweeper.storage"], study, int(trial))


def test_a_laggard_is_pruned_but_neither_early_nor_at_the_end(tmp_path: Path) -> None:
    plan = search(tmp_path, n_trials=9)
    for _ in range(5):
        (result,) = plan.ask()
        for epoch in (1, 2, 3):
            worker(plan, result.number).report(epoch, 0.9, last=epoch == 3)
        plan.tell([finished(result, 0.9)])
    (laggard,) = plan.ask()
    worker(plan, laggard.number).report(1, 0.1, last=False)
    with pytest.raises(PrunedError, match=r"after epoch 2 at a validation accuracy of 20.00 %"):
        worker(plan, laggard.number).report(2, 0.2, last=False)
    worker(plan, laggard.number).report(3, 0.2, last=True)


def test_a_study_out_of_reach_costs_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Trial(f"sqlite:///{tmp_path}/none.db", "nothing", 0).report(1, 0.5, last=False)
    assert "did not hear of trial 0's epoch 1" in caplog.text
