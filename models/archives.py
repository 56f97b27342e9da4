"""What the bytes of a pickled checkpoint say before anything opens it: its kind, what it asks for, and how much.

torch.save writes a zip without compression whose member ``data.pkl`` is a pickle and whose others are raw numbers;
before 2020 it wrote five pickles in a row and the numbers behind them. A pickle names every class and function that it
wants called: they are read off it here, without calling any (`pickletools`), and must be those of a plain state dict.
"""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile

from models.safetensors_header import shown
from vizcore.records import BadWeights

MOST_MEMBERS = 10_100  # of the zip: a member for each tensor, and a few more
MOST_TENSORS = 10_000
MOST_STEPS = 40 * MOST_TENSORS  # of a pickle: a state dict takes about 25 for each tensor
MOST_PICKLE = 3 * 2**20  # bytes: a state dict takes about 150 for each tensor
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickle of torch's magic number: the format before 2020
SAVE = 'Where it was made, save the state dict alone: torch.save(model.state_dict(), "weights.pth").'

# What files are called that begin so
KINDS = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    LEGACY: "legacy",
    b"\x80": "pickle",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture or a sound",
    b"%PDF": "a PDF",
    b"\x89HDF": "HDF5, as Keras saves it",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "packed with gzip",
    b"7z\xbc\xaf": "packed with 7-Zip",
    b"Rar!": "packed with RAR",
    b"<": "a web page or XML",
    b"version https://git-lfs": "a placeholder of Git LFS, without the weights themselves",
}

