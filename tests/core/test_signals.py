"""SIGTERM as an exception, and writes that no signal interrupts."""

import signal

import pytest

from mnist_exp.core.signals import Terminated, defer_interrupts, sigterm_interrupts


def test_sigterm_is_an_interrupt_inside_and_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, Terminated),
        (signal.SIGHUP, Terminated),
    ],
)
def test_a_signal_waits_for_the_end_of_a_write(number: int, error: type[BaseException]) -> None:
    written = []
    with pytest.raises(error), sigterm_interrupts():
        with defer_interrupts():
            signal.raise_signal(number)
            written.append("first half")
            signal.raise_signal(number)
            written.append("second half")
        written.append("never")
    assert written == ["first half", "second half"]


def test_nohup_is_honoured() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with sigterm_interrupts(), defer_interrupts():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
