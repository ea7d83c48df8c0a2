"""How often the verdicts of `compare` are right: simulated on the predictions of real runs."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks import machine
from benchmarks.epochs import prepare, train
from mnist_exp.config.compose import compose
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.significance import (
    crossed_interval,
    mcnemar,
    single_case_t,
    welch_t,
)  # fmt: skip

TITLE = "Do the verdicts hold?"
ALPHA = 0.05
SIZES = ((1, 1), (3, 1), (5, 1), (10, 1), (2, 2), (3, 3), (5, 5), (10, 10))  # up to 20 seeds


def recipe(data: Dataset, epochs: int, seeds: int) -> np.ndarray:
    """Whether dense128 of each seed, trained so long, reads each test image right."""
    images, labels = data.validation_images[:0], data.validation_labels[:0]
    data = replace(data, validation_images=images, validation_labels=labels)  # nothing to choose
    rows = []
    for seed in range(seeds):
        chosen = ["model=dense128", "train.batch_size=128", f"train.epochs={epochs}"]
        config = compose([*chosen, f"seed={seed}"])
        loop = prepare(config, data)
        train(loop, config)
        scores = loop.model.predict_on_batch(data.test_images)
        rows.append(scores.argmax(1) == data.test_labels)
    return np.array(rows)


def p_value(a: np.ndarray, b: np.ndarray) -> float:
    """That of the test which `compare` takes for so many runs."""
    if len(a) == 1:
        return mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))
    if len(b) == 1:
        return single_case_t(b.mean(), a.mean(axis=1).tolist())
    return welch_t(a.mean(axis=1).tolist(), b.mean(axis=1).tolist())


def simulate(a: np.ndarray, b: np.ndarray, sizes: tuple[int, int], trials: int) -> tuple[str, str]:
    """How often runs drawn from two pools differ by the test, and the interval has the truth.

    From one pool, when both are the same, no run is drawn twice. The interval is of a random half
    of the images, so that it can miss by them, too; the truth is the difference of the pools.
    """
    random = np.random.default_rng(0)
    truth, (n, m) = a.mean() - b.mean(), sizes
    rejected = covered = 0
    for _ in range(trials):
        order = random.permutation(len(a))
        other = order[n : n + m] if a is b else random.permutation(len(b))[:m]
        runs, others = a[order[:n]], b[other]
        rejected += p_value(runs, others) < ALPHA
        half = random.permutation(a.shape[1])[: a.shape[1] // 2]
        low, high = crossed_interval(runs[:, half], others[:, half])
        covered += low <= truth <= high
    return f"{100 * rejected / trials:.1f} %", f"{100 * covered / trials:.1f} %"


def swapped(a: np.ndarray, trials: int) -> float:
    """How often McNemar's test rejects where two runs of `a` err equally often.

    Each image that they read differently goes to either as a coin falls.
    """
    random = np.random.default_rng(0)
    rejected = 0
    for _ in range(trials):
        one, other = a[random.permutation(len(a))[:2]]
        differing = int((one != other).sum())
        of_one = int(random.binomial(differing, 0.5))
        rejected += mcnemar(of_one, differing - of_one) < ALPHA
    return rejected / trials


def measure(quick: bool) -> Iterator[str]:
    data, seeds, trials = machine.mnist(), *((20, 100) if quick else (30, 2000))
    yield from report(recipe(data, 3, seeds), recipe(data, 2, seeds), trials)


def report(longer: np.ndarray, shorter: np.ndarray, trials: int) -> Iterator[str]:
    """The lines of the page from the predictions of the two recipes."""
    scores = [100 * runs.mean(axis=1) for runs in (longer, shorter)]
    told = " and ".join(f"{each.mean():.2f} ± {each.std(ddof=1):.2f} %" for each in scores)
    yield (
        f"dense128 at batch 128, {len(longer)} seeds after 3 epochs and {len(shorter)} after 2: "
        f"{told} of the 10,000 test images, mean ± sd. From these predictions runs are drawn, "
        f"{trials:,} times for each row: n of one recipe and m of the other, or of the same one. "
        "Of the same recipe 5 % should be called different (in so many draws that is known to "
        f"{100 * (0.05 * 0.95 / trials) ** 0.5:.1f} %, and all come from one pool of seeds); "
        "intervals should have the true difference in 95 %, for which the images are drawn, too."
    )
    yield ""
    yield from machine.head(
        "test", "n, m", "same recipe: called different", "interval has the truth",
        "other recipe: called different", "interval has the truth",
    )  # fmt: skip
    for n, m in SIZES:
        test = "McNemar" if n == 1 else "single case" if m == 1 else "Welch"
        same = simulate(longer, longer, (n, m), trials)
        yield machine.row(test, f"{n}, {m}", *same, *simulate(longer, shorter, (n, m), trials))
    yield ""
    yield (
        f"McNemar's own question is whether two runs err equally often: where they do, by swapped "
        f"labels, it says otherwise in {100 * swapped(longer, trials):.1f} % of {trials:,} draws. "
        "That two runs of one recipe differ, as the first row says, is true of them and tells "
        "nothing of the recipe."
    )
