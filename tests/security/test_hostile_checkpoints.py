"""Model folders made to run code, reach out, exhaust the machine or score wrongly.

Each starts as a good checkpoint and is spoilt in one way. None may run code, open a socket or
read a file that it should not; all but the harmless ones are refused with a typed error.
"""

import contextlib
import json
import os
import pickle
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rewardserve.errors import (
    CheckpointError,
    UnsafeCheckpoint,
    UnsupportedCheckpoint,
    WeightsMismatch,
)
from rewardserve.families.loading import load_model

sys.path.append(str(Path(__file__).parent.parent / "families"))
from tiny_checkpoints import HIDDEN, random_tensors, write_checkpoint

FORBIDDEN = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.system",
    "pickle.find_class",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
}
NEVER_OPENED = (".py", ".bin", ".pt", ".pkl", ".so")


class Watch:
    """Records forbidden audit events while `folder` is set; hooks cannot be removed."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.events: list[str] = []
        sys.addaudithook(self._see)

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        other_process = event == "subprocess.Popen" and "template_child.py" not in str(args[1])
        if event in FORBIDDEN or other_process:
            self.events.append(event)
        elif event == "open" and isinstance(args[0], str) and self._must_stay_shut(args[0]):
            self.events.append(f"open {args[0]}")

    def _must_stay_shut(self, path: str) -> bool:
        inside = path.startswith(str(self.folder))
        return (inside and path.endswith(NEVER_OPENED)) or path.endswith("secret.txt")


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("good") / "model",
        "LlamaForSequenceClassification",
        backbone="llama",
        head=random_tensors({"score.weight": [1, HIDDEN]}),
        template="llama3",
    )


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("secret")
    return Path(shutil.copytree(good, tmp_path / "model"))


@pytest.fixture
def loading(watch: Watch, folder: Path) -> Iterator[Callable[[], None]]:
    """Loads `folder` under watch; nothing forbidden may have happened by the end of the test."""

    def load() -> None:
        watch.folder, watch.events = folder, []
        try:
            load_model(str(folder))
        finally:
            watch.folder = None

    yield load
    assert watch.events == []
    assert not (folder.parent / "marker").exists()


def config(**changes: Any) -> Callable[[Path], None]:
    """Changes keys of config.json; None removes one."""
    return _json_changer("config.json", changes)


def tokenizer_config(**changes: Any) -> Callable[[Path], None]:
    return _json_changer("tokenizer_config.json", changes)


def _json_changer(name: str, changes: dict[str, Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | changes
        kept = {key: value for key, value in content.items() if value is not None}
        (folder / name).write_text(json.dumps(kept))

    return change


def tensors(**changes: torch.Tensor | None) -> Callable[[Path], None]:
    """Replaces, adds or (None) removes tensors; `__` stands for a dot."""

    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        for name, value in changes.items():
            key = name.replace("__", ".")
            weights.pop(key, None)
            if value is not None:
                weights[key] = value
        save_file(weights, folder / "model.safetensors")

    return change


class Payload:
    """Unpickled, it leaves a mark."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def pickled_as(name: str, *, keep_safetensors: bool = False) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        if not keep_safetensors:
            (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(Payload(folder.parent / "marker")))

    return change


def code_beside(folder: Path) -> None:
    marker = folder.parent / "marker"
    for name in ("modeling_custom.py", "configuration_custom.py", "__init__.py", "conftest.py"):
        (folder / name).write_text(f"open({str(marker)!r}, 'w').close()\n")


def with_code(change: Callable[[Path], None]) -> Callable[[Path], None]:
    def both(folder: Path) -> None:
        code_beside(folder)
        change(folder)

    return both


def index_of(weight_map: dict[str, str]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return change


def escaping_index(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "outside.safetensors")
    index_of({"score.weight": "../outside.safetensors"})(folder)


def stored_twice(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "b.safetensors")
    index_of({"score.weight": "model.safetensors", "model.norm.weight": "b.safetensors"})(folder)


def linked(name: str) -> Callable[[Path], None]:
    """Moves a file out of the folder and links to it."""

    def change(folder: Path) -> None:
        shutil.move(folder / name, folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)

    return change


def linked_secret(folder: Path) -> None:
    (folder / "chat_template.jinja").symlink_to(folder.parent / "secret.txt")


def text(name: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(content)

    return change


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def endless_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 62) + path.read_bytes()[8:])


