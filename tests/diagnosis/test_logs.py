"""Logs: what is read from every kind of file, and what is said of a bad one."""

import json
import struct

import numpy as np
import pytest

from attractor.diagnosis import diagnose_log, read_log
from attractor.diagnosis.columns import curve_of
from attractor.diagnosis.logs.events import masked_crc, read_events


@pytest.fixture
def written(tmp_path):
    """Write a file; its path."""

    def write(text, name="log.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("column", "curve"),
    [
        ("loss", "loss"), ("Train Loss", "loss"), ("training/loss", "loss"), ("train_loss_epoch", "loss"),
        ("epoch_loss", "loss"), ("trainLoss", "loss"), ("val_loss", "validation loss"), ("valloss", "validation loss"),
        ("Validation Loss", "validation loss"), ("eval/loss", "validation loss"), ("loss-test", "validation loss"),
        ("acc", "accuracy"), ("val_accuracy", "validation accuracy"), ("lr", "learning rate"),
        ("lr-Adam/pg1", "learning rate"), ("learning_rate", "learning rate"), ("train/grad_norm", "gradient norm"),
        ("grad_2.0_norm_total", "gradient norm"), ("param_norm", "weight norm"), ("update-ratio", "update ratio"),
        ("box_loss", ""), ("loss_scale", ""), ("val_time", ""), ("epoch", ""), ("norm", ""),
    ],
)  # fmt: skip
def test_usual_names_are_known(column, curve):
    assert curve_of(column) == curve


def test_csv_of_keras(written):
    text = "epoch,accuracy,loss,lr,val_accuracy,val_loss\n0,0.1,2.5,0.01,0.2,2.25\n1,0.5,1.5,0.01,0.25,1.75\n"
    signs = read_log(written(text))
    assert signs.kind == "log"
    np.testing.assert_array_equal(signs.steps, [0, 1])
    expected = {
        "loss": [2.5, 1.5], "accuracy": [0.1, 0.5], "learning rate": [0.01, 0.01], "validation accuracy": [0.2, 0.25],
        "validation loss": [2.25, 1.75],
    }  # fmt: skip
    assert {k: v.tolist() for k, v in signs.curves.items()} == expected


def test_rows_with_holes_are_merged_by_step(written):
    """Lightning writes training and validation values in rows of their own; a validation between two training rows
    belongs to the one before."""
    rows = "epoch,step,train_loss_step,val_loss\n0,9,3.0,\n0,9,,4.0\n0,19,2.0,\n1,24,,5.0\n1,29,1.0,\n"
    signs = read_log(written(rows, "metrics.csv").parent)
    np.testing.assert_array_equal(signs.steps, [9, 19, 29])
    np.testing.assert_array_equal(signs.curves["loss"], [3, 2, 1])
    np.testing.assert_array_equal(signs.curves["validation loss"], [4, 5, np.nan])


def test_words_for_not_finite_are_values_and_holes_are_not(written):
    signs = read_log(written("step;loss;grad norm\n0;1,5;\n1;NaN;2\n2;-inf;N/A\n"))
    np.testing.assert_array_equal(signs.curves["loss"], [1.5, np.nan, -np.inf])
    np.testing.assert_array_equal(signs.curves["gradient norm"], [np.nan, 2, np.nan])
    assert (
        "not finite" in diagnose_log(written("step,loss\n" + "".join(f"{i},1\n" for i in range(50)) + "50,nan\n")).names
    )


def test_rows_are_numbered_where_no_column_counts(written):
    signs = read_log(written("loss\n3\n2\n"))
    np.testing.assert_array_equal(signs.steps, [0, 1])
    assert any("numbered" in note for note in signs.notes)
    repeated = written("epoch,loss\n0,3\n0,2\n1,1\n", "b.csv")
    np.testing.assert_array_equal(read_log(repeated, columns={"step": "none"}).steps, [0, 1, 2])


