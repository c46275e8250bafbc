"""Checkpoints of torch are read as data: what is not data, or claims more than there is, is refused."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

import jaxmlip
from jaxmlip.formats.torch_pickle import PickleError, interpret
from jaxmlip.formats.torch_zip import read_checkpoint

NUMBERS = np.arange(4, dtype="<f4").tobytes()
TINY = Path(__file__).parent / "reference" / "sevennet" / "tiny_linear.pth"


def tensor_pickle(*, size=4, shape=(4,), strides=(1,), offset=0, storage="FloatStorage"):
    """A pickle of one tensor, written by hand as torch does."""

    def numbers(values):
        return b"(" + b"".join(b"J" + int(v).to_bytes(4, "little", signed=True) for v in values) + b"t"

    def text(value):
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    stored = b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text("0") + text("cpu")
    stored += b"J" + int(size).to_bytes(4, "little", signed=True) + b"tQ"
    view = b"J" + int(offset).to_bytes(4, "little", signed=True) + numbers(shape) + numbers(strides)
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + stored + view + b"\x89}tR."


def archive(path, content, *, numbers=NUMBERS, compression=zipfile.ZIP_STORED, **entries):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x/data.pkl", content)
        if numbers is not None:
            file.writestr("x/data/0", numbers)
        for name, text in entries.items():
            file.writestr(f"x/{name}", text)
    return path


def test_a_tensor(tmp_path):
    path = archive(tmp_path / "x.pth", tensor_pickle(shape=(2, 2), strides=(1, 2)), byteorder="little")
    np.testing.assert_array_equal(read_checkpoint(path), np.array([[0, 2], [1, 3]], np.float32))


class Malicious:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("call", [(os.system, "touch {}"), (eval, "open('{}', 'w')"), (getattr, "a", "upper")])
def test_no_code_is_run(call, protocol, tmp_path):
    function, *arguments = call
    witness = tmp_path / "witness"
    harm = Malicious(function, *(argument.format(witness) for argument in arguments))
    path = archive(tmp_path / "x.pth", pickle.dumps({"config": harm}, protocol=protocol))
    with pytest.raises(ValueError, match="refused"):
        jaxmlip.load(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cbuiltins\neval\n.", "names builtins.eval, which is not on the list"),
        (b"ccollections\nOrderedDict\n)\x81.", "instruction NEWOBJ"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "calls"),
        (b"K\x01K\x02a.", "fills a int"),
        (b"h\x05.", "damaged"),
        (b"a.", "damaged"),
        (b"", "damaged"),
        (b"}(X\x01\x00\x00\x00a", "damaged"),
        (b"}))R.", "calls"),
        (b"}]K\x01s.", "a dict has a list as key"),
    ],
)
def test_pickles_that_are_no_checkpoints(content, message):
    with pytest.raises(PickleError, match=message):
        interpret(content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 5}, "16 bytes for 5 numbers"),
        ({"size": 3}, "claims 16 bytes"),
        ({"size": 2**31 - 1}, "16 bytes for"),
        ({"size": -1}, "refused"),
        ({"shape": (5,)}, "does not fit"),
        ({"offset": 1}, "does not fit"),
        ({"shape": (2**30, 2**30), "strides": (0, 0)}, "does not fit"),
        ({"shape": (-4,)}, "tensor of shape"),
        ({"strides": (-1,)}, "tensor of shape"),
        ({"strides": (1, 1)}, "without a storage"),
        ({"storage": "UntypedStorage"}, "names torch.UntypedStorage"),
    ],
)
def test_tensors_that_do_not_fit(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_checkpoint(archive(tmp_path / "x.pth", tensor_pickle(**changes)))


def test_missing_compressed_and_foreign_entries(tmp_path):
    path = tmp_path / "x.pth"
    with pytest.raises(ValueError, match="data/0 is missing"):
        read_checkpoint(archive(path, tensor_pickle(), numbers=None))
    with pytest.raises(ValueError, match="is compressed"):
        read_checkpoint(archive(path, tensor_pickle(size=10**6), numbers=bytes(4 * 10**6), compression=8))
    with pytest.raises(ValueError, match="not little-endian"):
        read_checkpoint(archive(path, tensor_pickle(), byteorder="big"))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("version", "3")
    with pytest.raises(ValueError, match="exactly one entry"):
        read_checkpoint(path)
    path.write_text("no archive")
    with pytest.raises(ValueError, match="not a torch checkpoint"):
        read_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "none.pth")


def test_a_size_in_the_directory_is_not_trusted(tmp_path):
    """Entries may overlap in a zip: together they are read only up to the size of the file."""
    path = archive(tmp_path / "x.pth", tensor_pickle())
    data = bytearray(path.read_bytes())
    at = data.rindex(b"x/data/0") - 46  # its header in the directory
    data[at + 20 : at + 28] = (10**9).to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(ValueError, match="claims 1000000000 bytes"):
        read_checkpoint(path)


@pytest.mark.parametrize("keep", [10, 1000, 30000])
def test_truncated_checkpoints(keep, tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(TINY.read_bytes()[:keep])
    with pytest.raises(ValueError, match="not a torch checkpoint"):
        jaxmlip.load(path)


def rewritten(path, change):
    """The tiny checkpoint with its pickle changed."""
    with zipfile.ZipFile(TINY) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, change(content) if info.filename.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"XPLOR", b"NOTME", "cutoff function 'NOTME'"),
        (b"silu", b"relu", "is not known here"),
        (b"0.13.0", b"unsure", "version 'unsure'"),
        (b"is_parity", b"is_purity", "lack 'is_parity'"),
        (b"8x0e+4x1e+2x2e", b"8x0e+4x1e+3x2e", "the settings need"),
        (b"0_self_interaction_1", b"0_self_interactiom_1", "has no 0_self_interaction_1"),
        (b"reduce_hidden_to_energy.linear.output_mask", b"reduce_hidden_to_energy.linear.output_musk", "explains"),
        (b"model_state_dict", b"model_state_duct", "no model_state_dict"),
    ],
)
def test_checkpoints_that_are_not_ours(old, new, message, tmp_path):
    path = rewritten(tmp_path / "x.pth", lambda content: content.replace(old, new))
    with pytest.raises(ValueError, match=message):
        jaxmlip.load(path)


def test_where_sevenn_is_missing(monkeypatch):
    monkeypatch.setattr("jaxmlip.formats.sevennet.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps sevenn"):
        jaxmlip.load("sevennet-0")
