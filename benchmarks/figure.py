"""The README's picture: test accuracy against seconds of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mnist_exp.plots.base import BLUE, GREY, INK, VERMILLION, axes_at, in_own_style, new_figure

FILE = Path(__file__).parent.parent / "docs" / "images" / "accuracy_over_seconds.png"
PUBLISHED = {  # accuracies in %, averaged over seeds by those who published them
    "1,500 Keras nets, 30-35 epochs: 99.64 ± 0.05": 99.64,
    "ten 3x3 convolutions, 150 epochs: 99.70 ± 0.03": 99.70,
}
FAST = (0.76, 99.04, "train_mnist_fast on a GTX 1660 Ti: 99.04 ± 0.07")
CLAIMED_ON = "two cores of an AMD EPYC"  # where the presets' files were written
PLACES = {"center": (0, 13), "left": (8, -3), "right": (-8, -3)}  # of a name, by its alignment
BESIDE = {"one_epoch": "left", "dense128_augmented": "left", "dense128_best": "right"}
Curve = Sequence[tuple[float, float]]


@in_own_style
def draw(
    ours: Mapping[str, Mapping[str, float]], keras: Mapping[str, Curve], machine: str
) -> Figure:
    """`ours` are the presets' claims, `keras` per network seconds and accuracy after each epoch."""
    title = "Accuracy on the 10,000 test images against seconds of training"
    note = (
        f"Blue: the presets as their files tell, mean ± sd over seeds, compiling included, on "
        f"{CLAIMED_ON}. Vermillion: model.fit as it comes, one seed, after each epoch, "
        f"{machine}. Grey: published, on other machines."
    )
    figure = new_figure(9.0, 5.2, title, note)
    axes = axes_at(figure, 0.8, 0.6, 7.9, 4.4)
    axes.set_xscale("log")
    axes.set_yscale("log")  # of the error: every tenth of a percent is harder than the one before
    for name, claim in ours.items():
        error = 100 - claim["mean"]
        axes.errorbar(
            claim["seconds"], error, yerr=claim["sd"], fmt="o", color=BLUE, markersize=6, capsize=3
        )
        side = BESIDE.get(name, "center")  # where no line is in the way
        axes.annotate(
            f"{name} {claim['mean']:.2f}", (claim["seconds"], error), xytext=PLACES[side],
            textcoords="offset points", fontsize=8, color=INK, ha=side,
        )  # fmt: skip
    for name, curve in keras.items():
        seconds, accuracy = zip(*curve, strict=True)
        errors = [100 - each for each in accuracy]
        axes.plot(seconds, errors, "s-", color=VERMILLION, markersize=4, linewidth=1)
        axes.annotate(
            f"model.fit, {name}", (seconds[0], errors[0]),
            xytext=(0, -14), textcoords="offset points", fontsize=8, color=VERMILLION,
        )  # fmt: skip
    axes.plot(FAST[0], 100 - FAST[1], "D", color=GREY, markersize=5)
    axes.annotate(
        FAST[2], (FAST[0], 100 - FAST[1]), xytext=(-5, -15), textcoords="offset points",
        fontsize=8, color=GREY,
    )  # fmt: skip
    axes.set_xlim(0.6, 1000)
    axes.set_ylim(4, 0.2)
    for name, published in PUBLISHED.items():
        axes.axhline(100 - published, color=GREY, linewidth=0.8, linestyle=":")
        axes.text(0.65, 100 - published, name, fontsize=8, color=GREY, va="bottom")
    marks = [97, 98, 99, 99.5, 99.7]
    axes.set_yticks([100 - mark for mark in marks], [f"{mark:g} %" for mark in marks])
    axes.set_yticks([], minor=True)
    ticks = [1, 3, 10, 30, 100, 300, 1000]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("seconds of training, compiling included", fontsize=9)
    axes.set_ylabel("test accuracy, by the logarithm of the error", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, color="#E5E7EB", linewidth=0.6)
    return figure