def flipped_header_byte(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[8] ^= 0xFF
    path.write_bytes(bytes(content))


def template(source: str) -> Callable[[Path], None]:
    return tokenizer_config(chat_template=source)


ECHO = "{% for m in messages %}{{ m.content }}{% endfor %}"
LOOPS = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
REFUSED: dict[str, tuple[Callable[[Path], None], type[CheckpointError]]] = {
    "pickle .bin": (pickled_as("pytorch_model.bin"), UnsafeCheckpoint),
    "pickle .pt": (pickled_as("model.pt"), UnsafeCheckpoint),
    "pickle named safetensors": (pickled_as("model.safetensors"), CheckpointError),
    "index to pickle": (
        lambda folder: (
            pickled_as("w.bin", keep_safetensors=True)(folder),
            index_of({"score.weight": "w.bin"})(folder),
        )[0],
        UnsafeCheckpoint,
    ),
    "index out of the folder": (escaping_index, UnsafeCheckpoint),
    "index to a missing shard": (index_of({"a": "gone.safetensors"}), CheckpointError),
    "index of nothing": (index_of({}), CheckpointError),
    "tensor stored twice": (stored_twice, CheckpointError),
    "cut weights": (cut_weights, CheckpointError),
    "endless header": (endless_header, CheckpointError),
    "flipped header byte": (flipped_header_byte, CheckpointError),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), CheckpointError),
    "own code": (
        with_code(config(architectures=["Evil"], auto_map={"AutoModel": "modeling_custom.Evil"})),
        UnsafeCheckpoint,
    ),
    "own code on a stock name": (
        with_code(
            config(
                auto_map={
                    "AutoModelForSequenceClassification": "modeling_custom.Evil",
                    "AutoConfig": "configuration_custom.Evil",
                }
            )
        ),
        UnsafeCheckpoint,
    ),
    "code of another repository": (
        config(auto_map={"AutoModel": "evil/repo--modeling_custom.LlamaForSequenceClassification"}),
        UnsafeCheckpoint,
    ),
    "auto_map of another type": (config(auto_map=["modeling_custom.Evil"]), UnsafeCheckpoint),
    "tokenizer code": (
        with_code(tokenizer_config(auto_map={"AutoTokenizer": ["modeling_custom.Evil", None]})),
        UnsafeCheckpoint,
    ),
    "internal attention": (config(_attn_implementation_internal="evil/kernel"), UnsafeCheckpoint),
    "internal experts": (config(_experts_implementation_internal="evil/k"), UnsafeCheckpoint),
    "attention from a hub": (config(attn_implementation="evil/kernel"), UnsafeCheckpoint),
    "unknown architecture": (config(architectures=["GPT2LMHeadModel"]), UnsupportedCheckpoint),
    "two architectures": (
        config(architectures=["LlamaForSequenceClassification", "Evil"]),
        UnsupportedCheckpoint,
    ),
    "no architecture": (config(architectures=None), UnsupportedCheckpoint),
    "unknown backbone": (config(model_type="evil"), UnsupportedCheckpoint),
    "backbone of another type": (config(model_type=["llama"]), UnsupportedCheckpoint),
    "a billion layers": (config(num_hidden_layers=10**9), UnsupportedCheckpoint),
    "endless width": (config(hidden_size=10**9), UnsupportedCheckpoint),
    "endless head": (config(head_dim=10**10), UnsupportedCheckpoint),
    "negative width": (config(hidden_size=-16), UnsupportedCheckpoint),
    "width of another type": (config(hidden_size="16"), UnsupportedCheckpoint),
    "head setting of another type": (
        config(normalize_reward=True, mean="x"),
        UnsupportedCheckpoint,
    ),
    "unknown rope": (config(rope_scaling={"rope_type": "evil"}), UnsupportedCheckpoint),
    "config missing": (lambda folder: (folder / "config.json").unlink(), CheckpointError),
    "config broken": (text("config.json", "{"), CheckpointError),
    "config deep": (text("config.json", "[" * 100_000), CheckpointError),
    "config a list": (text("config.json", "[]"), CheckpointError),
    "linked weights": (linked("model.safetensors"), UnsafeCheckpoint),
    "linked tokenizer": (linked("tokenizer.json"), UnsafeCheckpoint),
    "linked secret": (linked_secret, UnsafeCheckpoint),
    "missing tensor": (tensors(model__norm__weight=None), WeightsMismatch),
    "unexpected tensor": (tensors(extra__weight=torch.zeros(2)), WeightsMismatch),
    "two labels": (tensors(score__weight=torch.zeros(2, HIDDEN)), WeightsMismatch),
    "whole numbers": (
        tensors(score__weight=torch.ones(1, HIDDEN, dtype=torch.int8)),
        WeightsMismatch,
    ),
    "tokenizer broken": (text("tokenizer.json", "{}"), CheckpointError),
    "tokenizer missing": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        UnsupportedCheckpoint,
    ),
    "no template": (tokenizer_config(chat_template=None), UnsupportedCheckpoint),
    "template loops": (template(ECHO + LOOPS), UnsafeCheckpoint),
    "template fills memory": (template(ECHO + "{{ 'a' * 10**10 }}"), UnsafeCheckpoint),
    "template too long": (template(ECHO + "x" * 1_000_001), UnsafeCheckpoint),
    "template writes too much": (template(ECHO + "{{ 'a' * 2000000 }}"), UnsafeCheckpoint),
    "template broken": (template("{% for %}"), UnsafeCheckpoint),
    "template leaves the prompt out": (template("{{ bos_token }}"), UnsupportedCheckpoint),
    "template prints the time": (
        template("{{ strftime_now('%H:' ~ '%M') }}" + ECHO),
        UnsupportedCheckpoint,
    ),
}
ESCAPES = [
    "''.__class__.__mro__[1].__subclasses__()",
    "cycler.__init__.__globals__.os.popen('touch MARKER').read()",
    "lipsum.__globals__['os'].system('touch MARKER')",
    "namespace.__init__.__globals__['os'].system('touch MARKER')",
    "messages.__class__.__base__.__subclasses__()",
    "self.__init__.__globals__.__builtins__.__import__('os').system('touch MARKER')",
    "raise_exception.__globals__['__builtins__']['open']('MARKER', 'w')",
    "strftime_now.__globals__['os'].system('touch MARKER')",
    "('%s'|attr('format'))|attr('__globals__')",
    "dict.__call__.__globals__",
]
HARMLESS: dict[str, Callable[[Path], None]] = {
    "pickle beside safetensors": pickled_as("pytorch_model.bin", keep_safetensors=True),
    "code that nobody asks for": code_beside,
    "nested code": config(text_config={"auto_map": {"AutoModel": "evil/repo--m.Evil"}}),
    "trust asked for": config(trust_remote_code=True, quantization_config={"quant_method": "x"}),
    "vocabulary elsewhere": tokenizer_config(
        tokenizer_file="/etc/passwd", vocab_file="../secret.txt"
    ),
    "tokenizer class unknown": tokenizer_config(tokenizer_class="EvilTokenizer"),
    "adapter beside": text("adapter_config.json", '{"base_model_name_or_path": "evil/repo"}'),
}


