"""Every YAML composes; a wrong value is refused with its key and what is allowed."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf
from yaml import YAMLError  # type: ignore[import-untyped]

from mnist_exp.config.compose import (
    CONF,
    compose,
    config_sources,
    fingerprint_values,
    flatten,
    from_yaml,
    options_first,
    parse,
    redacted_values,
    to_yaml,
    translate_overrides,
    with_values,
)
from mnist_exp.config.messages import hydra_error_message, raised_by_hydra
from mnist_exp.config.schema import keys
from mnist_exp.core.errors import InputError

GROUPS = [
    "augment", "callbacks", "data", "debug", "experiment", "model", "optimizer", "schedule",
    "sweep", "tracking", "train",
]  # fmt: skip
OPTIONS = [f"{group}={path.stem}" for group in GROUPS for path in (CONF / group).glob("*.yaml")]


def test_every_group_is_tested() -> None:
    assert sorted(path.name for path in CONF.iterdir() if path.is_dir()) == sorted(
        [*GROUPS, "hydra"]
    )


@pytest.mark.parametrize("option", OPTIONS)
def test_every_yaml_composes_and_is_valid(option: str) -> None:
    group, name = option.split("=")
    config = compose([option, *["data.path=letters.npz"] * (option == "data=own")])
    if group in ("augment", "model", "optimizer", "schedule", "data"):
        assert getattr(config, group).name == name


@pytest.mark.parametrize("name", [path.stem for path in (CONF / "sweep").glob("*.yaml")])
def test_every_sweep_runs_several_jobs_of_keys_that_exist(name: str) -> None:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra_compose("config", [f"sweep={name}"], return_hydra_config=True)
    assert composed.hydra.mode.name == "MULTIRUN"
    for key, values in composed.hydra.sweeper.params.items():
        assert key in keys()
        assert re.search(r",|range", values)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("model=dens128", "model=dens128: no such option (did you mean dense128?); there are cnn,"),
        ("modle=cnn", "modle: no such key (did you mean model?)"),
        ("train.epoch=3", "train.epoch: no such key (did you mean train.epochs?)"),
        ("+train.foo=3", "train.foo: no such key"),
        (
            "optimizer.momentum=0.9",
            "optimizer.momentum: adam has no such key; there are optimizer.",
        ),
        (
            "optimizer.lr=1",
            "optimizer.lr: adam has no such key (did you mean optimizer.learning_rate?",
        ),
        (
            "optimizer=lamb optimizer.beta=1",
            "lamb has no such key (did you mean optimizer.beta_",
        ),
        ("optimizer.clipnorm=0", "optimizer.clipnorm: expected a number above 0.0, got 0"),
        (
            "optimizer.clipnorm=1 optimizer.clipvalue=1",
            "optimizer.clipnorm: Keras clips in one way; leave out clipvalue",
        ),
        ("optimizer=lion optimizer.beta_1=0", "optimizer.beta_1: expected a number above 0.0"),
        (
            "optimizer=ftrl schedule=cosine",
            "schedule=cosine ends at 0, by which optimizer=ftrl",
        ),
        (
            "train.class_weight=balance",
            "train.class_weight: expected balanced or a list of numbers of at least 0, one for "
            "each class, got 'balance'",
        ),
        ("train.class_weight=[0,0]", "train.class_weight: expected balanced or a list of numbers"),
        ("train.class_weight=[1,-1]", "train.class_weight: expected balanced or a list of numbers"),
        ("+model=cnn", "+model=...: model has its option already; write model=... without +"),
        ("hydra.swep.dir=x", "hydra.swep.dir: Hydra has no such key; see --hydra-help"),
        (
            "model=[dense128,cnn]",
            "model: expected one option, neither a list nor none; write model=a,b with -m",
        ),
        (
            "+model.filters=[8]",
            "model.filters: dense has no such key; there are model.activation, m",
        ),
        ("~model", "model: expected one option, neither a list nor none"),
        ("train.epochs=???", "train.epochs: missing; give it a value"),
        ("seed=range(0,3)", "seed=range(0,3): the key does not take such a value; add -m to run"),
        ("model.name=a/b", "model.name: expected letters, digits, dots, dashes and underscores"),
        ("train.epochs=ten", "train.epochs: expected a whole number, got 'ten'"),
        ("train.epochs=0", "train.epochs: expected a number of at least 1, got 0"),
        ("train.epochs=true", "train.epochs: expected a whole number, got True"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate: expected a number above 0.0"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate: expected a finite number"),
        ("model.dropout=1.0", "model.dropout: expected a number below 1.0, got 1.0"),
        ("data.validation_split=1", "data.validation_split: expected a number below 1.0, got 1"),
        ("model.units=[0]", "model.units.0: expected a number of at least 1, got 0"),
        ("model.units=128", "model.units: expected a list, written [128], got 128"),
        ("model.activation=rel", "got 'rel' (did you mean relu?)"),
        ("~model.family", "model.family: missing; copy it from a file in conf/model"),
        ("model.family=convolution", "model.family: expected one of 'dense', 'conv'"),
        ("train.jit=maybe", "train.jit: expected one of 'auto', true, false, got 'maybe'"),
        ("train=5", "train=5: a group takes the name of an option, such as train=quick"),
        ("optimizer=null", "optimizer=null: a group takes the name of an option"),
        ("seed=-1", "seed: expected a number of at least 0, got -1"),
        ("seed=${nothing}", "Interpolation key 'nothing' not found"),
        (
            "report.formats=[gif]",
            "report.formats.0: expected one of 'png', 'svg' or 'pdf', got 'gif'",
        ),
        (
            "report.format=[png]",
            "report.format: no such key (did you mean report.formats?); there are",
        ),
        (
            "tags.fingerprint=a",
            "tags.fingerprint: this tag is the program's own; choose another name",
        ),
        (f"notes={'a' * 4001}", f"at most 4000 characters, got '{'a' * 79}..."),
        ("tags.a.b=c", "tags.a: expected text, got {'b': 'c'}"),
        ("tags.a=null", "tags.a: expected text, got null"),
        ("name=''", "name: expected text, got ''"),
        ("save_as=[a/b.keras]", "save_as: expected plain file names such as [model.keras]"),
        ("save_as=[model.pt]", "save_as: expected names ending in .keras or .h5"),
        ("save_as=[tables]", "save_as: expected plain file names"),
        ("save_as=[tensorboard]", "save_as: expected plain file names"),
        ("save_as=[]", "save_as: expected at least one file name, each once, got []"),
        (
            "data.validation=20 data.validation_split=0",
            "data.validation=20 is drawn from the last data.validation_split of the training "
            "images, which is 0: set data.validation_split=0.1",
        ),
        (
            "train.patience=3 data.validation_split=0",
            "train.patience=3 needs validation images, but data.validation_split=0: set "
            "data.validation_split=0.1 or train.patience=null",
        ),
        (
            "augment=affine train.epochs=2 train.clean_epochs=2",
            "train.clean_epochs=2 leaves none of train.epochs=2 to augment: lower it or set "
            "augment=none",
        ),
        ("train.epochs=null", "train.epochs: expected a whole number, got null"),
        (
            "callbacks=[plateau]",
            "callbacks=plateau: no such option; there are none, reduce_on_pl",
        ),
        (
            "callbacks=reduce_on_plateau callbacks.reduce_on_plateau.fator=0.1",
            "callbacks.reduce_on_plateau.fator: no such key (did you mean "
            "callbacks.reduce_on_plateau.factor?); in all of conf/callbacks there are",
        ),
        (
            "+callbacks.a={name:ReduceLROnPlateau,factr:1}",
            "callbacks.a.factr: no such key (did you mean callbacks.a.factor?); there are callba",
        ),
        ("+callbacks.a={name:ReduceLROnPlateau,factor:1}", "callbacks.a.factor: expected a number"),
        ("+callbacks.a.b=1", "callbacks.a.name: missing; copy it from a file in conf/callbacks"),
        ("+callbacks.a.name=TensorBord", "'TensorBord' (did you mean TensorBoard?)"),
        (
            "+callbacks.a.name=EarlyStopping",
            "got 'EarlyStopping', in place of which there is train.patience",
        ),
        (
            "callbacks=reduce_on_plateau schedule=cosine",
            "callbacks.reduce_on_plateau: it needs one rate for all steps: set schedule=constant",
        ),
        (
            "callbacks=reduce_on_plateau data.validation_split=0",
            "callbacks.reduce_on_plateau: it needs validation images: set data.validation_spl",
        ),
        (
            "augment=[affine,elasti]",
            "augment=elasti: no such option (did you mean elastic?); there are affine, elastic, no",
        ),
        ("augment.nois=1", "augment.nois: no such key (did you mean augment.noise?)"),
        ("augment.mixup=101", "augment.mixup: expected a number of at most 100.0, got 101"),
        ("augment.args={a:1}", "augment.args: they are of augment.build, which is not set: set it"),
        ("train.freeze=conv2d", "train.freeze: expected a list, written [conv2d], got 'conv2d'"),
        ("augment.name=blur", "augment.name: expected 'none', as the keys say, got 'blur'"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(overrides: str, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)) as error:
        compose(overrides.split())
    assert "\n" not in str(error.value)


def test_a_launcher_that_is_not_installed_names_its_extra() -> None:
    missing = MissingConfigException(
        "", missing_cfg_file="hydra/launcher/submitit_slurm", options=["basic", "joblib"]
    )
    assert hydra_error_message(missing, []) == (
        "hydra/launcher=submitit_slurm: not installed; pip install 'mnist-exp[slurm]' brings it"
    )


def test_two_mistakes_are_reported_together() -> None:
    with pytest.raises(InputError) as error:
        compose(["train.epochs=0", "model.dropout=2"])
    assert str(error.value).splitlines() == [
        "model.dropout: expected a number below 1.0, got 2",
        "train.epochs: expected a number of at least 1, got 0",
    ]


def test_values_are_typed() -> None:
    config = compose(["model.units=[64,32]", "optimizer.learning_rate=2e-3", "train.jit=false"])
    assert config.model.units == (64, 32)
    assert config.optimizer.learning_rate == 0.002
    assert config.train.jit is False


def test_an_argument_of_the_optimizer_that_no_yaml_lists_needs_no_plus() -> None:
    optimizer = compose(
        ["optimizer=muon", "optimizer.clipnorm=1", "optimizer.ns_steps=3"]
    ).optimizer
    assert (optimizer.clipnorm, optimizer.ns_steps) == (1.0, 3)
    assert compose(["+optimizer.epsilon=1e-5"]) == compose(["optimizer.epsilon=1e-5"])


def test_keys_that_came_later_are_no_params_unless_they_are_set() -> None:
    """So that runs of before and after are one group of `compare`, and of one fingerprint."""
    optimizer = {"name": "adam", "learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999}
    config = compose(["train.class_weight=null"])
    assert list(fingerprint_values(config)["optimizer"].items()) == list(optimizer.items())
    assert "class_weight" not in to_yaml(config)
    for later in ("optimizer.clipnorm=1", "train.class_weight=balanced"):
        assert fingerprint_values(compose([later])) != fingerprint_values(config)
        assert from_yaml(to_yaml(compose([later]))) == compose([later])


def test_a_config_is_the_same_after_a_round_trip() -> None:
    config = compose(["experiment=dense128_split20", "seed=7"])
    assert parse(redacted_values(config)) == config


def test_a_text_that_looks_like_an_interpolation_is_none_in_the_stored_config() -> None:
    config = compose([r"notes='costs \${z}'", r"data.path='/a/\${z}/mnist.npz'"])
    assert config.data.path == "/a/${z}/mnist.npz"
    assert from_yaml(to_yaml(config)) == config
    text = with_values(to_yaml(config), {"data.path": "/b/${z}"})
    assert from_yaml(text).data.path == "/b/${z}"


def test_the_public_config_redacts_a_password() -> None:
    config = compose(["tracking.uri=https://me:secret@tracking.example/"])
    assert "secret" not in to_yaml(config)
    assert redacted_values(config)["tracking"]["uri"] == "https://***@tracking.example/"


def test_flat_keys_are_those_of_the_command_line() -> None:
    flat = flatten(redacted_values(compose([])))
    assert flat["optimizer.learning_rate"] == 0.001
    assert set(flat) <= set(keys())


def test_a_variant_needs_one_yaml_file(tmp_path: Path) -> None:
    """As in the README: copy a file, change it, choose it by name."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    (tmp_path / "model").mkdir()
    wide = (CONF / "model" / "dense128.yaml").read_text().replace("128, 128", "2000")
    (tmp_path / "model" / "wide.yaml").write_text(wide.replace("name: dense128", "name: wide"))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra_compose("config", ["model=wide", f"hydra.searchpath=[file://{tmp_path}]"])
    config = parse(composed)
    assert (config.model.name, config.model.units) == ("wide", (2000,))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("debug=fast -m seed=1,2", "-m debug=fast seed=1,2"),
        ("model=mine --config-dir my -m", "--config-dir my -m model=mine"),
        ("seed=1 -cn other --cfg job -m seed=2", "-cn other --cfg job -m seed=1 seed=2"),
        ("seed=1", "seed=1"),
        ("seed=1 --config-dir", "--config-dir  seed=1"),  # Hydra asks for the value
    ],
)
def test_options_may_stand_anywhere(typed: str, expected: str) -> None:
    assert options_first(typed.split(" ")) == expected.split(" ")


