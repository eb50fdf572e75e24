"""Recognition of a file by its first bytes: a checkpoint of PyTorch or safetensors, or a common mistake for one."""

import hashlib
import tarfile
import zipfile
from pathlib import Path

_READABLE = "allowed: a state dict in a file of torch.save or safetensors"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
"""The number at the start of a file of torch.save before 1.6, inside a pickle."""

_UNPACK = "unpack it first"
_SAVE_STATE = "save its state_dict() alone, where you trust the file"
_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer to the weights, not the weights (run git lfs pull)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and TensorFlow write (convert it to a PyTorch state dict)"),
    (b"\x93NUMPY", "a NumPy array (.npy), not a state dict"),
    (b"\x1f\x8b", f"compressed by gzip ({_UNPACK})"),
    (b"BZh", f"compressed by bzip2 ({_UNPACK})"),
    (b"\xfd7zXZ", f"compressed by xz ({_UNPACK})"),
    (b"\x28\xb5\x2f\xfd", f"compressed by zstd ({_UNPACK})"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive ({_UNPACK})"),
    (b"Rar!", f"a RAR archive ({_UNPACK})"),
    (b"GGUF", "a GGUF file, of llama.cpp"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content; ValueError where the file is missing or unreadable."""
    try:
        if path.is_dir():
            raise ValueError(f"{path}: is a folder ({_READABLE})")
        if not path.is_file():
            raise ValueError(f"{path}: {'is no regular file' if path.exists() else 'missing'} ({_READABLE})")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror} ({_READABLE})") from None


def file_format(path: Path) -> str:
    """`zip` or `legacy` (torch.save since and before 1.6) or `safetensors`; ValueError that names any other kind."""
    with path.open("rb") as file:
        head = file.read(1024)
    if head[:2] == b"PK":
        kind = _zip_kind(path)
    elif head[:1] == b"\x80" and _LEGACY_MAGIC in head[:64]:
        return "legacy"
    elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "safetensors"
    else:
        kind = _kind(path, head)
    if kind:
        raise ValueError(f"is {kind} ({_READABLE})")
    return "zip"


def _zip_kind(path: Path) -> str | None:
    """Name of a zip archive's kind if it is no checkpoint of torch.save, else None."""
    try:
        with zipfile.ZipFile(path) as archive:
            names, encrypted = archive.namelist(), any(info.flag_bits & 1 for info in archive.infolist())
    except zipfile.BadZipFile:
        return "truncated or damaged: a zip archive without its end (download or copy it again)"
    ends = [name.rsplit("/", 1)[-1] for name in names]
    if encrypted:
        return f"an encrypted zip archive ({_UNPACK})"
    if "constants.pkl" in ends:
        return f"a TorchScript archive, which is code as well as weights (torch.jit.load it and {_SAVE_STATE})"
    if "extern_modules" in ends:
        return f"an archive of torch.package, which is code as well as weights ({_SAVE_STATE})"
    if any("exported_program" in end or end == "archive_format" for end in ends):
        return f"an archive of torch.export, which is code as well as weights ({_SAVE_STATE})"
    if ends.count("data.pkl") == 1:
        return None
    if ends and all(end.endswith(".npy") for end in ends):
        return "an archive of NumPy arrays (.npz), not of tensors (save them as tensors with torch.save)"
    if any(end.endswith(".h5") for end in ends):
        return "a Keras archive (convert it to a PyTorch state dict)"
    some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"a zip archive that torch.save did not write: it holds {some or 'nothing'} ({_UNPACK})"


def _kind(path: Path, head: bytes) -> str:
    if not head:
        return "an empty file (download or copy it again)"
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "a pickle that torch.save did not write, or the beginning of one"
    if not head.strip(b"\0"):
        return "filled with zero bytes (download or copy it again)"
    if tarfile.is_tarfile(path):
        return (
            f"a tar archive ({_UNPACK}; if PyTorch before 0.1.10 wrote it, load and save it with PyTorch 0.4 to 1.13)"
        )
    if head[:1] == b"\x08" and head[2:3] == b"\x12":
        return "a protocol buffer, as ONNX and TensorFlow write (export a PyTorch state dict)"
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The end of the inspected bytes may split a character.
        text = head[: error.start].decode("utf-8-sig") if error.start > len(head) - 4 else ""
    if text.strip() and not any(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text):
        return _text_kind(text.strip())
    return f"no kind of file that is known here: it begins with the bytes {head[:8].hex(' ')}"


def _text_kind(text: str) -> str:
    low = text.lower()
    if "<html" in low or low.startswith("<!doctype html"):
        return "an HTML page, as a site sends for a login or an error (download the file itself)"
    if ".git/annex/objects/" in low or low.startswith("/annex/objects/"):
        return "a git-annex pointer to the weights, not the weights (run git annex get)"
    if low.startswith("<"):
        return f"XML text, as a site sends for an error (download the file itself): {_cut(text)}"
    if low.startswith(("{", "[")):
        return f"JSON text, as a site sends for an error: {_cut(text)}"
    return f"text, not weights: {_cut(text)}"


def _cut(text: str) -> str:
    return repr(text[:40] + ("…" if len(text) > 40 else ""))