def test_the_later_part_of_a_resumed_run_is_kept(written):
    signs = read_log(written("step,loss,val_loss\n0,9,9\n1,8,\n2,7,7\n3,6,\n2,5,5\n3,4,\n4,3,3\n"))
    np.testing.assert_array_equal(signs.steps, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(signs.curves["loss"], [9, 8, 5, 4, 3])
    np.testing.assert_array_equal(signs.curves["validation loss"], [9, np.nan, 5, np.nan, 3])
    assert any("line 6" in note and "from 3 to 2" in note for note in signs.notes)


def test_newest_first_is_turned_around(written):
    signs = read_log(written("step,loss\n3,1\n2,2\n1,3\n"))
    np.testing.assert_array_equal(signs.curves["loss"], [3, 2, 1])


def test_columns_named_by_the_user(written):
    path = written("t,target,loss\n5,1,0\n6,2,0\n")
    signs = read_log(path, columns={"loss": "target", "step": "t"})
    np.testing.assert_array_equal(signs.steps, [5, 6])
    np.testing.assert_array_equal(signs.curves["loss"], [1, 2])


def test_of_two_columns_the_one_with_more_values_is_taken(written):
    signs = read_log(written("step,loss,train_loss\n0,3,\n1,2,\n2,,2.5\n"))
    np.testing.assert_array_equal(signs.curves["loss"], [3, 2])
    assert any("not 'train_loss'" in note for note in signs.notes)


def test_wandb_export(written):
    head = '"Step","fox-1 - train/loss","fox-1 - train/loss__MIN","fox-1 - train/loss__MAX","elk-2 - train/loss"\n'
    signs = read_log(written(head + '"0","4","1","9","2"\n"1","3","1","9",""\n"2","1","1","9","3"\n'))
    assert signs.numbers["seeds"] == 2
    # They end at 1 and 3: mean 2, standard deviation √2.
    assert signs.numbers["seed spread"] == pytest.approx(np.sqrt(2) / 2)
    np.testing.assert_array_equal(signs.curves["loss"], [4, 3, 1])


def test_json_by_line_and_a_trainer_state(written):
    lines = [{"_step": 0, "train": {"loss": 2.0}, "note": "x"}, {"_step": 5, "train": {"loss": "NaN"}, "gn": None}]
    signs = read_log(written("\n".join(map(json.dumps, lines)), "wandb-history.jsonl"))
    np.testing.assert_array_equal(signs.steps, [0, 5])
    np.testing.assert_array_equal(signs.curves["loss"], [2, np.nan])
    history = [{"step": 1, "loss": 3.0}, {"step": 1, "eval_loss": 4.0}, {"step": 2, "loss": 2.0, "grad_norm": 7}]
    history.append({"step": 2, "train_loss": 2.5, "train_runtime": 1.0})
    signs = read_log(written(json.dumps({"best": 1, "log_history": history}), "trainer_state.json"))
    np.testing.assert_array_equal(signs.curves["loss"], [3, 2])
    np.testing.assert_array_equal(signs.curves["validation loss"], [4, np.nan])
    np.testing.assert_array_equal(signs.curves["gradient norm"], [np.nan, 7])


def test_seeds_by_files_and_by_a_column(written):
    ends = [1.0, 2.0, 6.0]
    several = [written(f"step,loss\n0,9\n1,{end}\n", f"run{i}.csv") for i, end in enumerate(ends)]
    by_file = read_log(*several)
    rows = "".join(f"{i},0,9\n{i},1,{end}\n" for i, end in enumerate(ends))
    by_column = read_log(written("seed,step,loss\n" + rows, "all.csv"))
    for signs in (by_file, by_column):
        assert signs.numbers["seeds"] == 3
        assert signs.numbers["seed spread"] == pytest.approx(np.std(ends, ddof=1) / 3)
        np.testing.assert_array_equal(signs.curves["loss"], [9, 2])  # the run in the middle
    assert "luck of the seed" in diagnose_log(*several).names


def test_a_fault_in_one_of_several_runs_is_found(written):
    good = "step,loss\n" + "".join(f"{i},{np.exp(-i / 20):.4f}\n" for i in range(60))
    bad = "step,loss\n" + "".join(f"{i},{np.exp(i / 20):.4f}\n" for i in range(60))
    found = diagnose_log(written(good, "a.csv"), written(good, "b.csv"), written(bad, "c.csv"))
    assert "1 of 3 runs; clearest in c" in found["step too large"].sentence
    assert "clearest" not in found["luck of the seed"].sentence  # that is about all of them


def test_findings_from_curves(written):
    steps = np.arange(100)
    overfit = zip(steps, np.exp(-steps / 20), 0.3 + (steps / 100 - 0.3) ** 2, strict=True)
    found = diagnose_log(written("step,loss,val_loss\n" + "".join(f"{s},{a},{b}\n" for s, a, b in overfit)))
    assert found["overfitting"].where == "step 30"
    loss = np.where(steps == 70, 20.0, 1.0 - steps / 200)
    found = diagnose_log(written("step,loss\n" + "".join(f"{s},{v}\n" for s, v in zip(steps, loss, strict=True))))
    assert found["spike"].where == "step 70"


# TensorBoard: the format as its specification has it, written by hand.


def checksum(data):
    """CRC-32C, bit by bit, masked."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number):
    number, out = number % 2**64, b""
    while number >= 128:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def entry(number, value):
    """A field of a protocol buffer: an integer, a double, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def simple(tag, value):
    return entry(1, tag.encode()) + varint(2 << 3 | 5) + struct.pack("<f", value)


def tensor(tag, kind, content):
    return entry(1, tag.encode()) + entry(8, entry(1, kind) + entry(2, b"") + content)


def event(step, *values, version=None):
    data = entry(1, 1.7e9) + (entry(2, step) if step else b"")
    data += entry(3, version) if version else b""
    data += entry(5, b"".join(entry(1, v) for v in values)) if values else b""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", checksum(length)) + data + struct.pack("<I", checksum(data))


HEAD = event(0, version=b"brain.Event:2")


def test_the_checksum_is_that_of_the_standard():
    """The check value of CRC-32C is 0xE3069283 for the digits 1 to 9; the mask is the format's."""
    crc = 0xE3069283
    expected = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    data = np.frombuffer(b"0123456789", np.uint8)
    found = masked_crc(data, np.array([0, 1, 4]), np.array([0, 10, 6]))
    assert found.tolist() == [checksum(b""), expected, checksum(b"45")]
    assert expected == checksum(b"123456789")


def test_scalars_in_all_their_encodings():
    values = [
        simple("a", 0.5),
        tensor("b", 1, entry(4, struct.pack("<f", 1.5))),
        tensor("c", 1, entry(5, struct.pack("<f", 2.5))),
        tensor("d", 2, varint(6 << 3 | 1) + struct.pack("<d", 3.5)),
        tensor("e", 9, entry(10, varint(-4))),
        tensor("f", 3, varint(7 << 3) + varint(300)),
        tensor("g", 19, varint(13 << 3) + varint(int(np.float16(-0.25).view(np.uint16)))),
        tensor("text", 7, entry(8, b"hello")),
        tensor("vector", 1, entry(4, struct.pack("<ff", 1, 2))),
        entry(1, b"histogram") + entry(5, entry(1, 0.0)),
    ]
    found, note = read_events(HEAD + event(300, *values) + event(-1, simple("a", 9.0)), "f")
    assert note == ""
    assert found == {
        "a": [(300, 0.5), (-1, 9.0)], "b": [(300, 1.5)], "c": [(300, 2.5)], "d": [(300, 3.5)], "e": [(300, -4.0)],
        "f": [(300, 300.0)], "g": [(300, -0.25)],
    }  # fmt: skip


def test_a_folder_of_event_files(written):
    """Two files of one run, the second resumed at step 1; a neighbor with the validation, as Keras has it."""
    train = b"".join(event(i, simple("epoch_loss", 4.0 - i)) for i in range(3))
    written(HEAD + train, "logs/train/events.out.tfevents.1")
    written(HEAD + event(1, simple("epoch_loss", 0.5)), "logs/train/events.out.tfevents.2")
    path = written(HEAD + event(0, simple("epoch_loss", 7.0)), "logs/validation/events.out.tfevents.1")
    signs = read_log(path.parents[1])
    np.testing.assert_array_equal(signs.steps, [0, 1])
    np.testing.assert_array_equal(signs.curves["loss"], [4, 0.5])
    np.testing.assert_array_equal(signs.curves["validation loss"], [7, np.nan])
    assert "seeds" not in signs.numbers


def test_a_cut_off_event_file_is_read_to_its_last_whole_record(written):
    whole = HEAD + event(0, simple("loss", 2.0)) + event(1, simple("loss", 1.0))
    signs = read_log(written(whole + event(2, simple("loss", 0.5))[:-7], "events.out.tfevents.1"))
    np.testing.assert_array_equal(signs.curves["loss"], [2, 1])
    assert any("cut off" in note for note in signs.notes)


@pytest.mark.parametrize("place", [2, 10, 20, -1])
def test_a_damaged_event_file_is_refused(place):
    data = bytearray(HEAD + event(3, simple("loss", 2.0)) + HEAD)
    data[len(HEAD) + place if place > 0 else place] ^= 4
    if place == 2:  # the length itself: the record then seems to reach beyond the end
        data += bytes(300_000)
    with pytest.raises(ValueError, match=r"f: the record at byte \d+ does not match"):
        read_events(bytes(data), "f")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("step,loss\n", "no rows of values"),
        ("0,1\n1,2\n", "line 1: numbers where the names"),
        ("step,loss\n0,1\n1,abc\n", "line 3, column 'loss': expected a number, nan or inf, got 'abc'"),
        ("step,loss\n0,1\nx,2\n", "line 3, column 'step': expected a number"),
        ("step,loss\n0,1\n,2\n", "line 3, column 'step': the step is missing"),
        ("step,loss\n0,1\nnan,2\n", "line 3, column 'step': expected a number, got 'nan'"),
        ("step,loss\n0,1\n0,2\n", r"line 3, column 'loss': step 0 is there a second time.*--column step=NAME"),
        ("step,loss\n0,1\n1\n2,1\n", "line 3: 1 cells, where the header names 2"),
        ("step,loss,loss\n0,1,1\n", "'loss' is there twice"),
        ("step,cost_a,b\n0,1,1\n", r"no column is a training loss; it has cost_a, b; name one with --column loss=NAME"),
        ("step,val_loss\n0,1\n", r"no column is a training loss \(only of the validation\)"),
        (b"\xff\xfe\x00step", "no UTF-8 text"),
    ],
)
def test_bad_tables_are_refused_with_the_place(written, text, message):
    with pytest.raises(ValueError, match=r"log\.csv.*" + message):
        read_log(written(text))


