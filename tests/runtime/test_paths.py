from pathlib import Path

import pytest

from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.paths import cache_folder, local_path, local_text, remote_scheme, source_path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder; the variables of caches are not set."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MGMAE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def homeless(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without an entry in the list of users, and no $HOME."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", unknown)


@pytest.mark.parametrize(("value", "below"), [("~", ""), ("~/x", "x"), ("~/a b/~", "a b/~")])
def test_a_leading_tilde_is_the_home_folder(home: Path, value: str, below: str):
    assert local_path(value, "--out") == home / below
    assert source_path(value, "VIDEO") == str(home / below)


def test_a_tilde_elsewhere_is_kept_and_so_is_the_rest_of_the_text(home: Path):
    for value in ("a/~/b", "./~x", "runs/a/", "/a//b", "b~"):
        assert local_text(value, "--out") == source_path(value, "VIDEO") == value
    assert local_text("~/runs/", "--out") == f"{home}/runs/"


def test_a_user_is_found_by_name():
    assert local_path("~root/x", "--out") == Path("~root").expanduser() / "x"


@pytest.mark.parametrize("give", [local_path, source_path])
def test_an_unknown_user_is_told(give):
    with pytest.raises(MgmaeError) as told:
        give("~no-such-user/x", "--workdir")
    want = "there is no user 'no-such-user' with a home folder here: give the whole path, or ./~no-such-user/x."
    assert str(told.value) == f"--workdir='~no-such-user/x': {want}"


@pytest.mark.parametrize(
    ("path", "scheme"),
    [
        ("gs://b/a", "gs"),
        ("GS://b/a", "gs"),
        ("gs:/b/a", "gs"),
        ("s3://b", "s3"),
        ("https://a", "https"),
        ("a.b+c-d://x", "a.b+c-d"),
        ("./gs:/b", None),
        ("/a/gs://b", None),
        ("a:/b", None),
        ("gs:b", None),
        ("a b://c", None),
        ("", None),
    ],
)
def test_a_path_on_another_machine_has_a_scheme(path: str, scheme: str | None):
    assert remote_scheme(path) == scheme


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ("gs://bucket/run", "is not a local path: mount the bucket (gcsfuse) and give a folder in it."),
        ("gs:/bucket/run", "is not a local path: mount the bucket (gcsfuse) and give a folder in it."),
        ("s3://bucket/run", "is not a local path: mount the bucket (mount-s3 or s3fs) and give a folder in it."),
        ("az://bucket", "is not a local path: mount the bucket and give a folder in it."),
        ("https://host/x", "is not a local path (https://): give one."),
        ("file:///x", "give the path without file://."),
        ("", "give a path."),
    ],
)
def test_a_path_that_cannot_be_written_to_is_refused_in_one_line(value: str, want: str):
    with pytest.raises(MgmaeError) as told:
        local_path(value, "--workdir")
    assert str(told.value) == f"--workdir={value!r}: {want}"


def test_videos_may_be_in_a_bucket_but_not_anywhere():
    assert source_path("gs://bucket/a.csv", "config.data.path") == "gs://bucket/a.csv"
    assert source_path("S3:/bucket/a.csv", "config.data.path") == "s3://bucket/a.csv"
    with pytest.raises(MgmaeError) as told:
        source_path("ftp://host/a.csv", "config.data.path")
    want = "ftp:// cannot be read: give a local path, or one of gs://, s3://, az://, hf://."
    assert str(told.value) == f"config.data.path='ftp://host/a.csv': {want}"


def test_the_caches_are_in_the_folder_of_the_first_variable_that_is_set(home: Path, monkeypatch: pytest.MonkeyPatch):
    assert cache_folder("xla") == home / ".cache" / "mgmae_jax" / "xla"
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cached")
    assert cache_folder("xla") == home / "cached" / "mgmae_jax" / "xla"
    monkeypatch.setenv("MGMAE_CACHE", "/scratch")
    assert cache_folder("xla") == Path("/scratch/xla")
    monkeypatch.setenv("MGMAE_CACHE", "gs://bucket")
    with pytest.raises(MgmaeError, match=r"^\$MGMAE_CACHE='gs://bucket': .* mount the bucket"):
        cache_folder("xla")


@pytest.mark.parametrize(("name", "below"), [("MGMAE_CACHE", "xla"), ("XDG_CACHE_HOME", "mgmae_jax/xla")])
def test_a_set_variable_needs_no_home(
    homeless: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, below: str
):
    monkeypatch.setenv(name, str(tmp_path))
    assert cache_folder("xla") == tmp_path / below


def test_without_a_home_it_is_said_what_to_set(homeless: None):
    with pytest.raises(MgmaeError, match=r"^~/.cache/mgmae_jax/xla: the home folder is not known \(\$HOME is not set"):
        cache_folder("xla")
    with pytest.raises(MgmaeError, match=r"^--out='~/x': .* give the whole path, or set \$HOME\.$"):
        local_path("~/x", "--out")
    with pytest.raises(MgmaeError, match=r"set \$MGMAE_CACHE to a folder that you can write to\.$"):
        cache_folder("xla")


def test_an_empty_home_is_not_the_root_of_the_file_system(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "")
    with pytest.raises(MgmaeError, match=r"the home folder is not known \(\$HOME is empty\)"):
        local_path("~/x", "--out")