def test_numbers_are_text_where_text_is_wanted() -> None:
    config = compose(["tracking.experiment=2024", "name=7", "notes=1.5", "tags.final=true"])
    assert (config.tracking.experiment, config.name, config.notes) == ("2024", "7", "1.5")
    assert config.tags == {"final": "true"}


@pytest.mark.parametrize(
    "value", ["~/m.npz", "https://host/m.npz?a=1&b=2", "/straße (1)/m.npz", "file:///a%20b#1"]
)
def test_an_address_needs_no_quotes(value: str) -> None:
    config = compose([f"data.path={value}", f"tracking.uri={value}"])
    assert (config.data.path, config.tracking.uri) == (value, value)


def test_quotes_lists_and_null_keep_their_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "~")
    for text, value in [("null", None), ("'~/m'", "~/m"), ("${oc.env:PLACE}/m", "~/m")]:
        assert compose([f"data.path={text}"]).data.path == value
    for key in ("name", "notes", "tracking.experiment", "tags.team"):
        for text in ("Zahl für Zahl", "a=b", "a#b & c", "50 % mehr; wow!"):
            assert compose([f"{key}={text}"]) == compose([f'{key}="{text}"'])
    for text in ("~/a,~/b", "[~/a]"):
        assert translate_overrides([f"data.path={text}"]) == [f"data.path={text}"]


