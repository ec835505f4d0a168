"""The record of a run: bounded, read in bulk, and looks spaced by a budget."""

import numpy as np
import pytest

from attractor.diagnosis.recorder import BLOCK, LAG, Recorder


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_looks_take_their_share_of_the_time_and_no_more():
    clock = Clock()
    recorder = Recorder(budget=0.1, clock=clock)
    looks = 0
    for _ in range(10_000):  # steps of 1 s, looks of 2 s
        clock.now += 1.0
        if recorder.due():
            clock.now += 2.0
            recorder.spent(2.0)
            looks += 1
    share = 2.0 * looks / clock.now
    assert 0.08 < share <= 0.1, "steps that do not divide the spacing leave a little"


def test_a_pause_saves_nothing_up():
    clock = Clock()
    recorder = Recorder(budget=0.5, clock=clock)
    recorder.spent(1.0)
    clock.now = 1000.0
    assert recorder.due()
    recorder.spent(1.0)
    assert not recorder.due(1001.9)
    assert recorder.due(1002.0)


def test_a_full_record_keeps_its_start_and_all_of_its_newest_half():
    recorder = Recorder(capacity=100)
    for step in range(5_000):
        recorder.add(step, loss=2.0 * step)
    steps, curves = recorder.curves()
    assert 50 <= len(steps) <= 100
    assert steps[0] == 0
    assert (np.diff(steps) > 0).all()
    np.testing.assert_array_equal(steps[-50:], np.arange(4_950, 5_000))
    np.testing.assert_array_equal(curves["loss"], 2 * steps)


def test_values_are_read_in_bulk_and_the_newest_are_left_alone():
    blocks = []

    def read(values):
        blocks.append(list(values))
        return [float(v) for v in values]

    recorder = Recorder(read=read)
    for step in range(BLOCK + LAG - 1):
        recorder.add(step, loss=np.float32(step))
    assert not blocks
    recorder.add(BLOCK + LAG - 1, loss=np.float32(1))
    assert [len(b) for b in blocks] == [BLOCK]
    recorder.curves()
    assert [len(b) for b in blocks] == [BLOCK, LAG]


def test_values_of_one_step_join_and_what_is_missing_is_nan():
    recorder = Recorder()
    recorder.add(3, loss=1.0)
    recorder.add(3, norm=2.0)
    recorder.curves()
    recorder.add(3, late=4.0)
    recorder.add(7, loss=0.5)
    steps, curves = recorder.curves()
    np.testing.assert_array_equal(steps, [3, 7])
    np.testing.assert_array_equal(curves["loss"], [1.0, 0.5])
    np.testing.assert_array_equal(curves["norm"], [2.0, np.nan])
    np.testing.assert_array_equal(curves["late"], [4.0, np.nan])


@pytest.mark.parametrize(("name", "value"), [("capacity", 3), ("budget", 0.0), ("budget", 1.5)])
def test_bad_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        Recorder(**{name: value})


def test_steps_do_not_go_back():
    recorder = Recorder()
    recorder.add(5, loss=1.0)
    with pytest.raises(ValueError, match="step: expected at least 5"):
        recorder.add(4, loss=1.0)


def test_what_every_step_takes_puts_the_next_look_off_but_not_one_that_is_due():
    now = [0.0]
    recorder = Recorder(budget=0.1, clock=lambda: now[0])
    recorder.spent(1.0)
    recorder.delay(0.5)
    assert (recorder.due(14.9), recorder.due(15.0)) == (False, True)
    now[0] = 20.0
    recorder.delay(0.4)
    assert recorder.due()