def test_other_bad_input(written, tmp_path):
    good = written("step,loss\n0,1\n1,1\n")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        read_log(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="did you mean 'loss'"):
        read_log(good, columns={"los": "loss"})
    with pytest.raises(ValueError, match="unknown column 'lss', did you mean 'loss'"):
        read_log(good, columns={"loss": "lss"})
    with pytest.raises(ValueError, match="unknown column 'stp', did you mean 'step'"):
        read_log(good, columns={"step": "stp"})
    with pytest.raises(ValueError, match="at least one"):
        read_log()
    with pytest.raises(ValueError, match=r"a\.png: expected \.csv"):
        read_log(written("x", "a.png"))
    with pytest.raises(ValueError, match="line 2: no JSON"):
        read_log(written('{"loss": 1}\n{"loss"\n', "a.jsonl"))
    with pytest.raises(ValueError, match=r"line 1: expected an object"):
        read_log(written("[1]\n", "b.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="the folder has neither"):
        read_log(tmp_path / "empty")


def test_a_last_line_cut_off_is_left_out(written):
    signs = read_log(written("step,loss,lr\n0,3,1\n1,2,1\n2,1"))
    np.testing.assert_array_equal(signs.steps, [0, 1])
    assert any("cut off" in note for note in signs.notes)