def test_several_callbacks_keep_their_keys_and_none_leave_none() -> None:
    config = compose(["callbacks=[tensorboard,reduce_on_plateau]"])
    assert [*redacted_values(config)["callbacks"]] == ["tensorboard", "reduce_on_plateau"]
    assert from_yaml(to_yaml(config)) == config
    for none in (
        [],
        ["callbacks=none"],
        ["callbacks=[]"],
        ["~callbacks"],
    ):  # as before there were any
        assert "callbacks" not in redacted_values(compose(none))


def test_mlflows_variable_names_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "2024")
    assert compose().tracking.experiment == "2024"
    assert compose(["tracking.experiment=typed"]).tracking.experiment == "typed"
    assert compose(["debug=fast"]).tracking.experiment == "debug"


def test_a_yml_is_named_with_the_name_that_hydra_reads(tmp_path: Path) -> None:
    file = tmp_path / "model" / "wide.yml"
    file.parent.mkdir()
    file.write_text("name: dense128\n")
    (tmp_path / "c.yaml").write_text("defaults:\n  - model: wide\n")
    with (
        initialize_config_dir(str(tmp_path), version_base="1.3"),
        pytest.raises(MissingConfigException) as caught,
    ):
        hydra_compose("c")
    told = f"{file}: Hydra reads files that end with .yaml; rename it to wide.yaml"
    assert hydra_error_message(caught.value, keys()) == told
    file.unlink()
    assert hydra_error_message(caught.value, keys()).startswith("model=wide: no such option")


