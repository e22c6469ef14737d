import pytest

from mgmae_jax.cli import MORE_MEMORY, main


@pytest.mark.parametrize("bench", ["masking", "pretrain", "step"])
def test_a_batch_size_as_a_field_is_refused(capsys: pytest.CaptureFixture, bench: str):
    assert main(["bench", bench, "--config.train.batch_size=64"]) == 1
    told = "mgmae bench: --config.train.batch_size=64: give the clips of a step by --batch-size"
    assert capsys.readouterr().err == f"\n{told}\n"


def test_what_to_do_without_memory_names_the_option():
    assert MORE_MEMORY["bench"].startswith("Give fewer clips a device (--batch-size;")