def test_the_watch_sees_what_it_must(watch: Watch, folder: Path) -> None:
    watch.folder, watch.events = folder, []
    pickle.loads(pickle.dumps(Payload(folder.parent / "marker")))
    (folder / "code.py").write_text("")
    watch.folder = None
    assert {"pickle.find_class", "os.system", f"open {folder / 'code.py'}"} <= set(watch.events)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name_and_runs_nothing(
    name: str, folder: Path, loading: Callable[[], None]
) -> None:
    spoil, error = REFUSED[name]
    spoil(folder)
    start = time.process_time()
    with pytest.raises(error):
        loading()
    assert time.process_time() - start < 2


@pytest.mark.parametrize("payload", ESCAPES)
def test_a_template_cannot_leave_its_sandbox(
    payload: str, folder: Path, loading: Callable[[], None]
) -> None:
    source = payload.replace("MARKER", str(folder.parent / "marker"))
    template(ECHO + "{{ " + source + " }}")(folder)
    with contextlib.suppress(CheckpointError):
        loading()


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_never_read_does_no_harm(
    name: str, folder: Path, loading: Callable[[], None]
) -> None:
    HARMLESS[name](folder)
    loading()


def test_a_hub_cache_may_link_to_its_own_blobs(good: Path, tmp_path: Path, watch: Watch) -> None:
    repository = tmp_path / "models--a--b"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in good.iterdir():
        shutil.copy(path, blobs / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    assert load_model(str(snapshot)).family == "linear"
