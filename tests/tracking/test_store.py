"""A store that cannot be used is told in a sentence before anything heavy is done with it."""

import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support import tiny

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.errors import InputError
from mnist_exp.tracking import probe, store
from mnist_exp.tracking.schema import create_whole

OLDER = "75868b020152"  # a schema of MLflow, not the newest


def tracking(uri: str) -> TrackingConfig:
    return tiny(f"tracking.uri={uri}").tracking


@pytest.fixture
def silent() -> Iterator[str]:
    """The URI of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_is_refused(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "ANSWER_SECONDS", 0.1)
    told = re.escape(f"{silent}: this tracking store cannot be used (timed out); start it, or name")
    with pytest.raises(InputError, match=told):
        store.check_reachable(tracking(silent))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("these are notes, and many of them\n" * 20)
    with pytest.raises(InputError, match=r"cannot be used \(file is not a database\)"):
        store.check_reachable(tracking(f"sqlite:///{tmp_path / 'notes.db'}"))
    with pytest.raises(InputError, match=r"cannot be used \(unable to open database file\)"):
        store.check_reachable(tracking(f"sqlite:///{tmp_path}"))


def test_it_is_told_how_another_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("these are notes, and many of them\n" * 20)
    where = tracking(f"sqlite:///{tmp_path / 'notes.db'}")
    for connect in (store.connect_to_read, store.connect):
        told = r"tracking\.uri=.* --tracking-uri$"
        with pytest.raises(InputError, match=told), connect(where):
            pass


def test_a_database_that_cannot_be_written_is_refused_to_those_who_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("create table runs (id)")
    connect = sqlite3.connect
    read_only = {"mode=rw": "mode=ro"}  # root may write everything

    def as_user(place: str, **settings: object) -> sqlite3.Connection:
        for asked, given in read_only.items():
            place = place.replace(asked, given)
        return connect(place, **settings)

    monkeypatch.setattr(sqlite3, "connect", as_user)  # patched: this user may be root
    with pytest.raises(InputError, match="attempt to write a readonly database"):
        store.check_reachable(tracking(f"sqlite:///{file}"))
    store.check_reachable(tracking(f"sqlite:///{file}"), to_write=False)


def test_knocking_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    store.check_reachable(tracking(f"sqlite:///{file}"))
    assert not file.exists()
    with closing(sqlite3.connect(file)) as database:
        database.execute("create table runs (id)")
    before = file.read_bytes()
    store.check_reachable(tracking(f"sqlite:///{file}"))
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_database_in_use_is_no_reason(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("begin exclusive")
        store.check_reachable(tracking(f"sqlite:///{file}"))


def test_a_database_of_a_later_mlflow_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("create table alembic_version (version_num varchar(32))")
        database.execute("insert into alembic_version values ('deadbeef')")
        database.commit()
    with pytest.raises(
        InputError, match=r"does not know its schema deadbeef; upgrade MLflow \(pip"
    ):
        store.check_reachable(tracking(f"sqlite:///{file}"))  # before anything is trained


@pytest.mark.slow
def test_a_store_of_an_older_mlflow_is_copied_before_it_is_migrated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The installed MLflow migrates a store that lacks a table of its own: here by reading it."""
    import sqlalchemy
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    file = tmp_path / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    command.upgrade(_get_alembic_config(str(engine.url)), OLDER)
    engine.dispose()
    for _ in range(2):
        with store.connect_to_read(tracking(f"sqlite:///{file}")) as client:
            assert [each.name for each in client.search_experiments()] == ["Default"]
    copy = tmp_path / f"mlflow.db.schema-{OLDER}"
    assert f"no older one can read it afterwards; a copy of it is kept in {copy}" in caplog.text
    assert len(caplog.records) == 1
    for path, is_old in ((file, False), (copy, True)):
        with closing(sqlite3.connect(path)) as database:
            ((revision,),) = database.execute("select version_num from alembic_version")
        assert (revision == OLDER) == is_old
    assert {path.name for path in tmp_path.iterdir()} == {file.name, copy.name}


def test_a_new_database_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in between, it would be of no use to anyone for good."""
    from mlflow.store.db import utils

    real = utils._upgrade_db

    def dies(engine: object) -> None:
        raise KeyboardInterrupt

    where = tracking(f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(store, "create_whole", create_whole)  # no copy of the tests' template
    monkeypatch.setattr(utils, "_upgrade_db", dies)  # patched: a kill at this moment
    with pytest.raises(KeyboardInterrupt), store.connect(where):
        pass
    assert not (tmp_path / "mlflow.db").exists()
    monkeypatch.setattr(utils, "_upgrade_db", real)
    with store.connect(where) as client:
        assert [each.name for each in client.search_experiments()] == ["Default"]
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_an_error_of_ours_stays_itself(tmp_path: Path) -> None:
    where = tracking(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(ZeroDivisionError), store.connect(where):
        _ = 1 / 0


def test_the_page_of_a_run_is_an_address_or_what_opens_it(workplace: Path) -> None:
    path = "/#/experiments/1/runs/abc?workflowType=machine_learning"
    server = tracking("https://me:pass@host:8080/mlflow/")
    assert store.page(server, "1", "abc") == f"https://host:8080/mlflow{path}"
    local = f"then http://127.0.0.1:5000{path}"
    assert store.page(tracking("sqlite:///mlflow.db"), "1", "abc") == f"mlflow ui, {local}"
    option = f"--backend-store-uri sqlite:///{workplace}/other.db"
    assert store.page(tracking("sqlite:///other.db"), "1", "abc") == f"mlflow ui {option}, {local}"
    (workplace / "a b&c").mkdir()
    option = f"--backend-store-uri 'sqlite:///{workplace}/a b&c/mlflow.db'"  # as a shell wants it
    spaced = tracking("'sqlite:///a b&c/mlflow.db'")
    assert store.page(spaced, "1", "abc") == f"mlflow ui {option}, {local}"


def test_quotes_and_blanks_around_the_address_are_left_out(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ('"sqlite:///a.db"', "sqlite:///a.db ", "'sqlite:///a.db'\n"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", text)
        assert store.uri(tiny().tracking) == f"sqlite:///{workplace}/a.db"


def test_mlflows_old_form_is_told_how_to_be_copied(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside it `mlflow ui` would not open mlflow.db."""
    where = tracking("sqlite:///mlflow.db")
    old = workplace / "mlruns" / "0" / "meta.yaml"
    old.parent.mkdir(parents=True)
    assert store.page(where, "1", "abc").startswith("mlflow ui, then")
    old.touch()
    option = f"mlflow ui --backend-store-uri sqlite:///{workplace}/mlflow.db, then"
    assert store.page(where, "1", "abc").startswith(option)
    for _ in range(2):  # told once, before there is a database
        with store.connect(where):
            pass
    advice = f"mlflow migrate-filestore --source {workplace} --target sqlite:///old.db"
    assert caplog.text.count(advice) == 1
