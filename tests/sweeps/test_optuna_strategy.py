"""The Optuna strategy: its space, its trials, what it remembers and refuses."""

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
from mnist_exp.plots import Trial
from mnist_exp.runs.folder import RunFolder, RunResult
from mnist_exp.sweeps import search_space
from mnist_exp.sweeps.jobs import JobResult
from mnist_exp.sweeps.optuna_strategy import OptunaStrategy
from mnist_exp.sweeps.pruning import PruningReporter

RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-2))"
DROPOUT = "model.dropout=interval(0,0.5)"
SETTINGS = {
    "n_trials": 6, "n_jobs": 1, "sampler": "tpe", "seed": 0, "prune": True, "max_failed": 3,
    "storage": None,
}  # fmt: skip


def read(*overrides: str) -> tuple[dict[str, optuna.distributions.BaseDistribution], tuple[str]]:
    return search_space.read(OverridesParser.create().parse_overrides(list(overrides)))


def begin(
    folder: Path,
    *overrides: str,
    config: Sequence[str] = (),
    remote: bool = False,
    **changes: object,
) -> OptunaStrategy:
    """A strategy, begun, whose study lies in `folder`."""
    search = strategy(*(overrides or (RATE, DROPOUT)), **changes)
    uri = f"tracking.uri=sqlite:///{folder}/mlflow.db"
    (folder / "sweep").mkdir(exist_ok=True)
    config = compose(["data=mnist5k", uri, *config])
    search.earlier = search.begin([config], folder / "sweep", remote)
    return search


def strategy(*overrides: str, **changes: object) -> OptunaStrategy:
    return OptunaStrategy(*read(*overrides), validate(SearchSettings, SETTINGS | changes))


def score(result: JobResult) -> float:
    """Highest at a learning rate of 5e-3; dropout hardly matters."""
    decades = math.log10(float(result.choices["optimizer.learning_rate"]) / 5e-3)
    return 1 - abs(decades) / 10 - 0.001 * float(result.choices.get("model.dropout", 0))


def finished(result: JobResult, value: float | None = None) -> JobResult:
    metrics = {"val/accuracy": score(result) if value is None else value}
    outcome = RunResult("a title", Path("outputs/run"), "0123", metrics, "MNIST")
    return JobResult(**vars(result) | {"run_result": outcome})


def run(search: OptunaStrategy, batches: int = 99) -> list[Mapping[str, str]]:
    """The choices of so many batches, which all finish."""
    choices = []
    while batches and (batch := search.ask()):
        search.tell([finished(result) for result in batch])
        choices += [result.choices for result in batch]
        batches -= 1
    return choices


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
def test_hydra_s_syntax_gives_the_distributions(override: str, expected: object) -> None:
    assert read(override, "b=3", "+c=[1,2]") == ({"a": expected}, ("b=3", "+c=[1,2]"))


