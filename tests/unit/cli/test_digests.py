"""What tells whether a model or a file is still the same one."""

from pathlib import Path

from stepsearch.cli.digests import file_digest, model_digest


def test_a_file_is_its_content(tmp_path: Path) -> None:
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).write_text(text)
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c


def test_a_model_is_its_weights_wherever_it_is(tmp_path: Path) -> None:
    digests: list[str | None] = []
    for name, weights in (("a", b"1" * 3_000_000), ("b", b"1" * 3_000_000), ("c", b"1" * 2_999_999 + b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        digests.append(model_digest(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]
    assert model_digest(Path("Qwen/Qwen2.5-3B")) is None
