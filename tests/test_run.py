"""`python -m mnist_exp.run`: exit codes, and no heavy import before the config is valid."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HEAVY = ("tensorflow", "keras", "mlflow", "matplotlib", "sklearn", "pandas")
CALL_EACH = f"""
import json, os, sys, traceback
from mnist_exp.run import main

for number, line in enumerate(sys.stdin):
    arguments = json.loads(line)
    if os.fork() == 0:  # as good as a new process: nothing but the import came before
        os.mkdir(str(number))
        for stream, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(f"{{number}}.{{name}}", os.O_WRONLY | os.O_CREAT), stream)
        os.chdir(str(number))
        sys.argv = ["run.py", *arguments]
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
            code = 99
        print("heavy:", [name for name in {HEAVY} if name in sys.modules])
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str
    left: list[Path]  # files and folders


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[str]], Done]]:
    """Calls `python -m mnist_exp.run` in an empty folder, as if in a process of its own."""
    folder = tmp_path_factory.mktemp("called")
    numbers = itertools.count()
    with subprocess.Popen(
        [sys.executable, "-c", CALL_EACH],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        text=True,
    ) as caller:
        assert caller.stdin is not None
        assert caller.stdout is not None

        def call(arguments: list[str]) -> Done:
            number = next(numbers)
            print(json.dumps(arguments), file=caller.stdin, flush=True)
            return Done(
                int(caller.stdout.readline()),
                (folder / f"{number}.stdout").read_text(),
                (folder / f"{number}.stderr").read_text(),
                [*(folder / str(number)).iterdir()],
            )

        yield call