def test_the_last_override_of_a_key_counts() -> None:
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
def test_an_unusable_space_is_refused(override: str, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        strategy(override)


def test_every_bound_and_choice_is_probed() -> None:
    search = strategy("model.dropout=interval(0,1)", "optimizer=adam,sgd,rmsprop", "a=1")
    assert sorted(search.probes) == [
        ("a=1", "model.dropout=0.0", "optimizer=adam"),
        ("a=1", "model.dropout=0.0", "optimizer=rmsprop"),
        ("a=1", "model.dropout=0.0", "optimizer=sgd"),
        ("a=1", "model.dropout=1.0", "optimizer=adam"),
    ]


def test_equal_seeds_sample_equal_values_and_others_different_ones(tmp_path: Path) -> None:
    sampled = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        sampled.append(run(begin(folder, seed=seed, n_trials=13)))
    assert sampled[0] == sampled[1]
    assert not any(choices in sampled[0] for choices in sampled[2])
    assert len({tuple(choices.values()) for choices in sampled[0]}) == 13


def test_the_sampler_is_the_configured_one(tmp_path: Path) -> None:
    sampled = [run(begin(tmp_path, sampler=name, n_trials=12)) for name in ("tpe", "random")]
    assert sampled[0][11] != sampled[1][11]


def test_a_second_command_continues_as_the_first_would_have(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = run(begin(tmp_path / "whole", n_trials=14))
    first = run(begin(tmp_path / "parts", n_trials=14), batches=12)
    second = begin(tmp_path / "parts", n_trials=14)
    assert [result.state for result in second.earlier] == ["reused"] * 12
    assert [result.choices for result in second.earlier] == first
    assert first + run(second) == whole
    assert not begin(tmp_path / "parts", n_trials=14).ask()
    assert len(run(begin(tmp_path / "parts", n_trials=15))) == 1


@pytest.mark.slow
def test_tpe_finds_better_than_chance(tmp_path: Path) -> None:
    """The median score after the random start is higher."""
    scores = []
    search = begin(tmp_path, n_trials=30)
    while batch := search.ask():
        search.tell([finished(result) for result in batch])
        scores += [score(result) for result in batch]
    assert sorted(scores[10:])[10] > sorted(scores[:10])[5]
    assert "importances" in search.figures([Trial(0, {}, 0.5, "complete")], "a search")
    assert search.importances()["optimizer.learning_rate"] > 0.8
    assert search.scales == {"optimizer.learning_rate": "log", "model.dropout": "linear"}


@pytest.mark.slow
def test_another_space_config_or_seed_is_another_study(tmp_path: Path) -> None:
    searches = [
        begin(tmp_path),
        begin(tmp_path, RATE, "model.dropout=interval(0,0.6)"),
        begin(tmp_path, config=["model.units=[64]"]),
        begin(tmp_path, seed=1),
        begin(tmp_path, config=["tracking.experiment=other"]),
    ]
    assert len({search.study.study_name for search in searches}) == 5
    same = begin(tmp_path, config=["optimizer.learning_rate=0.5"], n_trials=99)  # it is swept
    assert same.study.study_name == searches[0].study.study_name


def test_batches_have_n_jobs_trials_and_six_trials_no_importances(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search = begin(tmp_path, n_jobs=4)
    sizes = []
    while batch := search.ask():
        sizes.append(len({result.number for result in batch}))
        search.tell([finished(result) for result in batch])
    assert sizes == [4, 2]
    caplog.set_level("INFO")
    trials = [Trial(0, {}, 0.5, "complete")]
    assert [*search.figures(trials, "a search")] == ["optimisation_history"]
    assert "no importances: they need 10 complete trials that differ, there are 6" in caplog.text


def test_the_study_keeps_the_result_of_each_trial(tmp_path: Path) -> None:
    search = begin(tmp_path, n_jobs=4, n_trials=4)
    good, pruned, failed, lost = search.ask()
    search.tell(
        [
            finished(good),
            JobResult(**vars(pruned) | {"error": "pruned after epoch 2", "pruned": True}),
            JobResult(**vars(failed) | {"error": "the loss became nan"}),
            lost,
        ]
    )
    states = [trial.state.name for trial in search.study.trials]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "WAITING"]
    again = begin(tmp_path, n_jobs=4, n_trials=4)
    assert [result.state for result in again.earlier] == ["reused", "pruned", "failed"]
    assert again.earlier[2].error == "the loss became nan"
    (requeued,) = again.ask()  # a failed trial has been tried, an interrupted one has not
    assert requeued.choices == lost.choices


def test_equal_values_are_not_trained_twice(tmp_path: Path) -> None:
    search = begin(tmp_path, "model=cnn,dropout", n_trials=4)
    states = []
    while batch := search.ask():
        states += [result.state for result in batch]
        search.tell([r if r.run_result else finished(r, 0.5) for r in batch])
    assert sorted(states) == ["reused", "reused", "unfinished", "unfinished"]


def test_orphaned_trials_are_ended_and_their_results_kept(tmp_path: Path) -> None:
    done, lost = begin(tmp_path, n_jobs=2).ask()
    folder = tmp_path / "sweep" / str(done.number)
    folder.mkdir()
    outcome = RunResult("done", folder, "0123", {"val/accuracy": 0.9}, "MNIST")
    RunFolder(folder).write_result(outcome)
    second = begin(tmp_path)  # no process holds the lock of a sweep's folder in this test
    assert [result.run_result.title for result in second.earlier] == ["done"]
    assert [result.choices for result in second.ask()] == [lost.choices]


def test_trials_of_another_machine_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(platform, "node", lambda: "elsewhere")  # patched: the machine itself
        begin(tmp_path).ask()
    assert [trial.state.name for trial in begin(tmp_path).study.trials] == ["RUNNING"]


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
def test_an_unusable_search_is_refused(
    tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)) as error:
        begin(tmp_path, **changes)
    assert "s3cret" not in str(error.value)


def test_workers_on_other_machines_need_no_database_when_nothing_is_pruned(tmp_path: Path) -> None:
    search = begin(tmp_path, remote=True, prune=False)
    assert search.job_settings(0) == {}


def report(search: OptunaStrategy, result: JobResult, *accuracies: tuple[int, float]) -> None:
    """Report these (epoch from 0, validation accuracy) of a job of three epochs."""
    settings = search.job_settings(result.number)
    study, _, trial = settings["hydra.sweeper.trial"].rpartition("/")
    reporter = PruningReporter(settings["hydra.sweeper.storage"], study, int(trial), epochs=3)
    for epoch, accuracy in accuracies:
        reporter.report(epoch, {"val/accuracy": accuracy})


def test_a_trial_below_the_median_is_pruned_but_neither_early_nor_at_the_end(
    tmp_path: Path,
) -> None:
    search = begin(tmp_path, n_trials=9)
    for _ in range(5):
        (result,) = search.ask()
        report(search, result, (0, 0.9), (1, 0.9), (2, 0.9))
        search.tell([finished(result, 0.9)])
    (result,) = search.ask()
    report(search, result, (0, 0.1))
    with pytest.raises(PrunedError, match=r"after epoch 2 at a validation accuracy of 20.00 %"):
        report(search, result, (1, 0.2))
    report(search, result, (2, 0.2))
    search.tell([JobResult(**vars(result) | {"error": "pruned", "pruned": True})])
    assert search.pruned_at() == {5: 0.2}


def test_an_unreachable_study_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = PruningReporter(f"sqlite:///{tmp_path}/none.db", "nothing", 0, epochs=2)
    reporter.report(0, {"val/accuracy": 0.5})
    assert "did not hear of trial 0's epoch 1" in caplog.text