def test_yaml_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes("name: gro\xdf".encode("latin-1"))
    with pytest.raises(UnicodeDecodeError) as broken:
        OmegaConf.load(file)
    assert raised_by_hydra(broken.value)
    assert hydra_error_message(broken.value, []).startswith(f"{file}: expected text in UTF-8")


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "tab.yaml"
    file.write_text("name: x\n\tunits: [1]\n")
    with pytest.raises(YAMLError) as broken:
        OmegaConf.load(file)
    assert raised_by_hydra(broken.value)
    sentence = hydra_error_message(broken.value, [])
    assert sentence.startswith(f"{file}, line 2: no valid YAML, found character '\\t'")


def test_compose_is_independent_of_a_hydra_in_use_and_of_threads(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose(["model=cnn"]).model.name == "cnn"
        assert hydra_compose("x").a == 1  # theirs is as before
    assert not GlobalHydra.instance().is_initialized()
    with ThreadPoolExecutor(4) as threads:
        seeds = threads.map(lambda seed: compose([f"seed={seed}"]).seed, range(8))
        assert list(seeds) == list(range(8))


def test_a_command_repeated_needs_the_places_of_its_configs() -> None:
    typed = "--config-dir my -m -cn=other model=wide hydra.searchpath=[file://a] seed=0,1 --cfg job"
    kept = ["--config-dir", "my", "-cn=other", "hydra.searchpath=[file://a]"]
    assert config_sources(typed.split()) == kept
    with pytest.raises(InputError, match="sweep=lr_grid,seeds: one sweep at a time"):
        compose(["sweep=lr_grid,seeds"])


AFFINE = {"rotate": 8.0, "shift": 2.0, "zoom": 0.1, "shear": 5.0}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("", {"name": "none"}),
        ("augment=affine", {"name": "affine", **AFFINE}),
        ("augment=affine augment.zoom=0", {"name": "affine", **AFFINE, "zoom": 0.0}),
        ("augment=affine augment.noise=0", {"name": "affine", **AFFINE}),
        ("augment=[elastic,affine]", {"name": "affine+elastic", **AFFINE, "elastic": 1.0}),
        (
            "augment.mixup=0.2 augment.erase=0.1",
            {"name": "erase+mixup", "erase": 0.1, "mixup": 0.2},
        ),
        ("augment=[]", {"name": "none"}),
    ],
)
def test_a_run_records_the_augmentations_that_are_on(
    overrides: str, expected: dict[str, object]
) -> None:
    """As before there were others than affine: such runs stay in one group with those of then."""
    config = compose(overrides.split())
    recorded = redacted_values(config)["augment"]
    assert [*recorded.items()] == [*expected.items()]
    assert from_yaml(to_yaml(config)) == config