# The parts of a plain state dict, as pickles spell them
PLAIN = {
    *("collections OrderedDict", "torch Size", "torch device", "torch.nn.parameter Parameter", "_codecs encode"),
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor", "torch._utils _rebuild_parameter"),
    *("builtins set", "__builtin__ set", "builtins bytearray", "__builtin__ bytearray"),
}
NUMBERS = {
    *(f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char")),
    *("torch ByteStorage", "torch BoolStorage", "torch.storage TypedStorage", "torch.storage UntypedStorage"),
    *(f"torch {dtype}" for dtype in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool")),
}
# Of others, why they are not taken; by a part of their name
UNFIT = {
    "_rebuild_qtensor": "quantised tensors; save the network before it is quantised",
    "_rebuild_sparse": "sparse tensors; save them dense: tensor.to_dense()",
    "_rebuild_nested": "nested tensors; a state dict holds plain ones",
    "_rebuild_meta": "tensors without numbers (device “meta”); save the network after its weights are loaded",
    "Complex": "complex numbers; networks here compute with real ones",
    "torch Q": "quantised tensors; save the network before it is quantised",
}
UNKNOWN_TO_TORCH = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"}  # its own pickles have none


def kind_of(data: bytes) -> str:
    """What the first bytes say: "zip", "legacy", "pickle", "safetensors", words for another kind, or nothing."""
    if data[257:262] == b"ustar":
        return "a tar archive, as torch wrote them before 2017"
    if data[8:9] == b"{" and data[7:8] == b"\0":
        return "safetensors"
    return next((kind for magic, kind in KINDS.items() if data.startswith(magic)), "")


def check_pickled(data: bytes, name: str) -> None:
    """Refuse, with BadWeights in one sentence, what is not a state dict as torch.save writes it."""
    kind = kind_of(data)
    if kind == "zip":
        _check_pickle(io.BytesIO(_pickle_in(data, name)), name)
    elif kind == "legacy":
        file = io.BytesIO(data[: MOST_PICKLE + 1000])
        for _ in range(5):  # magic number, protocol, the machine's sizes, the state dict, the order of the numbers
            _check_pickle(file, name)
    elif kind == "pickle":
        raise BadWeights(f"{name} is a plain Python pickle, which can run code when it is opened. {SAVE}")
    else:
        what = f"{name} is {kind}, not a weights file" if kind else f"{name} is no weights file that is known here"
        raise BadWeights(f"{what}. Give a .safetensors file, or a .pth or .pt file with a state dict.")


def _pickle_in(data: bytes, name: str) -> bytes:
    """The member data.pkl of a zip that is as torch.save writes it."""
    if data.count(b"PK\x01\x02") > MOST_MEMBERS:  # the mark of an entry; counted before anything is made of each
        raise BadWeights(f"{name} holds more than {MOST_TENSORS:,} tensors, which is the limit. {SAVE}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            pickles = [member for member in members if member.filename.rsplit("/", 1)[-1] == "data.pkl"]
            _check_members(members, len(pickles), len(data), name)
            return archive.read(pickles[0])
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        EOFError,
        OverflowError,
        OSError,
        struct.error,
    ) as error:
        raise BadWeights(f"{name} is damaged or cut off: the zip that it is cannot be read. Copy it again.") from error


def _check_members(members: list[zipfile.ZipInfo], pickles: int, size: int, name: str) -> None:
    endings = {member.filename.rsplit("/", 1)[-1] for member in members}
    if "archive_format" in endings or any(ending.endswith(".pt2") for ending in endings):
        raise BadWeights(f"{name} is an exported program (.pt2), which holds code beside the weights. {SAVE}")
    if "constants.pkl" in endings or any("/code/" in member.filename for member in members):
        raise BadWeights(f"{name} is TorchScript, which holds code beside the weights. {SAVE}")
    if pickles != 1:
        known = "NumPy arrays (.npz)" if any(ending.endswith(".npy") for ending in endings) else "other files"
        raise BadWeights(f"{name} is a zip of {known}, not what torch.save writes. {SAVE}")
    if any(member.flag_bits & 1 for member in members):
        raise BadWeights(f"{name} is encrypted. {SAVE}")
    if packed := [member for member in members if member.compress_type != zipfile.ZIP_STORED]:
        ratio = max(member.file_size / max(member.compress_size, 1) for member in packed)
        raise BadWeights(
            f"{name} is compressed ({ratio:,.0f} to 1), which torch.save never does: packed again by another program, "
            f"or made to fill the memory. {SAVE}"
        )
    if len({member.filename for member in members}) < len(members) or sum(m.file_size for m in members) > size:
        raise BadWeights(f"{name} is no sound zip: its members overlap. Copy it again.")
    if any(member.file_size > MOST_PICKLE for member in members if member.filename.endswith("data.pkl")):
        raise BadWeights(f"{name} holds more than {MOST_TENSORS:,} tensors, which is the limit. {SAVE}")


def _check_pickle(file: io.BytesIO, name: str) -> None:
    """Refuse a pickle that asks for more than the parts of a state dict; leaves ``file`` behind it."""
    asked, tensors = [], 0
    try:
        for step, (code, argument, _) in enumerate(pickletools.genops(file)):
            if tensors > MOST_TENSORS or step > MOST_STEPS:
                raise BadWeights(f"{name} holds more than {MOST_TENSORS:,} tensors, which is the limit. {SAVE}")
            if code.name == "GLOBAL":
                asked.append(str(argument))
            elif code.name in UNKNOWN_TO_TORCH:
                raise BadWeights(f"{name} is pickled in a way that torch.save does not use ({code.name}). {SAVE}")
            tensors += code.name == "BINPERSID"
    except (ValueError, IndexError, OverflowError, struct.error) as error:
        raise BadWeights(f"{name} is damaged or cut off: its list of tensors cannot be read. Copy it again.") from error
    _check_asked([one for one in asked if one not in PLAIN and one not in NUMBERS], name)


def _check_asked(asked: list[str], name: str) -> None:
    """Refuse any class or function that a state dict does not need, and name it."""
    if not asked:
        return
    names = [one.replace(" ", ".") for one in asked]
    if any(one.startswith("torch.nn.modules.") for one in names):
        raise BadWeights(
            f"{name} is a whole network ({shown(names[0])}), not its weights: opening it runs code. {SAVE}"
        )
    for part, reason in UNFIT.items():
        if found := [one for one in asked if part in one]:
            raise BadWeights(f"{name} holds {reason} (it asks for {shown(found[0].replace(' ', '.'))}).")
    raise BadWeights(
        f"{name} asks for {shown(names[0])} to be built, which is no part of a state dict and could run code; it was "
        f"not opened. {SAVE}"
    )
