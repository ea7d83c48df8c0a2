"""The options that commands share."""

from typing import Annotated

import typer

RunOption = Annotated[
    str,
    typer.Option(
        "--run",
        metavar="best|last|ID|NAME|models:/NAME@ALIAS",
        help="Which recorded run; an id may be cut short.",
    ),
]
ExperimentOption = Annotated[
    str,
    typer.Option(
        "--experiment",
        metavar="NAME",
        envvar="MLFLOW_EXPERIMENT_NAME",
        help="The MLflow experiment to look in.",
    ),
]
FilterOption = Annotated[
    str,
    typer.Option(
        metavar="FILTER",
        help="Only the runs that fit, in MLflow's syntax: \"params.model.name = 'cnn'\".",
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        metavar="URI",
        help="The MLflow store; default: MLFLOW_TRACKING_URI, else mlflow.db in this folder.",
    ),
]