def test_the_command_run_is_the_same_door(tmp_path: Path) -> None:
    """Hydra sees what follows, options included."""
    for arguments, code, text in (
        (["--cfg", "job", "seed=7"], 0, "seed: 7"),
        (["modle=cnn"], 2, "modle: no such key (did you mean model?)"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "mnist_exp", "run", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, text in done.stdout + done.stderr) == (code, True)
    assert not list(tmp_path.iterdir())


def call_run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mnist_exp.run", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


ACCEPTED: list[tuple[list[str], list[str]]] = [
    (
        ["--help"],
        [
            "model: cnn, cnn_fast, cnn_wide, dense128, dropout, sigmoid100",
            "-m model=sigmoid100,dense128",
        ],
    ),
    (["--cfg", "job"], ["learning_rate: 0.001"]),
    (["--cfg", "job", "tags.team=vision", "name=a b"], ["tags:\n  team: vision", "name: a b"]),
]


@pytest.mark.parametrize(("arguments", "words"), ACCEPTED)
def test_help_and_config_need_no_heavy_imports(
    call: Callable[[list[str]], Done], arguments: list[str], words: list[str]
) -> None:
    done = call(arguments)
    assert done.returncode == 0
    assert all(word in done.stdout for word in words)
    assert "heavy: []" in done.stdout


def test_options_of_ones_own_are_listed_and_come_first(
    call: Callable[[list[str]], Done], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    for name in ("cnn", "mine"):
        text = "defaults: [dense128, _self_]\nname: mine\nunits: [7]\n"
        (tmp_path / "model" / f"{name}.yaml").write_text(text)
    done = call(["model=cnn", "--cfg", "job", f"--config-dir={tmp_path}"])
    assert "- 7\n" in done.stdout
    taken = f"warning: {tmp_path}: taken in place of the package's: model=cnn"
    assert " ".join(done.stderr.split()) == taken
    done = call(["-cd", str(tmp_path), "--help"])
    assert f"Yours, in {tmp_path}: model=cnn, model=mine\n\nThen override" in done.stdout
    assert "dropout, mine, sigmoid100" in done.stdout
    assert "heavy: []" in done.stdout


REFUSED: list[tuple[list[str], str]] = [
    (["model=dens128"], "model=dens128: no such option (did you mean dense128?)"),
    (["train.epoch=3"], "train.epoch: no such key (did you mean train.epochs?)"),
    (["train.epochs=0"], "train.epochs: expected a number of at least 1, got 0"),
    (["optimizer=null"], "optimizer=null: a group takes the name of an option"),
    (["seed=${nothing}"], "Interpolation key 'nothing' not found"),
    (["model=dense128,cnn"], "model=dense128,cnn: model takes one value; add -m"),
    (["train.epochs"], "train.epochs: not understood; expected key=value"),
    (["data.path=/nowhere"], "/nowhere: no such file or folder"),
    (["data=mnist5k", "data.limit=9999"], "data.limit: expected at most 4000"),
    (["hydra.job.chdir=true"], "hydra.job.chdir=true: paths are understood from the folder"),
    (["-m", "seed=1,2", "hydra.job.chdir=true"], "hydra.job.chdir=true: paths are understood"),
    (["hydra/job_logging=disabled"], "hydra/job_logging=disabled: a run's own log is run.log"),
    (
        ["-m", "seed=1,2", "hydra.sweep.subdir=${hydra.job.override_dirname}"],
        "hydra.sweep.subdir=${hydra.job.override_dirname}: the folders of jobs have numbers",
    ),
    (["tracking.experiment=" + 501 * "x"], "tracking.experiment: expected text of at most 500"),
    (["resume=."], "expected the folder of a run, with its config.yaml"),
    (["resume=.", "train.epochs=20"], "expected the folder of a run, with its config.yaml"),
    (["resume=.", "train.epochs=20", "seed=1"], "for a finished run; without seed=1"),
    (["--config-name", "other"], "Cannot find primary config 'other'"),
    (["--nonsense"], "unrecognized arguments: --nonsense"),
    (
        ["-m", "model=dense128,foo", "train.epochs=1,0"],
        "3 of 4 jobs cannot run, so none was started:",
    ),
    (["-m", "data.path=/nowhere", "seed=0,1"], "/nowhere: no such file or folder"),
    (["-m", "hydra.sweeper.max_batch_size=2", "seed=0,1"], "hydra.sweeper.max_batch_size: no such"),
    (
        ["-m", "hydra/launcher=ray", "hydra.launcher.ray=5", "seed=0,1"],
        "hydra.launcher.ray: expected the keys init and remote",
    ),
    (
        ["-m", "hydra/launcher=ray", "hydra.launcher.ray.remote.num_cpus=many", "seed=0,1"],
        "hydra.launcher.ray: expected the keys init and remote",
    ),
    (["-m", "train.epochs=1,"], "train.epochs=1,: not understood"),
    (
        ["-m", "model.dropout=interval(0,0.5)"],
        "model.dropout=interval(0,0.5): an interval has no end of values; search it with",
    ),
    (["-m", "seed=range(0,0)"], "seed=range(0,0): there is nothing to choose from"),
    (["-m", "model=glob(x*)"], "model=glob(x*): there is nothing to choose from"),
    (
        ["-m", "hydra/sweeper=optuna", "hydra.sweeper.trials=3", "model=cnn,dropout"],
        "hydra.sweeper.trials: no such key (did you mean hydra.sweeper.n_trials?)",
    ),
    (
        ["-m", "hydra.sweeper.n_trials=3", "model=cnn,dropout"],
        "hydra.sweeper.n_trials: the grid has no such key; it is one of hydra/sweeper=optuna",
    ),
    (
        ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_jobs=0", "model=cnn,dropout"],
        "hydra.sweeper.n_jobs: expected a number of at least 1, got 0",
    ),
    (
        ["-m", "hydra/sweeper=optuna", "model.dropout=interval(0,1)"],
        "model.dropout: expected a number below 1.0, got 1.0",
    ),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED)
def test_wrong_input_exits_with_a_sentence_and_code_2(
    call: Callable[[list[str]], Done], arguments: list[str], sentence: str
) -> None:
    done = call(arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "heavy: []" in done.stdout
    assert done.left == []  # nothing half-written


def test_hydra_full_error_shows_the_traceback(tmp_path: Path) -> None:
    done = call_run(tmp_path, "train.epochs=0", HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr
    assert "InputError: train.epochs: expected" in done.stderr


def test_only_what_hydra_made_is_removed(tmp_path: Path) -> None:
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    done = call_run(here, "hydra.run.dir=x", "train.epochs=0")
    assert done.returncode == 2
    assert list(here.iterdir()) == []
    assert here.exists()


def test_a_file_that_hides_a_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "random_notes.py").touch()
    (tmp_path / "mlflow").mkdir()  # without __init__.py it hides nothing
    assert call_run(tmp_path, "--cfg", "job").returncode == 0
    (tmp_path / "keras.py").touch()
    done = call_run(tmp_path, "--cfg", "job")
    assert done.returncode == 2
    assert done.stderr == (f"{tmp_path}/keras.py hides the library keras from Python; rename it\n")


@pytest.mark.parametrize("module", ["mnist_exp.run", "mnist_exp doctor"])
def test_a_removed_current_folder_is_one_sentence(module: str, tmp_path: Path) -> None:
    script = f"mkdir gone && cd gone && rmdir ../gone && exec {sys.executable} -m {module}"
    done = subprocess.run(
        script, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "the current folder has been removed; change to another one\n"
