"""The user's cache: who may write there, what is read back, what is deleted, and how large it grows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from skipway.cli import main
from skipway.errors import CacheError
from skipway.user_cache import cache_folder, claimed_entry, inspect_cache, prepare_font_folder, scratch_entry, store
from skipway.user_cache.entry import Entry
from skipway.user_cache.place import private_cache_folder, remove, size_bound

KEY, OTHER = "a" * 64, "b" * 64
SPOILT = (lambda file: file.write_bytes(b"other"), lambda file: file.write_bytes(b"ABC"), lambda file: file.unlink())


def names(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir())


def silent(line: str) -> None:
    raise AssertionError(f"nothing should be said, but: {line}")


def kept(key: str = KEY, name: str = "part", content: bytes = b"abc") -> Path:
    with claimed_entry(key, "a network", silent) as entry:
        return entry.keep(name, lambda to: to.write_bytes(content))


def read_back(name: str = "part") -> bytes | None:
    with claimed_entry(KEY, "a network", silent) as entry:
        return entry.content(name)


def test_the_folder_is_made_for_its_user_alone(user_cache: Path) -> None:
    previous = os.umask(0)
    try:
        kept()
    finally:
        os.umask(previous)
    for folder in (user_cache, user_cache / "engines", user_cache / "engines" / KEY, user_cache / "locks"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SKIPWAY_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "skipway"
    monkeypatch.setenv("SKIPWAY_CACHE_DIR", "here")
    with pytest.raises(CacheError, match="no absolute path; set SKIPWAY_CACHE_DIR"):
        cache_folder()


def test_what_was_kept_is_read_back(user_cache: Path) -> None:
    kept()
    assert read_back() == b"abc"
    assert read_back("absent") is None


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_has_changed_is_deleted_and_not_read(spoil: Callable[[Path], object]) -> None:
    file = kept()
    spoil(file)
    assert read_back() is None
    assert not file.exists()


def test_an_entry_in_which_nothing_is_kept_leaves_no_folder(user_cache: Path) -> None:
    with claimed_entry("a" * 64, "nothing", print):
        pass
    assert inspect_cache().entries == ()


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    file = kept()
    outside = tmp_path / "outside"
    file.rename(outside)
    file.symlink_to(outside)
    assert read_back() is None
    assert not file.is_symlink()
    assert outside.read_bytes() == b"abc"


def test_a_pipe_in_place_of_a_file_does_not_hang() -> None:
    file = kept()
    file.unlink()
    os.mkfifo(file)
    assert read_back() is None


def test_what_is_not_in_the_list_is_deleted(tmp_path: Path) -> None:
    file = kept()
    (tmp_path / "precious").write_text("text")
    (file.parent / "link").symlink_to(tmp_path)
    (file.parent / "folder").mkdir()
    (file.parent / "folder" / "evil.py").write_text("")
    (file.parent / ".part.abcdefgh").write_text("left by a process that was killed")
    assert read_back() == b"abc"
    assert names(file.parent) == ["manifest.json", "part"]
    assert (tmp_path / "precious").exists()


def left_in_tree() -> list[str]:
    """What a library finds in its folder; it leaves two files there."""
    with claimed_entry(KEY, "a network", silent) as entry, entry.tree("tree") as folder:
        found = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        (folder / "deep").mkdir(exist_ok=True)
        for name in ("deep/one", "two"):
            if not (folder / name).exists():
                (folder / name).write_text(name)
        return found


def surplus(folder: Path) -> None:
    (folder / "deep" / "evil.py").write_text("print('evil')")


def changed(folder: Path) -> None:
    (folder / "two").write_text("TWO")


def missing(folder: Path) -> None:
    (folder / "two").unlink()


def linked(folder: Path) -> None:
    (folder / "two").rename(folder.parent.parent.parent / "two")
    (folder / "two").symlink_to(folder.parent.parent.parent / "two")


def linked_folder(folder: Path) -> None:
    (folder / "deep").rename(folder.parent.parent.parent / "deep")
    (folder / "deep").symlink_to(folder.parent.parent.parent / "deep")


def open_to_all(folder: Path) -> None:
    (folder / "deep").chmod(0o777)


def whole_folder_linked(folder: Path) -> None:
    folder.rename(folder.parent.parent.parent / "tree")
    folder.symlink_to(folder.parent.parent.parent / "tree")


def test_a_folder_that_is_as_it_was_is_found_again() -> None:
    assert left_in_tree() == []
    assert left_in_tree() == ["deep/one", "two"]
    assert left_in_tree() == ["deep/one", "two"]


@pytest.mark.parametrize("spoil", [surplus, changed, missing, linked, linked_folder, open_to_all, whole_folder_linked])
def test_a_folder_that_was_meddled_with_is_emptied(user_cache: Path, spoil: Callable[[Path], object]) -> None:
    left_in_tree()
    spoil(user_cache / "engines" / KEY / "tree")
    assert left_in_tree() == []
    assert left_in_tree() == ["deep/one", "two"]


def test_a_folder_whose_library_failed_is_not_kept() -> None:
    with pytest.raises(ZeroDivisionError), claimed_entry(KEY, "", silent) as entry, entry.tree("tree") as folder:
        (folder / "half").write_text("")
        raise ZeroDivisionError
    assert left_in_tree() == []


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "[" * 100_000, '{"format": 2, "about": "", "parts": {}}',
        '{"format": 1, "about": 3, "parts": {}}', '{"format": 1, "about": "", "parts": []}',
        '{"format": 1, "about": "", "parts": {"part": {"size": -1, "sha256": "%s"}}}' % ("0" * 64),
        '{"format": 1, "about": "", "parts": {"part": {"size": 3, "sha256": "ab"}}}',
        '{"format": 1, "about": "", "parts": {"../part": {"size": 3, "sha256": "%s"}}}' % ("0" * 64),
        '{"format": 1, "about": "", "parts": {"/etc/passwd": {"size": 3, "sha256": "%s"}}}' % ("0" * 64),
    ],
)  # fmt: skip
def test_a_damaged_list_empties_its_entry(text: str) -> None:
    file = kept()
    (file.parent / "manifest.json").write_text(text)
    assert read_back() is None
    assert not file.exists()


def test_deleting_follows_no_link(tmp_path: Path) -> None:
    assert shutil.rmtree.avoids_symlink_attacks
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (outside / "precious").write_text("text")
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    (tmp_path / "link").symlink_to(outside)
    remove(inside)
    remove(tmp_path / "link")
    remove(tmp_path / "absent")
    assert names(tmp_path) == ["outside"]
    assert (outside / "precious").read_text() == "text"


def test_the_entry_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch, user_cache: Path) -> None:
    monkeypatch.setenv("SKIPWAY_CACHE_GIB", str(10_000 / 2**30))
    for number, key in enumerate((KEY, OTHER)):
        kept(key, content=bytes(4000))
        os.utime(user_cache / "engines" / key, (number, number))
    read_back()  # and is now the one used last
    kept("c" * 64, content=bytes(4000))
    assert {folder.name[0] for folder in (user_cache / "engines").iterdir()} == {"a", "c"}


def test_what_is_larger_than_the_bound_is_not_kept(monkeypatch: pytest.MonkeyPatch, user_cache: Path) -> None:
    monkeypatch.setenv("SKIPWAY_CACHE_GIB", str(1000 / 2**30))
    lines: list[str] = []
    with claimed_entry(KEY, "", lines.append) as entry:
        entry.keep("part", lambda to: to.write_bytes(bytes(4000)))
    assert not names(user_cache / "engines")
    assert "too much for the cache's 1,000" in lines[0]


@pytest.mark.parametrize("text", ["much", "-1", "nan", "1e30"])
def test_a_bound_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SKIPWAY_CACHE_GIB", text)
    with pytest.raises(CacheError, match="give the cache's largest size in GiB"):
        size_bound()


HOLDER = """
import sys
from skipway.user_cache import claimed_entry
with claimed_entry(sys.argv[1], "a network", print) as entry:
    print("holds it", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_and_a_dead_one_is_no_obstacle(user_cache: Path) -> None:
    kept()
    command = [sys.executable, "-c", HOLDER, KEY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds it\n"
        lines: list[str] = []
        told = r"another process has worked in the cache .* for 0 s; end it"
        with pytest.raises(CacheError, match=told), claimed_entry(KEY, "", lines.append, wait_s=0.01):
            raise AssertionError
        assert "waiting for it" in lines[0]
        report = inspect_cache(clear=True)
        assert (report.cleared, report.busy) == (0, 1)
        holder.kill()
    assert read_back() == b"abc"
    report = inspect_cache(clear=True)
    assert (report.cleared, report.busy, report.entries) == (1, 0, ())


def test_the_report_tells_what_there_is(user_cache: Path) -> None:
    assert inspect_cache().entries == ()
    assert not user_cache.exists()
    with claimed_entry(KEY, "evil\nname", silent) as entry:
        entry.keep("part", lambda to: to.write_bytes(bytes(5000)))
    (entry_facts,) = inspect_cache().entries
    assert (entry_facts.key, entry_facts.about) == ("a" * 12, "evil\nname")
    assert 5000 < entry_facts.size_bytes < 6000
    facts = inspect_cache().to_dict()
    assert list(facts) == ["folder", "bound_bytes", "entries", "pictures_bytes", "cleared", "busy", "size_bytes"]
    assert list(facts["entries"][0]) == ["key", "about", "size_bytes", "used"]
    assert facts["size_bytes"] == entry_facts.size_bytes
    assert json.loads(json.dumps(inspect_cache().to_dict()))["folder"] == str(user_cache)
    text = inspect_cache().describe()
    assert len(text.splitlines()) == 2
    assert "evil\\nname" in text


@pytest.mark.parametrize("options", [["--json"], ["--clear", "--json"]])
def test_the_command_prints_what_the_library_says(
    user_cache: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    kept()
    with pytest.raises(SystemExit) as end:
        main(["cache", *options])
    assert end.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cleared"] == ("--clear" in options)
    assert len(told["entries"]) == ("--clear" not in options)
    assert told == json.loads(json.dumps(inspect_cache().to_dict())) | {"cleared": told["cleared"]}


@pytest.mark.parametrize("options", [[], ["--clear"]])
def test_the_command_refuses_what_others_can_write(
    user_cache: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    kept()
    user_cache.chmod(0o777)
    with pytest.raises(SystemExit) as end:
        main(["cache", *options])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "others can write to the cache folder" in line
    assert (user_cache / "engines" / KEY / "part").exists()


def test_clearing_deletes_nothing_but_entries(user_cache: Path, tmp_path: Path) -> None:
    kept()
    (user_cache / "mine.txt").write_text("text")
    (user_cache / "engines" / "notes.txt").write_text("text")
    (tmp_path / "precious").write_text("text")
    (user_cache / "engines" / OTHER).symlink_to(tmp_path)
    assert inspect_cache(clear=True).cleared == 2
    assert (user_cache / "mine.txt").exists()
    assert (user_cache / "engines" / "notes.txt").exists()
    assert (tmp_path / "precious").exists()
    assert names(user_cache / "engines") == ["notes.txt"]


def test_an_entrys_folder_ends_with_it() -> None:
    entry = scratch_entry()
    folder = entry.folder
    assert isinstance(entry, Entry)
    entry.keep("part", lambda to: to.write_text("x"))
    del entry
    assert not folder.parent.exists()


def test_only_digests_are_keys() -> None:
    for key in ("", "../../etc", "A" * 64, KEY + "\n"):
        with pytest.raises(ValueError, match="64 hexadecimal digits"), claimed_entry(key, "", silent):
            raise AssertionError
    assert store.KEY.fullmatch(KEY)


def test_the_list_of_fonts_is_in_the_cache(monkeypatch: pytest.MonkeyPatch, user_cache: Path) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", "/somewhere")
    prepare_font_folder()
    assert os.environ["MPLCONFIGDIR"] == "/somewhere"
    monkeypatch.delenv("MPLCONFIGDIR")
    prepare_font_folder()
    assert os.environ["MPLCONFIGDIR"] == str(user_cache.resolve() / "fonts")
    monkeypatch.delenv("MPLCONFIGDIR")
    user_cache.chmod(0o777)
    prepare_font_folder()
    assert not Path(os.environ["MPLCONFIGDIR"]).is_relative_to(user_cache)


# Refused folders


def make_link(folder: Path) -> None:
    target = folder.with_name(f"{folder.name}-target")
    target.mkdir(mode=0o700)
    folder.symlink_to(target)


def make_writable(mode: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        folder.chmod(mode)

    return make


def make_foreign(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(folder, 12345, 12345)


def make_file(folder: Path) -> None:
    folder.write_text("text")


REFUSED = [
    (make_link, "is a symbolic link"), (make_writable(0o777), "others can write"),
    (make_writable(0o770), "others can write"), (make_writable(0o1777), "others can write"),
    (make_foreign, "belongs to another user"), (make_file, "is no folder"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED)
@pytest.mark.parametrize("level", ["", "engines", f"engines/{KEY}", "locks"])
def test_a_folder_that_others_could_have_filled_is_refused(
    user_cache: Path, make: Callable[[Path], None], message: str, level: str
) -> None:
    folder = user_cache / level
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    (user_cache / "engines").mkdir(mode=0o700, exist_ok=True) if level.count("/") else None
    make(folder)
    with pytest.raises(CacheError, match=message) as caught, claimed_entry(KEY, "", silent):
        raise AssertionError
    assert "SKIPWAY_CACHE_DIR" in str(caught.value)


def test_a_folder_below_one_that_all_can_write_to_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setenv("SKIPWAY_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(CacheError, match=r"everybody can write to .*, above the cache"):
        private_cache_folder()
    tmp_path.chmod(0o1777)  # as /tmp is
    assert private_cache_folder().is_dir()


def test_a_folder_below_another_users_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 12345, 12345)
    monkeypatch.setenv("SKIPWAY_CACHE_DIR", str(tmp_path / "home" / "cache"))
    with pytest.raises(CacheError, match="above the cache, belongs to another user"):
        private_cache_folder()
